"""The reply: Jina's shape, in asked order, in every encoding."""

import base64

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.core.answer import write
from cache_proxy.core.codec import open_frame, seal
from cache_proxy.core.plan import usage
from cache_proxy.core.renderings import Renderings
from cache_proxy.models import Json
from tests.core.asking import answered, embed, floats, paid, rank

V4 = "jina-embeddings-v4"


def test_the_answer_has_jinas_fields_in_jinas_order_and_both_counts() -> None:
    asked = embed(["a", "b"])
    found = paid(asked, floats([0.5, -1.0], [0.25, 2.0], tokens=9))
    assert write(asked, found, usage(found), "id-1", Renderings(0)) == (
        b'{"model":"jina-embeddings-v3","object":"list","usage":{"total_tokens":9,"prompt_tokens":9},'
        b'"data":[{"object":"embedding","index":0,"embedding":[0.5,-1.0]},'
        b'{"object":"embedding","index":1,"embedding":[0.25,2.0]}]}'
    )


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=12))
def test_every_position_gets_the_vector_of_its_own_text(texts: list[str]) -> None:
    asked = embed(texts)
    once = list(dict.fromkeys(texts))
    entries = paid(asked, floats(*([float(ord(text))] for text in once)))
    data = answered(asked, entries)["data"]
    assert [(row["index"], row["embedding"]) for row in data] == [
        (place, [float(ord(text))]) for place, text in enumerate(texts)
    ]


def test_every_encoding_is_written_from_one_entry() -> None:
    vector = [0.5, -0.25, 0.0, 1.0, 2.0, -3.0, 4.0, 0.125]
    entries = paid(embed(), floats(vector))
    written = {
        encoding: answered(embed(embedding_type=encoding), entries)["data"][0]["embedding"]
        for encoding in ("float", "base64", "binary", "ubinary")
    }
    assert written["float"] == vector
    assert np.frombuffer(base64.b64decode(written["base64"]), "<f4").tolist() == vector
    assert (written["ubinary"], written["binary"]) == ([0b10011011], [0b10011011 - 128])


def test_the_memo_keeps_the_encodings_of_one_entry_apart() -> None:
    memo, asked = Renderings(1_000_000), embed()
    frame = seal(asked.seats[0], paid(asked, floats([0.5]))[0])
    for _ in range(2):
        for encoding, expected in (("float", [0.5]), ("base64", "AAAAPw=="), ("ubinary", [128.0])):
            entry = memo.open(asked.seats[0], frame)
            assert entry is not None
            told = answered(embed(embedding_type=encoding), [entry], memo)
            assert told["data"][0]["embedding"] == expected


def test_a_vector_per_token_is_written_in_jinas_other_shape() -> None:
    asked = embed(model=V4, return_multivector=True, return_tokenized_input=True)
    row = {"object": "embeddings", "index": 0, "embeddings": [[0.5, 1.0], [2.0, 3.0]], "tokenized_input": ["a", "b"]}
    reply = {"model": V4, "object": "list", "usage": {"total_tokens": 2}, "data": [row]}
    assert answered(asked, paid(asked, reply))["data"] == [row]


@pytest.mark.parametrize("encoding", ["float", "base64", "ubinary"])
def test_the_pages_of_a_pdf_come_back_numbered_in_every_encoding(encoding: str) -> None:
    asked = embed({"pdf": "QQ=="}, V4, embedding_type=encoding)
    data = answered(asked, paid(asked, floats([0.5], [-1.0], [2.0])))["data"]
    expected: dict[str, list[Json]] = {
        "float": [[0.5], [-1.0], [2.0]],
        "base64": ["AAAAPw==", "AACAvw==", "AAAAQA=="],
        "ubinary": [[128], [0], [128]],
    }
    assert [row["index"] for row in data] == [0, 1, 2]
    assert [row["embedding"] for row in data] == expected[encoding]


def test_the_encodings_of_a_request_kept_whole_do_not_mix_in_the_memo() -> None:
    memo = Renderings(1_000_000)
    asked = embed(["a", "b"], late_chunking=True)
    frame = seal(asked.seats[0], paid(asked, floats([0.5], [1.0]))[0])
    for encoding, expected in (("float", [[0.5], [1.0]]), ("base64", ["AAAAPw==", "AACAPw=="])) * 2:
        entry = memo.open(asked.seats[0], frame)
        assert entry is not None
        view = embed(["a", "b"], late_chunking=True, embedding_type=encoding)
        assert [row["embedding"] for row in answered(view, [entry], memo)["data"]] == expected


def test_sparse_embeddings_come_back_as_jinas_json() -> None:
    asked = embed(["a", "b"], "elser-v2")
    rows = [{"object": "embedding", "index": place, "embedding": {"cat": 1.5 + place}} for place in range(2)]
    assert answered(asked, paid(asked, {"usage": {"total_tokens": 5}, "data": rows}))["data"] == rows


def test_what_nobody_understands_comes_back_as_the_upstreams_json() -> None:
    asked = embed("a", embedding_type=["float", "int8"])
    rows = [{"object": "thing", "index": 0, "embedding": {"float": [0.5], "int8": [1]}}]
    assert answered(asked, paid(asked, {"usage": {"total_tokens": 5}, "data": rows}))["data"] == rows
    ranked = rank(["a", "b"], "some-reranker", top_n=1)
    results = [{"index": 1, "relevance_score": 3, "document": {"text": "b"}, "more": None}]
    reply = {"results": results, "usage": {"total_tokens": 5}}
    assert answered(ranked, paid(ranked, reply))["results"] == results


def test_the_model_is_named_as_the_upstream_named_it() -> None:
    asked = embed("a", "jina_ai/jina-embeddings-v3")
    assert answered(asked, paid(asked, floats([0.5])))["model"] == "jina-embeddings-v3"
    assert answered(asked, paid(asked, floats([0.5], model='a "name"')))["model"] == 'a "name"'


def test_an_answer_from_stored_frames_is_the_answer_from_fresh_entries() -> None:
    for asked, reply in (
        (embed(["a", "b"]), floats([0.1, 1e-05], [0.2, 3.0])),
        (embed(["a", "b"], my_param=1), floats([0.1, 1e-05], [0.2, 3.0])),
        (embed("a", "elser-v2"), {"data": [{"index": 0, "embedding": {"cat": 1e-05}}]}),
    ):
        fresh = paid(asked, orjson.dumps(reply))
        stored = [open_frame(key, seal(key, entry)) for key, entry in zip(asked.seats, fresh, strict=True)]
        found = [entry for entry in stored if entry is not None]
        memo = Renderings(0)
        assert write(asked, found, usage(found), "i", memo) == write(asked, fresh, usage(fresh), "i", memo)
