"""How many calls to a deployment are under way at a time: in this process, and where the operator set it, in all.

A slot among all processes is a *ticket* in the store's counters. One task keeps it, from its first try to get in until
it has left, so that no trip of a ticket overtakes another: who gives up, or is cancelled, only tells that task. The
slots of a process that dies are free again after ``TICKET_SECONDS``.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

from cache_proxy import lasting
from cache_proxy.errors import StoreError, UpstreamBusy
from cache_proxy.models import Deployment
from cache_proxy.upstream.counters import Counters, counter_name

TICKET_SECONDS = 30.0
"""How long a ticket counts that is not renewed."""

_RENEW_AFTER = TICKET_SECONDS / 3
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.2
_RETRY_AFTER = 1.0

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]


class Slots:
    """The slots of one deployment."""

    def __init__(self, deployment: Deployment, clock: Clock, sleep: Sleep, counters: Counters | None = None) -> None:
        self._clock = clock
        self._free = asyncio.Semaphore(deployment.max_parallel)
        self._door = (
            _Door(counters, counter_name(deployment, "parallel"), deployment.max_parallel, clock, sleep)
            if counters is not None and deployment.parallel_everywhere
            else None
        )
        self._kept: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def one(self, until: float) -> AsyncIterator[None]:
        """A slot for the time of the block. Raises ``UpstreamBusy`` if there is none by ``until``."""
        await self._wait_here(until)
        if self._door is None:
            try:
                yield
            finally:
                self._free.release()
            return
        ticket = _Ticket(self._door, until)
        self._keep(ticket)
        try:
            if not await ticket.inside:
                raise _busy()
            yield
        finally:
            ticket.give_up()

    async def _wait_here(self, until: float) -> None:
        try:
            async with asyncio.timeout(until - self._clock()):
                await self._free.acquire()
        except TimeoutError:
            raise _busy() from None

    def _keep(self, ticket: "_Ticket") -> None:
        keeper = lasting.start(ticket.keep())
        self._kept.add(keeper)

        def left(keeper: "asyncio.Task[None]") -> None:
            # Not before: whoever is next here would find this call's ticket still inside.
            self._free.release()
            self._kept.discard(keeper)
            ticket.end(keeper)

        keeper.add_done_callback(left)

    async def close(self) -> None:
        """Wait until every ticket has left."""
        if self._kept:
            await asyncio.wait(set(self._kept))


class _Door:
    """Where the tickets of one deployment get in."""

    def __init__(self, counters: Counters, name: bytes, limit: int, clock: Clock, sleep: Sleep) -> None:
        self.clock = clock
        self.sleep = sleep
        # One of this process asks at a time: first come, first served, and a full house is not asked by everybody.
        self.queue = asyncio.Lock()
        self._counters = counters
        self._name = name
        self._limit = limit

    async def lets_in(self, ticket: bytes) -> bool:
        """Whether there is room. Where the store does not say, this process's own limit has to do."""
        try:
            return await self._counters.enter(self._name, ticket, self._limit, TICKET_SECONDS)
        except StoreError:
            return True

    async def lets_out(self, ticket: bytes) -> None:
        """The ticket is given up, or left to expire."""
        try:
            await self._counters.leave(self._name, ticket)
        except StoreError:
            return


class _Ticket:
    """One call's place among those of all processes."""

    def __init__(self, door: _Door, until: float) -> None:
        self.inside: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._door = door
        self._until = until
        self._word = os.urandom(16)
        self._over = False
        self._nap: asyncio.Future[None] | None = None

    async def keep(self) -> None:
        """Get in, stay in until the call is over, and leave."""
        if not await self._get_in():
            self._tell(inside=False)
            return
        self._tell(inside=True)
        while not self._over:
            await self._sleep(_RENEW_AFTER)
            if not self._over:
                await self._door.lets_in(self._word)
        await self._door.lets_out(self._word)

    def give_up(self) -> None:
        """The call is over, or was never made."""
        self._over = True
        if self._nap is not None:
            self._nap.cancel()

    def end(self, keeper: "asyncio.Task[None]") -> None:
        """See to it that nobody waits for a keeper that has ended, however it did."""
        error = None if keeper.cancelled() else keeper.exception()
        if not self.inside.done():
            self.inside.set_exception(error or asyncio.CancelledError())

    async def _get_in(self) -> bool:
        async with self._door.queue:
            for pause in _pauses():
                if self._over:
                    return False
                if await self._door.lets_in(self._word):
                    return True
                left = self._until - self._door.clock()
                if left <= 0:
                    return False
                await self._sleep(min(pause, left))
        raise AssertionError("the pauses have no end")

    def _tell(self, *, inside: bool) -> None:
        if not self.inside.done():
            self.inside.set_result(inside)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, but no longer than the call lasts."""
        self._nap = asyncio.ensure_future(self._door.sleep(seconds))
        await asyncio.wait({self._nap})
        self._nap = None


def _pauses() -> Iterator[float]:
    """Growing, and never quite the same in two processes."""
    pause = _SHORTEST_PAUSE
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
        pause = min(2 * pause, _LONGEST_PAUSE)


def _busy() -> UpstreamBusy:
    return UpstreamBusy("too many calls to this model are under way", retry_after=_RETRY_AFTER)
