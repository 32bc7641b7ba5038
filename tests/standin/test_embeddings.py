"""The stand-in's vectors: their envelope, their numbers, their bill, and everything they depend on."""

import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import numpy as np
import pytest

pytestmark = pytest.mark.anyio

Post = Callable[..., Awaitable[httpx.Response]]

V3 = "jina-embeddings-v3"
V4 = "jina-embeddings-v4"
OMNI = "jina-embeddings-v5-omni-nano"
COLBERT = "jina-colbert-v2"


async def vectors(embed: Post, **body: Any) -> list[Any]:
    response = await embed(**body)
    assert response.status_code == 200, response.text
    return [item.get("embedding", item.get("embeddings")) for item in response.json()["data"]]


async def test_the_envelope_has_the_keys_of_the_recorded_answers_in_their_order(embed: Post) -> None:
    answer = (await embed(model=V3, input=["Hello, world!", "there is no spoon"], dimensions=10)).json()
    assert list(answer) == ["model", "object", "usage", "data"]
    assert list(answer["usage"]) == ["total_tokens", "prompt_tokens"]
    assert [list(item) for item in answer["data"]] == [["object", "index", "embedding"]] * 2
    assert [(item["object"], item["index"]) for item in answer["data"]] == [("embedding", 0), ("embedding", 1)]
    assert answer["model"] == V3


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (V3, ["total_tokens", "prompt_tokens"]),
        ("jina-clip-v1", ["total_tokens", "prompt_tokens"]),
        (V4, ["total_tokens"]),
        (COLBERT, ["total_tokens"]),
        ("elser-v2", ["input_tokens", "output_tokens", "total_tokens"]),
    ],
)
async def test_each_family_reports_usage_in_its_own_words(embed: Post, model: str, names: list[str]) -> None:
    assert list((await embed(model=model, input="x")).json()["usage"]) == names


async def test_tokens_add_up_over_items(embed: Post) -> None:
    async def bill(given: Any) -> int:
        return int((await embed(model="jina-clip-v2", input=given)).json()["usage"]["total_tokens"])

    items: list[Any] = ["", "Hello, world!", {"text": "there is no spoon"}, {"image": "aGk="}]
    alone = [await bill([item]) for item in items]
    assert await bill(items) == sum(alone)
    assert min(alone) >= 2
    assert alone[-1] > 100


async def test_a_colbert_query_counts_thirty_two_whatever_its_text(embed: Post) -> None:
    answer = (await embed(model=COLBERT, input=["a", "b c", "", "d", "e"], input_type="query")).json()
    assert answer["usage"] == {"total_tokens": 160}
    assert {len(item["embeddings"]) for item in answer["data"]} == {32}
    assert answer["data"][0]["object"] == "embeddings"


async def test_the_same_request_gives_the_same_bytes(embed: Post) -> None:
    first = await embed(model=V3, input=["a", "b"])
    assert (await embed(model=V3, input=["a", "b"])).content == first.content


async def test_a_vector_does_not_depend_on_its_neighbours_or_on_how_the_text_is_wrapped(embed: Post) -> None:
    (alone,) = await vectors(embed, model=V3, input="a")
    assert await vectors(embed, model=V3, input=["b", "a"]) == [
        *await vectors(embed, model=V3, input=["b"]),
        alone,
    ]
    assert await vectors(embed, model=V3, input={"text": "a"}) == [alone]


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (V3, {"input": "b"}),
        (V3, {"input": " a"}),
        (V3, {"model": "jina-embeddings-v2-base-en"}),
        (V3, {"task": "text-matching"}),
        (V3, {"normalized": False}),
        (V3, {"dimensions": 1023}),
        (V3, {"late_chunking": True}),
        (V3, {"my_custom_param": "my_custom_value"}),
        (V4, {"task": "code.query"}),
        (V4, {"dimensions": 128}),
        (V4, {"return_multivector": True}),
        (V4, {"input": {"image": "a"}}),
        (V4, {"late_chunking": True}),
        ("jina-code-embeddings-0.5b", {"task": "qa.query"}),
        ("jina-embeddings-v5-text-nano", {"task": "clustering"}),
        ("jina-clip-v2", {"task": "retrieval.query"}),
        (COLBERT, {"input_type": "query"}),
        (COLBERT, {"dimensions": 64}),
        ("elser-v2", {"task": "retrieval.query"}),
    ],
)
async def test_vectors_depend_on_what_jinas_depend_on(embed: Post, model: str, change: dict[str, Any]) -> None:
    body: dict[str, Any] = {"model": model, "input": "a"}
    assert await vectors(embed, **body) != await vectors(embed, **{**body, **change})


@pytest.mark.parametrize(
    ("model", "same"),
    [
        (V3, {"normalized": True, "late_chunking": False, "truncate": False, "dimensions": 1024}),
        (V3, {"task": None, "dimensions": None, "embedding_type": None, "nobody_knows": None}),
        (V3, {"truncate": True}),
        (V3, {"user": "u", "priority": 1}),
        (V3, {"encoding_format": "float", "output_dimension": 1024}),
        (V3, {"input_type": "query", "return_multivector": True}),  # fields of other models
        (V4, {"task": "text-matching"}),
        ("jina-embeddings-v5-text-nano", {"task": "text-matching", "dimensions": 1024}),
        ("jina-code-embeddings-1.5b", {"task": "nl2code.query"}),
        ("jina-embeddings-v2-base-en", {"task": "retrieval.passage"}),
        ("jina-clip-v1", {"task": "anything"}),
        (COLBERT, {"input_type": "document", "dimensions": 128}),
    ],
)
async def test_defaults_nulls_and_ignored_fields_change_nothing(embed: Post, model: str, same: dict[str, Any]) -> None:
    body: dict[str, Any] = {"model": model, "input": "a"}
    assert await vectors(embed, **body) == await vectors(embed, **body, **same)


@pytest.mark.parametrize(
    ("name", "alias", "value"),
    [
        ("task", "task_type", "separation"),
        ("dimensions", "output_dimensionality", 12),
        ("truncate", "truncation", True),
        ("embedding_type", "encoding_type", "base64"),
        ("embedding_type", "encoding_format", "base64"),
        ("embedding_type", "embedding_types", "ubinary"),
    ],
)
async def test_an_alias_is_as_good_as_the_name(embed: Post, name: str, alias: str, value: Any) -> None:
    named = await embed(model=V3, input="a", **{name: value})
    assert named.content == (await embed(model=V3, texts=["a"], **{alias: value})).content


async def test_fewer_dimensions_are_the_first_numbers_made_length_one_again(embed: Post) -> None:
    (full,) = await vectors(embed, model=V3, input="a")
    (short,) = await vectors(embed, model=V3, input="a", dimensions=10)
    assert np.linalg.norm(full) == pytest.approx(1, abs=1e-6)
    assert np.array(short) == pytest.approx(np.array(full[:10]) / np.linalg.norm(full[:10]), abs=1e-6)
    (raw,) = await vectors(embed, model=V3, input="a", normalized=False)
    assert await vectors(embed, model=V3, input="a", normalized=False, dimensions=10) == [raw[:10]]
    assert np.linalg.norm(raw) > 2


async def test_late_chunking_ties_every_vector_to_all_texts_and_their_order(embed: Post) -> None:
    body = {"model": V3, "late_chunking": True}
    first, second = await vectors(embed, input=["a", "b"], **body)
    assert [second, first] != await vectors(embed, input=["b", "a"], **body)
    assert first != (await vectors(embed, input=["a", "c"], **body))[0]
    twin, other = await vectors(embed, input=["a", "a"], **body)
    assert twin != other


async def test_a_pdf_gives_several_vectors_and_only_alone(embed: Post) -> None:
    pages = await vectors(embed, model=V4, input={"pdf": "JVBERi0="}, dimensions=8)
    assert 2 <= len(pages) <= 5
    assert len({tuple(page) for page in pages}) == len(pages)
    assert (await embed(model=V4, input=[{"pdf": "JVBERi0="}])).status_code == 422
    assert (await embed(model=V3, input={"pdf": "JVBERi0="})).status_code == 422


async def test_fused_parts_give_one_vector_that_depends_on_their_order(embed: Post) -> None:
    parts = [{"text": "a"}, {"image": "aGk="}]
    forth = await vectors(embed, model=OMNI, input=[{"content": parts}])
    back = await vectors(embed, model=OMNI, input=[{"content": parts[::-1]}])
    assert len(forth) == len(back) == 1
    assert forth != back


@pytest.mark.parametrize("model", [V3, V4, "jina-code-embeddings-0.5b"])
async def test_base64_and_bits_are_the_float_answer_written_otherwise(embed: Post, model: str) -> None:
    async def written(encoding: str) -> Any:
        return (await vectors(embed, model=model, input="a", dimensions=64, embedding_type=encoding))[0]

    floats = await written("float")
    decoded = np.frombuffer(base64.b64decode(await written("base64")), dtype="<f4")
    assert decoded.tolist() == np.array(floats, dtype=np.float32).tolist()
    bits = np.packbits(np.array(floats) > 0)
    assert await written("ubinary") == bits.tolist()
    assert await written("binary") == (bits.astype(int) - 128).tolist()


async def test_bits_are_printed_as_json_floats(embed: Post) -> None:
    """Measured on the hosted API, 2026-07: ``50.0``."""
    text = (await embed(model=V3, input="a", dimensions=8, embedding_type="binary")).text
    (value,) = json.loads(text)["data"][0]["embedding"]
    assert f'"embedding":[{value:.1f}]' in text


def numbers_of(text: str) -> list[str]:
    """The numbers as they are written."""
    return [number for item in json.loads(text, parse_float=str)["data"] for number in item["embedding"]]


async def test_each_family_writes_its_numbers_in_its_recorded_form(embed: Post) -> None:
    texts = [f"text {number}" for number in range(8)]
    for number in numbers_of((await embed(model=V3, input=texts)).text):
        assert float(np.float32(number)) == pytest.approx(float(number), rel=1e-7)
        assert float(str(np.float32(number))) == float(number)
    for number in numbers_of((await embed(model=V4, input=texts)).text):
        assert number == repr(float(number))
        assert np.float32(number).view(np.uint32) & 0xFFFF == 0
        assert float(np.float32(number)) == float(number)
    for number in numbers_of((await embed(model="jina-code-embeddings-0.5b", input=texts)).text):
        assert number == repr(round(float(number), 8))


@pytest.mark.parametrize("model", [V4, "jina-embeddings-v5-text-small", "jina-code-embeddings-1.5b"])
async def test_small_numbers_have_pythons_exponents(embed: Post, model: str) -> None:
    numbers = numbers_of((await embed(model=model, input=["a", "b", "c"])).text)
    assert any("e-05" in number for number in numbers)


async def test_multivectors_have_a_row_a_token_and_can_tell_the_tokens(embed: Post) -> None:
    body = {"model": V4, "input": "there is no spoon", "return_multivector": True}
    (plain,) = (await embed(**body)).json()["data"]
    assert list(plain) == ["object", "index", "embeddings"]
    assert plain["object"] == "embeddings"
    (told,) = (await embed(**body, return_tokenized_input=True)).json()["data"]
    assert list(told) == ["object", "index", "embeddings", "tokenized_input"]
    assert told["embeddings"] == plain["embeddings"]
    assert len(told["tokenized_input"]) == len(plain["embeddings"])
    assert {len(row) for row in plain["embeddings"]} == {128}
    (encoded,) = await vectors(embed, **body, embedding_type="base64")
    assert all(isinstance(row, str) for row in encoded)


async def test_elser_gives_a_dictionary_of_tokens(embed: Post) -> None:
    (sparse,) = await vectors(embed, model="elser-v2", input="no spoon")
    assert {"no", "spoon"} < set(sparse)
    assert all(isinstance(score, float) for score in sparse.values())


async def test_a_text_over_the_limit_is_cut_only_if_truncate_says_so(embed: Post) -> None:
    long = "word " * 8192
    refused = await embed(model=V3, input=[long + "more"], truncate=False)
    assert refused.status_code == 400
    assert refused.json()["detail"]["code"] == "INPUT_TOKEN_LIMIT_EXCEEDED"
    cut = (await embed(model=V3, input=[long + "more"], truncate=True)).json()
    assert cut["usage"]["total_tokens"] == 8194  # as billed by the hosted API
    other = (await embed(model=V3, input=[long + "else"], truncate=True)).json()
    assert cut["data"] == other["data"]
    assert (await embed(model=V3, input=[long])).status_code == 200
