"""Stores that misbehave as asked, a clock that stands still, and words of leases that are soon forgotten. The only
doubles of these tests.
"""

import asyncio
from collections.abc import Mapping, Sequence, Set
from types import ModuleType
from typing import Any, cast

import pytest

from cache_proxy.backends.base import Backend, Counters, Key, Leases, Owner, Turn, Value, Want
from cache_proxy.errors import StoreError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


WORD = 0.5
"""Seconds that :func:`shorter_words` are told for."""


def shorter_words(monkeypatch: pytest.MonkeyPatch, leases: ModuleType) -> float:
    """Let the leases of this module tell their words for a moment; how long that is, in seconds."""
    monkeypatch.setattr(leases, "WORD_SECONDS", WORD)
    return WORD


class WaywardStore(Backend):
    """A dictionary that refuses while ``refusing`` is set and hangs until ``answering`` is set."""

    name = "wayward"

    def __init__(self) -> None:
        self.entries: dict[Key, Value] = {}
        self.refusing: StoreError | Exception | None = None
        self.refusing_writes: StoreError | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self.answering_reads = asyncio.Event()
        self.answering_reads.set()
        self.answering_writes = asyncio.Event()
        self.answering_writes.set()
        self.closing = asyncio.Event()
        self.closing.set()
        self.refusing_open: Exception | None = None
        self.queueing = False
        self.closing_takes = 0.0
        self.closed = 0
        self.reads = 0
        self.reads_finished = 0
        self.reads_cancelled = 0
        self.wayward_leases = WaywardLeases(self)
        self.wayward_counters = WaywardCounters(self)

    @property
    def writers_queue(self) -> bool:
        return self.queueing

    @property
    def leases(self) -> "WaywardLeases":
        return self.wayward_leases

    @property
    def counters(self) -> "WaywardCounters":
        return self.wayward_counters

    async def open(self) -> None:
        if self.refusing_open is not None:
            raise self.refusing_open

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        self.reads += 1
        found = {key: self.entries[key] for key in keys if key in self.entries}
        try:
            await self.answering_reads.wait()
            await self._manners()
        except asyncio.CancelledError:
            self.reads_cancelled += 1
            raise
        self.reads_finished += 1
        return found

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:  # noqa: ARG002
        await self.answering_writes.wait()
        await self._manners()
        if self.refusing_writes is not None:
            raise self.refusing_writes
        self.entries.update(entries)
        return True

    async def delete_many(self, keys: Sequence[Key]) -> int:
        await self._manners()
        return sum(self.entries.pop(key, None) is not None for key in keys)

    async def clear(self) -> None:
        await self._manners()
        self.entries.clear()

    async def ping(self) -> None:
        await self._manners()

    async def close(self) -> None:
        await self.closing.wait()
        await asyncio.sleep(self.closing_takes)
        self.closed += 1

    async def _manners(self) -> None:
        await self.answering.wait()
        if self.refusing is not None:
            raise self.refusing


class SloppyStore(WaywardStore):
    """Somebody else's: ``answer`` is what every verb gives, whatever the contract says."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:  # noqa: ARG002
        return cast("Mapping[Key, Value]", self.answer)

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:  # noqa: ARG002
        return cast("bool", self.answer)

    async def delete_many(self, keys: Sequence[Key]) -> int:  # noqa: ARG002
        return cast("int", self.answer)


class WaywardLeases(Leases):
    """Gives every lease to whoever asks, in the manners of its store. ``answer`` is given instead, if there is one."""

    def __init__(self, store: WaywardStore) -> None:
        self.store = store
        self.refusing: Exception | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self.answer: Any = None
        self.asked = 0
        self.answered = 0

    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:  # noqa: ARG002
        await self._manners()
        return {key: Turn(mine=True) for key in wanted} if self.answer is None else self.answer

    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:  # noqa: ARG002
        await self._manners()
        return set(held) if self.answer is None else self.answer

    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:  # noqa: ARG002
        await self._manners()

    async def _manners(self) -> None:
        self.asked += 1
        await self.answering.wait()
        await self.store._manners()
        if self.refusing is not None:
            raise self.refusing
        self.answered += 1


class WaywardCounters(Counters):
    """Lets everybody go ahead, in the manners of its store. ``answer`` is given instead, if there is one."""

    def __init__(self, store: WaywardStore) -> None:
        self.store = store
        self.answer: Any = None

    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:  # noqa: ARG002
        await self.store._manners()
        return 0.0 if self.answer is None else self.answer

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:  # noqa: ARG002
        await self.store._manners()
        return True

    async def leave(self, name: bytes, ticket: bytes) -> None:  # noqa: ARG002
        await self.store._manners()
