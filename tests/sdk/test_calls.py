"""The four functions, called as LiteLLM's page calls them, with only the import changed."""

import asyncio
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cache_proxy import aembedding, arerank, embedding, rerank
from cache_proxy.core.catalog import look_up
from cache_proxy.core.names import Target
from cache_proxy.errors import CacheProxyError, ConfigError, ModelNotFound, RequestError, UpstreamLost, UpstreamRefused
from cache_proxy.models import Deployment
from cache_proxy.sdk.answers import EmbeddingResponse, RerankResponse
from cache_proxy.sdk.calls import Options, portal
from cache_proxy.serving import hosted
from cache_proxy.standin import Fault, StandIn
from cache_proxy.upstream.counters import counter_name
from tests.sdk.conftest import Upstream

EMBEDDER = "jina_ai/jina-embeddings-v3"
RERANKER = "jina_ai/jina-reranker-v2-base-multilingual"
QUERY = "What is the capital of the United States?"
DOCUMENTS = [
    "Carson City is the capital city of the American state of Nevada.",
    "The Commonwealth of the Northern Mariana Islands is a group of islands in the Pacific Ocean.",
    "Washington, D.C. is the capital of the United States.",
    "Capital punishment has existed in the United States since before it was a country.",
]


def test_the_embedding_sample_of_litellm_works_as_written(standin: StandIn) -> None:
    response = embedding(
        model="jina_ai/jina-embeddings-v3", input=["good morning"], dimensions=512, my_custom_param="x"
    )
    assert isinstance(response, EmbeddingResponse)
    assert len(response.data[0]["embedding"]) == 512
    (call,) = standin.calls
    assert call.body == {
        "model": "jina-embeddings-v3",
        "input": ["good morning"],
        "dimensions": 512,
        "my_custom_param": "x",
    }


def test_the_rerank_sample_of_litellm_works_as_written(standin: StandIn) -> None:
    response = rerank(model=RERANKER, query=QUERY, documents=DOCUMENTS, top_n=3)
    assert isinstance(response, RerankResponse)
    assert len(response.results) == 3
    scores = [result["relevance_score"] for result in response.results]
    assert scores == sorted(scores, reverse=True)
    assert all(result.document == DOCUMENTS[result["index"]] for result in response.results)
    assert response.id
    again = rerank(model=RERANKER, query=QUERY, documents=DOCUMENTS, top_n=1)
    assert again.results[0] == response.results[0]
    assert standin.call_count == 1


def test_an_answer_answers_to_attributes_and_to_names(standin: StandIn) -> None:
    response = embedding(EMBEDDER, "hello")
    assert response.data[0].embedding == response["data"][0]["embedding"] == response.data[0]["embedding"]
    assert response.usage.total_tokens == response["usage"]["prompt_tokens"] > 0
    assert response.object == "list"
    assert "data" in response
    with pytest.raises(AttributeError, match="no field 'nonsense'"):
        _ = response.nonsense
    plain = response.model_dump()
    assert type(plain["data"][0]) is dict
    assert json.loads(json.dumps(response)) == plain


def test_the_receipt_tells_what_a_call_cost_and_saved(standin: StandIn) -> None:
    first, second = embedding(EMBEDDER, ["a", "b"]).receipt, embedding(EMBEDDER, ["b", "c"]).receipt
    assert (first.counts.misses, first.tokens_billed, first.tokens_saved) == (2, 6, 0)
    assert (second.counts.hits, second.counts.misses) == (1, 1)
    assert first.tokens_billed + second.tokens_billed == standin.billed_tokens
    assert second.tokens_saved == 3
    assert (second.account.alias, second.endpoint, second.upstream_model) == ("sdk", "embeddings", "jina-embeddings-v3")
    assert "receipt" not in embedding(EMBEDDER, "a").model_dump()


def test_what_was_asked_before_comes_from_the_disk_store_of_a_later_process(standin: StandIn) -> None:
    first = embedding(EMBEDDER, ["kept"])
    portal.close()
    again = embedding(EMBEDDER, ["kept"])
    assert again.receipt.counts.hits == 1
    assert again.data == first.data
    assert standin.call_count == 1


def test_a_call_may_bring_its_own_key(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    with hosted(StandIn(keys={"jina_mine"})) as url:
        monkeypatch.setenv("JINA_AI_API_BASE", f"{url}/v1")
        with pytest.raises(UpstreamRefused) as refused:
            embedding(EMBEDDER, ["a"])
        assert refused.value.status == 401
        assert embedding(EMBEDDER, ["a"], api_key="jina_mine").receipt.tokens_billed == 3
        assert embedding(EMBEDDER, ["a"]).receipt.counts.hits == 1, "a vector does not depend on the key"


def test_a_call_may_go_elsewhere_and_neither_key_nor_cache_go_with_it(upstream: Upstream) -> None:
    embedding(EMBEDDER, ["a"])
    other = StandIn(keys={"other"})
    with hosted(other) as url:
        with pytest.raises(UpstreamRefused) as refused:
            embedding(EMBEDDER, ["a"], api_base=f"{url}/v1")
        assert refused.value.status == 401
        there = embedding(EMBEDDER, ["a"], api_base=f"{url}/v1/embeddings", api_key="other")
        assert there.receipt.counts.misses == 1
        assert embedding(EMBEDDER, ["a"], api_base=f"{url}/v1").receipt.counts.hits == 1
    assert upstream.standin.call_count == 1


def test_a_base_that_is_no_url_is_refused_in_words_that_name_it(standin: StandIn) -> None:
    with pytest.raises(ConfigError, match="api_base"):
        embedding(EMBEDDER, ["a"], api_base="not a url")


def test_a_call_may_bring_its_own_patience(standin: StandIn) -> None:
    standin.fail_next(Fault("delay", seconds=5.0, times=None))
    with pytest.raises(UpstreamLost, match=r"0\.1 s"):
        embedding(EMBEDDER, ["a"], timeout=0.1, num_retries=0)
    assert standin.call_count == 1
    standin.clear_faults()
    assert embedding(EMBEDDER, ["a"]).data


def test_a_call_may_say_how_often_to_try_again(standin: StandIn) -> None:
    standin.fail_next(Fault("status", 503, times=2))
    with pytest.raises(UpstreamRefused):
        embedding(EMBEDDER, ["a"], num_retries=0)
    assert embedding(EMBEDDER, ["a"], num_retries=1).data
    assert standin.call_count == 3


def test_a_call_with_patience_of_its_own_counts_against_the_same_limits_and_one_with_another_key_does_not() -> None:
    place = Deployment("jina", "https://api.jina.test/v1", "jina_ours", rpm=10)
    target = Target("m", look_up("jina-embeddings-v3", own_server=False), "identity", (place,))

    def counted(options: Options) -> bytes:
        return counter_name(options.apply(target).deployments[0], "rpm")

    ours = [Options(timeout=10.0), Options(timeout=11.0), Options(num_retries=0), Options(api_key="jina_ours")]
    assert {counted(options) for options in ours} == {counter_name(place, "rpm")}
    others = [Options(api_key="jina_b"), Options(api_key="jina_c"), Options(api_base="https://other.test/v1")]
    assert len({counted(options) for options in (*ours, *others)}) == 4
    assert counted(Options(api_key="jina_b", timeout=10.0)) == counted(Options(api_key="jina_b"))


def test_caching_false_neither_reads_nor_stores(standin: StandIn) -> None:
    embedding(EMBEDDER, ["a"])
    assert embedding(EMBEDDER, ["a"], caching=False).receipt.tokens_billed == 3
    embedding(EMBEDDER, ["b"], caching=False)
    assert embedding(EMBEDDER, ["b"]).receipt.counts.misses == 1
    assert embedding(EMBEDDER, ["b"], caching=True).receipt.counts.hits == 1


def test_the_provider_may_stand_beside_the_model(standin: StandIn) -> None:
    embedding("jina-embeddings-v3", ["a"], custom_llm_provider="jina_ai")
    assert embedding(EMBEDDER, ["a"], custom_llm_provider="jina_ai").receipt.counts.hits == 1
    assert standin.calls[0].body["model"] == "jina-embeddings-v3"


def test_none_is_the_same_as_nothing_for_what_a_call_says_about_itself(standin: StandIn) -> None:
    silent: dict[str, Any] = {"api_key": None, "api_base": None, "timeout": None, "num_retries": None}
    embedding(EMBEDDER, ["a"], **silent)
    assert standin.calls[0].body == {"model": "jina-embeddings-v3", "input": ["a"]}


def test_eight_threads_that_ask_for_one_text_share_one_trip(standin: StandIn) -> None:
    standin.delay = 0.1
    together = threading.Barrier(8)

    def ask(_: int) -> EmbeddingResponse:
        together.wait()
        return embedding(EMBEDDER, ["the same text"])

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    assert standin.call_count == 1
    assert sum(answer.receipt.tokens_billed for answer in answers) == standin.billed_tokens
    assert all(answer.data == answers[0].data for answer in answers)


def test_two_event_loops_one_after_the_other_share_one_engine(standin: StandIn) -> None:
    first = asyncio.run(aembedding(EMBEDDER, ["a"]))
    second = asyncio.run(aembedding(EMBEDDER, ["a"]))
    assert second.receipt.counts.hits == 1
    assert second.data == first.data == embedding(EMBEDDER, ["a"]).data
    ranked = asyncio.run(arerank(RERANKER, QUERY, DOCUMENTS, top_n=2))
    assert len(ranked.results) == 2


def test_calls_of_one_loop_run_side_by_side(standin: StandIn) -> None:
    standin.delay = 0.2

    async def ask() -> None:
        sizes = range(8, 13)  # what is of one kind would travel together
        await asyncio.gather(*(aembedding(EMBEDDER, ["text"], dimensions=size) for size in sizes))

    asyncio.run(ask())
    assert standin.peak_in_flight == 5


def test_a_caller_that_gives_up_harms_neither_the_loop_nor_the_value(standin: StandIn) -> None:
    standin.delay = 0.3

    async def give_up() -> None:
        await asyncio.wait_for(aembedding(EMBEDDER, ["a"]), 0.1)

    embedding(EMBEDDER, ["so that the store is open"])
    with pytest.raises(TimeoutError):
        asyncio.run(give_up())
    assert embedding(EMBEDDER, ["a"]).data
    assert standin.call_count == 2, "the second asker joined what was on its way"


@pytest.mark.parametrize(
    "fields",
    [
        {"input": ["\ud800"]},
        {"input": ["a"], "task": "\udfff"},
        {"input": ["a"], "metadata": {"\ud800": 1}},
        {"input": [object()]},
        {"input": ["a"], "dimensions": 1j},
        {"input": {"a", "b"}},
    ],
)
def test_what_json_can_not_say_is_a_request_error(standin: StandIn, fields: dict[str, Any]) -> None:
    with pytest.raises(RequestError) as refused:
        embedding(EMBEDDER, **fields)
    assert refused.value.code == "invalid_json"
    assert standin.call_count == 0


def test_a_lone_surrogate_in_a_document_is_a_request_error(standin: StandIn) -> None:
    with pytest.raises(RequestError):
        rerank(RERANKER, "q", ["fine", "\udc80"])


def test_numbers_and_arrays_of_numpy_mean_what_they_say(standin: StandIn) -> None:
    embedding(EMBEDDER, ["a", "b"], dimensions=64, late_chunking=False)
    for texts in (np.array(["a", "b"]), np.array(["a", "b"], dtype=object), ("a", "b"), [np.str_("a"), "b"]):
        answer = embedding(EMBEDDER, texts, dimensions=np.int64(64), late_chunking=np.bool_(False))
        assert answer.receipt.counts.hits == 2
    assert len(answer.data[0].embedding) == 64
    assert standin.call_count == 1
    documents: Any = np.array(DOCUMENTS)
    ranked = rerank(RERANKER, np.str_(QUERY), documents, top_n=np.int32(2))
    assert len(ranked.results) == 2


def test_a_model_that_nobody_serves_is_named_as_such(standin: StandIn) -> None:
    with pytest.raises(ModelNotFound):
        embedding("azure/ada", ["a"])
    with pytest.raises(RequestError, match="input"):
        embedding(EMBEDDER, [])
    assert standin.call_count == 0


def test_a_configuration_that_can_not_be_obeyed_is_told_and_may_be_mended(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("litellm_settings: {cache_params: {type: nonsense}}")
    monkeypatch.setenv("CACHE_PROXY_CONFIG", str(config))
    with pytest.raises(ConfigError, match="disk"):
        embedding(EMBEDDER, ["a"])
    config.write_text(
        f"model_list: [{{model_name: mine, litellm_params: {{model: {EMBEDDER}, api_base: '{upstream.base}'}}}}]"
    )
    assert embedding("mine", ["a"]).model == "jina-embeddings-v3"


def test_every_error_of_the_sdk_is_one_of_ours(standin: StandIn) -> None:
    for kind in ("html", "drop", "halfway", "nan"):
        standin.fail_next(Fault(kind, times=3))
        with pytest.raises(CacheProxyError):
            embedding(EMBEDDER, ["a"], num_retries=1)
        standin.clear_faults()
