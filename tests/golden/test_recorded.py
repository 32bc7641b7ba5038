"""The number forms that Jina was seen to use: a hit is the same text as the answer that was paid for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from cache_proxy.core import numbers
from cache_proxy.core.answer import write
from cache_proxy.core.asked import Asked
from cache_proxy.core.codec import open_frame, seal
from cache_proxy.core.plan import usage
from cache_proxy.core.renderings import Renderings
from cache_proxy.models import Entry, Form, Numbers, Spelling
from tests.core.asking import ask, floats, paid, rank, scores

FOLDER = Path(__file__).parent / "recorded"
KEY = bytes(32)
FORMS = {"float32": Form.FLOAT32, "widened": Form.WIDENED, "decimals8": Form.DECIMALS8}


def recorded(name: str) -> Any:
    """A recorded file with every number as the text it was."""
    return json.loads((FOLDER / name).read_text(), parse_float=str, parse_int=str)


def lists(pattern: str) -> list[Any]:
    """Every recorded vector: its text in compact JSON, and the form it should be found to have."""
    files = sorted(FOLDER.glob(pattern))
    assert files
    loaded = [(file.stem, recorded(file.name)) for file in files]
    return [
        pytest.param(f"[{','.join(vector)}]", FORMS[content["form"]], id=f"{stem}-{place}")
        for stem, content in loaded
        if "vectors" in content
        for place, vector in enumerate(content["vectors"])
    ]


RANKINGS = [
    pytest.param(ranking, id=f"{number}-{place}")
    for number, source in enumerate(recorded("rerank_scores.json"))
    for place, ranking in enumerate(source["rankings"])
]


def kept(text: str | bytes, spelling: Spelling | None = None) -> Numbers:
    """The numbers of this JSON text after they were stored and found again."""
    raw = text.encode() if isinstance(text, str) else text
    parsed = numbers.parse(orjson.loads(raw), numbers.spelling(raw) if spelling is None else spelling)
    assert parsed is not None
    entry = open_frame(KEY, seal(KEY, Entry(parsed, 1, 0.0)))
    assert entry is not None
    assert isinstance(entry.value, Numbers)
    return entry.value


def hit(asked: Asked, reply: bytes) -> bytes:
    """The answer from the store, after the upstream answered ``reply`` once."""
    opened = [open_frame(key, seal(key, entry)) for key, entry in zip(asked.seats, paid(asked, reply), strict=True)]
    found = [entry for entry in opened if entry is not None]
    return write(asked, found, usage(found), "id-1", Renderings(0))


@pytest.mark.parametrize(("text", "form"), lists("*.json"))
def test_a_recorded_vector_comes_back_as_the_same_text(text: str, form: Form) -> None:
    value = kept(text)
    assert numbers.write(value, "float").decode() == text
    assert value.array.dtype == np.dtype("<f4")
    # A list cut to its first numbers may fit several forms, which then all give this text.
    assert numbers.write(replace(value, form=form), "float").decode() == text


@pytest.mark.parametrize("ranking", RANKINGS)
def test_recorded_scores_come_back_as_the_same_text_from_pairs_and_from_full_rankings(ranking: list[str]) -> None:
    reply = b'{"results":[%s],"usage":{"total_tokens":9}}' % b",".join(
        b'{"index":%d,"relevance_score":%s}' % (place, score.encode()) for place, score in enumerate(ranking)
    )
    for model in ("jina-reranker-v2-base-multilingual", "jina-reranker-v3"):
        asked = rank([f"document {place}" for place in range(len(ranking))], model, return_documents=False)
        results = json.loads(hit(asked, reply), parse_float=str, parse_int=str)["results"]
        assert [row["relevance_score"] for row in results] == ranking


def test_a_whole_recorded_answer_comes_back_byte_for_byte() -> None:
    exchange = json.loads((FOLDER / "hosted_2025-06_v3_whole.json").read_text())
    reply = json.dumps(exchange["response"], separators=(",", ":")).encode()
    assert hit(ask(exchange["request"]), reply) == reply


TINY = {
    Form.FLOAT32: [float(str(value)) for value in np.array([0.1, 1.234567e-05, -7.654321e-08, 3.3e-38], "<f4")],
    Form.WIDENED: np.array([0.1, 1.2e-05, -7.1e-08, 9.9e-05], "<f4").astype("<f8").tolist(),
    Form.DECIMALS8: [0.0348047, 2e-05, -1e-08, 0.00012345, 9.999e-05],
    Form.FLOAT64: [0.1234567890123456, 1.2345678901234e-05, 1e-300, 1e16, 123456789012345680.0],
}


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize("spelling", Spelling)
def test_small_and_large_numbers_keep_their_exponent_in_both_spellings(form: Form, spelling: Spelling) -> None:
    if spelling is Spelling.PYTHON:
        text = json.dumps(TINY[form], separators=(",", ":")).encode()
        assert b"e-0" in text
    elif form is Form.FLOAT32:
        text = orjson.dumps(np.array(TINY[form], "<f4"), option=orjson.OPT_SERIALIZE_NUMPY)
    else:
        text = orjson.dumps(TINY[form])
    value = kept(text)
    assert value.form is form
    assert value.spelling is spelling
    assert numbers.write(value, "float") == text


@pytest.mark.parametrize("spelling", Spelling)
def test_scores_keep_their_exponent_too(spelling: Spelling) -> None:
    reply = scores((0, 0.0001), (1, 3e-05), (2, 2e-06), (3, -1e-08))
    dumped = json.dumps(reply).encode() if spelling is Spelling.PYTHON else orjson.dumps(reply)
    for model in ("jina-reranker-v2-base-multilingual", "jina-reranker-v3"):
        answer = hit(rank(["a", "b", "c", "d"], model, return_documents=False), dumped)
        sent, got = (json.loads(raw, parse_float=str)["results"] for raw in (dumped, answer))
        assert [row["relevance_score"] for row in got] == [row["relevance_score"] for row in sent]


def test_the_bits_measured_on_the_hosted_api_follow_from_the_signs_of_the_vector() -> None:
    measured = json.loads((FOLDER / "hosted_2026-07_bits.json").read_text())
    signs = np.unpackbits(np.array(measured["ubinary"], np.uint8))
    vector = [0.25 if sign else -0.5 for sign in signs.tolist()]
    for encoding in ("ubinary", "binary"):
        asked = ask({"model": "jina-embeddings-v2-base-en", "input": "x", "embedding_type": encoding})
        answer = hit(asked, orjson.dumps(floats(vector)))
        expected = b"[%s]" % b",".join(b"%d.0" % byte for byte in measured[encoding])
        assert b'"embedding":%s' % expected in answer


def test_a_value_that_is_exactly_zero_is_no_bit_whatever_its_sign() -> None:
    value = kept("[0.0,-0.0,1e-40,-1e-40,0.5,0.5,0.5,0.5]")
    assert numbers.write(value, "ubinary") == b"[47.0]"
    assert numbers.write(value, "binary") == b"[-81.0]"
