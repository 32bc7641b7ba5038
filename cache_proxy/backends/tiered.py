"""Memory before a slower store that others share, with purges that every memory obeys within a second.

A purge writes a fresh random word, the generation, into the shared store. Every tier looks at it now and
then, on the back of look-ups: as long as the last look is young, memory is trusted and a hit costs no wait
and no task; a little later the look happens in the background; later still it happens first. A changed word
drops the whole memory.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from cache_proxy.backends.base import Backend, Counters, Key, Leases, Occupancy, Value
from cache_proxy.backends.memory import MemoryBackend
from cache_proxy.errors import StoreError

GENERATION: Key = b"generation"
"""The reserved key under which the lower store keeps the generation: 16 random bytes, new with each purge."""

TRUSTED_FOR = 0.25
"""Seconds after a look at the generation in which memory answers without another."""

STALE_AFTER = 0.8
"""Seconds after which the look comes before the answer. Below one second, the promise, by the time a look
takes.
"""


class TieredBackend(Backend):
    """``memory`` before ``lower``; ``lower`` is usually a :class:`GuardedBackend`.

    While the lower store can not be asked for its generation, memory is trusted as it is. A lower store that
    answers and holds no generation where there was one (flushed, evicted) counts as a change: that costs a
    few slower look-ups, never a stale answer.

    Purges raise ``StoreError`` when they did not reach the lower store or could not be made known to the
    others.
    """

    def __init__(self, memory: MemoryBackend, lower: Backend, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.memory = memory
        self.lower = lower
        self.name = lower.name
        self._clock = clock
        self._looked_at = float("-inf")
        self._generation: bytes | None = None
        # Drops so far: what was read from below before a drop must not enter memory after it.
        self._epoch = 0
        self._look: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.lower.open()
        await self._look_now()

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return await self._get(keys, self.lower.get_many)

    async def get_strict(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return await self._get(keys, self.lower.get_strict)

    async def _get(
        self, keys: Sequence[Key], get_lower: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]]
    ) -> Mapping[Key, Value]:
        if self._clock() - self._looked_at >= TRUSTED_FOR:
            await self._look_if_due()
        found = self.memory.held(keys)
        missing = [key for key in keys if key not in found]
        if missing:
            epoch = self._epoch
            below = await get_lower(missing)
            if epoch == self._epoch:
                # A value that was set meanwhile is newer than the one just read, or one that was not there yet.
                self.memory.hold_absent(below)
                below = {**below, **self.memory.held(missing)}
            found.update(below)
        return found

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        # Memory first: whatever is purged from now on finds the values there, so no set can outlive a purge.
        self.memory.hold(entries)
        return await self.lower.set_many(entries, ttl)

    async def set_strict(self, entries: Mapping[Key, Value], ttl: float | None = None) -> None:
        self.memory.hold(entries)
        await self.lower.set_strict(entries, ttl)

    @property
    def ailing(self) -> bool:
        return self.lower.ailing

    async def delete_many(self, keys: Sequence[Key]) -> int:
        try:
            below = await self.lower.delete_many(keys)
        finally:
            self._epoch += 1
            here = self.memory.drop(keys)
        await self._announce()
        return max(below, here)

    async def clear(self) -> None:
        try:
            await self.lower.clear()
        finally:
            self._drop()
        await self._announce()

    def forget(self, keys: Sequence[Key]) -> bool:
        self.memory.drop(keys)
        return True

    async def ping(self) -> None:
        await self.lower.ping()

    async def occupancy(self) -> Occupancy:
        return await self.lower.occupancy()

    @property
    def evicted(self) -> int | None:
        return self.lower.evicted

    @property
    def leases(self) -> Leases | None:
        return self.lower.leases

    @property
    def counters(self) -> Counters | None:
        return self.lower.counters

    async def advice(self) -> Sequence[str]:
        return await self.lower.advice()

    async def close(self) -> None:
        if self._look is not None:
            self._look.cancel()
            await asyncio.gather(self._look, return_exceptions=True)
            self._look = None
        self.memory.drop_all()
        await self.lower.close()

    async def _announce(self) -> None:
        # The new word is not remembered here: it may have replaced another's, whose purge this memory has to
        # obey too.
        if not await self.lower.set_many({GENERATION: os.urandom(16)}):
            raise StoreError("the purge could not be made known to the other workers; repeat it", refused=False)

    async def _look_if_due(self) -> None:
        look = self._begin_look()
        if self._clock() - self._looked_at >= STALE_AFTER:
            # One look serves all who wait, and outlives any of them: waiting for it never cancels it.
            await asyncio.wait({look})

    def _begin_look(self) -> asyncio.Task[None]:
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._look_now())
        return self._look

    async def _look_now(self) -> None:
        # What the store says is no older than the moment it was asked; the answer may take its time.
        asked_at = self._clock()
        try:
            held = await self.lower.get_strict([GENERATION])
        except StoreError:
            self._looked_at = self._clock()
            return
        if held.get(GENERATION) != self._generation:
            self._generation = held.get(GENERATION)
            self._drop()
        self._looked_at = asked_at

    def _drop(self) -> None:
        self._epoch += 1
        self.memory.drop_all()
