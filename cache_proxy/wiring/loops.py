"""One of a thing for each event loop, let go of with that loop at the latest.

Who made the loop usually says when to end (a server's lifespan). Often nobody does: an app mounted in another, a server
without lifespan, a test with a loop of its own. Then the loop's own end does: whoever ends a loop cancels its tasks and
waits for them, so a task of ours that waits to be cancelled is told in time. A loop that just stops is ended when the
interpreter exits. A forked child has nothing of its parent's and opens anew.
"""

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401  see the end of this file
import contextlib
import os
import threading
from asyncio import AbstractEventLoop, Task, get_running_loop
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, Generic, TypeVar
from weakref import WeakSet, finalize

from cache_proxy import lasting

T = TypeVar("T")

EXIT_PATIENCE = 30.0
"""Seconds that the interpreter's end waits for a loop in another thread."""


class PerLoop(Generic[T]):
    """Opens with ``begin`` what ``end`` lets go of, once for each event loop that asks. What was opened ends, too, when
    this object is dropped, so ``end`` must not hold on to it.
    """

    def __init__(self, begin: Callable[[], Awaitable[T]], end: Callable[[T], Awaitable[None]]) -> None:
        self._begin = begin
        self._end = end
        self._things: dict[AbstractEventLoop, T] = {}
        self._keepers: dict[AbstractEventLoop, Task[None]] = {}
        self._opening: dict[AbstractEventLoop, Task[T]] = {}
        _everywhere.add(self)

    @property
    def here(self) -> T | None:
        """What is open on the running loop."""
        return self._things.get(get_running_loop())

    async def open(self) -> T:
        """What is open on the running loop, opened if nothing is. Whoever comes meanwhile waits for the same opening;
        a caller who leaves does not disturb it.
        """
        loop = get_running_loop()
        if loop in self._things:
            return self._things[loop]
        opening = self._opening.get(loop)
        if opening is None:
            self._forget_closed_loops()
            # What lives as long as the loop must not hold on to the request that came first.
            opening = self._opening[loop] = lasting.start(self._open(loop), Context())
            # One that fails when everybody has left is told to who comes next.
            opening.add_done_callback(lambda task: task.cancelled() or task.exception())
            # Already here: a loop may end while something is being opened on it.
            keeper = self._keepers[loop] = loop.create_task(_keep(self._things, opening, self._end), context=Context())
            _end_when_dropped(self, loop, keeper)
        return await asyncio.shield(opening)

    async def _open(self, loop: AbstractEventLoop) -> T:
        try:
            thing = self._things[loop] = await self._begin()
        except BaseException:
            self._keepers.pop(loop).cancel()
            raise
        finally:
            del self._opening[loop]
        return thing

    async def close(self) -> None:
        """Let go of what is open on the running loop. Safe to call twice, or without ``open``."""
        loop = get_running_loop()
        if loop in self._opening:
            await asyncio.wait({self._opening[loop]})
        self._things.pop(loop, None)
        keeper = self._keepers.pop(loop, None)
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
            keeper.result()

    def _forget_closed_loops(self) -> None:
        """A loop that was closed without an end can do nothing for us any more."""
        # Other threads open and forget at the same time, each for a loop of its own.
        for loop in list(self._keepers):
            if loop.is_closed():
                self._keepers.pop(loop, None)
                self._opening.pop(loop, None)
                self._things.pop(loop, None)

    def end_with_the_interpreter(self) -> None:
        """Close on every loop that was left open."""
        for loop in list(self._keepers):
            # At this point an error has nobody left to tell.
            with contextlib.suppress(Exception):
                _finish(loop, self.close)

    def abandon(self) -> object:
        """Forget everything without a word to anybody, as a forked child must."""
        left = (self._things, self._keepers, self._opening)
        self._things, self._keepers, self._opening = {}, {}, {}
        return left


async def _keep(things: dict[AbstractEventLoop, T], opening: "Task[T]", end: Callable[[T], Awaitable[None]]) -> None:
    """Wait to be cancelled, then end what was opened, if it was. Cancelled once more, by a loop that ends meanwhile, it
    goes on.
    """
    loop = get_running_loop()
    with contextlib.suppress(asyncio.CancelledError):
        await loop.create_future()
    await _until_done(opening)
    if opening.cancelled() or opening.exception() is not None:
        return
    thing = opening.result()
    if things.get(loop) is thing:
        # Whoever comes now gets another one, and not what is ending.
        del things[loop]

    async def work() -> None:
        await end(thing)

    ending = lasting.start(work())
    await _until_done(ending)
    ending.result()


async def _until_done(task: "Task[Any]") -> None:
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})


def _end_when_dropped(one: PerLoop[Any], loop: AbstractEventLoop, keeper: "Task[None]") -> None:
    def dropped() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(keeper.cancel)

    last = finalize(one, dropped)
    last.atexit = False
    keeper.add_done_callback(lambda _: last.detach(), context=Context())


def _finish(loop: AbstractEventLoop, close: Callable[[], Any]) -> None:
    if loop.is_closed():
        return
    if loop.is_running():
        # In another thread: this one is ending.
        asyncio.run_coroutine_threadsafe(close(), loop).result(EXIT_PATIENCE)
    else:
        loop.run_until_complete(close())


_everywhere: WeakSet[PerLoop[Any]] = WeakSet()
_of_the_parent: list[object] = []


def _end_everywhere() -> None:
    for one in list(_everywhere):
        one.end_with_the_interpreter()


def _start_anew() -> None:
    # Kept for good: to close or collect the parent's files and connections here would disturb the parent.
    _of_the_parent.extend(one.abandon() for one in list(_everywhere))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)

# ``atexit`` would be too late: by then no thread takes work any more, and what was paid for could not be stored. The
# last to register is the first to run, so the executors' own farewell has to be registered by now: hence their import.
getattr(threading, "_register_atexit", atexit.register)(_end_everywhere)
