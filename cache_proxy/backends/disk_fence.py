"""diskcache, fenced. The only module that imports ``diskcache``.

diskcache trusts its files: it unpickles what it finds, follows a planted file name and obeys planted
settings. Here it handles raw bytes in rows and nothing else, every setting is ours, rows of any other kind
are misses, and it is never asked to evict. It is unmaintained and pinned, so its few
private names used here stand still.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import diskcache

from cache_proxy.backends.base import Key
from cache_proxy.errors import StoreError

OPEN_PATIENCE = 10.0
"""Seconds to wait for other processes while opening."""

CHUNK = 256
"""Rows of housekeeping a trip, so that look-ups get in between."""

_LOCK_WAIT = 0.05  # seconds the thread waits for SQLite's write lock before it leaves
_ROW_OVERHEAD = 150  # bytes of key, columns and index entries
_RAW = 1  # diskcache's MODE_RAW


class RawDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """Lets exact bytes through, both ways, and never touches a file whatever a row says."""

    def put(self, key: object) -> tuple[bytes, bool]:
        return _exact(key), True

    def get(self, key: object, raw: bool) -> bytes:  # noqa: ARG002
        return _exact(key)

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, bytes]:  # noqa: ARG002
        return 0, _RAW, None, _exact(value)

    def fetch(self, mode: int, filename: str | None, value: object, read: bool) -> bytes | None:  # noqa: ARG002
        planted = mode != _RAW or filename is not None or type(value) is not bytes
        return None if planted else _exact(value)

    def filename(self, key: object = None, value: object = None) -> tuple[str, str]:  # noqa: ARG002
        raise TypeError("values live in rows")

    def remove(self, file_path: str) -> None:
        pass


def _exact(value: object) -> bytes:
    if type(value) is not bytes:
        raise TypeError(f"keys and values are bytes, not {type(value).__name__}")
    return value


class FencedCache(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """diskcache's tables and statements, with our settings, truthful transactions and our eviction."""

    SETTINGS = {  # noqa: RUF012 - never changed
        "statistics": 0,
        "tag_index": 0,
        "eviction_policy": "none",
        "size_limit": 2**62,
        "cull_limit": 0,
        "disk_min_file_size": 2**62,
        "disk_pickle_protocol": 0,
        "sqlite_auto_vacuum": 2,  # incremental: only when asked to
        "sqlite_cache_size": -8192,  # KiB
        "sqlite_cell_size_check": 1,
        "sqlite_journal_mode": "wal",
        "sqlite_journal_size_limit": 2**26,
        "sqlite_mmap_size": 0,  # an I/O error would be a signal, not an error
        "sqlite_synchronous": 1,
        "sqlite_trusted_schema": 0,
        "sqlite_wal_autocheckpoint": 512,  # pages
    }
    _txn_id: int | None  # diskcache's: the thread in whose transaction its methods take part
    OWN_ROWS = (*SETTINGS, "count", "size", "hits", "misses")

    def __init__(self, directory: Path) -> None:
        try:
            super().__init__(str(directory), timeout=_LOCK_WAIT, disk=RawDisk, **self.SETTINGS)
            self._sql_retry("CREATE INDEX IF NOT EXISTS Cache_access_time ON Cache (access_time)")
        except BaseException:
            self.close()
            raise

    @property
    def _sql_retry(self) -> Callable[..., Any]:
        """diskcache's own waits a minute for the lock."""
        give_up_at = time.monotonic() + OPEN_PATIENCE

        def execute(*args: Any) -> Any:
            while True:
                try:
                    return self._sql(*args)
                except sqlite3.OperationalError as error:
                    if not is_busy(error) or time.monotonic() > give_up_at:
                        raise
                time.sleep(0.005)

        return execute

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One snapshot for a batch of reads. Needs no lock."""
        with self._transaction("BEGIN"):
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction for a batch of writes, which diskcache's own methods join.

        diskcache's ``transact`` calls every failure to begin a time-out, read-only and full disks too, and
        leaves the transaction open when the commit fails.
        """
        with self._transaction("BEGIN IMMEDIATE"):
            self._txn_id = threading.get_ident()
            yield

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        connection = self._con
        connection.execute(begin)
        try:
            yield
            connection.execute("COMMIT")
        finally:
            self._txn_id = None
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def number(self, query: str, *args: object) -> int:
        ((number,),) = self._sql(query, args).fetchall()
        return int(number)

    def bytes_in_use(self) -> int:
        pages = self.number("PRAGMA page_count") - self.number("PRAGMA freelist_count")
        return pages * self.number("PRAGMA page_size")

    def delete_where(self, where: str, *args: object, limit: int) -> int:
        statement = f"DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache WHERE {where} LIMIT ?)"  # noqa: S608 - constants
        return int(self._sql(statement, (*args, limit)).rowcount)

    def evict(self, goal: int) -> bool:
        """Let go of the least recently used rows, a chunk at most, until ``goal`` bytes are in use.

        Returns whether there is more to do.
        """
        excess = self.bytes_in_use() - goal
        going = []
        oldest = "SELECT rowid, COALESCE(LENGTH(value), 0) FROM Cache ORDER BY access_time LIMIT ?"
        for row, size in self._sql(oldest, (CHUNK,)).fetchall():
            if excess <= 0:
                break
            excess -= size + _ROW_OVERHEAD
            going.append((row,))
        self._con.executemany("DELETE FROM Cache WHERE rowid = ?", going)
        return bool(going) and self.bytes_in_use() > goal

    def give_back_pages(self) -> None:
        self._sql("PRAGMA incremental_vacuum(64)").fetchall()

    def note_use(self, uses: Iterable[tuple[float, Key]]) -> None:
        # Never backwards: another process may have seen a later use.
        self._con.executemany("UPDATE Cache SET access_time = MAX(access_time, ?) WHERE key = ? AND raw = 1", uses)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0)


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another process holds the lock: worth another try."""
    return _code(error) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: sqlite3.Error) -> bool:
    """Whether the file is broken, foreign, or no longer the one that was opened."""
    if _code(error) == sqlite3.SQLITE_READONLY_DBMOVED:
        return True
    foreign = str(error).startswith(("no such table", "no such column", "table "))
    return foreign or _code(error) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The one door by which errors of SQLite, diskcache and the file system enter."""
    try:
        yield
    except sqlite3.Error as error:
        said = getattr(error, "sqlite_errorname", type(error).__name__)
        raise StoreError(f"disk: {said}", refused=not is_busy(error)) from error
    except diskcache.Timeout as error:
        raise StoreError("disk: busy", refused=False) from error
    except OSError as error:
        raise StoreError(f"disk: {error.strerror or type(error).__name__}") from error
