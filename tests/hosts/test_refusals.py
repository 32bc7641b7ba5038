"""A configuration that can not be obeyed refuses the start of the host; where that can not be, it breaks ours alone."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from cache_proxy import CacheProxyMiddleware
from cache_proxy.asgi.middleware import BESIDE_THE_APP, routes, taken
from cache_proxy.errors import ConfigError
from cache_proxy.wiring import Wired
from tests.asgi.raw import call
from tests.hosts.conftest import EMBED, MakeSettings
from tests.hosts.served import Server, served
from tests.hosts.test_lifespans import lived

WRONG = """
model_list:
  - {model_name: e, litellm_params: {model: jina_ai/jina-embeddings-v3, api_key: sk-planted, api_base: "http://u:planted@x"}}
"""


async def _hello(request: Any) -> PlainTextResponse:
    return PlainTextResponse("the host's")


def starlette(**options: Any) -> Starlette:
    return Starlette(routes=[Route("/hello", _hello)], **options)


def fastapi(**options: Any) -> FastAPI:
    app = FastAPI(**options)
    app.add_route("/hello", _hello)
    return app


Host = Callable[..., Starlette]


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(WRONG)
    return str(path)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The errors in our own log."""
    return [one.getMessage() for one in caplog.records if one.name == "cache_proxy" and one.levelname == "ERROR"]


@pytest.mark.parametrize("lifespan", ["auto", "on"])
@pytest.mark.parametrize("host", [starlette, fastapi])
def test_a_server_does_not_start_with_a_middleware_that_is_set_up_wrongly(
    host: Host, lifespan: str, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    ran = []

    @asynccontextmanager
    async def life(app: Any) -> AsyncIterator[None]:
        ran.append(True)
        yield

    app = host(lifespan=life)
    app.add_middleware(CacheProxyMiddleware, config=wrong, prefix="/jina")
    server = Server(app, {"lifespan": lifespan})
    try:
        assert not server.start()
    finally:
        server.stop()
    assert ran == [], "what refuses to start is not started halfway"
    (line,) = told(caplog)
    assert "model_list[0].litellm_params.api_base" in line
    by_the_server = [one.getMessage() for one in caplog.records if one.name == "uvicorn.error"]
    assert any("model_list[0].litellm_params.api_base" in text for text in by_the_server)
    assert "planted" not in caplog.text


@pytest.mark.parametrize("host", [starlette, fastapi])
def test_without_a_lifespan_the_host_goes_on_and_our_routes_say_that_they_are_out_of_order(
    host: Host, wrong: str, caplog: pytest.LogCaptureFixture, client: httpx.Client
) -> None:
    app = host()
    app.add_middleware(CacheProxyMiddleware, config=wrong, prefix="/jina")
    with served(app, lifespan="off") as server:
        for _ in range(2):
            assert client.get(f"{server.url}/hello").text == "the host's"
            assert client.get(f"{server.url}/elsewhere").status_code == 404
        for method, path in (("POST", "/v1/embeddings"), ("POST", "/cache/flushall"), ("GET", "/health/readiness")):
            answer = client.request(method, f"{server.url}/jina{path}", json=EMBED)
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
            assert set(answer.json()) == {"error", "detail"}
            assert "planted" not in answer.text
        # Its own, though the paths are ours elsewhere.
        assert client.post(f"{server.url}/v1/embeddings", json=EMBED).status_code == 404
    assert len(told(caplog)) == 1
    assert "planted" not in caplog.text


@pytest.mark.anyio
async def test_in_a_mounted_app_the_rest_of_the_house_goes_on(wrong: str, caplog: pytest.LogCaptureFixture) -> None:
    inner = starlette()
    inner.add_middleware(CacheProxyMiddleware, config=wrong)
    app = starlette()
    app.routes.append(Mount("/inner", app=inner))
    statuses = {}
    for method, path in (("GET", "/hello"), ("GET", "/inner/hello"), ("POST", "/inner/embeddings")):
        answer = await call(app, method, path)
        assert answer is not None
        statuses[path] = answer.status
    assert statuses == {"/hello": 200, "/inner/hello": 200, "/inner/embeddings": 500}
    assert len(told(caplog)) == 1


@pytest.mark.anyio
async def test_an_app_that_is_its_own_upstream_is_not_served_uncached_instead(
    settings: MakeSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody said who gets in: then nobody does, neither to the app's own route."""
    app = CacheProxyMiddleware(starlette(), settings=settings(), upstream="app")
    for method, path, status in (
        ("POST", "/embeddings", 500),
        ("GET", f"{BESIDE_THE_APP}/health", 500),
        ("GET", "/health", 404),
        ("GET", "/hello", 200),
    ):
        answer = await call(app, method, path)
        assert answer is not None
        assert answer.status == status
    assert "master_key" in told(caplog)[0]


@pytest.mark.anyio
async def test_wrapped_by_hand_inside_a_loop_it_refuses_the_start_as_well(wrong: str) -> None:
    (heard,) = await lived(CacheProxyMiddleware(starlette(), config=wrong), events=("lifespan.startup",))
    assert heard["type"] == "lifespan.startup.failed"
    assert heard["message"].startswith("cache_proxy: model_list[0].litellm_params.api_base")


def test_wrapped_by_hand_it_stops_the_program_where_the_line_stands(wrong: str) -> None:
    with pytest.raises(ConfigError, match="api_base"):
        CacheProxyMiddleware(starlette(), config=wrong)


@pytest.mark.parametrize("beside", ["", BESIDE_THE_APP])
def test_the_routes_that_are_out_of_order_are_those_that_are_ours(settings: MakeSettings, beside: str) -> None:
    known = routes(Wired(settings()), beside=beside)
    assert {(method, path) for _, method, path in taken(beside)} == set(known)
