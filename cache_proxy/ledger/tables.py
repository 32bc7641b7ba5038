"""The tables of the ledger. Times are seconds since the epoch, money is pico-USD, days are counted since the epoch."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    literal_column,
)

metadata = MetaData()


def _payer() -> list[Column[Any]]:
    """What is known of a request and of who pays for it. New ones each time: a column belongs to one table."""
    return [
        Column("request_id", Text, nullable=False),
        Column("key_alias", Text, nullable=False),
        Column("key_hash", Text, nullable=False),
        Column("team", Text, nullable=False),
        Column("user", Text, nullable=False),
        Column("end_user", Text, nullable=False),
        Column("tags", Text, nullable=False, comment="a JSON array of strings"),
        Column("model_group", Text, nullable=False, comment="the model as the caller calls it"),
    ]


calls = Table(
    "calls",
    metadata,
    Column("id", Text, primary_key=True, comment="32 hexadecimal digits, in the order of time"),
    Column("sent_at", Double, nullable=False),
    Column("settled_at", Double, comment="empty as long as nobody knows what it cost"),
    Column("deployment", Text, nullable=False),
    Column("model", Text, nullable=False, comment="the upstream's name for it"),
    Column("endpoint", Text, nullable=False),
    Column("items", Integer, nullable=False),
    Column("tokens_bound", BigInteger, nullable=False, comment="the most it can have been billed"),
    Column("tokens", BigInteger, comment="what was billed"),
    Column("estimated", Boolean, nullable=False, default=False, comment="the upstream did not say how many"),
    Column("price", BigInteger, comment="a token's; empty where it is unknown"),
    Column("status", SmallInteger, comment="the upstream's; 0: it was never reached; empty: nobody knows"),
    comment="one row for each call to an upstream: money",
)

shares = Table(
    "shares",
    metadata,
    Column("call_id", Text, primary_key=True),
    Column("place", Integer, primary_key=True),
    *_payer(),
    Column("tokens_bound", BigInteger, nullable=False),
    Column("tokens", BigInteger),
    comment="what each payer bears of a call: the parts add up to it",
)

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True, comment="ours: a caller may use a request id twice"),
    Column("started_at", Double, nullable=False),
    Column("latency", Double, nullable=False),
    *_payer(),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False, comment="the upstream's name for it"),
    Column("items", Integer, nullable=False),
    Column("hits", Integer, nullable=False),
    Column("misses", Integer, nullable=False),
    Column("duplicates", Integer, nullable=False),
    Column("joined", Integer, nullable=False),
    Column("tokens_billed", BigInteger, nullable=False),
    Column("tokens_unsettled", BigInteger, nullable=False),
    Column("tokens_saved", BigInteger, nullable=False),
    Column("cost", BigInteger, comment="empty where the price is unknown"),
    Column("saved", BigInteger, comment="empty where the price is unknown"),
    Column("status", SmallInteger, nullable=False),
    Column("cache_status", Text, nullable=False),
    Column("cache_key", Text, comment="of the answer, where it has a single one"),
    Column("error", Text),
    Column("bytes_out", BigInteger, nullable=False),
    comment="one row for each request that was let in: the story",
)

days = Table(
    "days",
    metadata,
    Column("day", Integer, primary_key=True),
    Column("kind", Text, primary_key=True, comment="what is added up over: all, key, team, user, tag, model, endpoint"),
    Column("name", Text, primary_key=True),
    Column("label", Text, nullable=False, default="", comment="of a key, its alias"),
    *(
        Column(name, BigInteger, nullable=False, default=0)
        for name in (
            "requests", "items", "hits", "misses", "duplicates", "joined", "tokens_saved", "saved", "saved_unpriced",
            "tokens_billed", "cost", "cost_unpriced", "tokens_unsettled",
        )
    ),
    comment="sums, written together with what they are of; money from calls, the rest from requests",
)  # fmt: skip

batches = Table(
    "batches",
    metadata,
    Column("writer", Text, primary_key=True),
    Column("batch", Text, nullable=False, comment="the last one it wrote"),
    Column("at", Double, nullable=False),
    comment="so that a batch whose commit was not heard of is not written twice",
)

keys = Table(
    "keys",
    metadata,
    Column("hash", Text, primary_key=True, comment="SHA-256 of the key, in hexadecimal digits"),
    Column("alias", Text, nullable=False, comment="empty, or the only one of its kind"),
    Column("definition", Text, nullable=False, comment="a JSON object: what the key may do"),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    comment="one row for each key that was made at run time; never the key itself",
)

key_changes = Table(
    "key_changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("count", BigInteger, nullable=False),
    comment="one row: how often keys were changed, so that everybody hears of it",
)

budgets = Table(
    "budgets",
    metadata,
    Column("key_hash", Text, primary_key=True),
    # Second, so that the windows of a key that have not ended are found without all those that have.
    Column("ends_at", BigInteger, primary_key=True, autoincrement=False, comment="of the window; 2^53: never"),
    Column("duration", Text, primary_key=True, comment="the budget's, as LiteLLM spells it; empty: for good"),
    Column("starts_at", BigInteger, nullable=False, comment="of the window; 0: of all time"),
    Column("spent", BigInteger, nullable=False, comment="what was billed"),
    Column("reserved", BigInteger, nullable=False, comment="the most that calls without a settlement can have cost"),
    comment="one row for each key, duration that its budget has or had, and window of it in which it was used",
)

SUMS_OF_KEYS = days.c.kind == literal_column("'key'")
"""Written out: for a parameter no database takes an index of some of the rows."""

Index("calls_sent_at", calls.c.sent_at)
# Few at any time, and found without reading all that are settled.
_open = calls.c.settled_at.is_(None)
Index("calls_open", calls.c.sent_at, sqlite_where=_open, postgresql_where=_open)
Index("shares_key", shares.c.key_hash, shares.c.call_id)
Index("days_key", days.c.name, days.c.day, sqlite_where=SUMS_OF_KEYS, postgresql_where=SUMS_OF_KEYS)
Index("requests_started_at", requests.c.started_at)
Index("requests_key_started_at", requests.c.key_hash, requests.c.started_at)
Index("requests_request_id", requests.c.request_id)
