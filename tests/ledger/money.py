"""Calls and receipts to write down."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select

from cache_proxy.calls import Account, Call, Payer, Settlement, Share
from cache_proxy.ids import new_id
from cache_proxy.ledger import tables
from cache_proxy.ledger.database import Database
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Counts, Receipt, Story

NOON = 1_764_331_200.0
"""A moment in the middle of a day (UTC)."""

PRICE = 50_000

ME = Account("me", "a" * 64, "search", "ada@example.com")
YOU = Account("you", "b" * 64)


def payer(account: Account = ME, **fields: Any) -> Payer:
    return Payer("a-request", account, **{"end_user": "reader", "tags": ("nightly",), "model": "embed", **fields})


def call(*shares: tuple[Account, int], at: float = NOON, price: int | None = PRICE, model: str = "v3") -> Call:
    """A call with a share for each account and bound."""
    made = tuple(Share(payer(account), bound) for account, bound in shares or ((ME, 100),))
    return Call(new_id(at), "one", model, Endpoint.EMBEDDINGS, 3, at, made, price)


def receipt(account: Account = ME, at: float = NOON, tokens_billed: int = 0, **fields: Any) -> Receipt:
    story = Story(
        "a-request", "embeddings", account, at,
        **{"model": "embed", "upstream_model": "v3", "price": PRICE, "counts": Counts(3, 2, 1), "user": "reader",
           "tags": ("nightly",), **fields},
    )  # fmt: skip
    story.pay(tokens_billed, story.price)
    return story.end(status=200, latency=0.25, bytes_out=4_000)


def paid(*tokens: int) -> Settlement:
    return Settlement(tokens, 200)


def rows(database: Database, table: str) -> list[dict[str, Any]]:
    """Everything in a table."""
    with database.reading() as connection:
        return [dict(row) for row in connection.execute(select(tables.metadata.tables[table])).mappings()]


def sums(database: Database, kind: str = "all") -> Mapping[str, dict[str, Any]]:
    """What is added up under each name, over all days."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows(database, "days"):
        if row["kind"] == kind:
            into = found.setdefault(row["name"], dict.fromkeys(AMOUNTS, 0))
            for amount in AMOUNTS:
                into[amount] += row[amount]
    return found


AMOUNTS: Sequence[str] = ("requests", "items", "hits", "tokens_saved", "tokens_billed", "cost", "cost_unpriced",
                          "tokens_unsettled", "saved", "saved_unpriced")  # fmt: skip
