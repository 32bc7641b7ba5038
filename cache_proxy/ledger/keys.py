"""Keys that were made at run time, in the ledger's database. Every call blocks, and may raise ``LedgerError``."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import Connection, Row, delete, func, insert, select, update

from cache_proxy.access import AccessKey
from cache_proxy.errors import RequestError
from cache_proxy.ledger import tables
from cache_proxy.ledger.budgets import levels_of
from cache_proxy.ledger.database import Database

_COLUMNS = ("hash", "created_at", "updated_at")
_TUPLES = ("models", "allowed_cache_controls")

keys, counter, days = tables.keys, tables.key_changes, tables.days


class KeyTable:
    """The keys in a database. ``changes`` counts what was done to them, so that others can tell if anything was."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def changes(self) -> int:
        """How often keys were changed so far."""
        with self._database.reading() as connection:
            return int(connection.execute(select(counter.c.count)).scalar_one())

    def find(self, hash_: str) -> tuple[int, AccessKey | None]:
        """The key of this hash, and how often keys had been changed when it was looked up, or before."""
        with self._database.reading() as connection:
            changes = int(connection.execute(select(counter.c.count)).scalar_one())
            return changes, _find(connection, hash_)

    def named(self, alias: str) -> str | None:
        """The hash of the key with this alias, if there is one."""
        with self._database.reading() as connection:
            return connection.execute(select(keys.c.hash).where(keys.c.alias == alias)).scalar()

    def all(self) -> list[AccessKey]:
        """Every key, the newest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(keys).order_by(keys.c.created_at.desc(), keys.c.hash))
            return [_key(row) for row in rows]

    def add(self, key: AccessKey) -> None:
        """Take in a new one. Raises ``RequestError`` if there is one of its hash or its alias."""
        with self._changing() as connection:
            _refuse_twin(connection, key)
            if _find(connection, key.hash) is not None:
                raise RequestError("There is this key already.", param="key", code="key_exists")
            connection.execute(insert(keys).values(_row(key)))

    def change(self, hash_: str, change: Callable[[AccessKey], AccessKey]) -> AccessKey | None:
        """The key as ``change`` makes it, or ``None`` if there is none. Raises ``RequestError``."""
        with self._changing() as connection:
            found = _find(connection, hash_)
            if found is None:
                return None
            changed = change(found)
            _refuse_twin(connection, changed)
            connection.execute(update(keys).where(keys.c.hash == hash_).values(_row(changed)))
            return changed

    def remove(self, hashes: Sequence[str]) -> int:
        """Take these out; how many there were."""
        with self._changing() as connection:
            return connection.execute(delete(keys).where(keys.c.hash.in_(hashes))).rowcount

    def spent(self, hashes: Sequence[str]) -> dict[str, int]:
        """What has been paid with each of these keys, in pico-USD. Calls of unknown price are not in it."""
        of_these = tables.SUMS_OF_KEYS & days.c.name.in_(hashes)
        added = select(days.c.name, func.sum(days.c.cost)).where(of_these).group_by(days.c.name)
        with self._database.reading() as connection:
            return {name: int(cost) for name, cost in connection.execute(added)}

    def levels(self, keys_: Sequence[AccessKey], now: float) -> dict[str, tuple[int, int]]:
        """What those of these keys that have a budget have spent and reserved in their window, in pico-USD."""
        budgets = {key.hash: key.budget for key in keys_ if key.budget is not None}
        with self._database.reading() as connection:
            levels = levels_of(connection, budgets, now)
        return {hash_: (level.spent, level.reserved) for hash_, level in levels.items()}

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """A transaction that changes keys: one at a time, for each begins with this row."""
        with self._database.writing() as connection:
            connection.execute(update(counter).values(count=counter.c.count + 1))
            yield connection

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()


def _find(connection: Connection, hash_: str) -> AccessKey | None:
    row = connection.execute(select(keys).where(keys.c.hash == hash_)).first()
    return None if row is None else _key(row)


def _refuse_twin(connection: Connection, key: AccessKey) -> None:
    same = select(keys.c.hash).where((keys.c.alias == key.alias) & (keys.c.hash != key.hash))
    if key.alias and connection.execute(same).first() is not None:
        raise RequestError("Another key has this `key_alias`.", param="key_alias", code="key_exists")


def _row(key: AccessKey) -> dict[str, Any]:
    told = asdict(key)
    columns = {name: told.pop(name) for name in _COLUMNS}
    del told["configured"]
    return {**columns, "alias": key.alias, "definition": orjson.dumps(told).decode()}


def _key(row: Row[Any]) -> AccessKey:
    told = orjson.loads(row.definition)
    lists = {name: tuple(told[name]) for name in _TUPLES}
    return AccessKey(hash=row.hash, **{**told, **lists}, created_at=row.created_at, updated_at=row.updated_at)
