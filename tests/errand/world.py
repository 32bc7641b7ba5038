"""A small world in which everything that takes time waits to be let go: processes that share a store, its leases, an
upstream that keeps books, and a clock. Whoever runs it decides what happens next, so that every order can be tried.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import orjson

from cache_proxy.backends import MemoryBackend, TieredBackend
from cache_proxy.backends.base import WORD_SECONDS, Backend, Key, Leases, Owner, Turn, Value
from cache_proxy.calls import Account
from cache_proxy.core.renderings import Renderings
from cache_proxy.engine import Engine
from cache_proxy.errand import Means, Sharing
from cache_proxy.errors import StoreError, UpstreamLost, UpstreamRefused
from cache_proxy.models import Endpoint, Json
from cache_proxy.receipts import Story
from cache_proxy.settings import Settings
from cache_proxy.upstream.lanes import Lanes, Rules
from cache_proxy.wiring import names, policy
from tests.support import settings_for

MODEL = "jina-embeddings-v3"
SIZE = 2
LEASE = 5.0


@dataclass
class Waiting:
    """Something that goes on when it is let go; a timer not before it is ``due``."""

    what: str
    process: "Process | None"
    gate: "asyncio.Future[None]"
    due: float | None = None


class World:
    """The clock, what waits, the books, and what is shared."""

    def __init__(self, folder: Path, document: Mapping[str, Any] | None = None) -> None:
        self.now = 1_000_000.0
        self.waiting: list[Waiting] = []
        self.lost: list[Waiting] = []
        """What waited in a process that died: it never goes on."""
        self.values: dict[Key, Value] = {}
        self.held: dict[Key, tuple[Owner, float]] = {}
        self.words: dict[tuple[Key, Owner], tuple[float, bytes]] = {}
        self.billed: Counter[str] = Counter()
        self.calls: list[int] = []
        """The items of each call that was answered."""
        self.excuses: Counter[Key] = Counter()
        """How often a lease was taken over from somebody who had not released it."""
        self.store_fails: StoreError | None = None
        self.writes_fail: StoreError | None = None
        self.holds: Set[str] = frozenset()
        """What can not go on for now."""
        self.upstream_fails: list[Exception] = []
        self.settings = settings_for(folder, document)

    async def step(self, what: str, process: "Process | None", due: float | None = None) -> None:
        """Wait to be let go."""
        gate = asyncio.get_running_loop().create_future()
        self.waiting.append(Waiting(what, process, gate, due))
        await gate

    async def settle(self) -> None:
        """Let everybody run until all wait for something."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        while ready:
            await asyncio.sleep(0)

    async def let_go(self, one: Waiting) -> None:
        """Let this one go on; a timer makes it as late as it is due."""
        self.waiting.remove(one)
        if one.due is not None:
            self.now = max(self.now, one.due)
        if not one.gate.done():
            one.gate.set_result(None)
        await self.settle()

    def possible(self) -> list[Waiting]:
        """What can go on now. Of the timers only the next is, for time passes in order."""
        self.waiting = [one for one in self.waiting if not one.gate.done()]
        timers = sorted((one for one in self.waiting if one.due is not None), key=lambda one: one.due or 0)
        return [one for one in self.waiting if one.due is None and one.what not in self.holds] + timers[:1]

    def vector(self, text: str) -> list[float]:
        """What the upstream gives for a text."""
        digest = hashlib.sha256(text.encode()).digest()
        return [round(byte / 256, 4) for byte in digest[:SIZE]]


@dataclass
class Process:
    """One process: an engine over the shared store."""

    world: World
    number: int
    sharing: Sharing = field(default_factory=lambda: Sharing(lease=LEASE))
    settings: Settings | None = None
    near: bool = False
    """Whether it keeps what it has seen in a memory of its own, before the shared store."""
    dead: bool = False

    def __post_init__(self) -> None:
        world = self.world
        lanes = Lanes(lambda _: Upstream(self), Rules(), lambda: world.now, self.sleep)
        renderings, settings = Renderings(0), self.settings or world.settings
        shared = SharedStore(self)
        store = TieredBackend(MemoryBackend(2**20), shared, clock=lambda: world.now) if self.near else shared
        self.means = Means.over(
            store, lanes, renderings, policy(settings),
            sharing=self.sharing, clock=lambda: world.now, now=lambda: world.now, sleep=self.sleep,
        )  # fmt: skip
        self.engine = Engine(names(settings), self.means, renderings)

    async def sleep(self, seconds: float) -> None:
        await self.world.step("timer", self, self.world.now + seconds)

    async def step(self, what: str) -> None:
        await self.world.step(what, self)

    def kill(self) -> None:
        """Nothing of it goes on any more, and nobody is told."""
        self.dead = True
        self.world.lost += [one for one in self.world.waiting if one.process is self]
        self.world.waiting = [one for one in self.world.waiting if one.process is not self]

    async def ask(self, texts: Sequence[str], **fields: Json) -> tuple[list[Any], Story]:
        story = Story("id", "embeddings", Account("me"), 0.0)
        body = {"model": MODEL, "dimensions": SIZE, "input": list(texts), **fields}
        answer = orjson.loads(await self.engine.answer(self.engine.understand(Endpoint.EMBEDDINGS, body), story))
        return [item["embedding"] for item in answer["data"]], story


class Upstream:
    """A connection of one process. What reaches the other side is billed, whether or not its answer comes home."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def post(self, endpoint: Endpoint, body: Mapping[str, Json]) -> bytes:  # noqa: ARG002
        world, texts = self._process.world, body["input"]
        await self._process.step("call")
        if any("poison" in text for text in texts):
            raise UpstreamRefused(422, b'{"detail":"poison"}')
        failure = world.upstream_fails.pop() if world.upstream_fails else None
        if failure is None or (isinstance(failure, UpstreamLost) and failure.outcome_unknown):
            world.billed.update(texts)
            world.calls.append(len(texts))
        await self._process.step("answer")
        if failure is not None:
            raise failure
        data = [{"index": at, "embedding": world.vector(text)} for at, text in enumerate(texts)]
        return orjson.dumps({"model": MODEL, "usage": {"total_tokens": len(texts)}, "data": data})

    async def close(self) -> None:
        """Nothing is open."""


class SharedStore(Backend):
    """One process's way to the store. Each verb takes two steps: to get there, and to come back."""

    name = "shared"

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world
        self._leases = SharedLeases(process)

    @property
    def leases(self) -> Leases:
        return self._leases

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        await self._process.step("look")
        found = {key: self._world.values[key] for key in keys if key in self._world.values}
        await self._process.step("looked")
        return found

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:  # noqa: ARG002
        await self._process.step("store")
        if self._world.writes_fail is not None:
            raise self._world.writes_fail
        self._world.values.update(entries)
        await self._process.step("stored")
        return True

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return len([self._world.values.pop(key) for key in keys if key in self._world.values])

    async def clear(self) -> None:
        self._world.values.clear()

    async def ping(self) -> None:
        """Always there."""


class SharedLeases(Leases):
    """One process's way to the leases."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._world = process.world

    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        await self._arrive("acquire")
        turns = {key: self._turn(key, waited, owner, ttl) for key, waited in wanted.items()}
        await self._process.step("acquired")
        return turns

    async def _arrive(self, what: str) -> None:
        await self._process.step(what)
        if self._world.store_fails is not None:
            raise self._world.store_fails

    def _turn(self, key: Key, waited: Owner, owner: Owner, ttl: float) -> Turn:
        world, stored = self._world, key in self._world.values
        holder, until = world.held.get(key, (b"", 0.0))
        told_until, word = world.words.get((key, waited), (0.0, None))
        holds = until > world.now
        if told_until > world.now and holder != owner and not (holds and holder == waited):
            return Turn(False, stored, word=word)
        if holds and holder != owner:
            return Turn(False, stored, holder)
        if holder not in (b"", owner):
            world.excuses[key] += 1
        world.held[key] = (owner, world.now + ttl)
        return Turn(True, stored)

    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        await self._arrive("renew")
        kept = {key for key, owner in held.items() if self._is_held(key, owner)}
        self._world.held.update({key: (held[key], self._world.now + ttl) for key in kept})
        await self._process.step("renewed")
        return kept

    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        await self._arrive("release")
        for key, owner in held.items():
            if self._is_held(key, owner):
                del self._world.held[key]
                if word is not None:
                    self._world.words[key, owner] = (self._world.now + WORD_SECONDS, word)
        await self._process.step("released")

    def _is_held(self, key: Key, owner: Owner) -> bool:
        holder, until = self._world.held.get(key, (b"", 0.0))
        return holder == owner and until > self._world.now


class Course:
    """What happens, one thing after the other, as ``chance`` will have it."""

    def __init__(self, world: World, processes: Sequence[Process], chance: Random) -> None:
        self.world = world
        self.processes = processes
        self.chance = chance
        self.callers: list[tuple[Process, Sequence[str], asyncio.Task[tuple[list[Any], Story]]]] = []

    async def ask(self, process: Process, texts: Sequence[str], **fields: Json) -> None:
        self.callers.append((process, texts, asyncio.create_task(process.ask(texts, **fields))))
        await self.world.settle()

    async def go_on(self, steps: int) -> None:
        """Let so many things happen in any order."""
        for _ in range(steps):
            possible = self.world.possible()
            if not possible:
                return
            await self.world.let_go(self.chance.choice(possible))

    async def fairly(self, seconds: float) -> None:
        """Let everything happen in its order, until all callers that live are answered or so much time has passed."""
        over = self.world.now + seconds
        while self.left() and self.world.now < over:
            possible = self.world.possible()
            assert possible, f"nothing can happen and somebody waits: {self.left()}"
            await self.world.let_go(possible[0])

    def left(self) -> list[Any]:
        """The callers of live processes that have no answer yet."""
        return [task for process, _, task in self.callers if not process.dead and not task.done()]

    async def clean_up(self) -> None:
        """End what the dead left lying about."""
        for _, _, task in self.callers:
            task.cancel()
        for process in self.processes:
            await process.means.flights.close(0)
            await process.means.claims.close()
        # A store's writes are no flight's, so that nobody has ended them yet; what is ended may take a last step.
        while left := [one for one in (*self.world.waiting, *self.world.lost) if not one.gate.done()]:
            for one in left:
                one.gate.cancel()
            await self.world.settle()
