"""The OpenAPI document says what is so: statuses, shapes of answers, names of fields, ways to send a key."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.asgi import credentials
from cache_proxy.asgi.openapi import document
from cache_proxy.core.wire import controls, embeddings, rerank
from cache_proxy.core.wire.fields import OURS
from cache_proxy.models import Json
from cache_proxy.standin import StandIn
from tests.support import proxy

pytestmark = pytest.mark.anyio

GATE = {"200", "400", "401", "403", "500", "503"}
INFERENCE = GATE | {"404", "413", "415", "422", "429", "502", "504", "default"}
STATUSES = {
    "/embeddings": INFERENCE,
    "/v1/embeddings": INFERENCE,
    "/rerank": INFERENCE,
    "/v1/rerank": INFERENCE,
    "/v2/rerank": INFERENCE,
    "/models": GATE,
    "/v1/models": GATE,
    "/health": GATE,
    "/health/liveliness": {"200", "500"},
    "/health/liveness": {"200", "500"},
    "/health/readiness": {"200", "500"},
    "/cache/ping": GATE,
    "/cache/stats": GATE,
    "/metrics": GATE,
    "/cache/delete": GATE | {"404", "413", "415", "422"},
    "/cache/flushall": GATE | {"415"},
    "/key/generate": GATE | {"413", "415", "422"},
    "/key/update": GATE | {"404", "413", "415", "422"},
    "/key/delete": GATE | {"404", "413", "415", "422"},
    "/key/info": GATE | {"404", "422"},
    "/key/list": GATE | {"422"},
    "/openapi.json": GATE,
    "/spend/report": GATE | {"404", "503"},
    "/spend/logs": GATE | {"404", "503"},
    "/spend/logs/v2": GATE | {"404", "503"},
}
EMBED: dict[str, Any] = {"model": "jina-embeddings-v3", "input": ["a", "b"], "dimensions": 8}
RANK: dict[str, Any] = {"model": "jina-reranker-m0", "query": "q", "documents": ["a", "b"]}
MANY: dict[str, Any] = {"model": "jina-colbert-v2", "input": ["a"]}
SPARSE: dict[str, Any] = {"model": "elser-v2", "input": ["a"]}
SCORED: dict[str, Any] = {**RANK, "model": "jina-reranker-v3", "return_embeddings": True}
ANSWERED = [
    ("/embeddings", EMBED),
    ("/v1/embeddings", {**EMBED, "embedding_type": "base64"}),
    ("/v1/embeddings", {**EMBED, "embedding_type": "binary"}),
    ("/v1/embeddings", MANY),
    ("/v1/embeddings", {**MANY, "embedding_type": "base64"}),
    ("/v1/embeddings", SPARSE),
    ("/rerank", RANK),
    ("/v1/rerank", {**RANK, "return_documents": False}),
    ("/v2/rerank", SCORED),
    ("/models", None),
    ("/cache/ping", None),
    ("/cache/stats", None),
    ("/cache/delete", {"request": EMBED}),
    ("/cache/flushall", {}),
    ("/health", None),
    ("/health/liveliness", None),
    ("/health/readiness", None),
    ("/spend/report", None),
    ("/spend/logs", None),
    ("/spend/logs/v2", None),
]
REFUSED = [("/embeddings", b"{"), ("/rerank", b"{}"), ("/cache/delete", b"{}"), ("/embeddings", b'{"model": "nobody"}')]
TYPES: Mapping[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
    "null": type(None),
}  # fmt: skip


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = document()["components"]["schemas"][name]
    return found


def operation(path: str) -> dict[str, Any]:
    (found,) = document()["paths"][path].values()
    return dict(found)


def response(path: str, status: int) -> dict[str, Any]:
    told: dict[str, Any] = operation(path)["responses"][str(status)]["content"]["application/json"]["schema"]
    return told


def check(value: Json, told: dict[str, Any], where: str = "$") -> None:
    """The value is what the schema says, and everything in it is told of."""
    if "$ref" in told:
        told = schema(told["$ref"].rpartition("/")[2])
    if "anyOf" in told and "properties" not in told:
        assert any(is_of(value, other) for other in told["anyOf"]), where
        return
    assert is_of(value, told), where
    if isinstance(value, dict) and "properties" in told:
        assert value.keys() <= told["properties"].keys(), where
        assert set(told.get("required", ())) <= value.keys(), where
        for name, member in value.items():
            check(member, told["properties"][name], f"{where}.{name}")
    if isinstance(value, list):
        for member in value:
            check(member, told.get("items", {}), f"{where}[]")


def is_of(value: Json, told: dict[str, Any]) -> bool:
    if "const" in told or "enum" in told:
        return value in told.get("enum", [told.get("const")])
    if "type" not in told:
        return True
    names = told["type"] if isinstance(told["type"], list) else [told["type"]]
    return any(isinstance(value, TYPES[name]) for name in names)


def test_the_statuses_of_every_route_are_those_it_can_give() -> None:
    assert {path: set(operation(path)["responses"]) for path in document()["paths"]} == STATUSES


@pytest.mark.parametrize(("path", "body"), ANSWERED)
async def test_an_answer_is_of_the_shape_that_is_told(client: httpx.AsyncClient, path: str, body: Any) -> None:
    for _ in range(2):  # what comes from the cache is no different
        answer = await (client.get(path) if body is None else client.post(path, json=body))
        assert answer.status_code == 200, answer.text
        check(answer.json(), response(path, 200))


@pytest.mark.parametrize(("path", "content"), REFUSED)
async def test_a_refusal_is_of_the_shape_that_is_told(client: httpx.AsyncClient, path: str, content: bytes) -> None:
    answer = await client.post(path, content=content)
    check(answer.json(), response(path, answer.status_code))


def test_the_check_of_shapes_can_fail() -> None:
    wrong: list[Json] = [{}, {"data": [], "object": "list", "more": 1}, {"data": [{"id": 7}], "object": "list"}]
    for value in wrong:
        with pytest.raises(AssertionError):
            check(value, schema("Models"))


async def test_a_flush_reads_no_body_but_may_be_refused_for_what_its_headers_say(
    standin: StandIn, tmp_path: Path
) -> None:
    told = operation("/cache/flushall")["responses"]
    async with proxy(standin, tmp_path, auth="loopback") as client:
        plain = await client.post("/cache/flushall", content=b"x", headers={"content-type": "text/plain"})
        assert (plain.status_code, str(plain.status_code) in told) == (415, True)
    async with proxy(standin, tmp_path, {"general_settings": {"master_key": "sk-1"}}) as client:
        twice = await client.post("/cache/flushall", headers=[("api-key", "sk-1"), ("api-key", "sk-2")])
        assert (twice.status_code, str(twice.status_code) in told) == (400, True)
        broken = await client.post("/cache/flushall", content=b"{", headers={"api-key": "sk-1"})
        assert broken.status_code == 200
    assert "requestBody" not in operation("/cache/flushall")


def test_every_spelling_of_a_field_is_told_and_says_of_what() -> None:
    for name, spellings in (("EmbeddingsRequest", embeddings.SPELLINGS), ("RerankRequest", rerank.SPELLINGS)):
        told = schema(name)["properties"]
        for first, *others in spellings:
            assert first in told
            for other in others:
                assert f"nother name of `{first}`" in told[other]["description"], other


def test_every_field_that_speaks_to_the_proxy_or_is_ignored_is_told() -> None:
    for name in ("EmbeddingsRequest", "RerankRequest"):
        assert schema(name)["properties"].keys() >= OURS
        assert set(schema(name)["properties"]["cache"]["properties"]) == set(controls.KNOWN)
    assert schema("RerankRequest")["properties"].keys() >= rerank.IGNORED


@pytest.mark.parametrize("name", embeddings.INPUT)
async def test_any_spelling_of_input_is_enough(client: httpx.AsyncClient, name: str) -> None:
    told = schema("EmbeddingsRequest")
    assert told["required"] == ["model"]
    assert {"required": [name]} in told["anyOf"]
    assert (await client.post("/embeddings", json={"model": "jina-embeddings-v3", name: "a"})).status_code == 200


async def test_a_key_may_be_sent_as_the_document_says_or_not_at_all_where_there_is_none(
    standin: StandIn, tmp_path: Path
) -> None:
    schemes = document()["components"]["securitySchemes"]
    assert document()["security"] == [*({name: []} for name in schemes), {}]
    headers = {"authorization" if told["type"] == "http" else told["name"] for told in schemes.values()}
    assert {name.encode() for name in headers} == {*credentials.OURS, credentials.AUTHORIZATION}
    async with proxy(standin, tmp_path, {"general_settings": {"master_key": "sk-1"}}) as client:
        assert (await client.get("/models")).status_code == 401
        for header in headers:
            key = "Bearer sk-1" if header == "authorization" else "sk-1"
            assert (await client.get("/models", headers={header: key})).status_code == 200, header


@pytest.mark.parametrize(("prefix", "url"), [("", "/"), ("/jina", "/jina")])
def test_the_server_is_where_the_routes_are_mounted(prefix: str, url: str) -> None:
    assert document(prefix)["servers"] == [{"url": url}]


def test_without_a_prefix_it_is_the_root() -> None:
    assert document()["servers"] == [{"url": "/"}]
