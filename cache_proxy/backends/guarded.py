"""The one wrapper that turns the failure of a store into a miss.

Every call on the inner store runs as a task of its own: neither a caller who leaves nor a deadline cancels
it, for a cancelled read costs a connection and a cancelled write a paid value. What comes too late is
dropped.

Only reads decide about the breaker: a store that refuses, or lets several look-ups in a row run into the
deadline, is left alone for a while and then asked again by one probe in the background. Writes are always
tried (a full store still answers reads, and a value that was paid for is not dropped because the store is
busy), within a bound of bytes.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, TypeVar

from cache_proxy.backends.base import Backend, Key, Value
from cache_proxy.errors import ConfigError, StoreError

log = logging.getLogger("cache_proxy.store")

State = Literal["closed", "open", "half-open"]

PROBE: Key = b"probe"
"""The reserved key a probe reads. Nothing is ever stored under it."""

T = TypeVar("T")


class Breaker:
    """Counts failures in a row and says when to leave a store alone. Plain state: it does no I/O.

    ``refusals`` or ``timeouts`` in a row open it. Calls that were under way together when the store stalled
    count as one time-out. Open, it lets one probe go after ``probe_after`` seconds, doubling up to
    ``probe_at_most``.
    """

    def __init__(
        self,
        name: str,
        *,
        refusals: int,
        timeouts: int,
        probe_after: float,
        probe_at_most: float,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.state: State = "closed"
        self._limits = {True: refusals, False: timeouts}
        self._in_a_row = {True: 0, False: 0}
        self._last_timeout_at = float("-inf")
        self._first_pause = self._pause = probe_after
        self._longest_pause = probe_at_most
        self._probe_at = float("-inf")
        self._clock = clock

    def succeeded(self) -> None:
        """A read was answered in time."""
        self._in_a_row = {True: 0, False: 0}
        if self.state != "closed":
            self._pause = self._first_pause
            self._turn("closed", "answered")

    def failed(self, *, refused: bool, began_at: float) -> None:
        """A read that began at ``began_at`` was refused or ran out of time."""
        if self.state != "closed" or not self._counts(refused, began_at):
            return
        self._in_a_row[refused] += 1
        if self._in_a_row[refused] >= self._limits[refused]:
            self.trip(refused=refused)

    def trip(self, *, refused: bool) -> None:
        """Leave the store alone from now on."""
        self._wait()
        self._turn("open", "refused" if refused else "timeout")

    def _counts(self, refused: bool, began_at: float) -> bool:
        if refused:
            return True
        fresh = began_at >= self._last_timeout_at
        self._last_timeout_at = self._clock() if fresh else self._last_timeout_at
        return fresh

    def may_probe(self) -> bool:
        """Whether it is time for a probe. Saying so makes the caller the one who probes."""
        if self.state != "open" or self._clock() < self._probe_at:
            return False
        # Every failed probe would be two more lines about nothing new, so this turn is silent.
        self.state = "half-open"
        return True

    def probe_failed(self) -> None:
        """The probe brought no answer: leave the store alone for twice as long."""
        if self.state == "half-open":
            self.state = "open"
            self._pause = min(self._pause * 2, self._longest_pause)
            self._wait()

    def _wait(self) -> None:
        self._probe_at = self._clock() + self._pause

    def _turn(self, state: State, reason: str) -> None:
        self.state = state
        level = logging.INFO if state == "closed" else logging.WARNING
        fields = {"store": self.name, "state": state, "reason": reason}
        log.log(level, "store=%(store)s state=%(state)s reason=%(reason)s", fields, extra=fields)


class GuardedBackend(Backend):
    """``inner``, failing open: look-ups never raise and never take longer than ``read_deadline`` seconds.

    - ``get_many``: what the store holds; nothing where it failed, was too slow or is being left alone.
    - ``set_many``: True if stored within ``write_deadline`` seconds; False if not known to be (it may still
      be under way then, and is not cancelled). Never raises.
    - ``delete_many``, ``clear``: ``StoreError`` on failure, for a purge that failed must not claim success;
      they have ``purge_deadline`` seconds.
    - ``ping``: ``StoreError`` on failure, after ``read_deadline`` seconds at most.
    - ``open``: raises ``ConfigError`` alone; a store that can not be opened is opened by a later probe.

    ``pending_bytes`` bounds the keys and values of writes under way; what would go beyond it is not written.
    ``state`` is the breaker's, ``failures`` counts by kind: ``read_refused``, ``read_timeout``,
    ``write_refused``, ``write_timeout``, ``write_dropped``, ``purge_refused``, ``purge_timeout``.
    """

    def __init__(
        self,
        inner: Backend,
        *,
        read_deadline: float = 1.0,
        write_deadline: float = 5.0,
        purge_deadline: float = 30.0,
        refusals_to_open: int = 2,
        timeouts_to_open: int = 2,
        probe_after: float = 1.0,
        probe_at_most: float = 10.0,
        pending_bytes: int = 64 * 2**20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self.name = inner.name
        self.failures: Counter[str] = Counter()
        self._read_deadline = read_deadline
        self._write_deadline = write_deadline
        self._purge_deadline = purge_deadline
        self._pending_limit = pending_bytes
        self._pending = 0
        self._clock = clock
        self._opened = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writes: set[asyncio.Task[Any]] = set()
        self._breaker = Breaker(
            inner.name,
            refusals=refusals_to_open,
            timeouts=timeouts_to_open,
            probe_after=probe_after,
            probe_at_most=probe_at_most,
            clock=clock,
        )

    @property
    def state(self) -> State:
        """``closed`` (in use), ``open`` (being left alone) or ``half-open`` (a probe is under way)."""
        return self._breaker.state

    async def open(self) -> None:
        try:
            await self._within(self._write_deadline, self._start(self._open_inner()), "read")
        except StoreError as error:
            self._breaker.trip(refused=error.refused)

    async def _open_inner(self) -> None:
        await self.inner.open()
        self._opened = True

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        try:
            return await self.get_strict(keys)
        except StoreError:
            return {}

    async def get_strict(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        if self.state != "closed":
            self._probe_if_due()
            raise StoreError(f"the {self.name} store is being left alone after failures", refused=True)
        began_at = self._clock()
        try:
            found = await self._within(self._read_deadline, self._start(self.inner.get_many(keys)), "read")
        except StoreError as error:
            self._breaker.failed(refused=error.refused, began_at=began_at)
            raise
        self._breaker.succeeded()
        return found

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        weight = sum(len(key) + len(value) for key, value in entries.items())
        if self._pending + weight > self._pending_limit:
            self.failures["write_dropped"] += 1
            return False
        task = self._start(self.inner.set_many(entries, ttl))
        self._writes.add(task)
        self._pending += weight
        task.add_done_callback(lambda task: self._written(task, weight))
        try:
            return await self._within(self._write_deadline, task, "write")
        except StoreError:
            return False

    def _written(self, task: "asyncio.Task[bool]", weight: int) -> None:
        self._writes.discard(task)
        self._pending -= weight

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await self._within(self._purge_deadline, self._start(self.inner.delete_many(keys)), "purge")

    async def clear(self) -> None:
        await self._within(self._purge_deadline, self._start(self.inner.clear()), "purge")

    async def ping(self) -> None:
        await self._within(self._read_deadline, self._start(self.inner.ping()), "ping")

    async def close(self) -> None:
        """Let pending writes finish (``write_deadline`` seconds at most), end everything else, close the
        store.
        """
        if self._writes:
            await asyncio.wait(set(self._writes), timeout=self._write_deadline)
        await self._end(self._tasks)
        closing = asyncio.ensure_future(self.inner.close())
        await asyncio.wait({closing}, timeout=self._write_deadline)
        await self._end({closing})

    async def _end(self, tasks: set[asyncio.Task[Any]]) -> None:
        for task in (left := list(tasks)):
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _probe_if_due(self) -> None:
        if self._breaker.may_probe():
            self._start(self._probe())

    async def _probe(self) -> None:
        try:
            await self._within(self._read_deadline, self._start(self._ask_inner()), "read")
        except StoreError:
            self._breaker.probe_failed()
        else:
            self._breaker.succeeded()

    async def _ask_inner(self) -> None:
        if not self._opened:
            await self._open_inner()
        await self.inner.get_many([PROBE])

    async def _within(self, deadline: float, task: "asyncio.Task[T]", what: str) -> T:
        """The result of ``task``; ``StoreError`` if it failed or is not there in time (it goes on then)."""
        done, _ = await asyncio.wait({task}, timeout=deadline)
        if not done:
            self.failures[f"{what}_timeout"] += 1
            raise StoreError(f"the {self.name} store gave no answer within {deadline:g} s", refused=False)
        return self._result(task, what)

    def _result(self, task: "asyncio.Task[T]", what: str) -> T:
        if task.cancelled():
            raise StoreError(f"the {self.name} store is being closed")
        error = task.exception()
        if error is None:
            return task.result()
        if isinstance(error, ConfigError):
            raise error
        # A store of somebody else's may break in other ways than its contract says; that is a failure like
        # any other.
        known = error if isinstance(error, StoreError) else StoreError(f"{self.name}: {type(error).__name__}")
        self.failures[f"{what}_refused" if known.refused else f"{what}_timeout"] += 1
        raise known

    def _start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Looked at, so that a failure nobody waits for any more is not reported as forgotten.
            task.exception()
