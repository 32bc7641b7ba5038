"""Flights: one trip per key in this process. Whoever asks for a key that is under way waits for that trip.

A trip runs in a task of its own and outlives whoever started it, even where everything is told to end: the answer is
being paid for, so it comes home and is kept even if nobody waits any more, and a caller that leaves harms nobody who
stays.

A key counts as under way until its value is in the store *and* every request that looked it up before that is answered:
a look-up that left before the value arrived and returns after it must still find it here. So there is no moment in
which a key that is paid for is neither stored nor under way, and nothing is paid for twice.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cache_proxy import lasting
from cache_proxy.models import Deployment, Entry, Key


@dataclass(frozen=True, slots=True, eq=False)
class Landed:
    """What a trip brought: an entry for each of its keys, what the upstream billed for all of them, how it went."""

    entries: Mapping[Key, Entry]
    tokens: int
    unknown: int = 0
    stored: bool = False


Land = Callable[[Landed], None]
Fly = Callable[[Land], Awaitable[None]]
"""Fetches the values, hands them to ``land``, and returns once they are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Trip:
    """One upstream call for some keys, and the promise of what it brings."""

    keys: frozenset[Key]
    via: tuple[Deployment, ...]
    landing: "asyncio.Future[Landed]" = field(repr=False)

    async def wait(self) -> Landed:
        """What it brings, or the error it ended with. Leaving early does not disturb it."""
        return await asyncio.shield(self.landing)


class Flights:
    """The trips under way."""

    def __init__(self) -> None:
        self._under_way: dict[Key, Trip] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Look-ups are numbered as they begin; a trip that ended lingers for those that began before.
        self._count = 0
        self._looking: dict[int, None] = {}
        self._lingering: deque[tuple[int, Trip]] = deque()
        self._purges = 0
        self._purged: dict[Key, int] = {}
        self._all_purged = 0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """For as long as a request looks up its keys and boards: what lands meanwhile stays to be joined."""
        self._count += 1
        ticket = self._count
        self._looking[ticket] = None
        try:
            yield
        finally:
            del self._looking[ticket]
            self._let_go()

    def _let_go(self) -> None:
        oldest = next(iter(self._looking), self._count + 1)
        while self._lingering and self._lingering[0][0] < oldest:
            self._unregister(self._lingering.popleft()[1])

    def purge(self, keys: Collection[Key] | None) -> None:
        """Nobody joins these keys (``None``: any key) any more, and trips that departed before do not keep them."""
        self._purges += 1
        if keys is None:
            self._all_purged = self._purges
            self._under_way.clear()
        for key in keys or ():
            self._purged[key] = self._purges
            self._under_way.pop(key, None)

    @property
    def purges(self) -> int:
        """How many purges there were; a trip remembers it when it departs."""
        return self._purges

    def is_purged(self, key: Key, since: int) -> bool:
        """Whether this key was purged after that many purges."""
        return self._all_purged > since or self._purged.get(key, 0) > since

    def under_way(self, key: Key) -> Trip | None:
        """The trip that brings this key, if there is one."""
        return self._under_way.get(key)

    def depart(
        self,
        keys: Sequence[Key],
        fly: Fly,
        *,
        shared: bool = True,
        private: Collection[Key] = (),
        via: tuple[Deployment, ...] = (),
    ) -> Trip:
        """Start a trip. Others may join it, but for its ``private`` keys, unless it is not ``shared``.

        ``via`` are the deployments it may go to: who joins may have others, and then its failure is not his.
        """
        trip = Trip(frozenset(keys), via, asyncio.get_running_loop().create_future())
        # A trip nobody waits for may fail in silence: its error was told in the log of the call.
        trip.landing.add_done_callback(lambda landing: landing.cancelled() or landing.exception())
        if shared:
            self._under_way.update({key: trip for key in keys if key not in private})
        task = lasting.start(self._run(trip, fly))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return trip

    async def _run(self, trip: Trip, fly: Fly) -> None:
        def land(landed: Landed) -> None:
            self._settle(trip, landed)

        try:
            await fly(land)
        except Exception as error:
            self._settle(trip, error)
        finally:
            self._end(trip)

    def _end(self, trip: Trip) -> None:
        if not trip.landing.done():
            trip.landing.cancel()
        if self._looking and not trip.landing.cancelled() and trip.landing.exception() is None:
            self._lingering.append((self._count, trip))
        else:
            self._unregister(trip)
        if len(self._tasks) <= 1:
            # Nobody else is on the way who could ask about past purges.
            self._purged.clear()

    def _unregister(self, trip: Trip) -> None:
        for key in trip.keys:
            if self._under_way.get(key) is trip:
                del self._under_way[key]

    @staticmethod
    def _settle(trip: Trip, outcome: Landed | Exception) -> None:
        if trip.landing.done():
            return
        if isinstance(outcome, Exception):
            trip.landing.set_exception(outcome)
        else:
            trip.landing.set_result(outcome)

    async def close(self, patience: float) -> None:
        """Wait up to ``patience`` seconds for the trips under way, then give up on the rest."""
        tasks = set(self._tasks)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
