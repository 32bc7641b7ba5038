"""One run: callers, servers that are killed one after another, and what came of it."""

import asyncio
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench import servers
from bench.economy.kills.callers import Asked, Callers
from bench.economy.kills.fleet import Fleet, Server, Store
from bench.economy.kills.losses import Loss, cut_off, unkept
from bench.economy.kills.upstream import Sale, Upstream
from bench.economy.load import endless
from cache_proxy.serving import hosted
from cache_proxy.standin import Call, Delays

SHORTEST, LONGEST = 0.05, 0.3
"""Seconds in which the upstream answers."""

LARGEST = 64
"""Items of a request: what is measured is waiting, and large answers would keep the machine busy."""

FEWEST = 2
"""Servers that live before one is killed."""

_LOOK = 0.005
_PAUSE = 0.1
"""Seconds that a caller rests between two requests."""


@dataclass(frozen=True)
class Plan:
    """``kills`` among ``servers`` servers, which ``callers`` ask; ``lease`` is ``lease_seconds``. ``own`` is what else
    ``cache_proxy_settings`` says.
    """

    kills: int
    lease: float
    servers: int = 4
    callers: int = 16
    seed: int = 1
    own: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """What was asked, what the upstream wrote down, and what died with each server."""

    asked: Sequence[Asked]
    sales: Sequence[Sale]
    calls: Sequence[Call]
    dead: Sequence[Server]
    losses: Sequence[Loss]


def run(plan: Plan, store: Store) -> Run:
    """Kill as planned, and bring the rest to an orderly end."""
    upstream = Upstream(Delays(SHORTEST, LONGEST, plan.seed))
    with hosted(upstream) as url, store.empty() as params, _fleet(plan, url, params) as fleet:
        course = _Course(plan, upstream, fleet)
        asyncio.run(course.run())
    # The servers have ended, so that nothing is under way any more.
    losses = [*cut_off(fleet.dead, upstream.sales, upstream.calls), *course.unkept]
    return Run(course.callers.asked, upstream.sales, upstream.calls, fleet.dead, losses)


@contextmanager
def _fleet(plan: Plan, upstream: str, params: Mapping[str, Any]) -> Iterator[Fleet]:
    own = {"log_format": "off", "lease_seconds": plan.lease, **plan.own}
    document = {"cache_proxy_settings": own, "litellm_settings": {"cache": True, "cache_params": params}}
    fleet = Fleet(upstream, document)
    try:
        for _ in range(plan.servers):
            fleet.start()
        yield fleet
    finally:
        fleet.end()


class _Course:
    """The run while it lasts."""

    def __init__(self, plan: Plan, upstream: Upstream, fleet: Fleet) -> None:
        self.unkept: list[Loss] = []
        self._plan = plan
        self._upstream = upstream
        self._fleet = fleet
        # A connection that waits for the next kill may be closed by its server just as it is used again.
        once = httpx.Limits(max_keepalive_connections=0)
        self._asking = httpx.AsyncClient(timeout=servers.PATIENCE, trust_env=False, limits=once)
        self._chance = random.Random(plan.seed)
        waiting = endless(plan.seed, LARGEST)
        self.callers = Callers(fleet, waiting, _PAUSE, random.Random(plan.seed + 1))

    async def run(self) -> None:
        """All kills, under load."""
        starting: deque[asyncio.Task[None]] = deque()
        async with self._asking, asyncio.TaskGroup() as group:
            for _ in range(self._plan.callers):
                group.create_task(self.callers.call())
            for _ in range(self._plan.kills):
                while len(self._fleet.living) < FEWEST:
                    await starting.popleft()
                dead = await self._kill()
                # Before anything else takes the machine's time: the leases of the dead are running out.
                self.unkept += await unkept(dead, self._upstream, self._look, self._plan.lease)
                starting.append(group.create_task(asyncio.to_thread(self._fleet.start)))
                await self._mourn(dead)
            self.callers.ending = True

    async def _kill(self) -> Server:
        """Kill one in mid-flight, at a moment of a call's life that is as likely as any other."""
        await asyncio.sleep(self._chance.uniform(0, LONGEST))
        victim = await self._busy()
        self._fleet.kill(victim)
        return victim

    async def _mourn(self, dead: Server) -> None:
        """Wait until nobody can be waiting for the dead: so no request ever meets two kills, and each can be held to
        one lease.
        """
        while self.callers.oldest() < dead.dead_at + self._plan.lease:
            await asyncio.sleep(_LOOK)

    async def _look(self, path: str, body: Any) -> httpx.Response:
        """Whether it is in the store."""
        url = self._chance.choice(self._fleet.living).url
        return await self._asking.post(f"{url}{path}", json=body, headers={"cache-control": "only-if-cached"})

    async def _busy(self) -> Server:
        """A server for which the upstream is working right now."""
        while True:
            busy = self._upstream.working_for([server.key for server in self._fleet.living])
            if busy:
                return self._chance.choice([server for server in self._fleet.living if server.key in busy])
            await asyncio.sleep(_LOOK)
