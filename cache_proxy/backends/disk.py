"""A store in a folder: diskcache behind a fence (``disk_fence``), in a file that is looked after (``disk_file``).

All work of a store runs in one thread of its own, a whole batch at a time, and never holds that thread while
another process has the write lock: a batch that finds the lock taken leaves, and comes back a little later.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from cache_proxy.backends.base import Backend, Counters, Key, Leases, Occupancy, Value
from cache_proxy.backends.disk_bounds import Bounds, room_of
from cache_proxy.backends.disk_counters import DiskCounters
from cache_proxy.backends.disk_fence import FencedCache
from cache_proxy.backends.disk_file import DiskFile
from cache_proxy.backends.disk_leases import DiskLeases, forget_lapsed
from cache_proxy.backends.disk_place import warn_of_remote_folder
from cache_proxy.backends.disk_trouble import Trouble
from cache_proxy.errors import StoreError

log = logging.getLogger("cache_proxy.disk")

PING: Key = b"ping"
"""The reserved key that ``ping`` writes and forgets, to learn whether a value would be taken."""

_TOUCHED_MOST = 50_000  # keys: where nothing can be written, they would pile up

SHARE = 0.8
"""Of a write's patience, what leases and counters have: whoever guards the store gives a call about as long as a write,
and what a part of them was answered has to be back by then."""

_LEAST_SHARE = 1.0
"""Seconds that they have for what is not the lock: to get to the thread, and to the disk."""

_PAUSES = (0.005, 0.1)
"""Seconds between tries at a lock that is taken, first and longest. A try takes the thread ``LOCK_WAIT``, too."""

_SHORT_PAUSES = (0.002, 0.01)
"""The same for those that wait for it in the pauses alone."""

P = ParamSpec("P")
T = TypeVar("T")


class DiskBackend(Backend):
    """Values in ``cache.db`` in ``directory``, which several processes of one host may share.

    ``max_bytes`` bounds the folder, log and all, within a tenth (see ``disk_bounds``); so does the disk. The
    least recently used entries go, in the background and in small steps, before it is reached; use is noted in
    memory and written every ``tidy_every`` seconds. A value bigger than an eighth of the bound is not held.

    A write that finds the store locked by another process is tried again for ``write_patience`` seconds.

    Leases and counters hold for all processes that share the folder. ``clock`` is their time, and has to be the same
    for all of them.

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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = Path(directory)
        self.max_bytes = max_bytes
        self._file = DiskFile(self.directory, max_bytes)
        self._write_patience = write_patience
        self._tidy_every = tidy_every
        self._thread: ThreadPoolExecutor | None = None
        self._touched: dict[Key, float] = {}
        self._trouble = Trouble(self.directory)
        self._tidying: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._turn = asyncio.Lock()
        self._evicted = 0
        self._clock = clock
        self._patience = write_patience * SHARE
        self._leases = DiskLeases(self._read, self._share, clock, max(self._patience, _LEAST_SHARE))
        self._counters = DiskCounters(self._share, clock)

    async def open(self) -> None:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="cache-proxy-disk")
            # Of this event loop: a store may be closed in one and opened again in another.
            self._hurry, self._turn = asyncio.Event(), asyncio.Lock()
            warn_of_remote_folder(self.directory)
        try:
            await self._hop(self._file.open)
        except StoreError as error:
            self._trouble.met(error)
            raise

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        if not keys:
            return {}
        found = await self._read(self._get, keys)
        self._tidy_later()
        return found

    def _get(self, cache: FencedCache, keys: Sequence[Key]) -> dict[Key, Value]:
        found = cache.held(keys)
        if len(self._touched) < _TOUCHED_MOST:
            self._touched.update(dict.fromkeys(found, time.time()))
        return found

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        fitting = {key: value for key, value in entries.items() if len(value) <= self._file.bounds.largest}
        try:
            for part in self._file.bounds.parts(fitting):
                if await self._write(self._set, part, ttl):
                    self._hurry.set()
                self._tidy_later()
        except StoreError as error:
            self._trouble.met(error)
            raise
        self._trouble.passed()
        return True

    def _set(self, cache: FencedCache, entries: Mapping[Key, Value], ttl: float | None) -> bool:
        with cache.writing():
            self._make_room(cache, sum(map(room_of, entries.values())))
            cache.hold(entries, ttl)
        return cache.bytes_in_use() > self._file.bounds.tidy_from

    def _make_room(self, cache: FencedCache, needed: int) -> None:
        """Housekeeping is behind: let go of as much as comes in, or busy writers would outrun it."""
        in_use = cache.bytes_in_use()
        if in_use + needed > self._file.room() and self._file.aside_bytes:
            self._file.drop_aside()
        # A bound that was lowered is reached step by step, not in one write.
        goal = max(self._file.room() - needed, in_use - 2 * needed)
        while cache.bytes_in_use() > goal and (gone := cache.evict(goal)):
            self._evicted += gone

    async def delete_many(self, keys: Sequence[Key]) -> int:
        distinct, rows = list(dict.fromkeys(keys)), self._file.bounds.rows
        parts = [distinct[at : at + rows] for at in range(0, len(distinct), rows)]
        return sum([await self._write(_delete, part) for part in parts])

    async def clear(self) -> None:
        await self._in_turn(self._file.replace)

    async def ping(self) -> None:
        await self._write(_write_and_forget)

    @property
    def writers_queue(self) -> bool:
        return True

    @property
    def leases(self) -> Leases:
        return self._leases

    @property
    def counters(self) -> Counters:
        return self._counters

    async def occupancy(self) -> Occupancy:
        """By the store's own counters; bytes are those of the pages in use."""
        entries, in_use = await self.size()
        return Occupancy(entries, in_use, self._file.bounds.whole)

    @property
    def evicted(self) -> int:
        return self._evicted

    async def size(self) -> tuple[int, int]:
        """How many entries are held, and the bytes of the pages in use."""
        return await self._read(_size)

    async def tidy(self) -> None:
        """Write down what was used lately, forget what has expired, leases too, and evict down to nine tenths if the
        bound is near.

        Runs by itself every ``tidy_every`` seconds after use, and at once when the bound is near.
        """
        while await self._write(self._write_touched):
            pass
        while await self._write(_delete_expired, self._file.bounds.rows):
            pass
        while await self._share(forget_lapsed, self._file.bounds.rows, self._clock):
            pass
        bounds = self._file.bounds
        if await self._read(_in_use) > bounds.tidy_from:
            while await self._write(self._evict, bounds):
                pass

    def _evict(self, cache: FencedCache, bounds: Bounds) -> bool:
        with cache.writing():
            gone = cache.evict(bounds.tidy_to)
            more = gone > 0 and cache.bytes_in_use() > bounds.tidy_to
        self._evicted += gone
        return cache.give_back_pages(bounds.goal) or more

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
        chunk = [(self._touched[key], key) for key in islice(self._touched, self._file.bounds.rows)]
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

    async def _write(self, work: Callable[Concatenate[FencedCache, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._in_turn(self._file.call, work, *args, **kwargs)

    async def _share(self, work: Callable[Concatenate[FencedCache, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """As ``_write``, for what waits for no lock in the thread: look-ups are not held up by leases."""
        give_up_at = time.monotonic() + self._patience
        try:
            async with asyncio.timeout(max(self._patience, _LEAST_SHARE)), self._turn:
                return await self._again(give_up_at, _SHORT_PAUSES, self._file.call, work, *args, **kwargs)
        except TimeoutError:
            raise StoreError("disk: busy", refused=False) from None

    async def _in_turn(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """What ``work`` gives, tried again for a while as long as another process has the lock.

        One at a time: many that find it taken would keep the thread from look-ups.
        """
        give_up_at = time.monotonic() + self._write_patience
        async with self._turn:
            return await self._again(give_up_at, _PAUSES, work, *args, **kwargs)

    async def _read(self, work: Callable[Concatenate[FencedCache, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        give_up_at = time.monotonic() + self._write_patience
        return await self._again(give_up_at, _PAUSES, self._file.call, work, *args, **kwargs)

    async def _again(
        self, give_up_at: float, pauses: tuple[float, float], work: Callable[..., T], *args: Any, **kwargs: Any
    ) -> T:
        pause, longest = pauses
        while True:
            try:
                return await self._hop(work, *args, **kwargs)
            except StoreError as error:
                if error.refused or time.monotonic() + pause > give_up_at:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    async def _hop(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        if self._thread is None:
            raise StoreError("the disk store is not open")
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))


def _delete(cache: FencedCache, keys: Sequence[Key]) -> int:
    with cache.writing():
        return cache.forget(keys)


def _delete_expired(cache: FencedCache, rows: int) -> bool:
    where = "expire_time IS NOT NULL AND expire_time < ? ORDER BY expire_time"
    if not cache.number(f"SELECT EXISTS (SELECT 1 FROM Cache WHERE {where})", time.time()):  # noqa: S608 - constant
        return False
    with cache.writing():
        return cache.delete_where(where, time.time(), limit=rows) == rows


def _in_use(cache: FencedCache) -> int:
    return cache.bytes_in_use()


def _size(cache: FencedCache) -> tuple[int, int]:
    return cache.rows_in_use(), cache.bytes_in_use()


def _write_and_forget(cache: FencedCache) -> None:
    with cache.writing():
        cache.hold({PING: b""}, None)
        cache.forget([PING])
