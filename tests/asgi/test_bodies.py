"""What a body may be: its size, its encoding, and whether it comes at all."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import ASGIApp

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.asgi.raw import JSON, call
from tests.support import connect_to, settings_for

pytestmark = pytest.mark.anyio

LIMIT = 2**20 // 100
SMALL: dict[str, Any] = {"cache_proxy_settings": {"max_body_mib": 0.01, "max_items": 3}}
POSTS = ["/embeddings", "/v2/rerank", "/cache/delete"]


def body(padding: int = 0) -> bytes:
    return orjson.dumps({"model": "jina-embeddings-v3", "input": "a" * padding, "dimensions": 8})


@pytest.fixture
async def small(standin: StandIn, tmp_path: Path) -> AsyncIterator[ASGIApp]:
    wired = Wired(settings_for(tmp_path, SMALL), connect=connect_to(standin))
    yield CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
    await wired.close()


async def test_a_body_of_just_the_limit_is_taken(small: ASGIApp) -> None:
    whole = body(LIMIT - len(body()))
    assert len(whole) == LIMIT
    assert (await call(small, chunks=[whole])).status == 200  # type: ignore[union-attr]
    assert (await call(small, chunks=[whole[:99], whole[99:]])).status == 200  # type: ignore[union-attr]


@pytest.mark.parametrize("path", POSTS)
async def test_a_body_that_says_it_is_too_large_is_not_even_read(small: ASGIApp, path: str) -> None:
    headers = [*JSON, (b"content-length", b"%d" % (LIMIT + 1))]
    answer = await call(small, path=path, headers=headers, chunks=[])
    assert answer is not None
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert answer.headers[b"connection"] == b"close"


@pytest.mark.parametrize("declared", [None, b"5", b"-5", b"many"])
@pytest.mark.parametrize("path", POSTS)
async def test_a_body_is_counted_whatever_it_says(small: ASGIApp, path: str, declared: bytes | None) -> None:
    headers = [*JSON] if declared is None else [*JSON, (b"content-length", declared)]
    for chunks in ([body(LIMIT)], [b"[" * 1000] * 11):
        answer = await call(small, path=path, headers=headers, chunks=chunks)
        assert answer is not None
        assert answer.status == 413


async def test_an_endless_body_is_cut_off_at_the_limit(small: ASGIApp) -> None:
    read = 0

    def endless() -> Any:
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b" " * 1024

    parts = endless()

    async def receive() -> Any:
        return {"type": "http.request", "body": next(parts), "more_body": True}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/embeddings", "headers": list(JSON), "client": None}
    await small(scope, receive, send)
    assert sent[0]["status"] == 413
    assert read == LIMIT // 1024 + 1


@pytest.mark.parametrize("encoding", [b"gzip", b"br", b"identity, gzip", b"zzz"])
async def test_a_compressed_body_is_not_taken(small: ASGIApp, encoding: bytes) -> None:
    answer = await call(small, headers=[*JSON, (b"content-encoding", encoding)], chunks=[body()])
    assert answer is not None
    assert (answer.status, answer.json()["error"]["code"]) == (415, "unsupported_encoding")


async def test_a_body_said_to_be_as_it_is_is_taken(small: ASGIApp) -> None:
    answer = await call(small, headers=[*JSON, (b"content-encoding", b"Identity")], chunks=[body()])
    assert answer is not None
    assert answer.status == 200


@pytest.mark.parametrize("chunks", [[], [b""], [body()[:20]], [body()]])
async def test_a_client_that_leaves_before_its_body_is_whole_gets_no_answer_and_spends_nothing(
    small: ASGIApp, standin: StandIn, chunks: list[bytes]
) -> None:
    assert await call(small, chunks=chunks, ends=False) is None
    assert standin.call_count == 0


@pytest.mark.parametrize(("path", "field"), [("/embeddings", "input"), ("/rerank", "documents")])
async def test_too_many_items_are_refused_by_name(small: ASGIApp, standin: StandIn, path: str, field: str) -> None:
    model = "jina-embeddings-v3" if field == "input" else "jina-reranker-m0"
    many = orjson.dumps({"model": model, "query": "q", field: ["a", "b", "c", "d"]})
    answer = await call(small, path=path, chunks=[many])
    assert answer is not None
    error = answer.json()["error"]
    assert (answer.status, error["param"], error["code"]) == (422, field, "too_many_items")
    assert standin.call_count == 0
