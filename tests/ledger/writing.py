"""What tests of reading write down first, and how it adds up without a database."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from itertools import count
from typing import NamedTuple

from sqlalchemy import delete

from cache_proxy.calls import Account, Call, Payer, Settlement, Share
from cache_proxy.ids import new_id
from cache_proxy.ledger import tables
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import OLDER, Usage
from cache_proxy.ledger.notes import Ending, Intent, Note, Prune, Tidy, Told
from cache_proxy.ledger.posting import Batch
from cache_proxy.ledger.sums import DAY
from cache_proxy.ledger.tidying import Tidied
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Counts, Receipt

_numbers = count(1)

DAYS_BEFORE = 10
"""Days before the epoch on which nothing happens in any test."""

ANNA = Account("anna's", "a" * 64, "search", "anna")
JOB = Account("job", "b" * 64, "search")
LOCAL = Account("local")


class Ended(NamedTuple):
    """A call and how it ended; without a settlement nobody knows."""

    call: Call
    settlement: Settlement | None


def call(
    at: float,
    *tokens: int,
    accounts: Sequence[Account] = (ANNA,),
    price: int | None = 50_000,
    settled: bool = True,
    tags: tuple[str, ...] = (),
    end_user: str = "",
    model: str = "jina-embeddings-v3",
    endpoint: Endpoint = Endpoint.EMBEDDINGS,
) -> Ended:
    """A call of these tokens, each number for one of the accounts in turn, and bounds of 100 more."""
    payers = [Payer("r", accounts[at % len(accounts)], end_user, tags, model) for at in range(len(tokens))]
    shares = tuple(Share(payer, cost + 100) for payer, cost in zip(payers, tokens, strict=True))
    made = Call(new_id(at), "d", model, endpoint, len(tokens), at, shares, price)
    return Ended(made, Settlement(tokens, 200) if settled else None)


def receipt(
    at: float,
    counts: Counts = Counts(1, 1),  # noqa: B008  it never changes
    *,
    account: Account = ANNA,
    saved: int = 0,
    price: int | None = 50_000,
    tags: tuple[str, ...] = (),
    end_user: str | None = None,
    model: str = "jina-embeddings-v3",
    endpoint: Endpoint = Endpoint.EMBEDDINGS,
    billed: int = 0,
    status: int = 200,
    request_id: str = "r",
) -> Receipt:
    """A request that was answered in a quarter of a second."""
    return Receipt(
        request_id=request_id, endpoint=endpoint.value, account=account, model=f"jina_ai/{model}",
        upstream_model=model, status=status, cache_status="cache-proxy; hit", counts=counts, tokens_billed=billed,
        tokens_saved=saved, cost=_money(billed, price), saved=_money(saved, price), latency=0.25, bytes_out=10,
        started_at=at, user=end_user, tags=tags, key=None, error=None if status < 400 else "internal",
    )  # fmt: skip


def _money(tokens: int, price: int | None) -> int | None:
    if tokens == 0:
        return 0
    return None if price is None else tokens * price


Event = Ended | Receipt


def post(database: Database, *events: Event) -> None:
    """Write all of it down, the ends of calls later than their intents."""
    first, then = list[Note](), list[Note]()
    for event in events:
        if isinstance(event, Receipt):
            first.append(Told(f"{next(_numbers):032x}", event))
        else:
            intent = Intent(event.call)
            first.append(intent)
            then.append(Ending(intent, event.settlement, event.call.sent_at + 1))
    for notes in (first, then):
        with database.writing() as connection:
            for intent in Batch(f"{next(_numbers)}", notes).post(connection, "test", 0.0):
                intent.written = True


def clear(database: Database) -> None:
    """Forget everything."""
    with database.writing() as connection:
        for table in tables.metadata.sorted_tables:
            connection.execute(delete(table))


def forget_before(database: Database, moment: float) -> None:
    """Take out single rows, as retention does. Their sums stay."""
    with database.writing() as connection:
        Batch(f"{next(_numbers)}", [Prune(moment)]).post(connection, "test", 0.0)


def fold_before(database: Database, day: int, portions: int = 100) -> Tidied:
    """Make one of the users and of the tags of each day before this one, as time does."""
    done = Tidied()
    for _ in range(portions):
        note = Tidy((day + 1.0) * DAY, 1, done)
        with database.writing() as connection:
            Batch(f"{next(_numbers)}", [note]).post(connection, "test", 0.0)
        assert note.told is not None
        done = note.told
        if not done.more:
            break
    return done


def added_up(
    events: Sequence[Event],
    by: str | None,
    since: float | None,
    until: float | None,
    *,
    key: str | None = None,
    folded: int = -DAYS_BEFORE,
) -> dict[str, Usage]:
    """What usage must say of these events, by name; or of those of this key alone. On days before ``folded`` users and
    tags are not told apart any more.
    """
    sums: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
    labels: dict[str, str] = {}
    for event in events:
        for payer, at, model, endpoint, amounts in _told(event):
            if key is not None and key != (payer.account.key or payer.account.alias):
                continue
            if (since is None or at >= since) and (until is None or at < until):
                names = _names(payer, at, model, endpoint, by)
                if by in ("user", "tag") and at // DAY < folded:
                    names = [OLDER if name else name for name in names]
                for name in names:
                    labels[name] = payer.account.alias if by == "key" else ""
                    for what, amount in amounts.items():
                        sums[name][what] += amount
    return {name: Usage(name, labels[name], **found) for name, found in sums.items() if any(found.values())}


_Told = tuple[Payer, float, str, str, dict[str, int]]


def _told(event: Event) -> Iterator[_Told]:
    if isinstance(event, Receipt):
        saved = {"saved_unpriced": event.tokens_saved} if event.saved is None else {"saved": event.saved}
        amounts = {"requests": 1, "tokens_saved": event.tokens_saved, **event.counts._asdict(), **saved}
        yield event.payer(), event.started_at, event.upstream_model, event.endpoint, amounts
        return
    made, settlement = event
    for at, share in enumerate(made.shares):
        amounts = {"tokens_unsettled": share.tokens_bound}
        if settlement is not None:
            tokens = settlement.tokens[at]
            money = {"cost_unpriced": tokens} if made.price is None else {"cost": tokens * made.price}
            amounts = {"tokens_billed": tokens, **money}
        yield share.payer, made.sent_at, made.model, made.endpoint.value, amounts


def _names(payer: Payer, at: float, model: str, endpoint: str, by: str | None) -> Sequence[str]:
    account = payer.account
    return {
        None: [""],
        "key": [account.key or account.alias],
        "team": [account.team],
        "user": [account.user or payer.end_user],
        "tag": sorted(set(payer.tags)) or [""],
        "model": [model],
        "endpoint": [endpoint],
        "day": [(date(1970, 1, 1) + timedelta(days=at // DAY)).isoformat()],
    }[by]
