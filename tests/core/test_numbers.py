"""Numbers: every finite double comes back as itself, four bytes wide wherever that is enough."""

import base64
import json
import math
import struct
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cache_proxy.core import numbers
from cache_proxy.models import Form, Numbers, Spelling

SPELLINGS = st.sampled_from(Spelling)
DOUBLES = st.floats(allow_nan=False, allow_infinity=False)
SINGLES = st.floats(allow_nan=False, allow_infinity=False, width=32)
ANY_NUMBERS = st.lists(DOUBLES | SINGLES | st.integers(-(2**53), 2**53), min_size=1, max_size=20)
MATRICES = st.integers(1, 5).flatmap(
    lambda width: st.lists(st.lists(SINGLES, min_size=width, max_size=width), min_size=1, max_size=4)
)
EXTREMES = [-0.0, 0.0, 5e-324, -5e-324, 1e-45, 1e308, -1.7976931348623157e308, 3.4028235e38, 1e16, 2**53, -7]


def parse(received: Any, spelling: Spelling = Spelling.RUST) -> Numbers:
    found = numbers.parse(received, spelling)
    assert found is not None
    return found


def bits(values: Any) -> bytes:
    """Doubles as their bits, so that -0.0 is not 0.0."""
    return struct.pack(f">{len(values)}d", *values)


@given(ANY_NUMBERS, SPELLINGS)
@example(EXTREMES, Spelling.RUST)
@example(EXTREMES, Spelling.PYTHON)
@example([-0.0], Spelling.PYTHON)
@example([5e-324, 0.5], Spelling.RUST)
@example([1e308], Spelling.PYTHON)
@example([1, 2, 3], Spelling.RUST)
def test_any_finite_numbers_come_back_as_exactly_the_same_doubles(received: list[float], spelling: Spelling) -> None:
    value = parse(received, spelling)
    assert bits(numbers.doubles(value).tolist()) == bits(received)
    written = numbers.write(value, "float")
    for read in (json.loads, orjson.loads):
        assert bits(read(written)) == bits(received)


@given(st.lists(SINGLES, min_size=1, max_size=20), SPELLINGS)
def test_what_a_float32_holds_takes_four_bytes(received: list[float], spelling: Spelling) -> None:
    value = parse(received, spelling)
    assert value.array.dtype == np.dtype("<f4")
    assert value.form is Form.WIDENED
    assert numbers.write(value, "float") == (
        json.dumps(received, separators=(",", ":")).encode() if spelling is Spelling.PYTHON else orjson.dumps(received)
    )


@given(st.lists(SINGLES, min_size=1, max_size=20))
@example([1e-06])
@example([0.5, 1.5e-06])
@example([1e-07])
def test_the_shortest_float32_decimals_take_four_bytes_and_come_back_as_the_same_text(received: list[float]) -> None:
    text = orjson.dumps(np.array(received, "<f4"), option=orjson.OPT_SERIALIZE_NUMPY)
    value = parse(orjson.loads(text))
    assert value.array.dtype == np.dtype("<f4")
    assert numbers.write(value, "float") == text


@given(
    # Between these the same number has two spellings, and the test above has chosen.
    st.lists(st.floats(-64, 64, width=32).filter(lambda v: not 5e-7 < abs(v) < 1e-5), min_size=1, max_size=20)
)
def test_numbers_rounded_to_8_decimals_take_four_bytes_and_come_back_as_the_same_text(received: list[float]) -> None:
    text = orjson.dumps([round(value, 8) for value in received])
    value = parse(orjson.loads(text))
    assert value.array.dtype == np.dtype("<f4")
    assert numbers.write(value, "float") == text


def test_one_double_that_no_float32_holds_makes_the_vector_eight_bytes_wide() -> None:
    value = parse([0.5, 0.1234567890123456])
    assert (value.form, value.array.dtype) == (Form.FLOAT64, np.dtype("<f8"))
    assert parse([1e39, 0.5]).form is Form.FLOAT64


@given(ANY_NUMBERS)
@example(EXTREMES)
def test_base64_is_the_little_endian_float32_of_every_number(received: list[float]) -> None:
    written = orjson.loads(numbers.write(parse(received), "base64"))
    with np.errstate(over="ignore"):
        expected = np.array(received, "<f8").astype("<f4")
    assert base64.b64decode(written, validate=True) == expected.tobytes()


@given(ANY_NUMBERS)
@example(EXTREMES)
@example([1e-320] * 8)
def test_binary_and_ubinary_are_the_signs_eight_to_a_byte(received: list[float]) -> None:
    expected = np.packbits(np.array(received, "<f8") > 0).astype(int).tolist()
    value = parse(received)
    assert numbers.write(value, "ubinary") == orjson.dumps([float(byte) for byte in expected])
    assert numbers.write(value, "binary") == orjson.dumps([float(byte - 128) for byte in expected])


@given(MATRICES, SPELLINGS)
def test_a_matrix_is_written_row_by_row_as_its_rows_are(rows: list[list[float]], spelling: Spelling) -> None:
    matrix = parse(rows, spelling)
    assert matrix.array.shape == (len(rows), len(rows[0]))
    for encoding in numbers.ENCODINGS:
        alone = [orjson.loads(numbers.write(parse(row, spelling), encoding)) for row in rows]
        assert orjson.loads(numbers.write(matrix, encoding)) == alone
    assert [bits(row) for row in orjson.loads(numbers.write(matrix, "float"))] == [bits(row) for row in rows]


@pytest.mark.parametrize(
    "received",
    [
        [],
        [[]],
        [[], []],
        None,
        0.5,
        True,
        "AAAA",
        {"0": 0.5},
        [math.nan],
        [math.inf, 1.0],
        [-math.inf],
        [[0.5], [math.nan]],
        [True, 0.5],
        [0.5, False],
        ["0.5"],
        [None],
        [0.5, None],
        [[0.5, 1.0], [0.5]],
        [[0.5], 0.5],
        [0.5, [0.5]],
        [[True]],
        [[["0.5"]]],
        [[[0.5]]],
        [{"a": 0.5}],
    ],
)
@pytest.mark.parametrize("spelling", Spelling)
def test_what_is_no_finite_vector_or_matrix_is_refused(received: Any, spelling: Spelling) -> None:
    assert numbers.parse(received, spelling) is None


@given(DOUBLES, SPELLINGS)
@example(1e-05, Spelling.PYTHON)
@example(1e-05, Spelling.RUST)
def test_a_single_number_is_spelled_as_its_upstream_does(value: float, spelling: Spelling) -> None:
    written = numbers.write_one(value, spelling)
    assert written == (json.dumps(value).encode() if spelling is Spelling.PYTHON else orjson.dumps(value))


def test_json_that_is_kept_keeps_the_spelling_of_its_numbers_and_its_text() -> None:
    value = {"cat": 2e-05, "é": [1, True, None]}
    assert numbers.dump_json(value, Spelling.RUST) == '{"cat":0.00002,"é":[1,true,null]}'.encode()
    assert numbers.dump_json(value, Spelling.PYTHON) == '{"cat":2e-05,"é":[1,true,null]}'.encode()
