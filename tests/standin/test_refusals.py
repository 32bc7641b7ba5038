"""How the stand-in refuses: Jina's three error shapes, and what earns each."""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from cache_proxy.standin import StandIn

from .conftest import client_of

pytestmark = pytest.mark.anyio

Post = Callable[..., Awaitable[httpx.Response]]

V3 = "jina-embeddings-v3"
V4 = "jina-embeddings-v4"
V2_RANKER = "jina-reranker-v2-base-multilingual"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "AUTH_MISSING_API_KEY"),
        ("Basic abc", "AUTH_INVALID_FORMAT"),
        ("Bearer ", "AUTH_INVALID_FORMAT"),
        ("Bearer jina_wrong", "AUTH_INVALID_API_KEY"),
    ],
)
async def test_a_bad_key_gets_401_in_the_flat_shape(authorization: str | None, code: str) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    transport = httpx.ASGITransport(StandIn(keys=["jina_right"]))
    async with httpx.AsyncClient(transport=transport, base_url="http://jina.test") as client:
        response = await client.post("/v1/embeddings", json={"model": V3, "input": "a"}, headers=headers)
        right = {"Authorization": "Bearer jina_right"}
        assert (await client.post("/v1/embeddings", json={"model": V3, "input": "a"}, headers=right)).is_success
    assert response.status_code == 401
    assert list(response.json()) == ["detail", "request_id", "code"]
    assert response.json()["code"] == code


async def test_an_unknown_model_gets_400_in_the_nested_shape(embed: Post, rank: Post) -> None:
    for response in (
        await embed(model="gpt-9", input="a"),
        await embed(model=V2_RANKER, input="a"),
        await rank(model=V3, query="q", documents=["a"]),
    ):
        assert response.status_code == 400
        assert list(response.json()) == ["detail"]
        assert list(response.json()["detail"]) == ["message", "request_id", "code"]
        assert response.json()["detail"]["code"] == "INPUT_MODEL_NOT_FOUND"
        assert len(response.json()["detail"]["request_id"]) == 32


async def test_a_wrong_field_gets_422_that_names_it_and_echoes_it(embed: Post) -> None:
    response = await embed(model=V3, input="a", dimensions=1025)
    assert response.status_code == 422
    assert list(response.json()) == ["detail", "request_id", "errors"]
    assert response.json()["errors"] == [
        {
            "field": "body -> jina-embeddings-v3 -> dimensions",
            "message": "Input should be less than or equal to 1024",
            "type": "less_than_equal",
            "input": 1025,
        }
    ]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("input", {"input": None}),
        ("input", {"input": []}),
        ("input", {"input": 5}),
        ("input", {"input": ["a"] * 513}),
        ("input -> 1", {"input": ["a", [1, 2]]}),
        ("input -> 0", {"input": [{"image": "aGk="}]}),
        ("input -> 0", {"input": [{"text": 1}]}),
        ("input -> 0", {"input": [{}]}),
        ("dimensions", {"dimensions": 0}),
        ("dimensions", {"dimensions": True}),
        ("dimensions", {"dimensions": "many"}),
        ("dimensions", {"dimensions": 1.5}),
        ("task", {"task": "retrieval"}),
        ("task", {"task": "clustering"}),
        ("normalized", {"normalized": "yes"}),
        ("truncate", {"truncate": 1}),
        ("late_chunking", {"late_chunking": "x"}),
        ("embedding_type", {"embedding_type": "int8"}),
        ("embedding_type", {"embedding_type": ["float", "int8"]}),
        ("return_multivector", {"model": V4, "return_multivector": True, "dimensions": 128}),
        ("return_tokenized_input", {"model": V4, "return_tokenized_input": True}),
        ("late_chunking", {"model": V4, "late_chunking": True, "input": [{"image": "aGk="}]}),
        ("dimensions", {"model": V4, "dimensions": 2049}),
        ("dimensions", {"model": "jina-colbert-v2", "dimensions": 100}),
        ("input_type", {"model": "jina-colbert-v2", "input_type": "passage"}),
        ("input -> 0", {"model": V4, "input": [{"text": "a", "image": "b"}]}),
        ("input -> 0", {"model": "jina-embeddings-v5-omni-small", "input": [{"content": []}]}),
    ],
)
async def test_each_field_is_held_to_its_type_and_range(
    embed: Post, standin: StandIn, field: str, change: dict[str, Any]
) -> None:
    body = {"model": V3, "input": "a", **change}
    response = await embed(**body)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [f"body -> {body['model']} -> {field}"]
    assert standin.billed_tokens == 0


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("query", {"query": None}),
        ("query", {"query": 1}),
        ("documents", {"documents": None}),
        ("documents", {"documents": []}),
        ("documents", {"documents": "a"}),
        ("documents -> 1", {"documents": ["a", 1]}),
        ("documents -> 0", {"documents": [{"image": "aGk="}]}),
        ("top_n", {"top_n": 0}),
        ("return_documents", {"return_documents": "no"}),
        ("truncation", {"truncation": 0}),
        ("max_doc_length", {"model": "jina-reranker-v3", "max_doc_length": 8193}),
    ],
)
async def test_rerank_fields_too(rank: Post, field: str, change: dict[str, Any]) -> None:
    body = {"model": V2_RANKER, "query": "q", "documents": ["a"], **change}
    response = await rank(**body)
    assert response.status_code == 422
    assert [error["field"] for error in response.json()["errors"]] == [f"body -> {body['model']} -> {field}"]


async def test_too_many_items_are_refused_in_the_recorded_words(embed: Post) -> None:
    (error,) = (await embed(model=V4, input=["a"] * 513)).json()["errors"]
    assert error["message"] == "Each input list can contain at most 512 items."
    assert (await embed(model=V4, input=["a"] * 512, dimensions=1)).status_code == 200


async def test_a_list_of_embedding_types_gets_the_hosted_apis_500(embed: Post) -> None:
    response = await embed(model=V3, input="a", embedding_type=["float", "binary"])
    assert response.status_code == 500
    assert response.json()["detail"]["code"] == "INTERNAL_ERROR"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b'{"input": "a"}',
        b'{"model": 1, "input": "a"}',
        b'{"model": "jina-embeddings-v3", "input": "\\ud800"}',
        b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": NaN}',
        b'{"model": "jina-embeddings-v3", "input": "a", "x": ' + b"[" * 600 + b"]" * 600 + b"}",
    ],
)
async def test_a_body_that_is_no_request_gets_422(client: httpx.AsyncClient, raw: bytes) -> None:
    for path in ("/v1/embeddings", "/v1/rerank"):
        response = await client.post(path, content=raw)
        assert response.status_code == 422
        assert list(response.json()) == ["detail", "request_id", "errors"]


async def test_strict_extra_refuses_fields_and_aliases_as_the_api_did_in_2025() -> None:
    async with client_of(StandIn(strict_extra=True)) as client:
        body = {"model": "jina-embeddings-v2-base-en", "input": "a"}
        assert (await client.post("/v1/embeddings", json=body)).status_code == 200
        for extra in ({"task": "retrieval.passage"}, {"encoding_format": "float"}, {"user": "u"}):
            (error,) = (await client.post("/v1/embeddings", json=body | extra)).json()["errors"]
            assert error["type"] == "extra_forbidden"
            assert error["message"] == "Extra inputs are not permitted"


async def test_models_are_listed_and_other_paths_are_not_found(client: httpx.AsyncClient) -> None:
    names = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
    assert {V3, V4, V2_RANKER} <= set(names)
    assert len(names) == len(set(names))
    assert (await client.get("/nowhere")).status_code == 404
    assert (await client.get("/v1/embeddings")).status_code == 405
