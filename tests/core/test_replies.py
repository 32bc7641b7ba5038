"""Replies of the upstream: a full, finite, well-numbered 200 is read, anything else is nonsense and never stored."""

from contextlib import suppress
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.core.asked import WIRES, Asked
from cache_proxy.core.spend import estimate
from cache_proxy.errors import UpstreamNonsense
from cache_proxy.models import Group, Json, Numbers, Reply, Text
from tests.core.asking import embed, floats, paid, rank, scores

TWO = ["a", "b"]
LISTWISE = "jina-reranker-v3"
GOOD = floats([0.5, 1.0], [0.25, 2.0])


def read(asked: Asked, reply: Json | bytes) -> Reply:
    raw = reply if isinstance(reply, bytes) else orjson.dumps(reply)
    found: Reply = WIRES[asked.ask.endpoint].read_reply(raw, asked.ask, asked.ask.items)
    return found


def rows(*vectors: Any, indexes: list[Any] | None = None, field: str = "embedding") -> dict[str, Json]:
    data = [
        {"index": place, field: vector} for place, vector in zip(indexes or range(len(vectors)), vectors, strict=True)
    ]
    return {"usage": {"total_tokens": 4}, "data": data}


def refused(asked: Asked, reply: Json | bytes) -> None:
    with pytest.raises(UpstreamNonsense) as error:
        read(asked, reply)
    assert error.value.outcome_unknown, "the upstream most likely billed it"


NO_ANSWER: list[Any] = [
    b"",
    b"<html><body>504</body></html>",
    b"  <!doctype html>",
    orjson.dumps(GOOD)[:-1],
    orjson.dumps(GOOD) + b"x",
    b'{"data":[{"index":0,"embedding":[NaN,1.0]},{"index":1,"embedding":[1.0,1.0]}]}',
    b'{"data":[{"index":0,"embedding":[1e999,1.0]},{"index":1,"embedding":[1.0,1.0]}]}',
    [GOOD],
    None,
    "text",
    {},
    {"data": None},
    {"data": {}},
    {"data": []},
    {"data": "x"},
    {"data": [None, None]},
    {"data": [[0.5], [0.5]]},
    {"detail": "sorry"},
]


@pytest.mark.parametrize("reply", NO_ANSWER)
@pytest.mark.parametrize("fields", [{}, {"late_chunking": True}, {"embedding_type": ["float"]}])
def test_what_is_no_answer_at_all_is_nonsense(reply: Any, fields: dict[str, Json]) -> None:
    refused(embed(TWO, **fields), reply)
    refused(rank(TWO), reply)
    refused(rank(TWO, LISTWISE), reply)
    refused(rank(TWO, "some-reranker"), reply)


@pytest.mark.parametrize(
    "reply",
    [
        floats([0.5]),
        floats([0.5], [0.5], [0.5]),
        rows([0.5], [0.5], indexes=[0, 0]),
        rows([0.5], [0.5], indexes=[1, 2]),
        rows([0.5], [0.5], indexes=[0, 2]),
        rows([0.5], [0.5], indexes=[-1, 0]),
        rows([0.5], [0.5], indexes=[0, "1"]),
        rows([0.5], [0.5], indexes=[0, 1.0]),
        rows([0.5], [0.5], indexes=[False, True]),
        rows([0.5], [0.5], indexes=[0, None]),
        {"data": [{"embedding": [0.5]}, {"embedding": [0.5]}]},
        rows([0.5], []),
        rows([0.5], None),
        rows([0.5], [None]),
        rows([0.5], ["NaN"]),
        rows([0.5], [True]),
        rows([0.5], "AAAAPw=="),
        rows([0.5], 0.5),
        rows([0.5, 0.5], [0.5]),
        rows([[0.5], [0.5, 0.5]], [[0.5]]),
        rows([[0.5, 0.5]], [[0.5]], field="embeddings"),
        rows([0.5], {}),
        rows({"cat": 0.5}, {"cat": None}),
        rows({"cat": 0.5}, {"cat": "0.5"}),
        rows([0.5], [0.5], field="vector"),
    ],
)
@pytest.mark.parametrize("fields", [{}, {"late_chunking": True}, {"my_param": 1}])
def test_embeddings_that_are_not_what_was_asked_for_are_nonsense(reply: Any, fields: dict[str, Json]) -> None:
    refused(embed(TWO, **fields), reply)


def test_a_reply_in_any_order_is_read_by_its_numbers() -> None:
    shuffled = {**GOOD, "data": GOOD["data"][::-1]}
    for asked in (embed(TWO), embed(TWO, late_chunking=True)):
        values = read(asked, shuffled).values
        members = values[0].members if isinstance(values[0], Group) else values
        assert [member.array.tolist() for member in members if isinstance(member, Numbers)] == [[0.5, 1.0], [0.25, 2.0]]


def test_a_pdf_may_give_several_embeddings_but_not_none_nor_misnumbered_ones() -> None:
    pages = floats([0.5], [0.25], [0.125])
    for pdf in ({"pdf": "QQ=="}, [{"pdf": "QQ=="}]):
        (value,) = read(embed(pdf, "jina-embeddings-v4"), pages).values
        assert isinstance(value, Group)
        assert len(value.members) == 3
        refused(embed(pdf, "jina-embeddings-v4"), rows([0.5], [0.5], indexes=[0, 2]))
        refused(embed(pdf, "jina-embeddings-v4"), rows([0.5], [0.5, 0.5]))


def test_fewer_embeddings_than_items_are_nonsense_beside_a_pdf_too() -> None:
    asked = embed(["a", {"pdf": "QQ=="}, "b"], "jina-embeddings-v4")
    refused(asked, floats([0.5], [0.5]))
    assert len(read(asked, floats([0.5], [0.5], [0.5])).values) == 1


def test_vectors_per_token_may_differ_in_length_and_keep_their_tokens() -> None:
    reply = rows([[0.5, 1.0]], [[0.5, 1.0], [2.0, 3.0]], field="embeddings")
    reply["data"][1]["tokenized_input"] = ["a", "b"]
    one, two = read(embed(TWO, "jina-embeddings-v4", return_multivector=True), reply).values
    assert isinstance(one, Numbers)
    assert isinstance(two, Numbers)
    assert (one.array.shape, one.tokenized) == ((1, 2), None)
    assert (two.array.shape, two.tokenized) == ((2, 2), b'["a","b"]')


def test_sparse_embeddings_are_kept_as_json() -> None:
    values = read(embed(TWO, "elser-v2"), rows({"cat": 1.5, "sat": 2}, {"dog": 0.25})).values
    assert values == (Text(b'{"cat":1.5,"sat":2}'), Text(b'{"dog":0.25}'))


@pytest.mark.parametrize(
    "reply",
    [
        scores((0, 0.5)),
        scores((0, 0.5), (1, 0.5), (2, 0.5)),
        scores((0, 0.5), (0, 0.4)),
        scores((1, 0.5), (2, 0.4)),
        scores((-1, 0.5), (0, 0.4)),
        {"results": [{"index": 0, "relevance_score": 0.5}, {"index": 1}]},
        {"results": [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": None}]},
        {"results": [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": "0.5"}]},
        {"results": [{"index": 0, "relevance_score": 0.5}, {"index": 1, "relevance_score": True}]},
        {"results": [{"index": 0, "relevance_score": 0.5}, {"relevance_score": 0.4}]},
        {"results": [{"index": 0, "relevance_score": 0.5}, {"index": "1", "relevance_score": 0.4}]},
        b'{"results":[{"index":0,"relevance_score":NaN},{"index":1,"relevance_score":0.1}]}',
        b'{"results":[{"index":0,"relevance_score":1e999},{"index":1,"relevance_score":0.1}]}',
    ],
)
@pytest.mark.parametrize("model", ["jina-reranker-v2-base-multilingual", LISTWISE, "some-reranker"])
def test_rankings_that_are_not_what_was_asked_for_are_nonsense(reply: Any, model: str) -> None:
    refused(rank(TWO, model), reply)


@pytest.mark.parametrize("embedding", [None, [], [0.5], [None, None], "AAAA", [True, True]])
def test_an_embedding_in_a_ranking_that_is_not_like_the_others_is_nonsense(embedding: Any) -> None:
    reply = scores((0, 0.5), (1, 0.4))
    reply["results"][0]["embedding"] = [0.5, 0.5]
    reply["results"][1]["embedding"] = embedding
    refused(rank(TWO, LISTWISE, return_embeddings=True), reply)


def test_a_ranking_as_sent_may_be_cut_to_the_top_n_that_was_asked_for() -> None:
    def unknown(**fields: Json) -> Asked:
        return rank(["a", "b", "c"], "some-reranker", **fields)

    cut = scores((2, 0.9), (0, 0.5))
    read(unknown(top_n=2), cut)
    read(unknown(top_k=2), cut)
    read(unknown(top_n=2), scores((2, 0.9), (0, 0.5), (1, 0.1)))
    read(unknown(top_n=9), scores((2, 0.9), (0, 0.5), (1, 0.1)))
    for asked in (unknown(), unknown(top_n=1), unknown(top_n=3), unknown(top_n="2"), unknown(top_n=0)):
        refused(asked, cut)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 9, "prompt_tokens": 3}, 9),
        ({"prompt_tokens": 3}, 3),
        ({"total_tokens": None, "input_tokens": 4}, 4),
        ({"total_tokens": 0}, 0),
    ],
)
def test_the_tokens_are_what_the_upstream_says(usage: Json, tokens: int) -> None:
    reply = read(embed(TWO), {**GOOD, "usage": usage})
    assert (reply.tokens, reply.counted) == (tokens, True)


@pytest.mark.parametrize(
    "usage", [None, {}, [], "9", {"total_tokens": -1}, {"total_tokens": "9"}, {"total_tokens": True}]
)
def test_tokens_that_the_upstream_does_not_say_are_estimated_and_marked_so(usage: Json) -> None:
    reply = read(embed(TWO), {**GOOD, "usage": usage})
    assert (reply.tokens, reply.counted) == (sum(map(estimate, embed(TWO).ask.items)), False)
    assert all(entry.estimated for entry in paid(embed("a"), {**floats([0.5]), "usage": usage}))
    pairs = rank(TWO)
    query = pairs.ask.query
    assert query is not None
    without = {**scores((0, 0.5), (1, 0.4)), "usage": usage}
    assert read(pairs, without).tokens == sum(map(estimate, (*pairs.ask.items, query)))


@pytest.mark.parametrize(("name", "kept"), [("jina-embeddings-v3", ""), ("v3-of-today", "v3-of-today"), (7, "")])
def test_the_name_that_the_upstream_answers_with_is_kept_where_it_is_another(name: Json, kept: str) -> None:
    assert read(embed(TWO), {**GOOD, "model": name}).model == kept


@given(
    st.binary(max_size=60)
    | st.recursive(
        st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["data", "results", "index", "embedding", "embeddings", "relevance_score", "usage"]),
                inner,
            )
        ),
    ).map(orjson.dumps)
)
def test_no_reply_whatever_raises_anything_but_nonsense(raw: bytes) -> None:
    for asked in (
        embed(TWO),
        embed({"pdf": "x"}, "jina-embeddings-v4"),
        rank(TWO),
        rank(TWO, LISTWISE),
        rank(TWO, "?"),
    ):
        with suppress(UpstreamNonsense):
            read(asked, raw)


@pytest.mark.parametrize("score", [[0.5], [0.5, 0.1], True, "0.5", None, {}])
@pytest.mark.parametrize("model", ["jina-reranker-v2-base-multilingual", LISTWISE])
def test_a_score_that_is_no_number_is_nonsense(score: Json, model: str) -> None:
    refused(rank(["a"], model), {"results": [{"index": 0, "relevance_score": score}], "usage": {"total_tokens": 3}})


@pytest.mark.parametrize(
    ("model", "fields", "wrong", "right"),
    [
        ("jina-embeddings-v3", {}, [1.0] * 1023, [1.0] * 1024),
        ("jina-embeddings-v3", {"dimensions": 8}, [1.0] * 1024, [1.0] * 8),
        ("jina-embeddings-v3", {}, [[1.0] * 1024], [1.0] * 1024),
        ("jina-embeddings-v5-text-nano", {"dimensions": 1024}, [1.0] * 512, [1.0] * 768),
        ("jina-colbert-v2", {}, [1.0] * 128, [[1.0] * 128]),
        ("jina-colbert-v2", {"dimensions": 64}, [[1.0] * 128], [[1.0] * 64]),
        ("jina-embeddings-v4", {"return_multivector": True}, [1.0] * 2048, [[1.0] * 128]),
    ],
)
def test_a_vector_that_this_model_can_not_have_made_is_nonsense(
    model: str, fields: dict[str, Json], wrong: Json, right: Json
) -> None:
    asked = embed("a", model, **fields)
    wire = WIRES[asked.ask.endpoint]
    wire.check(read(asked, rows(right)), asked.ask, asked.target.spec)
    with pytest.raises(UpstreamNonsense):
        wire.check(read(asked, rows(wrong)), asked.ask, asked.target.spec)


def test_a_model_that_nobody_knows_may_answer_in_any_width() -> None:
    asked = embed("a", "bge-m3")
    WIRES[asked.ask.endpoint].check(read(asked, rows([1.0] * 7)), asked.ask, asked.target.spec)
