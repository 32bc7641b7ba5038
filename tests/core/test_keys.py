"""Keys: two requests share one exactly if they must get the same answer."""

import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cache_proxy.core.keys import DEPTH_LIMIT, encode
from cache_proxy.errors import RequestError
from cache_proxy.models import Json, Policy
from tests.core.asking import JINA, V2_RERANKER, ask, embed, key, rank

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
)


def read_back(data: bytes, at: int = 0) -> tuple[Any, int]:
    """The value whose encoding starts at ``at``, with its exact types, and where it ends."""
    tag, at = data[at : at + 1], at + 1
    if tag in b"ntf":
        return (tag.decode(), None), at
    if tag == b"d":
        return ("d", data[at : at + 8]), at + 8
    colon = data.index(b":", at)
    count, at = int(data[at:colon]), colon + 1
    if tag in (b"i", b"s", b"b"):
        return (tag.decode(), data[at : at + count]), at + count
    members = []
    for _ in range(count * 2 if tag == b"m" else count):
        member, at = read_back(data, at)
        members.append(member)
    return (tag.decode(), members), at


def exact(value: Json) -> Any:
    """The value with its exact types, in the form that ``read_back`` gives."""
    if isinstance(value, dict):
        return ("m", [part for name in sorted(value) for part in (exact(name), exact(value[name]))])
    if isinstance(value, list):
        return ("l", [exact(member) for member in value])
    if value is None or isinstance(value, bool):
        return ("n" if value is None else "t" if value else "f", None)
    if isinstance(value, float):
        return ("d", struct.pack(">d", value))
    if isinstance(value, int):
        return ("i", str(value).encode())
    return ("s", value.encode()) if isinstance(value, str) else ("b", value)


@given(VALUES)
@example({"a": [1, 1.0, True, "1", None, -0.0, 0.0], "": {}, "b": [[], {}, ""]})
def test_the_encoding_can_be_read_back_so_no_two_values_are_encoded_alike(value: Json) -> None:
    data = encode(value)
    assert read_back(data) == (exact(value), len(data))


@given(st.dictionaries(st.text(max_size=5), VALUES, min_size=2, max_size=5))
def test_the_order_of_json_keys_is_irrelevant(value: dict[str, Json]) -> None:
    assert encode(dict(reversed(value.items()))) == encode(value)


def test_json_nested_beyond_the_limit_is_refused_and_not_recursed_into() -> None:
    nested: Json = "x"
    for _ in range(DEPTH_LIMIT):
        nested = [nested]
    encode(nested)
    with pytest.raises(RequestError, match="nested deeper"):
        encode([nested])


def distinct(*keys: bytes) -> bool:
    return len(set(keys)) == len(keys)


TEXTS = [
    "x",
    "X",
    " x",
    "x ",
    "x\n",
    "x\r\n",
    "x\t",
    "x\x00",
    "\x00x",
    "x\u200b",
    "\ufeffx",
    "",
    " ",
    "é",
    "e\u0301",
    "ﬁ",
    "fi",
    "\u00c5",
    "\u212b",
    "straße",
    "strasse",
    "x" * 10_000,
    "x" * 10_001,
    "1",
    "null",
    '{"text":"x"}',
    '["x"]',
]


def test_texts_that_differ_in_any_byte_have_keys_of_their_own() -> None:
    assert distinct(*embed(TEXTS).seats)
    assert distinct(*rank(TEXTS).seats)
    assert distinct(*(key(rank(["d"], query=text)) for text in TEXTS))


@given(st.text(), st.text())
def test_two_texts_share_a_key_exactly_if_they_are_the_same(one: str, other: str) -> None:
    assert (key(embed(one)) == key(embed(other))) == (one == other)


@given(st.lists(st.text(max_size=3), min_size=1, max_size=6))
def test_a_text_has_one_key_wherever_in_a_request_it_stands(texts: list[str]) -> None:
    assert embed(texts).seats == tuple(key(embed(text)) for text in texts)
    assert rank(texts).seats == tuple(key(rank([text])) for text in texts)


@given(st.text())
@example("https://example.org/a.png")
def test_one_text_is_one_text_in_every_spelling(text: str) -> None:
    for model in ("jina-embeddings-v3", "jina-embeddings-v4", "bge-m3"):
        spellings: list[Json] = [text, [text], {"text": text}, [{"text": text}]]
        assert len({embed(spelling, model).seats for spelling in spellings}) == 1
    for model in (V2_RERANKER, "jina-reranker-v3"):
        assert rank([text], model, text).seats == rank([{"text": text}], model, {"text": text}).seats


def test_null_fields_of_an_object_say_nothing_to_a_known_model() -> None:
    assert embed({"text": "x", "image": None}, "jina-embeddings-v4").seats == embed("x", "jina-embeddings-v4").seats
    assert (
        embed({"image": "QQ==", "text": None}, "jina-clip-v2").seats == embed({"bytes": "QQ=="}, "jina-clip-v2").seats
    )


def test_kinds_never_share_a_key_though_their_bytes_be_the_same() -> None:
    given: list[Json] = [{kind: "QQ=="} for kind in ("text", "image", "audio", "video")]
    assert distinct(*embed(given, "jina-embeddings-v5-omni-small").seats)
    pdf = embed({"pdf": "QQ=="}, "jina-embeddings-v4")
    assert key(pdf) not in embed([{"image": "QQ=="}, {"text": "QQ=="}], "jina-embeddings-v4").seats


VALUES_ALMOST_ALIKE: list[Json] = [1, 1.0, True, "1", [1], {"1": 1}, "true", 0, -0.0, 0.0, False, None, "", [], {}]


def test_the_type_of_a_parameters_value_is_in_the_key() -> None:
    assert distinct(*(key(embed(my_param=value)) for value in VALUES_ALMOST_ALIKE), key(embed()))
    assert distinct(*(key(rank(["d"], my_param=value)) for value in VALUES_ALMOST_ALIKE))
    assert distinct(*(key(rank(["d"], "some-reranker", my_param=value)) for value in VALUES_ALMOST_ALIKE))


def test_a_parameters_name_and_value_never_run_together() -> None:
    assert distinct(
        key(embed(a="bc")), key(embed(ab="c")), key(embed(a="b", c="")), key(embed(a={"b": "c"})), key(embed(abc=""))
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"embedding_type": "base64"},
        {"embedding_type": "binary"},
        {"encoding_format": "float"},
        {"encoding_type": "ubinary"},
        {"embedding_types": "float"},
        {"embedding_type": None},
        {"user": "u"},
        {"metadata": {"tags": ["a"]}},
        {"litellm_metadata": {"a": 1}},
        {"cache": {"no-cache": True, "ttl": 5, "s-maxage": 1}},
        {"cache": {"namespace": ""}},
        {"cache": None},
    ],
)
def test_what_changes_no_answer_is_in_no_key(fields: dict[str, Json]) -> None:
    assert embed(**fields).seats == embed().seats
    assert embed(late_chunking=True, **fields).seats == embed(late_chunking=True).seats


@pytest.mark.parametrize(
    ("alias", "canonical", "value"),
    [
        ("task_type", "task", "text-matching"),
        ("output_dimensionality", "dimensions", 64),
        ("output_dimension", "dimensions", 64),
        ("truncation", "truncate", True),
    ],
)
def test_an_alias_of_an_embedding_field_shares_its_key(alias: str, canonical: str, value: Json) -> None:
    assert embed(**{alias: value}).seats == embed(**{canonical: value}).seats != embed().seats
    assert embed(**{alias: value, canonical: None}).seats == embed(**{canonical: value}).seats


def test_an_alias_of_the_input_shares_its_key() -> None:
    for name in ("input", "content", "texts"):
        assert ask({"model": "jina-embeddings-v3", name: ["x"]}).seats == embed().seats


def test_an_alias_of_a_rerank_field_shares_its_key() -> None:
    for model in (V2_RERANKER, "jina-reranker-v3"):
        assert rank(["d"], model, truncate=True).seats == rank(["d"], model, truncation=True).seats
    longest = rank(["d"], "jina-reranker-v3", max_doc_length=9)
    assert rank(["d"], "jina-reranker-v3", max_tokens_per_doc=9).seats == longest.seats
    assert longest.seats != rank(["d"], "jina-reranker-v3").seats


def test_a_model_has_the_same_keys_under_every_name_it_answers_to() -> None:
    assert embed(model="jina_ai/jina-embeddings-v3").seats == embed().seats
    assert embed(model="jina-embeddings-v4").seats != embed().seats


def test_an_endpoint_is_in_the_key() -> None:
    colbert = "jina-colbert-v2"
    assert key(rank(["x"], colbert)) != key(embed("x", colbert))


def test_the_upstreams_identity_is_in_the_key() -> None:
    body = {"model": "jina-embeddings-v3", "input": "x"}
    assert distinct(*(key(ask(body, identity=identity)) for identity in (JINA, "http://gpu:7997", JINA + "/", "")))


@given(*[st.text(max_size=3)] * 4)
@example("ab", "", "a", "b")
@example("", "ab", "ab", "")
@example("a/", "b", "a", "/b")
@example("4:", "", "", "4:")
def test_namespaces_are_nested_and_never_run_together(one: str, two: str, three: str, four: str) -> None:
    def inside(outer: str, inner: str, **more: Json) -> bytes:
        body = {"model": "jina-embeddings-v3", "input": "x", "cache": {"namespace": inner}, **more}
        return key(ask(body, policy=Policy(namespace=outer)))

    assert (inside(one, two) == inside(three, four)) == ((one, two) == (three, four))
    assert (inside(one, two, task="a") == inside(three, four, task="a")) == ((one, two) == (three, four))


def test_identity_and_namespace_never_run_together() -> None:
    body = {"model": "jina-embeddings-v3", "input": "x"}
    assert key(ask(body, identity="http://a", policy=Policy(namespace="b"))) != key(ask(body, identity="http://ab"))


def test_the_items_of_a_request_kept_whole_are_keyed_in_their_order() -> None:
    def whole(given: Json) -> bytes:
        return key(embed(given, late_chunking=True))

    assert distinct(*map(whole, (["a", "b"], ["b", "a"], ["ab"], ["a", "b", ""], ["a", "b", "b"], ["", "ab"], ["a b"])))
    assert key(rank(["a", "b"], "jina-reranker-v3")) != key(rank(["b", "a"], "jina-reranker-v3"))


def test_a_request_kept_whole_never_answers_for_an_item() -> None:
    assert key(embed("x", late_chunking=True)) != key(embed("x"))
    own = {"model": "bge-m3", "input": "x"}
    assert key(ask(own, own_server=True)) != key(ask(own, own_server=False))


def test_the_query_is_in_the_key_of_each_pair_with_its_kind() -> None:
    given = [
        rank(["d"], "jina-reranker-m0", "q"),
        rank(["d"], "jina-reranker-m0", {"image": "q"}),
        rank(["q"], "jina-reranker-m0", "d"),
        rank(["qd"], "jina-reranker-m0", ""),
        rank([""], "jina-reranker-m0", "qd"),
    ]
    assert distinct(*map(key, given))
