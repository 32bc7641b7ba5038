"""Looks at what is open: how full, how sound, how often something has failed. For ``/metrics`` and ``/cache/stats``.

A scrape looks at what is open in its own process, and has counted what waits to be. Where several processes share
their numbers, each has to do so by itself: it counts nearly at once, and looks a second after a request and then every
second until nothing has changed. An idle one does nothing.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from cache_proxy.backends import GuardedBackend, MemoryBackend, TieredBackend
from cache_proxy.backends.base import Backend, Occupancy
from cache_proxy.engine import Engine
from cache_proxy.errors import StoreError
from cache_proxy.receipts import Receipt
from cache_proxy.reporting.measures import Figures, Series

if TYPE_CHECKING:
    from cache_proxy.ledger.books import SqlLedger
    from cache_proxy.reporting.metrics import Metrics

PAUSE = 1.0
"""Seconds between two looks."""

SOON = 0.05
"""Seconds that requests wait to be counted where others depend on it: what a worker that is killed has not counted."""

_numbers = count()


class Readings:
    """Tells the metrics of everything that is open."""

    def __init__(self, metrics: "Metrics") -> None:
        self._metrics = metrics
        self._open: WeakKeyDictionary[Engine, tuple[int, SqlLedger | None]] = WeakKeyDictionary()
        self._due = self._count_due = float("-inf")

    def begin(self, engine: Engine, ledger: "SqlLedger | None") -> None:
        """This is open."""
        self._open[engine] = (next(_numbers), ledger)
        self.look()

    def end(self, engine: Engine) -> None:
        """This is about to be no more."""
        self._metrics.flush()
        self.look()
        if engine in self._open:
            number, _ = self._open.pop(engine)
            self._metrics.instruments.leave(number)

    def look(self) -> bool:
        """Look at everything; whether anything has changed."""
        changed = False
        for engine, (number, ledger) in list(self._open.items()):
            changed |= self._metrics.instruments.look(number, figures(engine, ledger))
        return changed

    def record(self, _receipt: Receipt) -> None:
        """A request was answered: count it and look soon, where others depend on it."""
        if not self._metrics.shared:
            return
        now = time.monotonic()
        if now >= self._count_due:
            # By the clock, for a loop may end before it comes to it.
            self._count_due = now + SOON
            asyncio.get_running_loop().call_later(SOON, self._metrics.flush)
        if now >= self._due:
            self._look_later()

    def _look_later(self) -> None:
        self._due = time.monotonic() + PAUSE
        asyncio.get_running_loop().call_later(PAUSE, self._look_on)

    def _look_on(self) -> None:
        if self.look():
            self._look_later()


def figures(engine: Engine, ledger: "SqlLedger | None") -> Figures:
    """How things stand with what serves one event loop."""
    store = engine.means.store
    gauges: dict[Series, float] = {("workers",): 1, **_memory(store)}
    totals: dict[Series, int] = {("leases_total", event): n for event, n in engine.means.claims.counts.items()}
    for tier, number in _evictions(store):
        totals["evictions_total", tier] = number
    guarded = guard_of(store)
    if guarded is not None:
        gauges |= {("store_breaker_open", part): state != "closed" for part, state in guarded.states.items()}
        totals |= {("store_failures_total", kind): n for kind, n in guarded.failures.items()}
    if ledger is not None:
        gauges["ledger_failing",] = ledger.ailing
        totals |= {("ledger_missing_total", kind): n for kind, n in ledger.missing.items()}
    return Figures(gauges, totals)


async def stats(store: Backend) -> dict[str, Any]:
    """What there is to say of a store for people. Of a part that is not there, or can not be asked, nothing is."""
    memory, shared, guarded = memory_of(store), shared_of(store), guard_of(store)
    told: dict[str, Any] = {"store": None, "memory": None}
    if shared is not None:
        with suppress(StoreError):
            told["store"] = _written(await shared.occupancy(), shared.evicted)
    if memory is not None:
        told["memory"] = _written(memory.occupied, memory.evicted)
    return told | ({} if guarded is None else {"breaker": dict(guarded.states)})


def _written(held: Occupancy, evicted: int | None) -> dict[str, int | None]:
    return {"entries": held.entries, "bytes": held.bytes, "limit_bytes": held.limit, "evicted": evicted}


def memory_of(store: Backend) -> MemoryBackend | None:
    """The memory of this process, as a tier or as the whole store."""
    inner = store.memory if isinstance(store, TieredBackend) else store
    return inner if isinstance(inner, MemoryBackend) else None


def shared_of(store: Backend) -> Backend | None:
    """What is behind the memory of this process."""
    return store.lower if isinstance(store, TieredBackend) else None if isinstance(store, MemoryBackend) else store


def guard_of(store: Backend) -> GuardedBackend | None:
    """The guard of a store, where it has one."""
    lower = shared_of(store)
    return lower if isinstance(lower, GuardedBackend) else None


def _memory(store: Backend) -> Mapping[Series, float]:
    memory = memory_of(store)
    if memory is None:
        return {}
    entries, in_use, limit, *_ = memory.occupied
    return {("memory_entries",): entries or 0, ("memory_bytes",): in_use or 0, ("memory_limit_bytes",): limit or 0}


def _evictions(store: Backend) -> Iterator[tuple[str, int]]:
    for tier, part in (("memory", memory_of(store)), ("store", shared_of(store))):
        if part is not None and part.evicted is not None:
            yield tier, part.evicted
