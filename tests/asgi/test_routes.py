"""Which routes there are, which methods they take, and that the OpenAPI document tells the truth about them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy import __version__
from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.openapi import document
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.core.catalog import MODELS
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.asgi.raw import call
from tests.support import connect_to, proxy, settings_for

pytestmark = pytest.mark.anyio

EMBED: dict[str, Any] = {"model": "jina-embeddings-v3", "input": "a", "dimensions": 8}
RANK: dict[str, Any] = {"model": "jina-reranker-m0", "query": "q", "documents": ["a"]}
BODIES = {
    "/embeddings": EMBED,
    "/v1/embeddings": EMBED,
    "/rerank": RANK,
    "/v1/rerank": RANK,
    "/v2/rerank": RANK,
    "/cache/delete": {"request": EMBED},
    "/cache/flushall": {},
}
KEYED = {"/key/generate", "/key/update", "/key/delete", "/key/info", "/key/list"}
"""Routes that mean nothing without a master_key: see test_keys."""

GETS = (
    "/models", "/v1/models", "/health", "/health/liveliness", "/health/liveness", "/health/readiness", "/cache/ping",
    "/cache/stats", "/openapi.json", "/spend/report", "/spend/logs", "/spend/logs/v2",
)  # fmt: skip


@pytest.fixture
async def wired(standin: StandIn, tmp_path: Path) -> AsyncIterator[Wired]:
    wired = Wired(settings_for(tmp_path), connect=connect_to(standin))
    yield wired
    await wired.close()


@pytest.mark.parametrize("path", BODIES)
async def test_every_post_answers(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.post(path, json=BODIES[path])
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", GETS)
async def test_every_get_answers_and_head_is_the_same_without_a_body(client: httpx.AsyncClient, path: str) -> None:
    answer, head = await client.get(path), await client.head(path)
    assert (answer.status_code, head.status_code, head.content) == (200, 200, b"")
    assert answer.json() is not None
    assert head.headers["content-length"] == str(len(answer.content))


@pytest.mark.parametrize("path", ["/", "", "/embeddings/", "/v3/embeddings", "//embeddings", "/EMBEDDINGS", "/%00"])
async def test_any_other_path_is_404_in_our_shape(wired: Wired, path: str) -> None:
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
    for method in ("GET", "POST", "DELETE"):
        answer = await call(app, method, path)
        assert answer is not None
        assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")
        assert answer.json()["detail"] == answer.json()["error"]["message"]


@pytest.mark.parametrize("path", [*BODIES, *GETS, *sorted(KEYED)])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
async def test_another_method_is_405_and_says_which_are_taken(wired: Wired, path: str, method: str) -> None:
    taken = {"GET", "HEAD"} if path in GETS or path in ("/key/info", "/key/list") else {"POST"}
    if method in taken:
        return
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
    answer = await call(app, method, path)
    assert answer is not None
    assert (answer.status, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert set(answer.headers[b"allow"].decode().split(", ")) == taken


async def test_the_document_lists_every_route_of_ours_and_no_other(wired: Wired) -> None:
    told = {(method.upper(), path) for path, operations in document()["paths"].items() for method in operations}
    assert told == {route for route in routes(wired) if route[0] != "HEAD"}


async def test_every_reference_in_the_document_leads_somewhere(client: httpx.AsyncClient) -> None:
    told = (await client.get("/openapi.json")).json()
    assert (told["openapi"], told["info"]["version"]) == ("3.1.0", __version__)
    names = set(_references(told))
    assert names == set(told["components"]["schemas"])


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"].removeprefix("#/components/schemas/")] if "$ref" in value else []
        return own + [name for member in value.values() for name in _references(member)]
    if isinstance(value, list):
        return [name for member in value for name in _references(member)]
    return []


async def test_every_status_a_route_gives_is_in_the_document(client: httpx.AsyncClient) -> None:
    told = (await client.get("/openapi.json")).json()["paths"]
    only = {"cache-control": "only-if-cached"}
    asked = [
        ("/embeddings", b"{", {}),
        ("/embeddings", b"{}", {}),
        ("/embeddings", b'{"model": "gpt-4", "input": "a"}', {}),
        ("/embeddings", b'{"model": "jina-embeddings-v3", "input": "new"}', only),
        ("/embeddings", b"", {"content-encoding": "gzip"}),
        ("/rerank", b'{"model": "jina-reranker-m0"}', {}),
        ("/cache/delete", b"[]", {}),
        ("/cache/delete", b"{}", {}),
    ]
    for path, content, headers in asked:
        answer = await client.post(path, content=content, headers=headers)
        assert str(answer.status_code) in told[path]["post"]["responses"], (path, content)


async def test_the_documented_fields_are_the_catalogs(client: httpx.AsyncClient) -> None:
    schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
    for model in MODELS.values():
        assert set(model.embedding) <= set(schemas["EmbeddingsRequest"]["properties"])
        assert set(model.rerank) <= set(schemas["RerankRequest"]["properties"])


async def test_without_a_list_every_model_of_the_catalog_is_shown_by_both_names(client: httpx.AsyncClient) -> None:
    shown = (await client.get("/v1/models")).json()
    names = {model["id"] for model in shown["data"]}
    assert shown["object"] == "list"
    assert names == {spelled for name in MODELS for spelled in (name, f"jina_ai/{name}")}
    assert {model["object"] for model in shown["data"]} == {"model"}


async def test_every_model_that_is_shown_answers(client: httpx.AsyncClient) -> None:
    for model in (await client.get("/models")).json()["data"]:
        name = model["id"].removeprefix("jina_ai/")
        path, body = (
            ("/embeddings", {"input": "a"})
            if MODELS[name].embedding
            else ("/rerank", {"query": "q", "documents": ["a"]})
        )
        assert (await client.post(path, json={"model": model["id"], **body})).status_code == 200


async def test_with_a_list_only_its_names_are_shown(standin: StandIn, tmp_path: Path) -> None:
    entry = {"model_name": "mine", "litellm_params": {"model": "jina_ai/jina-embeddings-v3"}}
    async with proxy(standin, tmp_path, {"model_list": [entry]}) as client:
        assert [model["id"] for model in (await client.get("/models")).json()["data"]] == ["mine"]
        missing = await client.post("/embeddings", json={**EMBED, "model": "jina-embeddings-v4"})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")
        assert missing.json()["error"]["param"] == "model"


async def test_the_health_of_a_sound_proxy(client: httpx.AsyncClient) -> None:
    health = (await client.get("/health")).json()
    assert (health["status"], health["unhealthy_count"]) == ("healthy", 0)
    assert (health["store"]["type"], health["store"]["breaker"]) == ("disk", "closed")
    assert health["healthy_count"] == len(health["healthy_endpoints"]) == 1
    assert (await client.get("/cache/ping")).json() == {
        "cache_type": "disk", "status": "healthy", "ping_response": True,
    }  # fmt: skip
    ready = (await client.get("/health/readiness")).json()
    assert (ready["status"], ready["cache"]) == ("healthy", "disk")


async def test_health_spends_nothing(client: httpx.AsyncClient, standin: StandIn) -> None:
    for path in GETS:
        await client.get(path)
    assert standin.call_count == 0
