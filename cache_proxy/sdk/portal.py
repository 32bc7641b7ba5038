"""One event loop in one thread for the whole process: every call of the SDK, from any thread or loop, runs there.

So eight threads that ask for one text share one trip, and connections never meet a loop they were not made on.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

Work = Callable[[], Coroutine[Any, Any, T]]


class Loop:
    """An event loop that runs in a thread of its own until it is closed."""

    def __init__(self) -> None:
        self._ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="cache-proxy-sdk", daemon=True)
        self._thread.start()
        self._loop, self._ended = self._ready.result()

    async def _serve(self) -> None:
        ended = asyncio.Event()
        self._ready.set_result((asyncio.get_running_loop(), ended))
        await ended.wait()

    def start(self, work: Work[T]) -> "Future[T]":
        """Run ``work`` there, and go on here."""
        return asyncio.run_coroutine_threadsafe(work(), self._loop)

    def close(self) -> None:
        """End what still runs, and the thread."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()


class Portal:
    """The loop's door. It opens with the first call, and again with the first one after ``close``."""

    def __init__(self, farewell: Work[None]) -> None:
        """``farewell`` is the last thing that runs on a loop before it ends."""
        self._farewell = farewell
        self._lock = threading.Lock()
        self._loop: Loop | None = None

    def call(self, work: Work[T]) -> T:
        """Run ``work`` on the loop, and wait for it in this thread."""
        future = self._open().start(work)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C reaches this thread only.
            future.cancel()
            raise

    async def wait(self, work: Work[T]) -> T:
        """Run ``work`` on the loop, and wait for it in the caller's own loop."""
        return await asyncio.wrap_future(self._open().start(work))

    def close(self) -> None:
        """End the loop."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            try:
                loop.start(self._farewell).result()
            finally:
                loop.close()

    def abandon(self) -> object:
        """Forget the loop, as a forked child must: it has the parent's objects but not its threads."""
        loop, self._loop = self._loop, None
        self._lock = threading.Lock()
        return loop

    def _open(self) -> Loop:
        with self._lock:
            if self._loop is None:
                self._loop = Loop()
            return self._loop
