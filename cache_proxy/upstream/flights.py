"""Flights: one trip per key in this process. Whoever asks for a key that is under way waits for that trip.

A trip runs in a task of its own and outlives whoever started it: the answer is being paid for, so it comes home and is
kept even if nobody waits any more, and a caller that leaves harms nobody who stays. A key counts as under way until its
value is in the store, so there is no moment in which it is neither.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from cache_proxy.models import Entry, Key


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
    landing: "asyncio.Future[Landed]" = field(repr=False)

    async def wait(self) -> Landed:
        """What it brings, or the error it ended with. Leaving early does not disturb it."""
        return await asyncio.shield(self.landing)


class Flights:
    """The trips under way."""

    def __init__(self) -> None:
        self._under_way: dict[Key, Trip] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def under_way(self, key: Key) -> Trip | None:
        """The trip that brings this key, if there is one."""
        return self._under_way.get(key)

    def depart(self, keys: Sequence[Key], fly: Fly, *, shared: bool = True, private: Collection[Key] = ()) -> Trip:
        """Start a trip. Others may join it, but for its ``private`` keys, unless it is not ``shared``."""
        trip = Trip(frozenset(keys), asyncio.get_running_loop().create_future())
        # A trip nobody waits for may fail in silence: its error was told in the log of the call.
        trip.landing.add_done_callback(lambda landing: landing.cancelled() or landing.exception())
        if shared:
            self._under_way.update({key: trip for key in keys if key not in private})
        task = asyncio.create_task(self._run(trip, fly))
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
            for key in trip.keys:
                if self._under_way.get(key) is trip:
                    del self._under_way[key]
            if not trip.landing.done():
                trip.landing.cancel()

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
