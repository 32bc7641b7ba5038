"""diskcache, fenced. The only module that imports ``diskcache``.

diskcache trusts its files: it unpickles what it finds, follows a planted file name and obeys planted
settings. Here the tables and the opening of the file are its own, but every setting is ours and so is every
statement that touches a row: raw bytes in rows, and rows of any other kind are misses. It is unmaintained and
pinned, so its few private names used here stand still.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import diskcache

from cache_proxy.backends.base import Key, Value
from cache_proxy.backends.disk_bounds import PAGE, Bounds
from cache_proxy.backends.disk_errors import is_busy, is_full
from cache_proxy.backends.disk_lock import FolderLock
from cache_proxy.backends.disk_tables import ADD, ALL, MAKE
from cache_proxy.errors import StoreError

OPEN_PATIENCE = 10.0
"""Seconds to wait for other processes while opening."""

LOCK_WAIT = 0.02
"""Seconds the thread waits for another process that writes before it leaves."""

_ROW_OVERHEAD = 150  # bytes of key, columns and index entries

IS_HELD = (
    "Cache.key = ? AND raw = 1 AND mode = 1 AND filename IS NULL"
    " AND TYPEOF(value) = 'blob' AND (expire_time IS NULL OR expire_time > ?)"
)
"""What makes a row a value under a key, at a time of the calendar."""

_HELD = f"SELECT key, value FROM Cache WHERE {IS_HELD}"  # noqa: S608 - constant
_HOLD = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, value)"
    " VALUES (?, 1, ?, ?, ?, 0, NULL, 0, 1, NULL, ?)"
    " ON CONFLICT (key, raw) DO UPDATE SET store_time = excluded.store_time, expire_time = excluded.expire_time,"
    " access_time = excluded.access_time, access_count = 0, tag = NULL, size = 0, mode = 1, filename = NULL,"
    " value = excluded.value"
)


class NoDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache has no types
    """diskcache's way to values, closed: it would read and remove files, and unpickle."""

    def put(self, *_: object, **__: object) -> Any:
        raise TypeError("rows are read and written by our own statements")

    get = store = fetch = filename = remove = put


class FencedCache(diskcache.Cache):  # type: ignore[misc]  # diskcache has no types
    """diskcache's tables, with our settings, statements, transactions and eviction."""

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
        "sqlite_mmap_size": 0,  # an I/O error would be a signal, not an error
        "sqlite_secure_delete": "fast",  # where it costs no write: Debian's own would write every page it frees
        "sqlite_synchronous": 1,
        "sqlite_trusted_schema": 0,
    }
    COUNTS = ("count", "size", "hits", "misses")

    def __init__(self, directory: Path, lock: FolderLock, bounds: Bounds) -> None:
        """To be called under the lock."""
        self._lock = lock
        self._bounds = bounds
        self._log = directory / "cache.db-wal"
        try:
            super().__init__(str(directory), timeout=LOCK_WAIT, disk=NoDisk, **self.SETTINGS)
            self._sql_retry("CREATE INDEX IF NOT EXISTS Cache_access_time ON Cache (access_time)")
            self._sql(f"PRAGMA wal_autocheckpoint = {bounds.log_pages}")
            self._sql(f"PRAGMA journal_size_limit = {bounds.log_pages * PAGE}")
            self.shares = self._made_tables()
        except BaseException:
            self.close()
            raise

    def _made_tables(self) -> bool:
        """Make what leases and counters need. Returns whether it is there: an older file on a full disk does without,
        so that its values are read.
        """
        try:
            for statement in MAKE:
                self._sql_retry(statement)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            return False
        return True

    def see_to_tables(self) -> None:
        """Before leases and counters are asked for: make their tables, where there was no room for them."""
        if not self.shares:
            with self.writing():
                for statement in MAKE:
                    self._sql(statement)
            self.shares = True

    def shared(self) -> dict[str, list[Any]]:
        """The rows of leases and counters by table; nothing where they can not be read."""
        with contextlib.suppress(sqlite3.Error), self.reading():
            return {table: self._sql(query).fetchall() for table, query in ALL.items()}
        return {}

    def take_over(self, shared: Mapping[str, Sequence[Any]]) -> None:
        """Begin with these rows, unless they find no room. To be called under the lock, on a new file."""
        with contextlib.suppress(sqlite3.Error), self._transaction("BEGIN IMMEDIATE"):
            for table, rows in shared.items():
                self.change(ADD[table], rows)

    @property
    def _sql_retry(self) -> Callable[..., Any]:
        """diskcache's own waits a minute for the lock, and writes every setting anew each time."""
        give_up_at = time.monotonic() + OPEN_PATIENCE

        def execute(statement: str, args: Sequence[Any] = ()) -> Any:
            while not self._is_set(statement, args):
                try:
                    return self._sql(statement, args)
                except sqlite3.OperationalError as error:
                    if not is_busy(error) or time.monotonic() > give_up_at:
                        raise
                time.sleep(0.005)
            return None

        return execute

    def _is_set(self, statement: str, args: Sequence[Any]) -> bool:
        """Whether this writes a setting that is there already. A full disk is thus opened without a write."""
        if statement.startswith("INSERT OR IGNORE INTO Settings"):
            return bool(self._sql("SELECT 1 FROM Settings WHERE key = ?", args[:1]).fetchall())
        if statement.startswith("INSERT OR REPLACE INTO Settings"):
            key, value = args
        elif statement.startswith("UPDATE Settings SET value = ?"):
            value, key = args
        else:
            return False
        return (value,) in self._sql("SELECT value FROM Settings WHERE key = ?", (key,)).fetchall()

    def held(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """The values under these keys, in one snapshot. Needs no lock. No column but the value is read: in a row that
        is damaged or planted it could be anything.
        """
        now = time.time()
        with self.reading():
            return dict(row for key in keys for row in self._sql(_HELD, (key, now)))

    def hold(self, entries: Mapping[Key, Value], ttl: float | None) -> None:
        """Put these values in. Part of a transaction of :meth:`writing`."""
        now = time.time()
        expires = None if ttl is None else now + ttl
        self._con.executemany(_HOLD, ((key, now, expires, now, value) for key, value in entries.items()))

    def forget(self, keys: Iterable[Key]) -> int:
        """Take these out; how many were there. Part of a transaction of :meth:`writing`."""
        statement = "DELETE FROM Cache WHERE key = ? AND raw = 1"
        return int(self._con.executemany(statement, ((key,) for key in keys)).rowcount)

    def reading(self) -> contextlib.AbstractContextManager[None]:
        """One snapshot for a batch of reads."""
        return self._transaction("BEGIN")

    @contextlib.contextmanager
    def writing(self, patience: float = LOCK_WAIT) -> Iterator[None]:
        """One transaction for a batch of writes.

        Raises ``StoreError(refused=False)`` if another process is writing for all of ``patience`` seconds.
        """
        with self._lock.held(patience):
            self._shorten_log()
            try:
                with self._transaction("BEGIN IMMEDIATE"):
                    yield
            except sqlite3.OperationalError as error:
                if is_full(error):
                    # The next write may then begin at the front of the log, which needs no room.
                    with contextlib.suppress(sqlite3.Error):
                        self._sql("PRAGMA wal_checkpoint(RESTART)").fetchall()
                raise

    def _shorten_log(self) -> None:
        """Readers without a pause keep SQLite from beginning the log anew; see that it ends all the same.

        Raises ``StoreError(refused=False)`` if it is too long and somebody is still reading in it.
        """
        size = self._log.stat().st_size if self._log.exists() else 0
        if size > self._bounds.log_most // 2:
            ((busy, _, _),) = self._sql("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            if busy and size > self._bounds.log_most:
                raise StoreError("disk: busy, the log is full and being read", refused=False)

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        connection = self._con
        connection.execute(begin)
        try:
            yield
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def rows(self, query: str, each: Iterable[Sequence[object]]) -> list[Any]:
        """For each of these arguments the first row that the query gives, or ``None``."""
        ask = self._con.cursor().execute
        return [ask(query, args).fetchone() for args in each]

    def change(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        """Carry out a statement for each of these rows; how many it changed. Part of a transaction of
        :meth:`writing`.
        """
        return int(self._con.executemany(statement, rows).rowcount)

    def number(self, query: str, *args: object) -> int:
        ((number,),) = self._sql(query, args).fetchall()
        return int(number)

    def rows_in_use(self) -> int:
        """How many rows there are. diskcache's own triggers count them, so that none need be looked at."""
        return self.number("SELECT COALESCE(MAX(value), 0) FROM Settings WHERE key = 'count'")

    def bytes_in_use(self) -> int:
        pages = self.number("PRAGMA page_count") - self.number("PRAGMA freelist_count")
        return pages * self.number("PRAGMA page_size")

    def delete_where(self, where: str, *args: object, limit: int) -> int:
        statement = f"DELETE FROM Cache WHERE rowid IN (SELECT rowid FROM Cache WHERE {where} LIMIT ?)"  # noqa: S608 - constants
        return int(self._sql(statement, (*args, limit)).rowcount)

    def evict(self, goal: int) -> int:
        """Let go of the least recently used rows, as many as a trip takes, until ``goal`` bytes are in use.

        Returns how many they were.
        """
        excess = self.bytes_in_use() - goal
        at_once = self._bounds.log_most // 4
        going = []
        oldest = "SELECT rowid, COALESCE(LENGTH(value), 0) FROM Cache ORDER BY access_time LIMIT ?"
        with contextlib.closing(self._sql(oldest, (self._bounds.rows,))) as rows:
            for row, size in rows:
                if excess <= 0 or at_once <= 0:
                    break
                excess -= size + _ROW_OVERHEAD
                at_once -= size + _ROW_OVERHEAD
                going.append((row,))
        self._con.executemany("DELETE FROM Cache WHERE rowid = ?", going)
        return len(going)

    def give_back_pages(self, goal: int) -> bool:
        """Make the file smaller, a step, while it is larger than ``goal`` bytes. In steady use it never is.

        Returns whether there is more to do.
        """
        if not self._beyond(goal):
            return False
        with self._lock.held(LOCK_WAIT):
            self._sql("PRAGMA incremental_vacuum(64)").fetchall()
        return self._beyond(goal) and self.number("PRAGMA freelist_count") > 0

    def _beyond(self, goal: int) -> bool:
        return self.number("PRAGMA page_count") * self.number("PRAGMA page_size") > goal

    def note_use(self, uses: Iterable[tuple[float, Key]]) -> None:
        # Never backwards: another process may have seen a later use.
        self._con.executemany("UPDATE Cache SET access_time = MAX(access_time, ?) WHERE key = ? AND raw = 1", uses)
