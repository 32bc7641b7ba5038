"""The orderly end of a server process: what is under way is finished, what comes new is turned away.

    signal ─► new requests get 503 and ``Connection: close`` ─► nothing is under way, or patience has ended
           ─► the signal goes on to the server, which closes its listeners and ends our lifespan

uvicorn alone closes its listeners and idle connections at once, so that whoever comes meanwhile is told nothing. Only
our own server uses this: in somebody else's app the signals are the host's.
"""

import asyncio
import contextlib
import logging
import signal
import threading
import time
from types import FrameType
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_proxy.asgi.errors import ErrorReply, HTTPError, reply_to
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.asgi.middleware import LIVENESS, READINESS

log = logging.getLogger("cache_proxy")

SIGNALS = (signal.SIGTERM, signal.SIGINT)

BODY_PATIENCE = 1.0
"""Seconds for which the body of a request that is turned away is read off."""

_CLOSE = (b"connection", b"close")


def _shutting_down(message: str) -> ErrorReply:
    headers = [_CLOSE, (b"retry-after", b"1")]
    return reply_to(HTTPError(503, message, kind="server_error", code="shutting_down", headers=headers))


_REFUSAL = _shutting_down(
    "The server is shutting down: it finishes what it has begun and takes nothing new. Nothing was spent; send the "
    "request again."
)
_CUT_OFF = _shutting_down(
    "The server is shutting down, and this took longer than it could wait. Send the request again; what was paid for "
    "by then is kept."
)
_UNREADY = ErrorReply(503, orjson.dumps({"status": "draining"}), _REFUSAL.word, _REFUSAL.headers)


class Drain:
    """The app, and an end in which no request is lost that had begun.

    With the app's startup it puts itself before the handlers of SIGTERM and SIGINT, if it is in the main thread. The
    first signal begins the end; after ``patience`` seconds what is still under way is cut off with a 503 too. A further
    SIGINT cuts it off at once. What was paid for comes home either way (``wiring``).
    """

    def __init__(self, app: ASGIApp, patience: float) -> None:
        self._app = app
        self._patience = patience
        self._under_way: set[asyncio.Task[Any]] = set()
        self._turned_away = 0
        self._handlers: dict[signal.Signals, Any] = {}
        self._signal: signal.Signals | None = None
        self._ending: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the lifespan of the process."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self._signal is None or scope["type"] != "http" or scope["path"] in LIVENESS:
            await self._attend(scope, receive, send)
        else:
            self._turned_away += 1
            await _read_off(receive)
            reply = _UNREADY if scope["path"] in READINESS else _REFUSAL
            await Exchange(scope, receive, send).reply(reply.status, reply.body, reply.headers)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, self._with_handlers(send))
        except asyncio.CancelledError:
            # The end came at once, without a shutdown: raised further, uvicorn would log it as an error of the app.
            if self._signal is None:
                raise

    async def _attend(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  coroutines run in tasks
        started = False

        def telling(message: Message) -> Any:
            nonlocal started
            started = True
            return send(message if self._signal is None else _closing(message))

        self._under_way.add(task)
        try:
            await self._app(scope, receive, telling)
        except asyncio.CancelledError:
            if self._signal is None:
                raise
            if not started:
                with contextlib.suppress(asyncio.CancelledError):
                    await Exchange(scope, receive, send).reply(_CUT_OFF.status, _CUT_OFF.body, _CUT_OFF.headers)
        finally:
            self._under_way.discard(task)

    def _with_handlers(self, send: Send) -> Send:
        """Our handlers are in place from the end of the startup to the end of the shutdown."""

        async def passing(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._put_handlers()
            elif message["type"].startswith("lifespan.shutdown"):
                self._take_handlers_away()
            await send(message)

        return passing

    def _put_handlers(self) -> None:
        # Elsewhere Python allows no handlers, and whoever runs us in a thread ends us by other means.
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()

        def caught(number: int, _frame: FrameType | None) -> None:
            if self._signal is None:
                self._signal = signal.Signals(number)
                loop.call_soon_threadsafe(self._begin)
            elif number == signal.SIGINT:
                # Only this one is sent twice by people alone: SIGTERM comes to a worker from a supervisor that
                # signals the whole group, and once more from the parent process.
                self._hand_over()
                signal.raise_signal(number)

        self._handlers = {number: signal.signal(number, caught) for number in SIGNALS}

    def _take_handlers_away(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _begin(self) -> None:
        self._ending = asyncio.create_task(self._end())

    async def _end(self) -> None:
        """Wait for what is under way, cut off what takes too long, and let the server end."""
        began = time.monotonic()
        late = await self._wait_for(set(self._under_way))
        for task in late:
            task.cancel()
        level = logging.WARNING if late else logging.INFO
        told = "drained in %.1f s: %d requests cut off, %d turned away"
        log.log(level, told, time.monotonic() - began, len(late), self._turned_away)
        self._hand_over()

    async def _wait_for(self, tasks: set[asyncio.Task[Any]]) -> set[asyncio.Task[Any]]:
        """Those that are not done when patience ends."""
        if not tasks:
            return set()
        log.info("draining: %d requests have %g s to finish, new ones get 503", len(tasks), self._patience)
        _, late = await asyncio.wait(tasks, timeout=self._patience)
        return late

    def _hand_over(self) -> None:
        """Let the signal do what it would have done without us. Does nothing the second time."""
        ours, number = bool(self._handlers), self._signal
        self._take_handlers_away()
        if ours and number is not None:
            signal.raise_signal(number)


def _closing(message: Message) -> Message:
    """The message, saying that the connection will not be used again."""
    if message["type"] != "http.response.start":
        return message
    headers = [header for header in message.get("headers", ()) if header[0] != b"connection"]
    return {**message, "headers": [*headers, _CLOSE]}


async def _read_off(receive: Receive) -> None:
    """Read the body, for a while: closed with unread data, a connection is reset, and the reply may be lost with it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BODY_PATIENCE):
            while (await receive()).get("more_body", False):
                pass
