"""Ours opens before it is needed and closes with the host, whatever the host does; the host's events pass through."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_proxy.asgi.middleware import CacheProxyMiddleware
from cache_proxy.errors import ConfigError
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.asgi.raw import call
from tests.hosts import django_host
from tests.hosts.conftest import EMBED, MakeSettings
from tests.hosts.served import Server, served
from tests.hosts.shelf import Shelf
from tests.support import connect_to, settings_for

pytestmark = pytest.mark.anyio

START, END = "lifespan.startup", "lifespan.shutdown"


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def wired(shelf: Shelf, tmp_path: Path) -> Wired:
    return Wired(settings_for(tmp_path), connect=connect_to(StandIn()), store=shelf)


async def lived(
    app: ASGIApp, *, events: tuple[str, ...] = (START, END), state: dict[str, object] | None = None
) -> list[Message]:
    """What the server hears."""
    heard: list[Message] = []
    left = list(events)

    async def receive() -> Message:
        return {"type": left.pop(0)}

    async def send(message: Message) -> None:
        heard.append(message)

    await app({"type": "lifespan", "asgi": {}, "state": {} if state is None else state}, receive, send)
    return heard


def types(heard: list[Message]) -> list[str]:
    return [message["type"] for message in heard]


def host_of(lifespan: Callable[[Starlette], AsyncIterator[Any]]) -> Starlette:
    return Starlette(lifespan=asynccontextmanager(lifespan))


async def test_the_hosts_state_and_order_are_its_own(wired: Wired, shelf: Shelf) -> None:
    seen = []

    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
        seen.append(("start", shelf.is_open))
        yield {"word": seen}
        seen.append(("end", shelf.is_open))

    state: dict[str, object] = {}
    heard = await lived(CacheProxyMiddleware(host_of(lifespan), wired=wired), state=state)
    assert types(heard) == [f"{START}.complete", f"{END}.complete"]
    # There for all of the host's life: opened when it has started, closed when it has ended.
    assert seen == [("start", False), ("end", True)]
    assert state["word"] is seen
    assert shelf.told == ["opened", "closed"]


async def test_a_host_may_use_the_cache_while_it_starts_and_while_it_ends(wired: Wired, shelf: Shelf) -> None:
    answers = []

    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        answers.append(await embed(wrapped))
        yield
        answers.append(await embed(wrapped))

    wrapped = CacheProxyMiddleware(host_of(lifespan), wired=wired, auth="open")
    await lived(wrapped)
    assert answers == [200, 200]
    assert shelf.told == ["opened", "closed"]


async def embed(app: ASGIApp) -> int:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        return (await client.post("/embeddings", json=EMBED)).status_code


@pytest.mark.parametrize("events", [(START,), (START, END)])
async def test_a_host_that_fails_to_start_or_to_end_leaves_nothing_open(
    wired: Wired, shelf: Shelf, events: tuple[str, ...]
) -> None:
    fails_at_the_end = END in events
    error = OSError("of the host")

    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        assert await embed(wrapped) == 200
        if not fails_at_the_end:
            raise error
        yield
        raise error

    wrapped = CacheProxyMiddleware(host_of(lifespan), wired=wired, auth="open")
    heard: list[str] = []

    async def send(message: Message) -> None:
        # A server may be gone once it has heard of an end, so by then ours must have ended.
        assert shelf.is_open is message["type"].endswith("startup.complete")
        heard.append(message["type"])

    left = list(events)

    async def receive() -> Message:
        return {"type": left.pop(0)}

    with pytest.raises(OSError, match="of the host") as raised:
        await wrapped({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    assert raised.value is error
    assert heard == ([f"{START}.complete", f"{END}.failed"] if fails_at_the_end else [f"{START}.failed"])
    assert shelf.told == ["opened", "closed"]


async def test_a_host_that_just_stops_leaves_nothing_open(wired: Wired, shelf: Shelf) -> None:
    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": f"{START}.complete"})

    assert types(await lived(CacheProxyMiddleware(host, wired=wired))) == [f"{START}.complete"]
    assert shelf.told == ["opened", "closed"]


async def test_an_opening_of_ours_that_fails_stops_the_start_and_the_host_can_clean_up(
    wired: Wired, shelf: Shelf
) -> None:
    shelf.refusing = ConfigError("the store can not be used; mend it")
    cleaned = []

    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            cleaned.append(True)

    heard: list[Message] = []

    async def receive() -> Message:
        return {"type": START}

    async def send(message: Message) -> None:
        heard.append(message)

    with pytest.raises(ConfigError):
        await CacheProxyMiddleware(host_of(lifespan), wired=wired)({"type": "lifespan", "state": {}}, receive, send)
    assert types(heard) == [f"{START}.failed"]
    assert "mend it" in heard[0]["message"]
    assert cleaned == [True]


async def test_a_closing_of_ours_that_fails_is_not_the_hosts_failure(
    wired: Wired, shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    shelf.failing = RuntimeError("a secret")
    heard = await lived(CacheProxyMiddleware(Starlette(), wired=wired))
    assert types(heard) == [f"{START}.complete", f"{END}.complete"]
    assert "the cache did not end in order (RuntimeError)" in caplog.text
    assert "a secret" not in caplog.text


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    """As Django does."""
    raise ValueError(f"This app can only handle http, not {scope['type']}.")


async def ignores(scope: Scope, receive: Receive, send: Send) -> None:
    """As many a small app does."""


async def breaks(scope: Scope, receive: Receive, send: Send) -> None:
    """As an app does that is put together with the first event and can not be, and serves requests all the same."""
    if scope["type"] == "lifespan":
        raise RuntimeError("the host's database is not there")
    await PlainTextResponse("served")(scope, receive, send)


async def test_an_error_of_a_host_before_its_first_question_is_the_servers_to_judge(wired: Wired, shelf: Shelf) -> None:
    with pytest.raises(RuntimeError, match="database"):
        await lived(CacheProxyMiddleware(breaks, wired=wired))
    assert shelf.told == []


@pytest.mark.parametrize(("lifespan", "starts"), [("on", False), ("auto", True)])
def test_a_host_whose_start_fails_starts_where_it_would_without_us(
    settings: MakeSettings, client: httpx.Client, lifespan: str, starts: bool
) -> None:
    wrapped = CacheProxyMiddleware(breaks, settings=settings(), prefix="/jina", auth="open")
    bare, server = (Server(app, {"lifespan": lifespan}) for app in (breaks, wrapped))
    try:
        assert bare.start() is starts
        assert server.start() is starts
        if starts:
            assert client.get(f"{server.url}/hello").text == "served"
            assert client.post(f"{server.url}/jina/embeddings", json=EMBED).json()["usage"]["total_tokens"] > 0
    finally:
        bare.stop()
        server.stop()


@pytest.mark.parametrize("host", [refuses, ignores])
class TestAHostWithoutALifespan:
    async def test_has_ours_in_its_place(self, wired: Wired, shelf: Shelf, host: ASGIApp) -> None:
        seen: list[tuple[str, bool]] = []
        left = [START, END]

        async def receive() -> Message:
            seen.append((left[0], shelf.is_open))
            return {"type": left.pop(0)}

        async def send(message: Message) -> None:
            seen.append((message["type"], shelf.is_open))

        await CacheProxyMiddleware(host, wired=wired)({"type": "lifespan", "asgi": {}}, receive, send)
        assert seen == [(START, False), (f"{START}.complete", True), (END, True), (f"{END}.complete", False)]

    async def test_is_not_started_if_ours_can_not_be_opened(self, wired: Wired, shelf: Shelf, host: ASGIApp) -> None:
        shelf.refusing = ConfigError("the store can not be used; mend it")
        (heard,) = await lived(CacheProxyMiddleware(host, wired=wired))
        assert heard == {"type": f"{START}.failed", "message": "cache_proxy: the store can not be used; mend it"}

    async def test_is_served_before_any_lifespan(self, wired: Wired, shelf: Shelf, host: ASGIApp) -> None:
        answer = await call(
            CacheProxyMiddleware(host, wired=wired, auth="open"), chunks=[b'{"model": "jina-clip-v1", "input": "a"}']
        )
        assert answer is not None
        assert answer.status == 200
        await wired.close()
        assert shelf.told == ["opened", "closed"]


def test_django_starts_where_the_server_insists_on_a_lifespan(settings: MakeSettings, client: httpx.Client) -> None:
    bare = Server(django_host.build(), {"lifespan": "on"})
    try:
        assert not bare.start()
    finally:
        bare.stop()
    app = CacheProxyMiddleware(django_host.build(), settings=settings(), prefix="/jina", auth="open")
    with served(app, lifespan="on") as server:
        assert client.get(f"{server.url}/hello").status_code == 200
        assert client.post(f"{server.url}/jina/embeddings", json=EMBED).status_code == 200


def test_a_server_that_sends_no_lifespan_ends_ours_with_its_loop(
    wired: Wired, shelf: Shelf, client: httpx.Client
) -> None:
    with served(CacheProxyMiddleware(Starlette(), wired=wired, auth="open"), lifespan="off") as server:
        assert client.post(f"{server.url}/embeddings", json=EMBED).status_code == 200
        assert shelf.told == ["opened"]
    assert shelf.told == ["opened", "closed"]
