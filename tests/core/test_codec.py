"""Frames: what was sealed opens as itself, and anything else is a miss, never an error."""

import struct
from dataclasses import replace
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.core import codec
from cache_proxy.core.codec import open_frame, seal
from cache_proxy.models import Entry, Form, Group, Numbers, Ranking, Spelling, Text, Value
from tests.core.asking import plain_entry
from tests.golden.cases import ENTRIES

KEY = bytes(range(32))
SMALL = Entry(Numbers(np.array([0.5, -1.0], "<f4"), Form.WIDENED), 3, 1000.0, model="m")
BIG = Entry(Numbers(np.linspace(-1, 1, 1024, dtype="<f4"), Form.FLOAT32), 7, 1000.0)


@st.composite
def arrays(draw: st.DrawFn, rows: int | None = None) -> Numbers:
    form, spelling = draw(st.sampled_from(Form)), draw(st.sampled_from(Spelling))
    dtype = "<f8" if form is Form.FLOAT64 else "<f4"
    width = draw(st.integers(1, 6))
    height = draw(st.sampled_from([None, 1, 3])) if rows is None else rows
    wanted = width if height is None else width * height
    listed = draw(st.lists(st.floats(allow_nan=False, width=32), min_size=wanted, max_size=wanted))
    flat = np.array(listed, dtype)
    tokenized = draw(st.none() | st.binary(max_size=20))
    return Numbers(flat if height is None else flat.reshape(height, width), form, spelling, tokenized)


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    order = draw(st.permutations(range(draw(st.integers(1, 6)))))
    scores = Numbers(np.array(draw(st.permutations(range(len(order)))), "<f8"), Form.FLOAT64)
    embeddings = draw(st.none() | arrays(rows=len(order)))
    return Ranking(np.array(order, "<u4"), scores, embeddings and replace(embeddings, tokenized=None))


TEXTS = st.builds(Text, st.binary(max_size=40))
VALUES: st.SearchStrategy[Value] = st.one_of(
    arrays(), TEXTS, rankings(), st.builds(Group, st.lists(arrays() | TEXTS, max_size=4).map(tuple))
)
ENTRY = st.builds(
    Entry,
    VALUES,
    st.integers(0, 2**32 - 1),
    st.floats(0, 4e9),
    model=st.text(max_size=30),
    query_tokens=st.integers(0, 2**32 - 1),
    expires_at=st.none() | st.floats(1, 4e9),
    estimated=st.booleans(),
)
KEYS = st.binary(min_size=32, max_size=32)


@given(KEYS, ENTRY)
def test_an_entry_of_any_kind_comes_back_as_it_was(key: bytes, entry: Entry) -> None:
    opened = open_frame(key, seal(key, entry))
    assert opened is not None
    assert plain_entry(opened) == plain_entry(entry)


def flipped(frame: bytes, bit: int) -> bytes:
    damaged = bytearray(frame)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


@pytest.mark.parametrize("name", ENTRIES)
def test_a_single_flipped_bit_anywhere_makes_a_miss(name: str) -> None:
    frame = seal(KEY, ENTRIES[name])
    assert open_frame(KEY, frame) is not None
    assert [bit for bit in range(len(frame) * 8) if open_frame(KEY, flipped(frame, bit)) is not None] == []


def test_a_flipped_bit_in_a_large_frame_makes_a_miss() -> None:
    frame = seal(KEY, BIG)
    assert len(frame) > 4096
    sampled = range(0, len(frame) * 8, 13)
    assert [bit for bit in sampled if open_frame(KEY, flipped(frame, bit)) is not None] == []


@given(KEYS.filter(lambda key: key != KEY))
def test_another_key_makes_a_miss(key: bytes) -> None:
    assert open_frame(key, seal(KEY, SMALL)) is None


@pytest.mark.parametrize("bit", range(256))
def test_a_key_that_differs_in_one_bit_makes_a_miss(bit: int) -> None:
    assert open_frame(flipped(KEY, bit), seal(KEY, SMALL)) is None


@pytest.mark.parametrize("name", ENTRIES)
def test_a_frame_cut_short_anywhere_makes_a_miss(name: str) -> None:
    frame = seal(KEY, ENTRIES[name])
    assert [size for size in range(len(frame)) if open_frame(KEY, frame[:size]) is not None] == []


@given(st.binary(min_size=1, max_size=64))
def test_a_frame_with_bytes_added_makes_a_miss(extra: bytes) -> None:
    frame = seal(KEY, SMALL)
    assert open_frame(KEY, frame + extra) is None
    assert open_frame(KEY, extra + frame) is None


def test_a_frame_of_another_version_makes_a_miss(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = seal(KEY, SMALL)
    monkeypatch.setattr(codec, "_MAGIC", b"cp" + bytes((codec.VERSION + 1,)))
    newer = seal(KEY, SMALL)
    assert open_frame(KEY, newer) is not None
    assert open_frame(KEY, frame) is None
    monkeypatch.undo()
    assert open_frame(KEY, newer) is None


@given(st.binary(max_size=200))
def test_arbitrary_bytes_make_a_miss_and_no_error(frame: bytes) -> None:
    assert open_frame(KEY, frame) is None


def resealed(rest: bytes) -> bytes:
    """A frame whose checksum holds over whatever it holds."""
    return b"cp" + bytes((codec.VERSION,)) + KEY[:4] + struct.pack("<I", crc32(rest, crc32(KEY))) + rest


SEALED = 11
"""Bytes before what the checksum runs over."""
HEAD = struct.calcsize("<BBIIdd")
"""Where the value begins after those, in an entry without a model's name."""


@given(st.binary(max_size=120))
def test_arbitrary_bytes_under_a_checksum_that_holds_raise_nothing(rest: bytes) -> None:
    open_frame(KEY, resealed(rest))


def test_a_value_of_a_kind_form_or_size_that_we_never_wrote_makes_a_miss() -> None:
    rest = seal(KEY, replace(SMALL, model=""))[SEALED:]
    assert open_frame(KEY, resealed(rest)) is not None
    for place, byte in ((1, 9), (2, 9), (0, 2), (8, 200), (11, 255)):
        wrong = bytearray(rest)
        wrong[HEAD + place] = byte
        assert open_frame(KEY, resealed(bytes(wrong))) is None, place


def test_an_entry_of_1024_numbers_takes_little_more_than_its_numbers() -> None:
    assert len(seal(KEY, BIG)) <= 4160


def test_counts_beyond_four_bytes_are_cut_rather_than_refused() -> None:
    opened = open_frame(KEY, seal(KEY, replace(SMALL, tokens=2**40, query_tokens=2**40)))
    assert opened is not None
    assert (opened.tokens, opened.query_tokens) == (2**32 - 1, 2**32 - 1)
