"""Baskets: what is bound for the same call and comes within a moment travels together.

While a call of a lane is under way, what comes next waits up to ``window`` seconds for more of its kind. Where none is,
it leaves at once: a lone request is never delayed.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")

Leave = Callable[[Sequence[T]], Awaitable[None]]
"""Makes the calls for what is in a basket and returns when they are home. Must not raise."""


class Baskets(Generic[T]):
    """One basket for each lane that has something to gather."""

    def __init__(
        self,
        window: float,
        start: Callable[[Coroutine[Any, Any, None]], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``start`` runs a task that outlives whoever put something in. ``window`` is seconds; 0: nobody waits."""
        self._window = window
        self._start = start
        self._sleep = sleep
        self._gathering: dict[Hashable, list[T]] = {}
        self._under_way: Counter[Hashable] = Counter()

    def put(self, lane: Hashable, things: Sequence[T], leave: Leave[T]) -> None:
        """Send these on their way, with others of the lane where that costs no time. All that share a lane must come
        with the like ``leave``; the first one's is used.
        """
        gathering = self._gathering.get(lane)
        if gathering is not None:
            gathering.extend(things)
        elif self._window and self._under_way[lane]:
            self._gathering[lane] = list(things)
            self._start(self._gather(lane, leave))
        else:
            self._start(self._away(lane, things, leave))
            # Already here: what is put in before that task runs is to wait for more.
            self._under_way[lane] += 1

    async def _gather(self, lane: Hashable, leave: Leave[T]) -> None:
        await self._sleep(self._window)
        things = self._gathering.pop(lane)
        self._under_way[lane] += 1
        await self._away(lane, things, leave)

    async def _away(self, lane: Hashable, things: Sequence[T], leave: Leave[T]) -> None:
        try:
            await leave(things)
        finally:
            self._under_way[lane] -= 1
            if not self._under_way[lane]:
                del self._under_way[lane]
