"""The middleware in somebody's app: our routes are ours, everything else is the app's, untouched."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_proxy.asgi.middleware import CacheProxyMiddleware
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.errors import ConfigError
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.asgi.raw import JSON, call
from tests.support import connect_to, settings_for

pytestmark = pytest.mark.anyio

EMBED = b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": 8}'


@pytest.fixture
async def wired(standin: StandIn, tmp_path: Path) -> AsyncIterator[Wired]:
    wired = Wired(settings_for(tmp_path), connect=connect_to(standin))
    yield wired
    await wired.close()


class Recorder:
    """A host app that remembers the very objects it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[Scope, Receive, Send]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls.append((scope, receive, send))


async def _receive() -> Message:
    raise AssertionError("nothing of the host's may be read by us")


async def _send(message: Message) -> None:
    raise AssertionError("nothing may be sent in the host's name")


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "websocket", "path": "/embeddings"},
        {"type": "http", "method": "GET", "path": "/"},
        {"type": "http", "method": "GET", "path": "/embeddings"},
        {"type": "http", "method": "POST", "path": "/v1/embeddings/more"},
        {"type": "http", "method": "DELETE", "path": "/cache/delete"},
        {"type": "something new", "path": "/embeddings"},
    ],
)
async def test_what_is_not_ours_reaches_the_host_as_the_same_objects(wired: Wired, scope: Scope) -> None:
    host = Recorder()
    before = dict(scope)
    await CacheProxyMiddleware(host, wired=wired, auth="open")(scope, _receive, _send)
    ((got, receive, send),) = host.calls
    assert got is scope
    assert (receive, send) == (_receive, _send)
    assert scope == before
    assert wired.running is None


async def test_an_error_of_the_host_is_the_hosts(wired: Wired) -> None:
    async def host(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("of the host")

    with pytest.raises(LookupError, match="of the host"):
        await call(CacheProxyMiddleware(host, wired=wired, auth="open"), "GET", "/theirs")


async def test_a_stream_of_the_host_comes_through_piece_by_piece(wired: Wired) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            yield piece

    def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(pieces())

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    app = CacheProxyMiddleware(Starlette(routes=[Route("/stream", stream)]), wired=wired, auth="open")
    scope = {"type": "http", "method": "GET", "path": "/stream", "headers": [], "query_string": b"", "root_path": ""}
    await app({**scope, "asgi": {"spec_version": "2.4"}}, receive, send)
    assert [message.get("body") for message in sent] == [None, b"one", b"two", b""]


async def lived(app: ASGIApp) -> list[str]:
    """What the server hears from start to end."""
    heard: list[str] = []
    events = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> Message:
        return {"type": events.pop(0)}

    async def send(message: Message) -> None:
        heard.append(message["type"])

    await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    return heard


async def test_nothing_starts_and_ends_and_refuses_websockets(wired: Wired) -> None:
    app = Nothing([])
    assert await lived(app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "websocket", "path": "/"}, _receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]


async def _host(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(f"host {scope['path']}")(scope, receive, send)


@pytest.mark.parametrize(
    ("prefix", "root_path", "path", "is_ours"),
    [
        ("", "", "/embeddings", True),
        ("/cache", "", "/cache/embeddings", True),
        ("/cache", "", "/embeddings", False),
        ("/cache", "", "/cacheembeddings", False),
        ("/cache", "", "/other/cache/embeddings", False),
        ("/a/b", "", "/a/b/v1/embeddings", True),
        # A server that strips nothing gives the whole path beside the root path; others give what is below it.
        ("", "/root", "/root/embeddings", True),
        ("", "/root", "/embeddings", True),
        ("/cache", "/root", "/root/cache/embeddings", True),
        ("/cache", "/root", "/root/embeddings", False),
    ],
)
async def test_the_routes_are_below_the_root_path_and_the_prefix(
    wired: Wired, prefix: str, root_path: str, path: str, is_ours: bool
) -> None:
    app = CacheProxyMiddleware(_host, wired=wired, auth="open", prefix=prefix)
    answer = await call(app, path=path, root_path=root_path, headers=JSON, chunks=[EMBED])
    assert answer is not None
    assert (answer.body.startswith(b"host"), answer.status) == (not is_ours, 200)


async def test_mounted_in_an_app_it_serves_below_the_mount(wired: Wired) -> None:
    inner = CacheProxyMiddleware(_host, wired=wired, auth="open")
    outer = Starlette(routes=[Mount("/jina", app=inner)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://localhost") as client:
        assert (await client.post("/jina/v1/embeddings", content=EMBED)).json()["object"] == "list"
        assert (await client.get("/jina/theirs")).text.startswith("host")
        assert (await client.post("/v1/embeddings", content=EMBED)).status_code == 404


@pytest.mark.parametrize("prefix", ["cache", "/cache/", "/"])
def test_a_prefix_that_would_match_nothing_is_refused(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(ConfigError, match="prefix"):
        CacheProxyMiddleware(_host, settings=settings_for(tmp_path), prefix=prefix)


def test_a_configuration_comes_from_one_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        CacheProxyMiddleware(_host, "config.yaml", settings=settings_for(tmp_path))


async def test_it_takes_the_path_of_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path / "store"))
    config = tmp_path / "config.yaml"
    config.write_text("general_settings: {master_key: sk-mine}\n")
    app: Any = CacheProxyMiddleware(_host, str(config))
    answer = await call(app, "GET", "/models", headers=[(b"x-api-key", b"sk-mine")])
    assert answer is not None
    assert answer.status == 200
    await app.wired.close()
