"""A store in a folder: diskcache behind a fence (``disk_fence``), in a file that is looked after (``disk_file``).

All work of a store runs in one thread of its own, a whole batch at a time, and never holds that thread while
another process has the write lock: a batch that finds the lock taken leaves, and comes back a little later.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from cache_proxy.backends.base import Backend, Key, Value
from cache_proxy.backends.disk_fence import CHUNK, FencedCache
from cache_proxy.backends.disk_file import DiskFile
from cache_proxy.errors import StoreError

log = logging.getLogger("cache_proxy.disk")

PING: Key = b"ping"
"""The reserved key that ``ping`` writes and forgets, to learn whether a value would be taken."""

_REMOTE = {
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "smb2",
    "9p",
    "afs",
    "ceph",
    "fuse.sshfs",
    "fuse.glusterfs",
}

P = ParamSpec("P")
T = TypeVar("T")


class DiskBackend(Backend):
    """Values in ``cache.db`` in ``directory``, which several processes of one host may share.

    ``max_bytes`` bounds the pages in use (keys, values and all overhead). Beyond it the least recently used
    entries go, in the background and in small steps, until a tenth is free; use is noted in memory and
    written every ``tidy_every`` seconds. A value bigger than the bound is not held.

    A write that finds the store locked by another process is tried again for ``write_patience`` seconds.

    A damaged file is put aside as ``cache.db.damaged-<UTC time>``, the store starts empty and says so in one
    line. A folder or file that can not be written is ``StoreError(refused=True)``.
    """

    name = "disk"

    def __init__(
        self,
        directory: str | os.PathLike[str],
        max_bytes: int = 2**30,
        *,
        write_patience: float = 4.0,
        tidy_every: float = 3.0,
    ) -> None:
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self._file = DiskFile(self.directory)
        self._write_patience = write_patience
        self._tidy_every = tidy_every
        self._thread: ThreadPoolExecutor | None = None
        self._touched: dict[Key, float] = {}
        self._tidying: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    async def open(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="cache-proxy-disk")
            _warn_of_old_sqlite(sqlite3.sqlite_version_info)
            _warn_of_remote_folder(self.directory)
        await self._hop(self._file.open)

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        if not keys:
            return {}
        found = await self._patiently(self._get, keys)
        self._tidy_later()
        return found

    def _get(self, cache: FencedCache, keys: Sequence[Key]) -> dict[Key, Value]:
        with cache.reading():
            pairs = ((key, cache.get(key, retry=False)) for key in keys)
            found = {key: value for key, value in pairs if value is not None}
        self._touched.update(dict.fromkeys(found, time.time()))
        return found

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        fitting = {key: value for key, value in entries.items() if len(value) <= self.max_bytes}
        if fitting:
            if await self._patiently(self._set, fitting, ttl):
                self._hurry.set()
            self._tidy_later()
        return True

    def _set(self, cache: FencedCache, entries: Mapping[Key, Value], ttl: float | None) -> bool:
        with cache.writing():
            # Housekeeping is behind: make room first, or busy writers would outrun it.
            while cache.bytes_in_use() > self.max_bytes * 1.05 and cache.evict(self.max_bytes):
                pass
            for key, value in entries.items():
                cache.set(key, value, expire=ttl, retry=False)
        return cache.bytes_in_use() > self.max_bytes

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await self._patiently(_delete, keys)

    async def clear(self) -> None:
        last = await self._patiently(_last_row)
        while await self._patiently(_delete_up_to, last):
            pass

    async def ping(self) -> None:
        await self._patiently(_write_and_forget)

    async def size(self) -> tuple[int, int]:
        """How many entries are held, and the bytes of the pages in use."""
        return await self._patiently(_size)

    async def tidy(self) -> None:
        """Write down what was used lately, forget what has expired, and evict down to nine tenths if over the
        bound.

        Runs by itself every ``tidy_every`` seconds after use, and at once when the bound is passed.
        """
        while await self._patiently(self._write_touched):
            pass
        while await self._patiently(_delete_expired):
            pass
        if await self._patiently(_in_use) > self.max_bytes:
            while await self._patiently(_evict_to, self.max_bytes * 9 // 10):
                pass

    async def close(self) -> None:
        tidying, self._tidying = self._tidying, None
        if tidying is not None:
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)
        thread = self._thread
        if thread is None:
            return
        with contextlib.suppress(StoreError):
            while await self._hop(self._file.call, self._write_touched):
                pass
        await self._hop(self._file.close)
        self._thread = None
        thread.shutdown(wait=False)

    def _write_touched(self, cache: FencedCache) -> bool:
        chunk = [(self._touched[key], key) for key, _ in zip(self._touched, range(CHUNK), strict=False)]
        if chunk:
            with cache.writing():
                cache.note_use(chunk)
        for _, key in chunk:
            del self._touched[key]
        return bool(self._touched)

    def _tidy_later(self) -> None:
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(self._tidy_soon())

    async def _tidy_soon(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), self._tidy_every)
        self._hurry.clear()
        # A store that fails says so where somebody asks it for something.
        with contextlib.suppress(StoreError):
            await self.tidy()

    async def _patiently(self, work: Callable[Concatenate[FencedCache, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        give_up_at = time.monotonic() + self._write_patience
        pause = 0.005
        while True:
            try:
                return await self._hop(self._file.call, work, *args, **kwargs)
            except StoreError as error:
                if error.refused or time.monotonic() + pause > give_up_at:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.1)

    async def _hop(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self._thread is None:
            raise StoreError("the disk store is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))


def _delete(cache: FencedCache, keys: Sequence[Key]) -> int:
    with cache.writing():
        return sum(cache.delete(key, retry=False) for key in dict.fromkeys(keys))


def _last_row(cache: FencedCache) -> int:
    return cache.number("SELECT COALESCE(MAX(rowid), 0) FROM Cache")


def _delete_up_to(cache: FencedCache, last: int) -> bool:
    with cache.writing():
        return cache.delete_where("rowid <= ? ORDER BY rowid", last, limit=CHUNK * 4) > 0


def _delete_expired(cache: FencedCache) -> bool:
    where = "expire_time IS NOT NULL AND expire_time < ? ORDER BY expire_time"
    if not cache.number(f"SELECT EXISTS (SELECT 1 FROM Cache WHERE {where})", time.time()):  # noqa: S608 - constant
        return False
    with cache.writing():
        return cache.delete_where(where, time.time(), limit=CHUNK) == CHUNK


def _in_use(cache: FencedCache) -> int:
    return cache.bytes_in_use()


def _evict_to(cache: FencedCache, goal: int) -> bool:
    with cache.writing():
        more = cache.evict(goal)
    cache.give_back_pages()
    return more


def _size(cache: FencedCache) -> tuple[int, int]:
    return cache.number("SELECT COUNT(*) FROM Cache"), cache.bytes_in_use()


def _write_and_forget(cache: FencedCache) -> None:
    with cache.writing():
        cache.set(PING, b"", retry=False)
        cache.delete(PING, retry=False)


def _warn_of_old_sqlite(version: tuple[int, ...]) -> None:
    """Before 3.51.3 a checkpoint that meets a restart of the log can corrupt the file ("WAL-reset")."""
    mended = version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
    if not mended:
        fields = {"sqlite": ".".join(map(str, version[:3]))}
        log.warning(
            "sqlite=%(sqlite)s has the WAL-reset defect, which can rarely damage the disk store (it is then "
            "put aside and starts empty); 3.51.3, 3.50.7 and 3.44.6 have not",
            fields,
            extra=fields,
        )


def _warn_of_remote_folder(directory: Path) -> None:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    kind = file_system(directory.resolve(), mounts)
    if kind in _REMOTE:
        fields = {"directory": str(directory), "file_system": kind}
        log.warning(
            "directory=%(directory)s is on %(file_system)s: SQLite's locks do not hold there; "
            "use a local disk or redis",
            fields,
            extra=fields,
        )


def file_system(path: Path, mounts: str) -> str | None:
    """The type of the file system that holds an absolute ``path``, from the text of ``/proc/self/mounts``."""
    kinds = {point: kind for _, point, kind, *_ in map(str.split, mounts.splitlines())}
    for folder in (path, *path.parents):
        kind = kinds.get(str(folder).replace(" ", "\\040"))
        if kind is not None:
            return kind
    return None
