"""The file of the disk store: opened under a lock, followed when it is replaced, put aside when it is damaged."""

import contextlib
import logging
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from cache_proxy.backends.disk_bounds import PAGE, Bounds
from cache_proxy.backends.disk_errors import is_damage, translated
from cache_proxy.backends.disk_fence import LOCK_WAIT, OPEN_PATIENCE, FencedCache
from cache_proxy.backends.disk_lock import FolderLock
from cache_proxy.errors import StoreError

log = logging.getLogger("cache_proxy.disk")

_ASIDE_PAUSE = timedelta(seconds=10)
"""After which another file may be put aside: less is not an accident but a broken disk."""

P = ParamSpec("P")
T = TypeVar("T")

Identity = tuple[int, int]


class DiskFile:
    """``cache.db``: opens it, follows it when it was replaced, puts it aside when it is damaged. Lives in one
    thread.

    A file that is taken away is renamed before its log is, and a log without a file is removed before a new
    file is made: whoever is killed in between leaves nothing that could be mixed up.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.aside_bytes = 0
        """Bytes of the file that was put aside, if it is still there."""
        self.bounds = Bounds(max_bytes, max_bytes)
        """What there is to share out, as it was when the file was opened."""
        self._directory = directory
        self._path = directory / "cache.db"
        self._max_bytes = max_bytes
        self._lock = FolderLock(directory)
        self._cache: FencedCache | None = None
        self._identity: Identity | None = None

    def open(self) -> None:
        with translated():
            self._current()

    def call(self, work: Callable[Concatenate[FencedCache, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``work`` on the cache; once more on a new one if the file turns out to be damaged or gone."""
        with translated():
            try:
                return work(self._current(), *args, **kwargs)
            except sqlite3.Error as error:
                if not is_damage(error):
                    raise
            try:
                with self._lock.held(OPEN_PATIENCE):
                    # Before it is closed: as long as it is open, no new file can have its inode.
                    self._put_aside(self._identity)
            finally:
                self.close()
            self._open()
            return work(self._current(), *args, **kwargs)

    def room(self) -> int:
        """Bytes that the pages in use may take now."""
        free = shutil.disk_usage(self._directory).free
        return self.bounds.room(self._path.stat().st_size, free, self.aside_bytes)

    def replace(self) -> None:
        """Begin with a new file, empty but for leases and counters. The old one's room is free at once, whoever still
        has it open.

        Raises ``StoreError(refused=False)`` while another process writes.
        """
        with translated():
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(sqlite3.Error, OSError, StoreError):
                self._current()  # which somebody else may have replaced
            with self._lock.held(LOCK_WAIT):
                shared = {} if self._cache is None else self._cache.shared()
                self.close()
                old = self._take_away("cache.db.cleared")
                if old is not None:
                    _empty(old)
                self._open_locked().take_over(shared)

    def drop_aside(self) -> None:
        """Let go of what was put aside: the store needs the room."""
        for path in self._aside():
            path.unlink(missing_ok=True)
        self.aside_bytes = 0

    def close(self) -> None:
        cache, self._cache = self._cache, None
        if cache is not None:
            cache.close()

    def _current(self) -> FencedCache:
        if self._cache is None or self._identity != self._identity_now():
            self.close()
            self._open()
        assert self._cache is not None  # noqa: S101 - _open raises or sets it
        return self._cache

    def _identity_now(self) -> Identity | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._lock.held(OPEN_PATIENCE):
            self._open_locked()

    def _open_locked(self) -> FencedCache:
        try:
            self._cache = self._attempt()
        except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, sqlite3.Error) and not is_damage(error):
                raise
            self._put_aside(self._identity_now())
            self._cache = self._attempt()
        self._identity = self._identity_now()
        self.aside_bytes = sum(path.stat().st_size for path in self._aside())
        return self._cache

    def _attempt(self) -> FencedCache:
        left = [*self._directory.glob("cache.db.cleared*")]
        left += _with_log(self._path)[:2] if self._identity_now() is None else ()
        for path in left:
            path.unlink(missing_ok=True)
        # Made here and not by SQLite, which would let others read it; its -wal and -shm take the mode over.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(self._path, flags, 0o600))
        foreign = self._prepare()
        self.bounds = Bounds(self._max_bytes, shutil.disk_usage(self._directory).total)
        cache = FencedCache(self._directory, self._lock, self.bounds)
        if foreign:
            fields = {"directory": str(self._directory)}
            log.warning(
                "directory=%(directory)s was written by another program or version: what is not ours is not read",
                fields,
                extra=fields,
            )
        return cache

    def _prepare(self) -> bool:
        """Remove settings that are not ours, before diskcache would obey them; give a new file its page
        size. Returns whether the file was last opened by somebody with other settings.
        """
        connection = sqlite3.connect(self._path, timeout=OPEN_PATIENCE, isolation_level=None)
        with contextlib.closing(connection):
            connection.execute("PRAGMA trusted_schema = 0")
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'Settings'").fetchall():
                for pragma in (f"page_size = {PAGE}", "auto_vacuum = 2"):
                    connection.execute(f"PRAGMA {pragma}").fetchall()
                return False
            held = dict(connection.execute("SELECT key, value FROM Settings"))
            ours = {**held, **FencedCache.SETTINGS}
            for stranger in held.keys() - FencedCache.SETTINGS.keys() - set(FencedCache.COUNTS):
                connection.execute("DELETE FROM Settings WHERE key IS ?", (stranger,))
                del ours[stranger]
            return held != ours

    def _put_aside(self, damaged: Identity | None) -> None:
        """Rename the damaged file, unless another process already has (the file in place is another one
        then). One file at most is kept: a disk that damages files again and again must not be filled by them.
        """
        if damaged is None or damaged != self._identity_now():
            return
        now = datetime.now(UTC)
        if any(path.name > _aside_name(now - _ASIDE_PAUSE) for path in self._aside()):
            raise StoreError("disk: damaged again at once; is the disk sound?")
        self.drop_aside()
        aside = self._take_away(_aside_name(now))
        fields = {"directory": str(self._directory), "put_aside": aside.name if aside else ""}
        log.error(
            "disk store damaged, starting empty directory=%(directory)s put_aside=%(put_aside)s",
            fields,
            extra=fields,
        )

    def _aside(self) -> Iterator[Path]:
        return self._directory.glob("cache.db.damaged-*")

    def _take_away(self, name: str) -> Path | None:
        """Rename the file and its log. Returns where it is then, or ``None`` if there was no file."""
        away = self._path.with_name(name)
        try:
            self._path.rename(away)
        except FileNotFoundError:
            return None
        for old, new in zip(_with_log(self._path), _with_log(away), strict=True):
            with contextlib.suppress(FileNotFoundError):
                old.rename(new)
        return away


def _aside_name(at: datetime) -> str:
    return f"cache.db.damaged-{at:%Y%m%dT%H%M%S.%fZ}"


def _empty(path: Path) -> None:
    """Give back the room of a file that others may still have open, and remove it. Who is reading in it meets
    what looks like damage, and finds the new file then.
    """
    with contextlib.suppress(OSError):  # a planted link is not followed
        descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)
    for each in _with_log(path):
        each.unlink(missing_ok=True)


def _with_log(path: Path) -> tuple[Path, ...]:
    """The files that SQLite keeps beside one, and the file itself last."""
    return tuple(path.with_name(f"{path.name}{suffix}") for suffix in ("-wal", "-shm", ""))
