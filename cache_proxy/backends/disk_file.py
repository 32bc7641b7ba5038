"""The file of the disk store: opened under a lock, followed when it is replaced, put aside when it is damaged."""

import contextlib
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from cache_proxy.backends.disk_fence import OPEN_PATIENCE, FencedCache, is_damage, translated
from cache_proxy.errors import StoreError

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("cache_proxy.disk")

_PAGE_BYTES = 16_384  # a 1024-d vector of 4 KiB does not fit SQLite's own 4 KiB page

P = ParamSpec("P")
T = TypeVar("T")


class DiskFile:
    """``cache.db``: opens it, follows it when it was replaced, puts it aside when it is damaged. Lives in one
    thread.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "cache.db"
        self._cache: FencedCache | None = None
        self._identity: tuple[int, int] | None = None

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
            self.close()
            with self._locked():
                self._put_aside(self._identity)
            self._open()
            return work(self._current(), *args, **kwargs)

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

    def _identity_now(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino

    def _open(self) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            try:
                self._cache = self._attempt()
            except (sqlite3.Error, ValueError, TypeError, AttributeError) as error:
                if isinstance(error, sqlite3.Error) and not is_damage(error):
                    raise
                self._put_aside(self._identity_now())
                self._cache = self._attempt()
            self._identity = self._identity_now()

    def _attempt(self) -> FencedCache:
        # Made here and not by SQLite, which would let others read it; its -wal and -shm take the mode over.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(self._path, flags, 0o600))
        self._prepare()
        return FencedCache(self._directory)

    def _prepare(self) -> None:
        """Remove settings that are not ours, before diskcache would obey them; give a new file its page
        size.
        """
        connection = sqlite3.connect(self._path, timeout=OPEN_PATIENCE, isolation_level=None)
        with contextlib.closing(connection):
            for pragma in ("trusted_schema = 0", f"page_size = {_PAGE_BYTES}", "auto_vacuum = 2"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'Settings'").fetchall():
                return
            ours = set(FencedCache.OWN_ROWS)
            names = [name for (name,) in connection.execute("SELECT key FROM Settings")]
            for stranger in (name for name in names if name not in ours):
                connection.execute("DELETE FROM Settings WHERE key IS ?", (stranger,))

    def _put_aside(self, damaged: tuple[int, int] | None) -> None:
        """Rename the damaged file, unless another process already has (the file in place is another one
        then).
        """
        if damaged is None or damaged != self._identity_now():
            return
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        aside = self._path.with_name(f"cache.db.damaged-{stamp}")
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(FileNotFoundError):
                Path(f"{self._path}{suffix}").rename(f"{aside}{suffix}")
        fields = {"directory": str(self._directory), "put_aside": aside.name}
        log.error(
            "disk store damaged, starting empty directory=%(directory)s put_aside=%(put_aside)s",
            fields,
            extra=fields,
        )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time opens or puts aside."""
        if sys.platform == "win32":
            yield
            return
        descriptor = os.open(self._directory / "cache.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            _lock(descriptor)
            yield
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> None:
    give_up_at = time.monotonic() + OPEN_PATIENCE
    while sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > give_up_at:
                raise StoreError("disk: another process is busy opening the store", refused=False) from None
        time.sleep(0.005)
