"""Holds a ledger against the books of the upstream: what was billed is there, settled or with its bound."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cache_proxy.ledger.database import Database
from cache_proxy.standin import Call
from tests.ledger.money import rows, sums

Sale = tuple[str | None, int, int]
"""Model, items and tokens of a call."""


@dataclass(frozen=True)
class Audit:
    """Tokens. ``missing`` were billed, and stand nowhere; ``invented`` stand as billed, and were not."""

    billed: int
    settled: int
    unsettled: int
    missing: int
    invented: int
    calls: int
    open: int


def audit(database: Database, sold: Sequence[Call]) -> Audit:
    """Call by call: each settled one must be among those that were billed, and each other one that was billed must
    find an intent for as many items of its model, with a bound it keeps to.
    """
    written = rows(database, "calls")
    settled = [row for row in written if row["settled_at"] is not None]
    still_open = sorted((row for row in written if row["settled_at"] is None), key=lambda row: -row["tokens_bound"])
    billed: Counter[Sale] = Counter((call.model, call.items, call.tokens) for call in sold if call.tokens)
    invented = 0
    for row in settled:
        sale = (row["model"], row["items"], row["tokens"])
        if row["tokens"] and not billed[sale]:
            invented += row["tokens"]
        elif row["tokens"]:
            billed[sale] -= 1
    left = sorted(billed.elements(), key=lambda sale: -sale[2])
    missing = sum(sale[2] for sale in left if not _found(sale, still_open))
    _check_sums(database, written)
    return Audit(
        billed=sum(call.tokens for call in sold),
        settled=sum(row["tokens"] for row in settled),
        unsettled=sum(row["tokens_bound"] for row in written if row["settled_at"] is None),
        missing=missing,
        invented=invented,
        calls=len(written),
        open=sum(row["settled_at"] is None for row in written),
    )


def _found(sale: Sale, intents: list[dict[str, Any]]) -> bool:
    """Take out the tightest intent that this sale may be of."""
    model, items, tokens = sale
    for row in reversed(intents):
        if (row["model"], row["items"]) == (model, items) and row["tokens_bound"] >= tokens:
            intents.remove(row)
            return True
    return False


def _check_sums(database: Database, written: Sequence[dict[str, Any]]) -> None:
    """The sums are those of the rows, whatever happened in between."""
    total = sums(database)[""]
    assert total["tokens_billed"] == sum(row["tokens"] or 0 for row in written)
    assert total["tokens_unsettled"] == sum(row["tokens_bound"] for row in written if row["settled_at"] is None)
    assert total["requests"] == len(rows(database, "requests"))
    shares: Counter[str] = Counter()
    for row in rows(database, "shares"):
        shares[row["call_id"]] += row["tokens"] or 0
    assert all(shares[row["id"]] == (row["tokens"] or 0) for row in written)
