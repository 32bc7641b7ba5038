"""The one wrapper that turns the failure of a store into a miss.

Every call on the inner store runs as a task of its own: neither a caller who leaves nor a deadline cancels
it, for a cancelled read costs a connection and a cancelled write a paid value. What comes too late is
dropped.

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
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from contextlib import suppress
from typing import Any, TypeVar

from cache_proxy import lasting
from cache_proxy.backends.base import Backend, Key, Value
from cache_proxy.backends.breaker import Breaker, State
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

_BYTES = {bytes}

T = TypeVar("T")


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
    - ``ping``: ``StoreError`` on failure, after ``read_deadline`` seconds at most.
    - ``open``: raises ``ConfigError`` alone; a store that can not be opened is opened by a later probe.
    - ``close``: never raises, and takes ``write_deadline`` seconds at most.

    ``name`` is for logs and ``/health``, the inner store's own if left out. ``pending_bytes`` bounds the keys and
    values of writes under way; what would go beyond it is not written. ``state`` is the breaker's, ``failures``
    counts by kind: ``read_refused``, ``read_timeout``, ``write_refused``, ``write_timeout``, ``write_dropped``,
    ``purge_refused``, ``purge_timeout``, ``ping_refused``, ``ping_timeout``.
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
    ) -> None:
        self.inner = inner
        self.name = inner.name if name is None else name
        self.failures: Counter[str] = Counter()
        self._read_deadline = read_deadline
        self._write_deadline = write_deadline
        self._purge_deadline = purge_deadline
        self._pending_limit = pending_bytes
        self._pending = 0
        self._late_writes = 0
        self._clock = clock
        self._opened = False
        self._told: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._writes: set[asyncio.Task[Any]] = set()
        self._asked: set[asyncio.Task[None]] = set()
        self._breaker = Breaker(
            self.name,
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

    @property
    def ailing(self) -> bool:
        if self.state != "closed" or self._late_writes >= LATE:
            return True
        # Asked while an answer that is paid for waits: nothing that somebody else's property raises may cost it.
        with suppress(Exception):
            return bool(self.inner.ailing)
        return False

    async def open(self) -> None:
        self._breaker.reset()
        opening = self._start(self._open_inner)
        try:
            await self._within(self._write_deadline, opening, "read")
        except StoreError as error:
            cause = opening.exception() if opening.done() and not opening.cancelled() else None
            if isinstance(cause, ConfigError):
                raise cause from None
            self._breaker.trip(refused=error.refused)

    async def _open_inner(self) -> None:
        await self.inner.open()
        if not self._opened:
            self._start(self._pass_on_advice)
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
            found = await self._within(self._read_deadline, self._start(self._read, keys), "read")
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
            return _sound(await self.inner.get_many(keys), keys)
        except PartialAnswer as partial:
            _sound(partial.found, keys)
            raise

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        weight = sum(len(key) + len(value) for key, value in entries.items())
        if self._pending + weight > self._pending_limit:
            self.failures["write_dropped"] += 1
            return False
        task = self._hold(lasting.start(_called(self.inner.set_many, (entries, ttl))))
        self._writes.add(task)
        self._pending += weight
        task.add_done_callback(lambda task: self._written(task, weight))
        try:
            return bool(await self._within(self._write_deadline, task, "write"))
        except StoreError as error:
            self._late_writes += not error.refused
            return False

    def _written(self, task: "asyncio.Task[bool]", weight: int) -> None:
        self._writes.discard(task)
        self._pending -= weight
        if not task.cancelled() and task.exception() is None:
            self._late_writes = 0
            self._breaker.heard_of()

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await self._within(self._purge_deadline, self._start(self._delete, keys), "purge")

    async def _delete(self, keys: Sequence[Key]) -> int:
        count = await self.inner.delete_many(keys)
        if not isinstance(count, int):
            raise _Unsound("delete_many gave no number")
        return count

    async def clear(self) -> None:
        await self._within(self._purge_deadline, self._start(self.inner.clear), "purge")

    async def ping(self) -> None:
        await self._within(self._read_deadline, self._start(self.inner.ping), "ping")

    async def advice(self) -> Sequence[str]:
        return await self.inner.advice()

    async def close(self) -> None:
        """Let pending writes finish, end everything else, close the store; give up on what takes too long."""
        now = asyncio.get_running_loop().time
        give_up_at = now() + self._write_deadline
        if self._writes:
            await asyncio.wait(set(self._writes), timeout=self._write_deadline * _WRITES_SHARE)
        await _end(self._tasks, (give_up_at - now()) / 2)
        closing = self._start(self.inner.close)
        await asyncio.wait({closing}, timeout=give_up_at - now())
        await _end({closing}, 0)
        self._opened = False

    def _probe_if_due(self) -> None:
        if not self._breaker.may_probe():
            return
        if len(self._asked) >= _HANGING_PROBES:
            self._breaker.probe_failed()  # who never answers is not asked for ever more
            return
        asked = self._start(self._ask_inner)
        self._asked.add(asked)
        asked.add_done_callback(self._asked.discard)
        self._start(self._probe, asked)

    async def _probe(self, asked: "asyncio.Task[None]") -> None:
        try:
            await self._within(self._read_deadline, asked, "read")
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
        known = error if isinstance(error, StoreError) else self._tell(error)
        self.failures[f"{what}_refused" if known.refused else f"{what}_timeout"] += 1
        raise known

    def _tell(self, error: BaseException) -> StoreError:
        """Note that the store broke its contract, once for each way to; the error to raise in its place."""
        # Of a foreign error only the type: its text may hold anything.
        said = str(error) if isinstance(error, _Unsound) else f"it raised {type(error).__name__}"
        if said not in self._told and not isinstance(error, ConfigError):
            self._told.add(said)
            fields = {"store": self.name, "reason": said}
            log.error("store=%(store)s breaks its contract: %(reason)s", fields, extra=fields)
        return StoreError(f"the {self.name} store failed: {said}")

    def _start(self, work: Callable[..., Awaitable[T]], *args: Any) -> "asyncio.Task[T]":
        return self._hold(asyncio.create_task(_called(work, args)))

    def _hold(self, task: "asyncio.Task[T]") -> "asyncio.Task[T]":
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Looked at, so that a failure nobody waits for any more is not reported as forgotten.
            task.exception()


def _sound(found: Mapping[Key, Value], keys: Sequence[Key]) -> Mapping[Key, Value]:
    """The same, if it is what ``get_many`` may give. Raises ``_Unsound``."""
    if not isinstance(found, Mapping) or not set(map(type, found.values())) <= _BYTES:
        raise _Unsound("get_many gave something else than bytes under keys")
    if not found.keys() <= set(keys):
        raise _Unsound("get_many gave keys that it was not asked for")
    return found


class _Unsound(Exception):
    """An answer that breaks the contract. The text is ours and holds nothing of it."""


async def _called(work: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    # In the task already: a store whose verb is no coroutine function fails here, not in its caller.
    return await work(*args)


async def _end(tasks: Set[asyncio.Task[Any]], patience: float) -> None:
    for task in (left := set(tasks)):
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=patience)
