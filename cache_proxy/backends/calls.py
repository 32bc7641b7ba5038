"""Calls on somebody's store, each in a task of its own: neither a caller who leaves nor a deadline cancels it.

A cancelled read costs a connection, and a cancelled write a paid value. What comes too late is dropped. Whatever a
store raises, and an answer that breaks the contract, is a ``StoreError`` to who called, and is told once in the log.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any, TypeVar

from cache_proxy import lasting
from cache_proxy.backends.base import Key, Value
from cache_proxy.errors import ConfigError, StoreError

log = logging.getLogger("cache_proxy.store")

T = TypeVar("T")


class Unsound(Exception):
    """An answer that breaks the contract. The text is ours and holds nothing of it."""


class Calls:
    """The calls on the store of this ``name``. ``failures`` counts by what was called: ``<what>_refused``, and
    ``<what>_timeout``. ``timed`` hears how many seconds each took for whom it was made; it must not raise.
    """

    def __init__(self, name: str, timed: Callable[[str, float], None] | None = None) -> None:
        self.name = name
        self.timed = timed or _unheard
        self.failures: Counter[str] = Counter()
        self._told: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lasting: set[asyncio.Task[Any]] = set()

    def start(self, work: Callable[..., Awaitable[T]], *args: Any) -> "asyncio.Task[T]":
        """Call this."""
        return self._hold(asyncio.create_task(_called(work, args)))

    def start_lasting(self, work: Callable[..., Awaitable[T]], *args: Any) -> "asyncio.Task[T]":
        """Call this, which the end of the loop does not cut off: :meth:`finish` waits for it."""
        task = self._hold(lasting.start(_called(work, args)))
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)
        return task

    def _hold(self, task: "asyncio.Task[T]") -> "asyncio.Task[T]":
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Looked at, so that a failure nobody waits for any more is not reported as forgotten.
            task.exception()

    async def within(self, deadline: float, task: "asyncio.Task[T]", what: str) -> T:
        """The result of ``task``; ``StoreError`` if it failed or is not there in time (it goes on then)."""
        await asyncio.wait({task}, timeout=deadline)
        return self.outcome(task, what)

    async def timely(self, deadline: float, task: "asyncio.Task[T]", what: str) -> T:
        """As :meth:`within`, and tell how long it took."""
        began = time.perf_counter()
        try:
            return await self.within(deadline, task, what)
        finally:
            self.timed(what, time.perf_counter() - began)

    def outcome(self, task: "asyncio.Task[T]", what: str) -> T:
        """The result of ``task``; ``StoreError`` if it failed or is not there yet (it goes on then)."""
        if not task.done():
            self.failures[f"{what}_timeout"] += 1
            raise StoreError(f"the {self.name} store gave no answer in time", refused=False)
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
        said = str(error) if isinstance(error, Unsound) else f"it raised {type(error).__name__}"
        if said not in self._told and not isinstance(error, ConfigError):
            self._told.add(said)
            fields = {"store": self.name, "reason": said}
            log.error("store=%(store)s breaks its contract: %(reason)s", fields, extra=fields)
        return StoreError(f"the {self.name} store failed: {said}")

    async def finish(self, patience: float) -> None:
        """Wait for what lasts, for so many seconds at most."""
        if self._lasting:
            await asyncio.wait(set(self._lasting), timeout=patience)

    async def cut_off(self, patience: float) -> None:
        """Cancel everything, and wait for so many seconds at most for it to end."""
        await end(self._tasks, patience)


def _unheard(_what: str, _seconds: float) -> None:
    pass


async def end(tasks: Set[asyncio.Task[Any]], patience: float) -> None:
    """Cancel these, and wait for so many seconds at most for them to end."""
    for task in (left := set(tasks)):
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=patience)


async def _called(work: Callable[..., Awaitable[T]], args: tuple[Any, ...]) -> T:
    # In the task already: a store whose verb is no coroutine function fails here, not in its caller.
    return await work(*args)


def sound(found: Mapping[Key, Value], keys: Sequence[Key]) -> Mapping[Key, Value]:
    """The same, if it is what ``get_many`` may give. Raises ``Unsound``."""
    if not isinstance(found, Mapping) or not set(map(type, found.values())) <= {bytes}:
        raise Unsound("get_many gave something else than bytes under keys")
    if not found.keys() <= set(keys):
        raise Unsound("get_many gave keys that it was not asked for")
    return found
