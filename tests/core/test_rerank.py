"""``/rerank``: what is read, what is sent upstream, how rankings are cut, and what makes a complaint."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.core.answer import write
from cache_proxy.core.plan import usage
from cache_proxy.core.renderings import Renderings
from cache_proxy.errors import RequestError
from cache_proxy.models import Json, Policy
from tests.core.asking import V2_RERANKER, answered, ask, key, paid, rank, scores, sent

LISTWISE = "jina-reranker-v3"
SECRET = "Zq7"
DOCUMENTS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("model", [V2_RERANKER, "jina-reranker-m0", "jina-colbert-v2", LISTWISE])
def test_the_upstream_is_asked_for_all_scores_and_no_documents(model: str) -> None:
    asked = rank(["a", {"text": "b"}], model, {"text": "q"}, top_n=1, return_documents=True, user="u", metadata={})
    assert sent(asked) == {"model": model, "query": "q", "documents": ["a", "b"], "return_documents": False}


def test_cohere_fields_are_mapped_where_jina_has_the_thing_and_otherwise_ignored() -> None:
    cohere: dict[str, Json] = {
        "top_n": 2,
        "rank_fields": ["text"],
        "max_chunks_per_doc": 9,
        "max_tokens_per_doc": 4096,
        "priority": 1,
        "return_documents": True,
    }
    pairs = rank(DOCUMENTS, **cohere)
    assert set(sent(pairs)) == {"model", "query", "documents", "return_documents"}
    assert pairs.seats == rank(DOCUMENTS).seats
    assert pairs.view.top_n == 2
    listwise = rank(DOCUMENTS, LISTWISE, **cohere)
    assert sent(listwise)["max_doc_length"] == 4096
    assert key(listwise) == key(rank(DOCUMENTS, LISTWISE, max_doc_length=4096))


def test_a_known_reranker_is_spoken_to_in_jinas_words_even_where_its_json_is_kept() -> None:
    asked = rank(
        [{"text": "a", "id": 7}],
        top_k=1,
        truncate=True,
        rank_fields=["text"],
        max_tokens_per_doc=9,
        priority=1,
        return_documents=False,
        user="u",
    )
    assert sent(asked) == {
        "model": V2_RERANKER,
        "query": "q",
        "documents": [{"text": "a", "id": 7}],
        "top_n": 1,
        "truncation": True,
        "return_documents": False,
    }
    plain = rank([{"text": "a", "id": 7}], top_n=1, truncation=True, return_documents=False)
    assert key(asked) == key(plain)
    assert key(asked) != key(rank([{"text": "a", "id": 7}], top_n=1, truncation=True))


@pytest.mark.parametrize(
    ("fields", "top_n"),
    [({}, None), ({"top_n": None}, None), ({"top_n": 2}, 2), ({"top_k": 3}, 3), ({"top_n": 1, "top_k": 3}, 1)],
)
def test_top_n_is_read_in_both_spellings_and_is_in_no_key(fields: dict[str, Json], top_n: int | None) -> None:
    for model in (V2_RERANKER, LISTWISE):
        asked = rank(DOCUMENTS, model, **fields)
        assert asked.view.top_n == top_n
        assert asked.seats == rank(DOCUMENTS, model).seats


MIXED: list[Json] = ["a", {"text": "b"}]


@pytest.mark.parametrize("wanted", [{}, {"return_documents": None}, {"return_documents": True}])
def test_documents_come_back_unless_they_are_not_wanted(wanted: dict[str, Json]) -> None:
    assert rank(MIXED, **wanted).view.documents is not None
    assert rank(MIXED, return_documents=False).view.documents is None
    assert rank(MIXED, return_documents=False).seats == rank(MIXED, **wanted).seats


@pytest.mark.parametrize("model", ["jina-reranker-v1-tiny-en", V2_RERANKER, "jina-reranker-m0", "jina-colbert-v2"])
def test_a_pointwise_reranker_echoes_what_the_caller_sent(model: str) -> None:
    asked = rank(MIXED, model)
    results = answered(asked, paid(asked, scores((1, 0.9), (0, 0.1))))["results"]
    assert [row["document"] for row in results] == [{"text": "b"}, "a"]


@pytest.mark.parametrize("model", ["jina-reranker-v3", "jina-reranker-v3.5"])
def test_a_listwise_reranker_echoes_objects(model: str) -> None:
    asked = rank(MIXED, model)
    results = answered(asked, paid(asked, scores((1, 0.9), (0, 0.1))))["results"]
    assert [row["document"] for row in results] == [{"text": "b"}, {"text": "a"}]


def test_an_image_is_echoed_in_the_spelling_of_jinas_schema_whatever_the_callers_was() -> None:
    documents: list[Json] = [{"image": "QQ==", "text": None}, {"bytes": "QUE="}, "a"]
    asked = rank(documents, "jina-reranker-m0")
    results = answered(asked, paid(asked, scores((0, 0.9), (1, 0.8), (2, 0.1))))["results"]
    assert [row["document"] for row in results] == [{"image": "QQ=="}, {"image": "QUE="}, "a"]


def test_documents_that_are_not_wanted_are_left_out_and_not_null() -> None:
    asked = rank(DOCUMENTS, return_documents=False)
    results = answered(asked, paid(asked, scores(*((place, 0.5) for place in range(4)))))["results"]
    assert all(set(row) == {"index", "relevance_score"} for row in results)


def test_ties_of_pairs_keep_the_lower_index_first() -> None:
    asked = rank(DOCUMENTS)
    results = answered(asked, paid(asked, scores((3, 0.5), (2, 0.9), (1, 0.5), (0, 0.5))))["results"]
    assert [row["index"] for row in results] == [2, 0, 1, 3]


def test_a_full_ranking_keeps_jinas_own_order_and_ties() -> None:
    asked = rank(DOCUMENTS, LISTWISE)
    results = answered(asked, paid(asked, scores((3, 0.5), (1, 0.5), (2, 0.7), (0, -0.25))))["results"]
    assert [(row["index"], row["relevance_score"]) for row in results] == [(3, 0.5), (1, 0.5), (2, 0.7), (0, -0.25)]


@given(st.lists(st.floats(-30, 30, width=16), min_size=1, max_size=12), st.none() | st.integers(1, 14))
def test_every_top_n_is_cut_from_the_same_scores(values: list[float], top_n: int | None) -> None:
    documents = [f"document {place}" for place in range(len(values))]
    best = sorted(range(len(values)), key=lambda place: (-values[place], place))
    for model, order in ((V2_RERANKER, best), (LISTWISE, best[::-1])):
        entries = paid(rank(documents, model), scores(*((place, values[place]) for place in order)))
        results = answered(rank(documents, model, top_n=top_n), entries)["results"]
        shown = [(row["index"], row["relevance_score"], row["document"]) for row in results]
        echo = [document if model == V2_RERANKER else {"text": document} for document in documents]
        assert shown == [(place, values[place], echo[place]) for place in order[:top_n]]


def test_embeddings_of_a_full_ranking_stay_with_their_documents() -> None:
    asked = rank(["a", "b", "c"], LISTWISE, return_embeddings=True, top_n=2, return_documents=False)
    reply = scores((2, 0.9), (0, 0.5), (1, 0.1))
    for row in reply["results"]:
        row["embedding"] = [float(row["index"]), 0.25]
    results = answered(asked, paid(asked, reply))["results"]
    assert [(row["index"], row["embedding"]) for row in results] == [(2, [2.0, 0.25]), (0, [0.0, 0.25])]
    assert key(asked) != key(rank(["a", "b", "c"], LISTWISE))


def test_the_answer_has_jinas_fields_in_jinas_order_and_those_that_cohere_clients_read() -> None:
    asked = rank(["a"])
    entries = paid(asked, scores((0, 0.5), tokens=9))
    assert write(asked, entries, usage(entries), "id-1", Renderings(0)) == (
        b'{"model":"jina-reranker-v2-base-multilingual","object":"list","usage":{"total_tokens":9},'
        b'"results":[{"index":0,"relevance_score":0.5,"document":"a"}],"id":"id-1",'
        b'"meta":{"billed_units":{"total_tokens":9},"tokens":{"input_tokens":9}}}'
    )


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"query": None}, "query", "missing_field"),
        ({"query": 7}, "query", "wrong_type"),
        ({"query": {}}, "query", "wrong_type"),
        ({"query": {"text": [SECRET]}}, "query.text", "wrong_type"),
        ({"documents": None}, "documents", "missing_field"),
        ({"documents": []}, "documents", "empty_list"),
        ({"documents": SECRET}, "documents", "wrong_type"),
        ({"documents": {"text": SECRET}}, "documents", "wrong_type"),
        ({"documents": [SECRET, 7]}, "documents[1]", "wrong_type"),
        ({"documents": [SECRET, {"text": None, "image": 7}]}, "documents[1].image", "wrong_type"),
        ({"documents": [SECRET] * 4}, "documents", "too_many_items"),
        ({"top_n": 0}, "top_n", "out_of_range"),
        ({"top_n": -3}, "top_n", "out_of_range"),
        ({"top_n": SECRET}, "top_n", "wrong_type"),
        ({"top_n": True}, "top_n", "wrong_type"),
        ({"top_n": 1.0}, "top_n", "wrong_type"),
        ({"top_k": 0}, "top_k", "out_of_range"),
        ({"return_documents": SECRET}, "return_documents", "wrong_type"),
        ({"return_documents": 1}, "return_documents", "wrong_type"),
        ({"truncate": SECRET}, "truncation", "wrong_type"),
        ({"max_tokens_per_doc": SECRET, "model": LISTWISE}, "max_doc_length", "wrong_type"),
        ({"documents": [{"text": "a", "id": 1}], "top_n": SECRET}, "top_n", "wrong_type"),
        ({"documents": [{"text": "a", "id": 1}], "return_documents": 1}, "return_documents", "wrong_type"),
    ],
)
def test_a_complaint_names_the_field_and_echoes_no_value(fields: dict[str, Json], param: str, code: str) -> None:
    body: dict[str, Json] = {"model": V2_RERANKER, "query": "q", "documents": ["d"], **fields}
    with pytest.raises(RequestError) as error:
        ask(body, policy=Policy(max_items=3))
    assert (error.value.param, error.value.code) == (param, code)
    assert f"`{param.split('[')[0].split('.')[0]}" in error.value.message
    assert SECRET not in error.value.message


def test_the_operators_defaults_count_where_the_caller_says_nothing_in_any_spelling() -> None:
    def told(**fields: Json) -> int | None:
        body = {"model": V2_RERANKER, "query": "q", "documents": DOCUMENTS, **fields}
        return ask(body, defaults={"top_n": 3}).view.top_n

    assert (told(), told(top_n=None), told(top_n=2), told(top_k=1)) == (3, 3, 2, 1)
