"""How far a request may be taken apart: per item only where that was shown to be right."""

from dataclasses import replace

import pytest

from cache_proxy.core.asked import Asked, is_remote
from cache_proxy.core.catalog import MODELS, Model, Ranking, look_up
from cache_proxy.core.plan import items_of
from cache_proxy.errors import RequestError
from cache_proxy.models import Json, Kind, Shape
from tests.core.asking import V2_RERANKER, ask, embed, key, rank, sent

EACH, WHOLE, VERBATIM = Shape.EACH, Shape.WHOLE, Shape.VERBATIM
V3, V4, OMNI = "jina-embeddings-v3", "jina-embeddings-v4", "jina-embeddings-v5-omni-small"
TWO = ["a", "b"]
POINTWISE = [name for name, model in MODELS.items() if model.ranking is Ranking.PAIRS]
LISTWISE = ["jina-reranker-v3", "jina-reranker-v3.5"]


@pytest.mark.parametrize("model", [name for name, model in MODELS.items() if model.embedding])
def test_the_texts_of_every_known_embedding_model_have_a_value_each(model: str) -> None:
    asked = embed(["a", "b", "a"], model)
    assert asked.ask.shape is EACH
    assert len(asked.seats) == 3
    assert asked.seats[0] == asked.seats[2] != asked.seats[1]
    assert [item.wire for items in items_of(asked.ask, asked.seats).values() for item in items] == ["a", "b"]


@pytest.mark.parametrize(
    ("given", "model", "fields", "shape"),
    [
        (TWO, V3, {"late_chunking": True}, WHOLE),
        ("a", V3, {"late_chunking": True}, WHOLE),
        (TWO, V4, {"late_chunking": True}, WHOLE),
        (TWO, "jina-embeddings-v5-text-small", {"late_chunking": True}, WHOLE),
        (TWO, "jina-embeddings-v5-text-small", {"late_chunking": False}, EACH),
        (TWO, "jina-embeddings-v5-text-small", {"late_chunking": "yes"}, WHOLE),
        (TWO, V3, {"late_chunking": False}, EACH),
        (TWO, V3, {"late_chunking": None}, EACH),
        ({"pdf": "QQ=="}, V4, {}, WHOLE),
        ([{"pdf": "QQ=="}], V4, {}, WHOLE),
        (["a", {"pdf": "https://example.org/a.pdf"}], V4, {}, WHOLE),
        (TWO, V3, {"embedding_type": ["float"]}, VERBATIM),
        (TWO, V3, {"embedding_type": []}, VERBATIM),
        (TWO, V3, {"encoding_format": ["float", "base64"]}, VERBATIM),
        (TWO, V3, {"embedding_type": "int8"}, VERBATIM),
        (TWO, "elser-v2", {"embedding_type": "float"}, VERBATIM),
        (TWO, "elser-v2", {}, EACH),
        (TWO, V3, {"my_param": 1}, WHOLE),
        (TWO, V3, {"my_param": None}, WHOLE),
        (TWO, V3, {"task": "no such task"}, EACH),
        (TWO, V3, {"input_type": "query"}, EACH),
        (TWO, V4, {"return_multivector": True, "return_tokenized_input": True}, EACH),
        ([{"image": "QQ=="}, "a"], V4, {}, EACH),
        ([{"content": [{"text": "a"}, {"image": "QQ=="}]}, "a"], OMNI, {}, EACH),
        ([{"audio": "QQ=="}, {"video": "QQ=="}], OMNI, {}, EACH),
        ({"thing": 1}, V4, {}, WHOLE),
        ([{"text": "a", "title": "t"}, "b"], V3, {}, WHOLE),
        ([{"url": "https://example.org/a"}], V3, {}, WHOLE),
        ([{"url": "https://example.org/a"}], V4, {}, EACH),
    ],
)
def test_an_embeddings_request_is_taken_apart_only_as_far_as_it_may(
    given: Json, model: str, fields: dict[str, Json], shape: Shape
) -> None:
    asked = embed(given, model, **fields)
    assert asked.ask.shape is shape
    assert len(asked.seats) == (len(asked.ask.items) if shape is EACH else 1)


def test_a_request_kept_whole_goes_upstream_in_order_with_its_repeats() -> None:
    asked = embed(["b", "a", "b"], late_chunking=True)
    assert [item.wire for item in items_of(asked.ask, asked.seats)[key(asked)]] == ["b", "a", "b"]
    assert sent(asked) == {"model": V3, "input": ["b", "a", "b"], "late_chunking": True}


def test_a_single_object_goes_upstream_as_it_came_and_apart_from_a_list_of_one() -> None:
    alone, listed = embed({"pdf": "QQ=="}, V4), embed([{"pdf": "QQ=="}], V4)
    assert (sent(alone)["input"], sent(listed)["input"]) == ({"pdf": "QQ=="}, [{"pdf": "QQ=="}])
    assert key(alone) != key(listed)


def own(given: Json, model: str = "bge-m3", **fields: Json) -> Asked:
    return ask({"model": model, "input": given, **fields}, own_server=True, identity="http://gpu:7997")


def test_an_embedding_model_that_nobody_knows_is_whole_on_jinas_host_and_per_item_elsewhere() -> None:
    assert embed(TWO, "jina-embeddings-v9").ask.shape is WHOLE
    assert own(TWO).ask.shape is EACH
    assert own(TWO, my_param=1).ask.shape is WHOLE
    assert own(TWO, late_chunking=True).ask.shape is WHOLE
    assert own(TWO, late_chunking=False).ask.shape is EACH


def test_a_known_model_on_another_server_is_still_known() -> None:
    assert own(TWO, V3).ask.shape is EACH


def test_token_ids_are_items_of_their_own_kind_and_go_upstream_as_they_came() -> None:
    asked = own([[1, 2], [12], [1, 2]])
    assert [item.kind for item in asked.ask.items] == [Kind.TOKENS] * 3
    assert asked.seats[0] == asked.seats[2] != asked.seats[1]
    assert sent(asked)["input"] == [[1, 2], [12], [1, 2]]
    assert own([1, 2]).seats == own([[1, 2]]).seats
    different: list[Json] = [[1, 2], [12], "[1,2]", ["[1, 2]"], [2, 1]]
    assert len({key(own(given)) for given in different}) == len(different)


def fused(*parts: Json) -> Asked:
    return embed([{"content": list(parts)}], OMNI)


def test_fused_parts_make_one_item_keyed_by_all_of_them_in_order() -> None:
    one, two = {"text": "a"}, {"image": "QQ=="}
    assert [item.kind for item in fused(one, two).ask.items] == [Kind.FUSED]
    assert sent(fused(one, two))["input"] == [{"content": [one, two]}]
    keys = {key(fused(*parts)) for parts in ((one, two), (two, one), (one,), (two,), (one, one), ("a", two))}
    assert len(keys) == 6


def harmless(model: str, *names: str) -> Model:
    return replace(look_up(model, own_server=False), harmless=frozenset(names))


def test_a_field_declared_harmless_leaves_the_items_apart_but_stays_in_the_key() -> None:
    def told(**fields: Json) -> Asked:
        return ask({"model": V3, "input": TWO, **fields}, spec=harmless(V3, "my_param", "late_chunking"))

    assert told(my_param=1).ask.shape is EACH
    assert len({told(my_param=1).seats, told(my_param=2).seats, told().seats}) == 3
    assert told(my_param=1, other=1).ask.shape is WHOLE
    assert told(late_chunking=True).ask.shape is WHOLE


@pytest.mark.parametrize("model", POINTWISE)
def test_a_pointwise_reranker_has_a_value_per_pair(model: str) -> None:
    asked = rank(["a", "b", {"text": "a"}], model)
    assert asked.ask.shape is EACH
    assert asked.seats[0] == asked.seats[2] != asked.seats[1]


@pytest.mark.parametrize("model", LISTWISE)
def test_a_listwise_reranker_is_kept_whole(model: str) -> None:
    asked = rank(["a", "b", "a"], model)
    assert asked.ask.shape is WHOLE
    assert sent(asked)["documents"] == ["a", "b", "a"]


def test_the_pointwise_rerankers_are_those_that_were_shown_to_be() -> None:
    assert set(POINTWISE) == {
        "jina-reranker-m0",
        V2_RERANKER,
        *(f"jina-reranker-v1-{size}-en" for size in ("turbo", "tiny", "base")),
        "jina-colbert-v1-en",
        "jina-colbert-v2",
    }


def test_a_field_that_nobody_knows_makes_a_full_ranking_of_pairs() -> None:
    assert rank(TWO, my_param=1).ask.shape is WHOLE
    told = ask(
        {"model": V2_RERANKER, "query": "q", "documents": TWO, "my_param": 1}, spec=harmless(V2_RERANKER, "my_param")
    )
    assert told.ask.shape is EACH
    assert told.seats != rank(TWO).seats


@pytest.mark.parametrize("fields", [{}, {"top_n": 1}, {"my_param": 1}, {"return_documents": False}])
def test_a_reranker_that_nobody_knows_is_kept_as_sent(fields: dict[str, Json]) -> None:
    asked = rank(TWO, "some-reranker", **fields)
    assert asked.ask.shape is VERBATIM
    assert sent(asked) == {"model": "some-reranker", "query": "q", "documents": TWO, **fields}
    assert (asked.view.top_n, asked.view.documents) == (None, None)
    if fields:
        assert key(asked) != key(rank(TWO, "some-reranker"))


@pytest.mark.parametrize(
    "document", [{"text": "a", "id": 7}, {"text": "a", "image": "QQ=="}, {"title": "a"}, {"pdf": "QQ=="}]
)
@pytest.mark.parametrize("model", [V2_RERANKER, "jina-reranker-m0", "jina-reranker-v3"])
def test_documents_with_fields_of_their_own_make_a_request_that_is_kept_as_the_upstreams_json(
    document: Json, model: str
) -> None:
    asked = rank(["x", document], model)
    assert asked.ask.shape is VERBATIM
    assert sent(asked)["documents"] == ["x", document]
    assert key(asked) != key(rank([document, "x"], model))


def test_what_the_operator_says_about_an_unknown_reranker_counts() -> None:
    def told(ranking: Ranking, **fields: Json) -> Asked:
        spec = replace(look_up("some-reranker", own_server=True), ranking=ranking)
        return ask({"model": "some-reranker", "query": "q", "documents": TWO, **fields}, spec=spec)

    assert told(Ranking.PAIRS).ask.shape is EACH
    assert told(Ranking.LIST).ask.shape is WHOLE
    assert told(Ranking.PAIRS, my_param=1).ask.shape is WHOLE
    # The dialect of a server that nobody knows is its own: no field is renamed or dropped on the way there.
    own_words: dict[str, Json] = {"truncate": True, "max_tokens_per_doc": 9, "priority": 1}
    assert {name: sent(told(Ranking.PAIRS, **own_words)).get(name) for name in own_words} == own_words


@pytest.mark.parametrize(
    ("given", "remote"),
    [
        ("https://example.org/a", False),
        ({"text": "https://example.org/a"}, False),
        ({"image": "https://example.org/a.png"}, True),
        ({"image": "QQ=="}, False),
        ({"image": "data:image/png;base64,QQ=="}, False),
        ({"url": "http://example.org/a.png"}, True),
        ({"bytes": "QQ=="}, False),
        ({"pdf": "s3://bucket/a.pdf"}, True),
        ({"content": [{"text": "https://example.org"}, {"image": "QQ=="}]}, False),
        ({"content": [{"text": "a"}, {"image": "https://example.org/a.png"}]}, True),
        ({"thing": {"deep": ["https://example.org/a"]}}, True),
    ],
)
def test_an_item_that_only_points_at_its_content_is_known_to(given: Json, remote: bool) -> None:
    asked = embed([given], OMNI)
    assert is_remote(asked, asked.ask.items) is remote


def test_a_query_that_points_at_its_content_makes_every_pair_remote() -> None:
    asked = rank(["d"], "jina-reranker-m0", {"image": "https://example.org/a.png"})
    assert is_remote(asked, asked.ask.items)
    assert not is_remote(rank(["d"], "jina-reranker-m0"), asked.ask.items)


def test_a_bare_data_uri_is_the_image_it_holds_for_a_model_that_takes_images_and_text_everywhere_else() -> None:
    uri = "data:image/png;base64,QQ=="
    assert embed(uri, V4).seats == embed([uri], V4).seats == embed({"image": "QQ=="}, V4).seats
    assert sent(embed(uri, V4))["input"] == [{"image": "QQ=="}]
    assert sent(embed({"text": uri}, V4))["input"] == [uri]
    assert rank([uri], "jina-reranker-m0", uri).ask.items[0].kind is Kind.TEXT
    for text, model in ((uri, V3), ("data:image/svg+xml,<svg/>", V4), ("data:image/png;base64", V4), (uri, "bge-m3")):
        (item,) = embed(text, model).ask.items
        assert (item.kind, item.content) == (Kind.TEXT, text.encode())


def test_a_model_is_not_asked_for_what_it_does_not_do() -> None:
    with pytest.raises(RequestError, match="Ask /rerank"):
        embed("x", "jina-reranker-m0")
    with pytest.raises(RequestError, match="Ask /embeddings"):
        rank(["x"], V3)
