"""Callers of servers that may die. Whoever loses his server asks another one the same."""

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.economy.clients import ASKED_PER_CONNECTION, LOST, Caller, Note
from bench.economy.kills.fleet import Fleet, Server
from bench.economy.spellings import Request


@dataclass(frozen=True)
class Asked:
    """A request to this server, and what came of it."""

    note: Note
    server: Server
    began: float

    @property
    def died(self) -> bool:
        """Whether it was lost with its server, which was killed after it was asked."""
        return self.note.status == LOST and not self.server.lives and self.began <= self.server.killed_at


@dataclass
class Callers:
    """All of them. They note what they are told in ``asked``, and ask until ``ending`` is set."""

    fleet: Fleet
    waiting: Iterator[Request]
    pause: float
    chance: random.Random
    asked: list[Asked] = field(default_factory=list)
    ending: bool = False
    _under_way: dict[object, float] = field(default_factory=dict)

    async def call(self) -> None:
        """One caller: he stays with a server for some requests, or until it is killed."""
        while not self.ending:
            server = self.chance.choice(self.fleet.living)
            caller = Caller(server.url)
            try:
                await self._call(server, caller)
            finally:
                await caller.hang_up()

    async def _call(self, server: Server, caller: Caller) -> None:
        for _ in range(ASKED_PER_CONNECTION):
            if self.ending or not server.lives:
                break
            await self._ask(server, caller, next(self.waiting))
            await asyncio.sleep(self.pause)

    async def _ask(self, server: Server, caller: Caller, request: Request) -> None:
        asked = await self._note(server, caller, request)
        while asked.died:
            other = self.chance.choice(self.fleet.living)
            again = Caller(other.url)
            asked = await self._note(other, again, request)
            await again.hang_up()

    async def _note(self, server: Server, caller: Caller, request: Request) -> Asked:
        ticket, began = object(), time.monotonic()
        self._under_way[ticket] = began
        asked = Asked(await caller.note(request), server, began)
        del self._under_way[ticket]
        self.asked.append(asked)
        return asked

    def oldest(self) -> float:
        """When the request began that has been under way for longest; without one, now."""
        return min(self._under_way.values(), default=time.monotonic())
