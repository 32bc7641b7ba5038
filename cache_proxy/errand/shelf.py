"""The store, seen as entries: frames are opened on the way out and sealed on the way in."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from cache_proxy import lasting
from cache_proxy.backends.base import Backend
from cache_proxy.core.codec import seal
from cache_proxy.core.plan import is_fresh
from cache_proxy.errors import PartialAnswer, StoreError
from cache_proxy.models import Controls, Entry, Key
from cache_proxy.unreadable import Unreadable

PURGE_PATIENCE = 5.0
"""Seconds a purge waits for writes under way. A store that takes longer is failing, and the purge will say so."""

KEEP_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds between the tries to store what was paid for in a store that is busy. One that refuses is not asked again."""


class Opener(Protocol):
    """What opens a frame; :class:`cache_proxy.core.renderings.Renderings` is the real one."""

    def open(self, key: Key, frame: bytes) -> Entry | None:
        """The entry in it, or ``None`` if it is damaged or another's."""


class Shelf:
    """Entries under keys. ``store`` is the store itself."""

    def __init__(
        self, store: Backend, opener: Opener, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self.store = store
        self._opener = opener
        self._sleep = sleep
        self._unreadable = Unreadable(store.name)
        # What each still has to store: a purge strikes keys out.
        self._writes: dict[asyncio.Task[bool], dict[Key, bytes]] = {}

    async def read(self, keys: Sequence[Key]) -> dict[Key, Entry]:
        """What is held under these keys; nothing where the store fails."""
        return self._opened(await self.store.get_many(keys))

    async def look_up(self, keys: Sequence[Key], controls: Controls, clock: Callable[[], float]) -> dict[Key, Entry]:
        """What is held under these keys, fresh or not. Where a nearer copy is too old for these controls, what all
        share: another process may have renewed it.
        """
        entries = await self.read(keys)
        now = clock()
        stale = [key for key, entry in entries.items() if not is_fresh(entry, controls, now)]
        if stale and self.store.forget(stale):
            entries |= await self.read(stale)
        return entries

    async def read_surely(self, keys: Sequence[Key]) -> tuple[dict[Key, Entry], StoreError | None]:
        """The same, and what went wrong if not all of the store could say."""
        try:
            return self._opened(await self.store.get_strict(keys)), None
        except PartialAnswer as partial:
            return self._opened(partial.found), partial
        except StoreError as error:
            return {}, error

    def _opened(self, frames: Mapping[Key, bytes]) -> dict[Key, Entry]:
        opened = ((key, self._opener.open(key, frame)) for key, frame in frames.items())
        entries = {key: entry for key, entry in opened if entry is not None}
        if len(entries) < len(frames):
            self._unreadable.add(len(frames) - len(entries))
        return entries

    def write(self, entries: Mapping[Key, Entry], ttl: float | None) -> "asyncio.Task[bool]":
        """Begin to store these entries. The task gives whether they were stored; it does not raise."""
        frames = {} if ttl == 0 else {key: seal(key, entry) for key, entry in entries.items()}
        task = lasting.start(self._keep(frames, ttl))
        self._writes[task] = frames
        task.add_done_callback(self._writes.pop)
        return task

    async def _keep(self, frames: Mapping[Key, bytes], ttl: float | None) -> bool:
        """They were paid for: a busy store is tried again, a failing one costs money, never the answer."""
        for pause in (*KEEP_PAUSES, None):
            if not frames:
                return False
            try:
                await self.store.set_strict(dict(frames), ttl)
            except StoreError as error:
                if error.refused or pause is None:
                    return False
                await self._sleep(pause)
            else:
                return True
        return False

    async def close(self) -> None:
        """Give up what is still to be stored: nobody has the time to wait for it."""
        left = set(self._writes)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def purge(self, keys: Sequence[Key] | None) -> int:
        """Forget these keys (``None``: everything of ours); how many were held, where known. What is just being written
        is waited for, and not tried again, so that it does not come back. Raises ``StoreError``.
        """
        for frames in self._writes.values():
            for key in list(frames) if keys is None else keys:
                frames.pop(key, None)
        if self._writes:
            await asyncio.wait(set(self._writes), timeout=PURGE_PATIENCE)
        if keys is not None:
            return await self.store.delete_many(keys)
        await self.store.clear()
        return 0
