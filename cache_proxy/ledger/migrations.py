"""Versions of the schema. A database is brought up to date by whoever opens it first, in one transaction."""

from collections.abc import Callable, Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.schema import CreateIndex

from cache_proxy.errors import ConfigError
from cache_proxy.ledger import tables

schema = Table("schema_version", MetaData(), Column("version", Integer, nullable=False))

Step = Callable[[Connection], None]


def _first(connection: Connection) -> None:
    made = (tables.calls, tables.shares, tables.requests, tables.days, tables.batches)
    tables.metadata.create_all(connection, tables=made)


def _second(connection: Connection) -> None:
    """Keys that are made at run time, and budgets."""
    made = MetaData()
    Table(
        "keys",
        made,
        Column("hash", Text, primary_key=True),
        Column("alias", Text, nullable=False),
        Column("definition", Text, nullable=False),
        Column("created_at", Double, nullable=False),
        Column("updated_at", Double, nullable=False),
    )
    changes = Table(
        "key_changes",
        made,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("count", BigInteger, nullable=False),
    )
    Table(
        "budgets",
        made,
        Column("key_hash", Text, primary_key=True),
        Column("starts_at", BigInteger, primary_key=True, autoincrement=False),
        Column("ends_at", BigInteger),
        Column("spent", BigInteger, nullable=False),
        Column("reserved", BigInteger, nullable=False),
    )
    made.create_all(connection)
    connection.execute(insert(changes).values(id=1, count=0))


def _third(connection: Connection) -> None:
    """What one key has spent is looked up: its shares in the order of time, and its sums."""
    made = MetaData()
    shares = Table("shares", made, Column("key_hash", Text), Column("call_id", Text))
    days = Table("days", made, Column("kind", Text), Column("name", Text), Column("day", Integer))
    of_keys = days.c.kind == literal_column("'key'")
    for index in (
        Index("shares_key", shares.c.key_hash, shares.c.call_id),
        Index("days_key", days.c.name, days.c.day, sqlite_where=of_keys, postgresql_where=of_keys),
    ):
        # A new database has them from the first step.
        connection.execute(CreateIndex(index, if_not_exists=True))


def _fourth(connection: Connection) -> None:
    """A key's budgets are told apart by their duration, and calls without a settlement are found at once.

    The rows that are there do not say of which duration they are. They are taken out: what they hold is reckoned anew
    from days and calls where it is needed.
    """
    made = MetaData()
    calls = Table("calls", made, Column("sent_at", Double), Column("settled_at", Double))
    Table("budgets", MetaData()).drop(connection)
    Table(
        "budgets",
        made,
        Column("key_hash", Text, primary_key=True),
        Column("ends_at", BigInteger, primary_key=True, autoincrement=False),
        Column("duration", Text, primary_key=True),
        Column("starts_at", BigInteger, nullable=False),
        Column("spent", BigInteger, nullable=False),
        Column("reserved", BigInteger, nullable=False),
    ).create(connection)
    is_open = calls.c.settled_at.is_(None)
    # A new database has it from the first step.
    index = Index("calls_open", calls.c.sent_at, sqlite_where=is_open, postgresql_where=is_open)
    connection.execute(CreateIndex(index, if_not_exists=True))


STEPS: Sequence[Step] = (_first, _second, _third, _fourth)
"""Each brings the schema from the version of its place to the next. They are never changed, only added to: a step that
comes after another must not create a table from ``tables`` as it is then."""


def migrate(connection: Connection, steps: Sequence[Step] = STEPS) -> None:
    """Bring the schema up to date. The transaction must exclude all others that do the same.

    Raises ``ConfigError`` for a database that a newer version of this program has written.
    """
    schema.create(connection, checkfirst=True)
    version = connection.execute(select(schema.c.version)).scalar()
    if version is None:
        connection.execute(insert(schema).values(version=0))
        version = 0
    if version > len(steps):
        raise ConfigError(
            f"the ledger's database has version {version}, and this cache-proxy knows {len(steps)}; "
            "use the newer one, or another database"
        )
    for step in steps[version:]:
        step(connection)
    if version < len(steps):
        connection.execute(update(schema).values(version=len(steps)))
