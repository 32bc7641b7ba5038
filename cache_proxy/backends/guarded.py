"""The one wrapper that turns the failure of a store into a miss.

Every call on the inner store runs as a task of its own, that nobody cancels (see ``calls``).

Only reads decide about the breaker: a store that refuses, or lets several look-ups in a row run into the
deadline, is left alone for a while and then asked again by one probe in the background. Writes are always
tried (a full store still answers reads, and a value that was paid for is not dropped because the store is
busy), within a bound of bytes.

The inner store may be anybody's. Whatever it raises, and an answer that breaks the contract, is a failure like
any other, told once in the log: what is not bytes could fail, or change, after its checksum was looked at.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from cache_proxy.backends.base import Backend, Counters, Key, Leases, Occupancy, Value
from cache_proxy.backends.breaker import Breaker, State
from cache_proxy.backends.calls import Calls, Unsound, end, sound
from cache_proxy.backends.guarded_leases import Gate, GuardedCounters, GuardedLeases
from cache_proxy.errors import ConfigError, PartialAnswer, StoreError

log = logging.getLogger("cache_proxy.store")

PROBE: Key = b"probe"
"""The reserved key a probe reads. Nothing is ever stored under it."""

LATE = 2
"""Writes in a row that ran into the deadline, after which nobody should wait for one."""

_WRITES_SHARE = 0.75
"""Of the time that closing may take: for writes under way. The rest is for the store's own ``close``."""

_HANGING_PROBES = 8
"""So many questions of probes may be without an answer at a time."""


class GuardedBackend(Backend):
    """``inner``, failing open: look-ups never raise and never take longer than ``read_deadline`` seconds.

    - ``get_many``: what the store holds; nothing where it failed, was too slow or is being left alone. Of a
      ``PartialAnswer``, which is counted as a failure but is not the breaker's business, what was found.
    - ``set_many``: True if stored within ``write_deadline`` seconds; False if not known to be (it may still
      be under way then, and is not cancelled). Never raises.
    - ``ailing``: whether the breaker is not closed, writes have kept running into their deadline, or the inner store
      says so.
    - ``delete_many``, ``clear``: ``StoreError`` on failure, for a purge that failed must not claim success;
      they have ``purge_deadline`` seconds.
    - ``ping``, ``occupancy``: ``StoreError`` on failure, after ``read_deadline`` seconds at most.
    - ``leases``, ``counters``: ``StoreError`` on failure, within ``write_deadline`` seconds; see ``guarded_leases``.
    - ``open``: raises ``ConfigError`` alone; a store that can not be opened is opened by a later probe.
    - ``close``: never raises, and takes ``write_deadline`` seconds at most.

    ``name`` is for logs and ``/health``, the inner store's own if left out. ``pending_bytes`` bounds the keys and
    values of writes under way; what would go beyond it is not written. ``timed`` hears how many seconds each ``read``,
    ``write``, ``purge``, ``lease`` and ``counter`` took. ``state`` is the breaker's, ``failures`` counts by kind:
    ``read_refused``, ``read_timeout``, ``write_refused``, ``write_timeout``, ``write_dropped``, ``purge_refused``,
    ``purge_timeout``, ``ping_refused``, ``ping_timeout``, ``lease_refused``, ``lease_timeout``, ``counter_refused``,
    ``counter_timeout``.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        name: str | None = None,
        read_deadline: float = 1.0,
        write_deadline: float = 5.0,
        purge_deadline: float = 30.0,
        refusals_to_open: int = 2,
        timeouts_to_open: int = 2,
        probe_after: float = 1.0,
        probe_at_most: float = 10.0,
        pending_bytes: int = 64 * 2**20,
        clock: Callable[[], float] = time.monotonic,
        timed: Callable[[str, float], None] | None = None,
    ) -> None:
        self.inner = inner
        self.name = inner.name if name is None else name
        self._calls = Calls(self.name, timed)
        self.failures = self._calls.failures
        self._read_deadline = read_deadline
        self._write_deadline = write_deadline
        self._purge_deadline = purge_deadline
        self._pending_limit = pending_bytes
        self._pending = 0
        self._late_writes = 0
        self._clock = clock
        self._opened = False
        self._asked: set[asyncio.Task[None]] = set()
        self._new_breaker = partial(
            Breaker,
            refusals=refusals_to_open,
            timeouts=timeouts_to_open,
            probe_after=probe_after,
            probe_at_most=probe_at_most,
            clock=clock,
        )
        self._breaker = self._new_breaker(self.name)
        self._others: dict[str, Breaker] = {}
        self._leases: GuardedLeases | None = None
        self._counters: GuardedCounters | None = None

    @property
    def state(self) -> State:
        """``closed`` (in use), ``open`` (being left alone) or ``half-open`` (a probe is under way)."""
        return self._breaker.state

    @property
    def states(self) -> Mapping[str, State]:
        """The state of every breaker there is: the ``store``'s, and those of its ``leases`` and ``counters``."""
        return {"store": self.state, **{of: breaker.state for of, breaker in self._others.items()}}

    @property
    def ailing(self) -> bool:
        if self.state != "closed" or self._late_writes >= LATE:
            return True
        # Asked while an answer that is paid for waits: nothing that somebody else's property raises may cost it.
        with suppress(Exception):
            return bool(self.inner.ailing)
        return False

    async def open(self) -> None:
        for breaker in (self._breaker, *self._others.values()):
            breaker.reset()
        opening = self._calls.start(self._open_inner)
        try:
            await self._calls.within(self._write_deadline, opening, "read")
        except StoreError as error:
            cause = opening.exception() if opening.done() and not opening.cancelled() else None
            if isinstance(cause, ConfigError):
                raise cause from None
            self._breaker.trip(refused=error.refused)

    async def _open_inner(self) -> None:
        await self.inner.open()
        if not self._opened:
            self._calls.start(self._pass_on_advice)
        self._opened = True

    async def _pass_on_advice(self) -> None:
        # At the start and for people to read: a store that can not be asked will be heard of otherwise.
        with suppress(StoreError):
            for line in await self.inner.advice():
                fields = {"store": self.name, "advice": line}
                log.warning("store=%(store)s advice: %(advice)s", fields, extra=fields)

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        try:
            return await self.get_strict(keys)
        except PartialAnswer as partial:
            return partial.found
        except StoreError:
            return {}

    async def get_strict(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        if self.state != "closed":
            self._probe_if_due()
            raise StoreError(f"the {self.name} store is being left alone after failures", refused=True)
        began_at = self._clock()
        try:
            found = await self._calls.timely(self._read_deadline, self._calls.start(self._read, keys), "read")
        except PartialAnswer:
            # Its servers are left alone one by one, by the store itself: the breaker would leave all of them alone.
            raise
        except StoreError as error:
            self._breaker.failed(refused=error.refused, began_at=began_at)
            raise
        self._breaker.succeeded()
        return found

    async def _read(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        try:
            return sound(await self.inner.get_many(keys), keys)
        except PartialAnswer as partial:
            sound(partial.found, keys)
            raise

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        try:
            await self.set_strict(entries, ttl)
        except StoreError:
            return False
        return True

    async def set_strict(self, entries: Mapping[Key, Value], ttl: float | None = None) -> None:
        weight = sum(len(key) + len(value) for key, value in entries.items())
        if self._pending + weight > self._pending_limit:
            self.failures["write_dropped"] += 1
            raise StoreError(f"too much is waiting to be stored in the {self.name} store", refused=False)
        task = self._calls.start_lasting(self.inner.set_many, entries, ttl)
        self._pending += weight
        task.add_done_callback(lambda task: self._written(task, weight))
        try:
            stored = await self._calls.timely(self._write_deadline, task, "write")
        except StoreError as error:
            self._late_writes += not error.refused
            raise
        if not stored:
            raise StoreError(f"the {self.name} store did not take it")

    def _written(self, task: "asyncio.Task[bool]", weight: int) -> None:
        self._pending -= weight
        if not task.cancelled() and task.exception() is None:
            self._late_writes = 0
            self._breaker.heard_of()

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await self._calls.timely(self._purge_deadline, self._calls.start(self._delete, keys), "purge")

    async def _delete(self, keys: Sequence[Key]) -> int:
        count = await self.inner.delete_many(keys)
        if not isinstance(count, int):
            raise Unsound("delete_many gave no number")
        return count

    async def clear(self) -> None:
        await self._calls.timely(self._purge_deadline, self._calls.start(self.inner.clear), "purge")

    async def ping(self) -> None:
        await self._calls.within(self._read_deadline, self._calls.start(self.inner.ping), "ping")

    async def occupancy(self) -> Occupancy:
        return await self._calls.within(self._read_deadline, self._calls.start(self._occupancy), "ping")

    async def _occupancy(self) -> Occupancy:
        held = await self.inner.occupancy()
        if not isinstance(held, Occupancy) or not all(number is None or type(number) is int for number in held):
            raise Unsound("occupancy gave something else than numbers")
        return held

    @property
    def evicted(self) -> int | None:
        with suppress(Exception):
            return None if (count := self.inner.evicted) is None else int(count)
        return None

    @property
    def leases(self) -> GuardedLeases | None:
        if self._leases is None:
            # Somebody else's store may well have something of its own under this name, or fail to say what.
            with suppress(Exception):
                if isinstance(inner := self.inner.leases, Leases):
                    self._leases = GuardedLeases(inner, self._gate("lease", "leases"))
        return self._leases

    @property
    def counters(self) -> GuardedCounters | None:
        if self._counters is None:
            with suppress(Exception):
                if isinstance(inner := self.inner.counters, Counters):
                    self._counters = GuardedCounters(inner, self._gate("counter", "counters"))
        return self._counters

    def _gate(self, what: str, of: str) -> Gate:
        breaker = self._others[of] = self._new_breaker(f"{self.name}.{of}")
        return Gate(
            what,
            self._calls,
            store=self._breaker,
            breaker=breaker,
            look=partial(self._read, [PROBE]),
            sign=self._read_deadline,
            deadline=self._write_deadline,
            queues=self._writers_queue(),
            clock=self._clock,
        )

    def _writers_queue(self) -> bool:
        with suppress(Exception):
            return bool(self.inner.writers_queue)
        return False

    async def advice(self) -> Sequence[str]:
        return await self.inner.advice()

    async def close(self) -> None:
        """Let pending writes finish, end everything else, close the store; give up on what takes too long."""
        now = asyncio.get_running_loop().time
        give_up_at = now() + self._write_deadline
        await self._calls.finish(self._write_deadline * _WRITES_SHARE)
        await self._calls.cut_off((give_up_at - now()) / 2)
        closing = self._calls.start(self.inner.close)
        await asyncio.wait({closing}, timeout=give_up_at - now())
        await end({closing}, 0)
        self._opened = False

    def _probe_if_due(self) -> None:
        if not self._breaker.may_probe():
            return
        if len(self._asked) >= _HANGING_PROBES:
            self._breaker.probe_failed()  # who never answers is not asked for ever more
            return
        asked = self._calls.start(self._ask_inner)
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        self._calls.start(self._probe, asked)

    async def _probe(self, asked: "asyncio.Task[None]") -> None:
        try:
            await self._calls.within(self._read_deadline, asked, "read")
        except PartialAnswer:
            self._breaker.succeeded()
        except StoreError:
            self._breaker.probe_failed()
        else:
            self._breaker.succeeded()

    async def _ask_inner(self) -> None:
        if not self._opened:
            await self._open_inner()
        await self._read([PROBE])
