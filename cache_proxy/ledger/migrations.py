"""Versions of the schema. A database is brought up to date by whoever opens it first, in one transaction."""

from collections.abc import Callable, Sequence

from sqlalchemy import Column, Connection, Integer, MetaData, Table, insert, select, update

from cache_proxy.errors import ConfigError
from cache_proxy.ledger import tables

schema = Table("schema_version", MetaData(), Column("version", Integer, nullable=False))

Step = Callable[[Connection], None]


def _first(connection: Connection) -> None:
    tables.metadata.create_all(connection)


STEPS: Sequence[Step] = (_first,)
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
