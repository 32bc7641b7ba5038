"""The samples of LiteLLM's Jina page, as written there, with ``config/litellm.yaml``."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.settings import load
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.support import UPSTREAM, connect_to

pytestmark = pytest.mark.anyio

CONFIG = Path(__file__).parents[2] / "config" / "litellm.yaml"
EMBEDDINGS: list[tuple[dict[str, Any], int]] = [
    ({"input": ["hello world"], "model": "embedding-model"}, 1024),
    (
        {
            "input": ["good morning"],
            "model": "jina_ai/jina-embeddings-v3",
            "dimensions": 512,
            "my_custom_param": "my_custom_value",
        },
        512,
    ),
]
RERANK: dict[str, Any] = {
    "model": "rerank-model",
    "query": "What is the capital of the United States?",
    "documents": [
        "Carson City is the capital city of the American state of Nevada.",
        "The Commonwealth of the Northern Mariana Islands is a group of islands in the Pacific Ocean.",
        "Washington, D.C. is the capital of the United States.",
        "Capital punishment has existed in the United States since before it was a country.",
    ],
    "top_n": 3,
}


@pytest.fixture
async def client(standin: StandIn, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    environ = {"JINA_AI_API_KEY": "jina_test", "JINA_AI_API_BASE": UPSTREAM, "CACHE_PROXY_DIR": str(tmp_path)}
    wired = Wired(load(CONFIG, environ), connect=connect_to(standin))
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired)
    headers = {"Authorization": "Bearer sk-1234"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://0.0.0.0:4000", headers=headers) as client:
        yield client
    await wired.close()


@pytest.mark.parametrize(("body", "width"), EMBEDDINGS)
async def test_the_embedding_samples_answer_and_are_a_hit_the_second_time(
    client: httpx.AsyncClient, standin: StandIn, body: dict[str, Any], width: int
) -> None:
    first, second = await client.post("/embeddings", json=body), await client.post("/embeddings", json=body)
    assert first.status_code == 200
    assert len(first.json()["data"][0]["embedding"]) == width
    assert first.headers["cache-status"].startswith("cache-proxy; fwd=miss; stored")
    assert second.headers["cache-status"].startswith("cache-proxy; hit")
    assert second.content == first.content
    assert standin.call_count == 1


async def test_provider_specific_fields_reach_the_upstream(client: httpx.AsyncClient, standin: StandIn) -> None:
    await client.post("/embeddings", json=EMBEDDINGS[1][0])
    (call,) = standin.calls
    assert call.body == {
        "model": "jina-embeddings-v3",
        "input": ["good morning"],
        "dimensions": 512,
        "my_custom_param": "my_custom_value",
    }


async def test_the_rerank_sample_answers_and_any_top_n_is_a_hit_the_second_time(
    client: httpx.AsyncClient, standin: StandIn
) -> None:
    first = await client.post("/rerank", json=RERANK)
    assert first.status_code == 200
    results = first.json()["results"]
    assert next(result["index"] for result in results) == 2
    assert [result["document"] for result in results] == [RERANK["documents"][result["index"]] for result in results]
    assert len(results) == 3
    billed = first.json()["meta"]["billed_units"]["total_tokens"]
    assert billed == first.json()["usage"]["total_tokens"] == standin.billed_tokens
    second = await client.post("/rerank", json={**RERANK, "top_n": 1, "return_documents": False})
    assert second.headers["cache-status"].startswith("cache-proxy; hit")
    assert second.json()["results"] == [{name: results[0][name] for name in ("index", "relevance_score")}]
    assert second.json()["id"] != first.json()["id"]
    assert standin.call_count == 1


async def test_the_sample_key_is_wanted(client: httpx.AsyncClient, standin: StandIn) -> None:
    answer = await client.post("/embeddings", json=EMBEDDINGS[0][0], headers={"Authorization": "Bearer sk-4321"})
    assert answer.status_code == 401
    assert standin.call_count == 0


async def test_an_alias_and_the_models_own_name_share_their_answers(client: httpx.AsyncClient) -> None:
    await client.post("/embeddings", json={"model": "embedding-model", "input": "a"})
    same = await client.post("/v1/embeddings", json={"model": "jina_ai/jina-embeddings-v3", "input": ["a"]})
    assert same.headers["cache-status"].startswith("cache-proxy; hit")
