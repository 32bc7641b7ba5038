"""The stand-in's rankings: pointwise and listwise, their order, their documents and their bill."""

import json
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import httpx
import numpy as np
import pytest

pytestmark = pytest.mark.anyio

Post = Callable[..., Awaitable[httpx.Response]]

V2 = "jina-reranker-v2-base-multilingual"
M0 = "jina-reranker-m0"
V3 = "jina-reranker-v3"
COLBERT = "jina-colbert-v2"
POINTWISE = ["jina-reranker-v1-tiny-en", V2, M0, COLBERT]
LISTWISE = [V3, "jina-reranker-v3.5"]

QUERY = "machine learning algorithms"
DOCUMENTS = [
    "Deep learning is a subset of machine learning",
    "Natural language processing uses statistical methods",
    "Computer vision applies machine learning to images",
    "Reinforcement learning trains agents through rewards",
]


async def scores(rank: Post, **body: Any) -> dict[int, float]:
    response = await rank(**{"query": QUERY, "documents": DOCUMENTS, **body})
    assert response.status_code == 200, response.text
    return {result["index"]: result["relevance_score"] for result in response.json()["results"]}


@pytest.mark.parametrize("model", POINTWISE + LISTWISE)
async def test_the_envelope_has_the_keys_of_2026_in_their_order(rank: Post, model: str) -> None:
    answer = (await rank(model=model, query=QUERY, documents=DOCUMENTS)).json()
    assert list(answer) == ["model", "object", "usage", "results"]
    assert list(answer["usage"]) == ["total_tokens"]
    assert {tuple(result) for result in answer["results"]} == {("index", "relevance_score", "document")}
    assert sorted(result["index"] for result in answer["results"]) == [0, 1, 2, 3]
    ranked = [result["relevance_score"] for result in answer["results"]]
    assert ranked == sorted(ranked, reverse=True)


@pytest.mark.parametrize("model", POINTWISE)
async def test_a_pointwise_score_depends_on_its_pair_alone(rank: Post, model: str) -> None:
    together = await scores(rank, model=model)
    for index, document in enumerate(DOCUMENTS):
        assert await scores(rank, model=model, documents=[document]) == {0: together[index]}


@pytest.mark.parametrize("model", LISTWISE)
async def test_a_listwise_score_depends_on_the_whole_ordered_list(rank: Post, model: str) -> None:
    documents = [f"document {number}" for number in range(40)]
    whole = await scores(rank, model=model, documents=documents)
    back = await scores(rank, model=model, documents=documents[::-1])
    assert [whole[index] for index in range(40)] != [back[39 - index] for index in range(40)]
    fewer = await scores(rank, model=model, documents=documents[:39])
    assert [whole[index] for index in range(39)] != [fewer[index] for index in range(39)]


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (V2, {"query": "machine learning"}),
        (V2, {"model": M0}),
        (V2, {"truncation": False}),
        (V2, {"my_custom_param": 1}),
        (COLBERT, {"query": "machine"}),
        (V3, {"query": "machine learning"}),
        (V3, {"truncation": False}),
        (V3, {"max_doc_length": 1024}),
        (V3, {"my_custom_param": 1}),
    ],
)
async def test_scores_depend_on_what_jinas_depend_on(rank: Post, model: str, change: dict[str, Any]) -> None:
    assert await scores(rank, model=model) != await scores(rank, **{"model": model, **change})


@pytest.mark.parametrize(
    ("model", "same"),
    [
        (V2, {"top_n": 4, "return_documents": False, "truncation": True, "user": "u", "priority": 0}),
        (V2, {"top_n": None, "return_documents": None, "truncation": None}),
        (V2, {"top_k": 9, "max_tokens_per_doc": 7, "return_embeddings": True}),
        (V3, {"max_doc_length": 2048, "return_embeddings": True}),
        (V3, {"max_tokens_per_doc": 2048, "truncate": True}),
    ],
)
async def test_slices_defaults_and_ignored_fields_change_no_score(rank: Post, model: str, same: dict[str, Any]) -> None:
    assert await scores(rank, model=model) == await scores(rank, model=model, **same)


async def test_top_n_cuts_the_full_ranking_and_costs_the_same(rank: Post) -> None:
    full = (await rank(model=V2, query=QUERY, documents=DOCUMENTS)).json()
    for name in ("top_n", "top_k"):
        cut = (await rank(model=V2, query=QUERY, documents=DOCUMENTS, **{name: 2})).json()
        assert cut["results"] == full["results"][:2]
        assert cut["usage"] == full["usage"]


async def test_the_query_is_billed_once_and_each_document_each_time(rank: Post) -> None:
    async def bill(*documents: str, model: str = V2) -> int:
        body = {"model": model, "query": QUERY, "documents": list(documents)}
        return int((await rank(**body)).json()["usage"]["total_tokens"])

    one, two = await bill("a"), await bill("a", "b c d")
    assert await bill("a", "a") - one == await bill("a", "a", "a") - await bill("a", "a")
    assert two - one == await bill("b c d", "b c d") - await bill("b c d")
    assert await bill("a", model=COLBERT) == 32 + (await bill("a", "a") - one)


async def test_ties_keep_the_lower_index_first_pointwise_and_the_higher_listwise(rank: Post) -> None:
    documents = [f"document {number}" for number in range(300)]
    for model, step in ((V2, 1), (COLBERT, 1), (V3, -1)):
        results = (await rank(model=model, query="q", documents=documents)).json()["results"]
        pairs = [
            (first["index"], second["index"])
            for first, second in pairwise(results)
            if first["relevance_score"] == second["relevance_score"]
        ]
        assert pairs
        assert all((second - first) * step > 0 for first, second in pairs)


async def test_scores_are_in_their_familys_range_and_at_most_eight_decimals(rank: Post) -> None:
    text = (await rank(model=V2, query=QUERY, documents=DOCUMENTS, return_documents=False)).text
    results = json.loads(text, parse_float=str)["results"]
    numbers = [result["relevance_score"] for result in results]
    assert len(numbers) == 4
    assert all(0 < float(number) < 1 and len(number.split(".")[1]) <= 8 for number in numbers)
    assert max((await scores(rank, model=COLBERT)).values()) > 1
    assert all(-1 <= score <= 1 for score in (await scores(rank, model=V3)).values())


async def test_cross_encoders_echo_the_callers_type_and_v3_gives_objects(rank: Post) -> None:
    async def echoes(model: str, documents: list[Any]) -> list[Any]:
        results = (await rank(model=model, query="q", documents=documents)).json()["results"]
        return [result["document"] for result in sorted(results, key=lambda result: int(result["index"]))]

    documents = ["a", {"text": "b", "id": 7}]
    assert await echoes(V2, documents) == ["a", {"text": "b"}]
    assert await echoes(V3, documents) == [{"text": "a"}, {"text": "b"}]
    assert await echoes(M0, [{"image": "aGk="}]) == [{"image": "aGk="}]
    without = (await rank(model=V2, query="q", documents=["a"], return_documents=False)).json()
    assert list(without["results"][0]) == ["index", "relevance_score"]


async def test_listwise_models_give_unit_vectors_on_request(rank: Post) -> None:
    answer = (await rank(model=V3, query="q", documents=["a", "b"], return_embeddings=True)).json()
    for result in answer["results"]:
        assert list(result) == ["index", "relevance_score", "document", "embedding"]
        assert len(result["embedding"]) == 512
        assert np.linalg.norm(result["embedding"]) == pytest.approx(1, abs=1e-6)


async def test_a_long_document_is_cut_or_refused_but_echoed_whole(rank: Post) -> None:
    long = "word " * 1024 + "more"
    refused = await rank(model=V2, query="q", documents=[long], truncation=False)
    assert refused.status_code == 400
    cut = (await rank(model=V2, query="q", documents=[long])).json()
    assert cut["results"][0]["document"] == long
    short = (await rank(model=V2, query="q", documents=["word " * 1024])).json()
    assert cut["usage"] == short["usage"]
