"""Flights: each key that is being fetched by this process, once.

Whoever misses a key that is under way waits for its flight. The work that brings flights home runs in tasks of its own
and outlives whoever began it, even where everything is told to end: the answer is being paid for, so it comes home and
is kept even if nobody waits any more, and a caller that leaves harms nobody who stays.

A key counts as under way until its value is in the store *and* every request that began to look it up before that has
boarded: a look-up that left before the value arrived and returns after it must still find it here. So there is no
moment in which a key that is paid for is neither stored nor under way, and nothing is paid for twice. Whoever begins to
look after that finds it in the store, or nowhere: another process may have purged it there.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cache_proxy import lasting
from cache_proxy.models import Deployment, Entry, Key

Look = int
"""The number of a look-up, in the order in which they began."""

Caller = object
"""Whoever leads flights: one for each request, compared by identity."""


@dataclass(slots=True, eq=False)
class Bill:
    """What one upstream call cost, and whom, as it is told to those whose flights it carried.

    ``shares`` are the tokens that each caller bears; they add up to what was billed. ``bearer`` is the caller who is
    told of what can not be shared out.
    """

    keys: frozenset[Key]
    bearer: Caller
    shares: Mapping[Caller, int] = field(default_factory=dict)
    price: int | None = None
    """Pico-USD a token, ``None`` where it is unknown."""
    unknown: int = 0
    """Calls on its way that may have been billed without an answer."""
    unsettled: int = 0
    """The most tokens that those can have cost."""
    stored: Collection[Caller] = ()
    """Those of whose items some are known to be stored."""


@dataclass(frozen=True, slots=True, eq=False)
class Landed:
    """The end of a flight: an entry, and the bill of the call that brought it; ``None`` if another process has that."""

    entry: Entry
    bill: Bill | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Fallen:
    """The end of a flight that brought nothing, and the bill of the call that failed, if it was this process's."""

    error: Exception
    bill: Bill | None = None


Outcome = Landed | Fallen


class Flight:
    """One key on its way. ``via`` are the deployments it may come from: who joins may have others, and then a failure
    is not his.
    """

    __slots__ = ("_landing", "key", "last_look", "leader", "via")

    def __init__(self, key: Key, leader: Caller, via: tuple[Deployment, ...]) -> None:
        self.key = key
        self.leader = leader
        self.via = via
        # The last look-up that may join it, once it is over.
        self.last_look: Look | None = None
        self._landing: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"Flight({self.key.hex()[:8]}, {'landed' if self.done else 'under way'})"

    @property
    def done(self) -> bool:
        """Whether its end is known."""
        return self._landing.done()

    @property
    def brought(self) -> Entry | None:
        """The entry that it ended with."""
        if not self.done or self._landing.cancelled():
            return None
        outcome = self._landing.result()
        return outcome.entry if isinstance(outcome, Landed) else None

    async def wait(self) -> Outcome:
        """How it ends. Leaving early does not disturb it."""
        return await asyncio.shield(self._landing)

    def end(self, outcome: Outcome) -> None:
        """Tell all who wait; only the first end counts."""
        if not self._landing.done():
            self._landing.set_result(outcome)

    def give_up(self) -> None:
        """Everything ends, and it is not home: whoever still waits is cancelled."""
        self._landing.cancel()


class Flights:
    """The flights under way, and the tasks that bring them home."""

    def __init__(self) -> None:
        self._under_way: dict[Key, Flight] = {}
        # Each with how many purges there had been when it began: the first is the oldest.
        self._abroad: dict[Flight, int] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        # Look-ups are numbered as they begin; a flight that is over lingers for those that began before.
        self._count = 0
        self._looking: dict[Look, None] = {}
        self._lingering: deque[tuple[Look, Flight]] = deque()
        self._purges = 0
        self._purged: dict[Key, int] = {}
        self._all_purged = 0

    @contextmanager
    def looking(self) -> Iterator[Look]:
        """For as long as a request looks up its keys and boards, and no longer: what lands meanwhile stays to be joined
        by it. To wait for flights in here would keep all that lands in memory.
        """
        self._count += 1
        look = self._count
        self._looking[look] = None
        try:
            yield look
        finally:
            del self._looking[look]
            self._let_go()

    def _let_go(self) -> None:
        oldest = next(iter(self._looking), self._count + 1)
        while self._lingering and self._lingering[0][0] < oldest:
            self._unregister(self._lingering.popleft()[1])

    def purge(self, keys: Collection[Key] | None) -> None:
        """Nobody joins these keys (``None``: any key) any more, and flights that began before do not keep them."""
        self._purges += 1
        if keys is None:
            self._all_purged = self._purges
            self._under_way.clear()
        for key in keys or ():
            self._purged.pop(key, None)
            self._purged[key] = self._purges
            self._under_way.pop(key, None)
        self._forget_purges()

    def _forget_purges(self) -> None:
        """Let go of purges that nobody on the way has lived through, and so nobody can ask about."""
        since = next(iter(self._abroad.values()), self._purges)
        while self._purged and next(iter(self._purged.values())) <= since:
            del self._purged[next(iter(self._purged))]

    @property
    def purges(self) -> int:
        """How many purges there were; who is about to store something remembers it when he begins."""
        return self._purges

    def is_purged(self, key: Key, since: int) -> bool:
        """Whether this key was purged after that many purges."""
        return self._all_purged > since or self._purged.get(key, 0) > since

    def under_way(self, key: Key, look: Look | None = None) -> Flight | None:
        """The flight that brings this key, if there is one to join for this look-up (``None``: one that begins now)."""
        flight = self._under_way.get(key)
        if flight is None or flight.last_look is None:
            return flight
        return flight if look is not None and look <= flight.last_look else None

    def begin(
        self,
        keys: Sequence[Key],
        leader: Caller,
        *,
        shared: bool = True,
        private: Collection[Key] = (),
        via: tuple[Deployment, ...] = (),
    ) -> list[Flight]:
        """A flight for each of these keys. Others may join them, but for ``private`` keys, unless not ``shared``.

        Whoever begins flights sees to it that each is ended and then :meth:`over`.
        """
        flights = [Flight(key, leader, via) for key in keys]
        self._abroad.update(dict.fromkeys(flights, self._purges))
        if shared:
            self._under_way.update({flight.key: flight for flight in flights if flight.key not in private})
        return flights

    def over(self, flights: Collection[Flight]) -> None:
        """These have ended, and what they brought is kept where it will be."""
        for flight in flights:
            self._abroad.pop(flight, None)
            if self._looking and flight.brought is not None:
                flight.last_look = self._count
                self._lingering.append((self._count, flight))
            else:
                self._unregister(flight)
        self._forget_purges()

    def _unregister(self, flight: Flight) -> None:
        if self._under_way.get(flight.key) is flight:
            del self._under_way[flight.key]

    def start(self, work: "Coroutine[Any, Any, None]") -> None:
        """Run what brings flights home. It is waited for when everything ends, and must not raise."""
        task = lasting.start(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self, patience: float) -> None:
        """Wait up to ``patience`` seconds until all are home, then give up on the rest."""
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + patience
        while self._tasks and loop.time() < give_up_at:
            # What is under way may start more.
            await asyncio.wait(set(self._tasks), timeout=give_up_at - loop.time())
        late = set(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for flight in list(self._abroad):
            flight.give_up()
        self.over(list(self._abroad))
