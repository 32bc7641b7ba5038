"""The end of a server, seen from inside: whose the signals are when, and what passes untouched."""

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_proxy.asgi.drain import SIGNALS, Drain
from cache_proxy.asgi.middleware import CacheProxyMiddleware
from cache_proxy.asgi.standalone import Nothing, build
from tests.asgi.raw import call
from tests.support import settings_for

pytestmark = pytest.mark.anyio

LIFESPAN: Scope = {"type": "lifespan", "asgi": {}, "state": {}}


@pytest.fixture
def caught() -> Iterator[list[int]]:
    """The signals that reach the server, which is ourselves here."""
    caught: list[int] = []
    before = {number: signal.signal(number, lambda number, _: caught.append(number)) for number in SIGNALS}
    yield caught
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers() -> list[Any]:
    return [signal.getsignal(number) for number in SIGNALS]


class Life:
    """A server's side of a lifespan: startup, what the test does then, shutdown. Notes each step and whose the
    signals were."""

    def __init__(self, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self.steps: list[tuple[str, bool]] = []
        self._before = handlers()
        self._meanwhile = meanwhile

    async def run(self, app: ASGIApp) -> "Life":
        self._before = handlers()
        await app(LIFESPAN, self._receive, self._send)
        return self

    async def _receive(self) -> Message:
        if not self.steps:
            return self._step("lifespan.startup")
        await self._meanwhile()
        return self._step("lifespan.shutdown")

    async def _send(self, message: Message) -> None:
        self._step(message["type"])

    def _step(self, word: str) -> Message:
        self.steps.append((word, handlers() != self._before))
        return {"type": word}


async def nothing() -> None:
    """A quiet life."""


ORDERLY = [
    ("lifespan.startup", False),
    ("lifespan.startup.complete", True),
    ("lifespan.shutdown", True),
    ("lifespan.shutdown.complete", False),
]


async def test_the_signals_are_ours_from_startup_to_shutdown(caught: list[int]) -> None:
    assert (await Life(nothing).run(Drain(Nothing([]), 1))).steps == ORDERLY


async def test_the_servers_app_does_so_and_the_middleware_in_a_host_does_not(tmp_path: Path, caught: list[int]) -> None:
    assert (await Life(nothing).run(build(settings_for(tmp_path)))).steps == ORDERLY
    host = CacheProxyMiddleware(Nothing([]), settings=settings_for(tmp_path))
    assert (await Life(nothing).run(host)).steps == [(word, False) for word, _ in ORDERLY]


async def test_a_startup_that_fails_leaves_the_signals_alone(caught: list[int]) -> None:
    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    steps = (await Life(nothing).run(Drain(failing, 1))).steps
    assert steps == [("lifespan.startup", False), ("lifespan.startup.failed", False)]


def test_in_a_thread_the_signals_are_left_alone(caught: list[int]) -> None:
    life = Life(nothing)
    thread = threading.Thread(target=lambda: asyncio.run(life.run(Drain(Nothing([]), 1))))
    thread.start()
    thread.join()
    assert life.steps == [(word, False) for word, _ in ORDERLY]


class Slow:
    """An app that answers when it is let, and then says so."""

    def __init__(self) -> None:
        self.begun, self.let = asyncio.Event(), asyncio.Event()
        self._nothing = Nothing([])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._nothing(scope, receive, send)
            return
        self.begun.set()
        await self.let.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"connection", b"keep-alive")]})
        await send({"type": "http.response.body", "body": b"done"})


async def test_the_signal_goes_on_to_the_server_when_nothing_is_under_way_any_more(caught: list[int]) -> None:
    slow = Slow()
    app = Drain(slow, 10)

    async def meanwhile() -> None:
        answering = asyncio.create_task(call(app))
        await slow.begun.wait()
        signal.raise_signal(signal.SIGTERM)
        # Come twice, it says nothing new.
        signal.raise_signal(signal.SIGTERM)
        late = await call(app)
        assert late is not None
        assert (late.status, caught) == (503, [])
        slow.let.set()
        answer = await answering
        assert answer is not None
        assert (answer.status, answer.headers, answer.body) == (200, {b"connection": b"close"}, b"done")
        async with asyncio.timeout(5):
            while not caught:
                await asyncio.sleep(0)

    assert (await Life(meanwhile).run(app)).steps == [
        (word, word == "lifespan.startup.complete") for word, _ in ORDERLY
    ]
    assert caught == [signal.SIGTERM]


async def test_an_interrupt_after_the_signal_goes_on_at_once_with_it(caught: list[int]) -> None:
    slow = Slow()
    app = Drain(slow, 10)

    async def meanwhile() -> None:
        answering = asyncio.create_task(call(app))
        await slow.begun.wait()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert caught == [signal.SIGTERM, signal.SIGINT]
        slow.let.set()
        await answering

    await Life(meanwhile).run(app)
    assert caught == [signal.SIGTERM, signal.SIGINT]


async def test_who_leaves_while_nothing_ends_is_not_answered(caught: list[int]) -> None:
    slow = Slow()
    answering = asyncio.create_task(call(Drain(slow, 1)))
    await slow.begun.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering


async def test_before_the_end_messages_pass_untouched() -> None:
    start: Message = {"type": "http.response.start", "status": 200, "headers": []}
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start)

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        raise AssertionError("nothing may be read in the app's name")

    await Drain(app, 1)({"type": "http", "path": "/v1/embeddings"}, receive, send)
    assert sent[0] is start
