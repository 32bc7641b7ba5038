"""Counters in memory that keep the contract, and the time they and the lanes share, which passes only when told to."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from cache_proxy.backends.base import Counters, Want
from cache_proxy.errors import StoreError
from cache_proxy.upstream.pace import Pace

_TURNS = 50
"""Turns of the event loop in which everything that can go on has gone on."""


async def settle() -> None:
    """Let everything happen that needs no time."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class StoppedTime:
    """Stands still; who sleeps is woken when a test lets his time come."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, woken))
        await woken

    async def passes(self, seconds: float) -> None:
        """Let so much time pass, and everything happen that it brings."""
        until = self.now + seconds
        await settle()
        while due := [(at, woken) for at, woken in self._sleepers if at <= until and not woken.done()]:
            at, woken = min(due, key=lambda sleeper: sleeper[0])
            self.now = max(self.now, at)
            woken.set_result(None)
            await settle()
        self.now = until
        self._sleepers = [sleeper for sleeper in self._sleepers if not sleeper[1].done()]


class MemoryCounters(Counters):
    """The counters of a store in this process. ``trips`` are told by verb; ``refusing`` is what every verb raises."""

    def __init__(self, time: StoppedTime) -> None:
        self.refusing: StoreError | None = None
        self.trips: list[str] = []
        self.names: set[bytes] = set()
        self.hung = asyncio.Event()
        self.hung.set()
        self._time = time
        self._buckets: dict[tuple[bytes, int], Pace] = {}
        self._inside: defaultdict[bytes, dict[bytes, float]] = defaultdict(dict)

    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        await self._trip("take", name)
        buckets = [self._bucket(name, place, want) for place, want in enumerate(wants)]
        pairs = list(zip(buckets, wants, strict=True))
        wait = max(bucket.wait(want.units) for bucket, want in pairs)
        if wait <= at_most:
            for bucket, want in pairs:
                bucket.take(want.units)
        return wait

    def _bucket(self, name: bytes, place: int, want: Want) -> Pace:
        return self._buckets.setdefault((name, place), Pace(want.per_minute, self._time))

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        await self._trip("enter", name)
        inside = self._counted(name)
        if ticket not in inside and len(inside) >= limit:
            return False
        inside[ticket] = self._time() + ttl
        return True

    async def leave(self, name: bytes, ticket: bytes) -> None:
        await self._trip("leave", name)
        self._inside[name].pop(ticket, None)

    def _counted(self, name: bytes) -> dict[bytes, float]:
        held = {ticket: until for ticket, until in self._inside[name].items() if until > self._time()}
        self._inside[name] = held
        return held

    @property
    def inside(self) -> int:
        """How many tickets count just now, under whatever name."""
        return sum(len(self._counted(name)) for name in list(self._inside))

    async def _trip(self, verb: str, name: bytes) -> None:
        assert len(name) <= 64
        self.trips.append(verb)
        self.names.add(name)
        await self.hung.wait()
        if self.refusing is not None:
            raise self.refusing
