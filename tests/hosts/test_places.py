"""Where the middleware may stand: in a mounted app, round one, under a root path, between other middlewares."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from cache_proxy import CacheProxyMiddleware
from tests.hosts import django_host, fastapi_host
from tests.hosts.conftest import EMBED, MakeSettings
from tests.hosts.served import served

pytestmark = pytest.mark.anyio

Cached = Callable[..., ASGIApp]


@pytest.fixture
def cached(settings: MakeSettings) -> Cached:
    """Puts the middleware round an app."""
    made = settings()
    return lambda app, **options: CacheProxyMiddleware(app, settings=made, auth="open", **options)


async def theirs(request: Request) -> Response:
    return PlainTextResponse(f"{request.scope.get('root_path', '')}|{request.url.path}")


def host(*routes: Any) -> Starlette:
    return Starlette(routes=[*routes, Route("/{rest:path}", theirs, methods=["GET", "POST"])])


def client_of(app: ASGIApp, root_path: str = "") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, root_path=root_path), base_url="http://localhost")


async def is_ours(app: ASGIApp, path: str, root_path: str = "") -> bool:
    async with client_of(app, root_path) as client:
        answer = await client.post(path, json=EMBED)
        assert answer.status_code == 200
        return answer.headers["content-type"] == "application/json"


async def test_round_a_mounted_app_it_answers_below_the_mount(cached: Cached) -> None:
    app = host(Mount("/sub", app=cached(host())), Mount("/other", app=cached(host(), prefix="/jina")))
    assert await is_ours(app, "/sub/v1/embeddings")
    assert await is_ours(app, "/other/jina/v1/embeddings")
    for path in ("/v1/embeddings", "/other/v1/embeddings", "/subway/v1/embeddings", "/sub/sub/v1/embeddings"):
        assert not await is_ours(app, path)
    async with client_of(app) as client:
        assert (await client.get("/sub/theirs")).text == "/sub|/sub/theirs"


async def test_inside_a_mounted_app_it_answers_below_the_mount(settings: MakeSettings) -> None:
    inner = FastAPI()
    inner.add_middleware(CacheProxyMiddleware, settings=settings(), auth="open", prefix="/jina")
    outer = FastAPI()
    outer.mount("/sub", inner)
    async with client_of(outer) as client:
        assert (await client.post("/sub/jina/embeddings", json=EMBED)).status_code == 200
        assert (await client.post("/jina/embeddings", json=EMBED)).status_code == 404
        described = (await client.get("/sub/jina/openapi.json")).json()
        assert described["servers"] == [{"url": "/sub/jina"}]


async def test_round_an_app_with_mounts_it_leaves_what_is_below_them_alone(cached: Cached) -> None:
    app = cached(host(Mount("/sub", app=host())))
    assert await is_ours(app, "/v1/embeddings")
    assert not await is_ours(app, "/sub/v1/embeddings")
    async with client_of(app) as client:
        assert (await client.get("/sub/theirs")).text == "/sub|/sub/theirs"


@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize("path", ["/api/jina/v1/embeddings", "/jina/v1/embeddings"])
async def test_a_root_path_of_fastapis_is_understood_with_and_without_it_in_the_path(
    settings: MakeSettings, path: str
) -> None:
    app = fastapi_host.build(root_path="/api")
    app.add_middleware(CacheProxyMiddleware, settings=settings(), auth="open", prefix="/jina")
    assert await is_ours(app, path)


@pytest.mark.parametrize(
    ("root_path", "path", "ours"),
    [
        ("/api", "/api/embeddings", True),
        ("/api", "/embeddings", True),
        # A root path ends at a slash: this path only looks as if it began with one.
        ("/emb", "/embeddings", True),
        ("/embeddings", "/embeddings", True),
        ("/embeddings", "/embeddings/embeddings", True),
        ("/api", "/apiembeddings", False),
        ("/api", "/api/api/embeddings", False),
    ],
)
async def test_a_root_path_ends_at_a_slash(cached: Cached, root_path: str, path: str, ours: bool) -> None:
    assert await is_ours(cached(host()), path, root_path) is ours


def test_a_root_path_of_the_server_is_understood(cached: Cached, client: httpx.Client) -> None:
    with served(cached(host(), prefix="/jina"), root_path="/api") as server:
        assert client.post(f"{server.url}/jina/embeddings", json=EMBED).headers["content-type"] == "application/json"
        assert client.get(f"{server.url}/theirs").text == "/api|/api/theirs"


async def test_django_below_a_mount_keeps_its_script_name(cached: Cached) -> None:
    app = Starlette(routes=[Mount("/dj", app=cached(django_host.build(), prefix="/jina"))])
    async with client_of(app) as client:
        assert (await client.get("/dj/where")).text == "/dj|/where"
    assert await is_ours(app, "/dj/jina/embeddings")


ORIGIN = {"origin": "http://page.test"}
CORS: dict[str, Any] = {"allow_origins": ["http://page.test"], "allow_methods": ["POST"]}


async def test_a_cors_middleware_round_it_speaks_for_ours_too(cached: Cached) -> None:
    app = CORSMiddleware(cached(host()), **CORS)
    async with client_of(app) as client:
        asked = await client.options("/embeddings", headers={**ORIGIN, "access-control-request-method": "POST"})
        assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "http://page.test")
        answer = await client.post("/embeddings", json=EMBED, headers=ORIGIN)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "http://page.test")


async def test_a_cors_middleware_inside_still_answers_for_the_hosts_routes(cached: Cached) -> None:
    app = cached(CORSMiddleware(host(), **CORS), prefix="/jina")
    async with client_of(app) as client:
        for path in ("/theirs", "/jina/embeddings"):
            asked = await client.options(path, headers={**ORIGIN, "access-control-request-method": "POST"})
            assert (asked.status_code, asked.headers["access-control-allow-origin"]) == (200, "http://page.test")
        assert (await client.get("/theirs", headers=ORIGIN)).headers[
            "access-control-allow-origin"
        ] == "http://page.test"


class Stamping(BaseHTTPMiddleware):
    """The kind that wraps requests and replies, and runs the app in a task group."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        answer = await call_next(request)
        answer.headers["x-stamp"] = request.url.path
        return answer


@pytest.mark.parametrize("ours_first", [True, False])
async def test_other_middlewares_may_stand_round_it_and_inside(settings: MakeSettings, ours_first: bool) -> None:
    ours = Middleware(CacheProxyMiddleware, settings=settings(), auth="open")
    others = [Middleware(GZipMiddleware, minimum_size=1), Middleware(Stamping)]
    app = Starlette(routes=host().routes, middleware=[ours, *others] if ours_first else [*others, ours])
    async with client_of(app) as client:
        answer = await client.post("/embeddings", json=EMBED)
        assert answer.json()["object"] == "list"
        assert ("x-stamp" in answer.headers, answer.headers.get("content-encoding")) == (
            (False, None) if ours_first else (True, "gzip")
        )
        answer = await client.get("/theirs")
        assert (answer.text, answer.headers["x-stamp"]) == ("|/theirs", "/theirs")
