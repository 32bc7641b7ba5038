"""The memo of opened and written entries: valid for one object only, and bounded."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from cache_proxy.core.codec import seal
from cache_proxy.core.renderings import Renderings
from cache_proxy.models import Entry, Form, Numbers

ENTRY = Entry(Numbers(np.array([0.5, 1.0], "<f4"), Form.WIDENED), 3, 100.0)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


class Pen:
    """Writes, and counts how often it had to."""

    def __init__(self) -> None:
        self.strokes = 0

    def __call__(self, _: Any, how: str) -> tuple[bytes, bytes]:
        self.strokes += 1
        return f"{how}:{self.strokes}".encode(), b"x" * 100


def opened(memo: Renderings, number: int, frame: bytes) -> Entry:
    entry = memo.open(key(number), frame)
    assert entry is not None
    return entry


def written_once(memo: Renderings, entry: Entry, pen: Callable[[Any, str], tuple[bytes, bytes]]) -> bool:
    return memo.write(key(1), entry, "float", pen) == memo.write(key(1), entry, "float", pen)


def test_the_same_frame_object_is_opened_once_and_written_once_each_way() -> None:
    memo, pen, frame = Renderings(100_000), Pen(), seal(key(1), ENTRY)
    entry = opened(memo, 1, frame)
    assert opened(memo, 1, frame) is entry
    assert written_once(memo, entry, pen)
    assert memo.write(key(1), entry, "base64", pen)[0] == b"base64:2"
    assert memo.write(key(1), entry, "float", pen)[0] == b"float:1"


def test_equal_bytes_in_another_object_are_opened_anew() -> None:
    memo, pen, frame = Renderings(100_000), Pen(), seal(key(1), ENTRY)
    first = opened(memo, 1, frame)
    assert written_once(memo, first, pen)
    second = opened(memo, 1, bytes(bytearray(frame)))
    assert second is not first
    assert memo.write(key(1), second, "float", pen)[0] == b"float:2"


def test_what_replaces_a_frame_replaces_what_was_written_of_it() -> None:
    memo, pen = Renderings(100_000), Pen()
    old = opened(memo, 1, seal(key(1), ENTRY))
    assert written_once(memo, old, pen)
    new = opened(memo, 1, seal(key(1), replace(ENTRY, tokens=9)))
    assert new.tokens == 9
    assert memo.write(key(1), new, "float", pen)[0] == b"float:2"
    assert memo.write(key(1), old, "float", pen)[0] == b"float:3"
    assert memo.write(key(1), new, "float", pen)[0] == b"float:2"


def test_a_damaged_frame_is_never_remembered_and_never_answered_from_the_memo() -> None:
    memo, frame = Renderings(100_000), seal(key(1), ENTRY)
    opened(memo, 1, frame)
    damaged = frame[:-1] + bytes([frame[-1] ^ 1])
    assert memo.open(key(1), damaged) is None
    assert memo.open(key(1), damaged) is None
    assert memo.open(key(2), frame) is None


def test_an_entry_that_did_not_come_from_the_memo_is_written_each_time() -> None:
    memo, pen = Renderings(100_000), Pen()
    assert not written_once(memo, ENTRY, pen)


def test_a_memo_of_no_bytes_remembers_nothing() -> None:
    memo, pen, frame = Renderings(0), Pen(), seal(key(1), ENTRY)
    entry = opened(memo, 1, frame)
    assert opened(memo, 1, frame) is not entry
    assert not written_once(memo, entry, pen)


def test_the_memo_is_bounded_and_lets_go_of_the_least_recently_used_first() -> None:
    frames = {number: seal(key(number), ENTRY) for number in range(10)}
    memo = Renderings(3 * (len(frames[0]) + 1200))
    kept = {number: opened(memo, number, frames[number]) for number in range(3)}
    assert opened(memo, 0, frames[0]) is kept[0]
    opened(memo, 3, frames[3])
    assert opened(memo, 0, frames[0]) is kept[0]
    assert opened(memo, 1, frames[1]) is not kept[1]


def test_what_is_written_counts_toward_the_bound() -> None:
    frame, other = seal(key(1), ENTRY), seal(key(2), ENTRY)
    memo = Renderings(2 * (len(frame) + 1000) + 150)
    first, second = opened(memo, 1, frame), opened(memo, 2, other)
    memo.write(key(2), second, "float", Pen())
    assert opened(memo, 1, frame) is first
    assert opened(memo, 2, other) is second
    memo.write(key(2), second, "base64", Pen())
    assert opened(memo, 2, other) is second
    assert opened(memo, 1, frame) is not first


def test_an_entry_too_large_for_the_memo_is_opened_and_written_all_the_same() -> None:
    memo, pen, frame = Renderings(10), Pen(), seal(key(1), ENTRY)
    entry = opened(memo, 1, frame)
    assert memo.write(key(1), entry, "float", pen) == (b"float:1", b"x" * 100)
    roomy = Renderings(len(frame) + 1000 + 50)
    entry = opened(roomy, 1, frame)
    assert roomy.write(key(1), entry, "float", Pen()) == (b"float:1", b"x" * 100)
    assert opened(roomy, 1, frame) is not entry
