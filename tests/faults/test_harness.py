"""The harness finds what it is there to find."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from cache_proxy.standin.faults import spoil
from tests.faults.load import LOST, Note
from tests.faults.questions import Question, embed, fresh, rank, warm
from tests.faults.table import BEGIN, END, row, write

EMBED = embed("one", "two", "three", width=32)
RANK = rank("query", "one", "two", "three")


def right(question: Question) -> bytes:
    """An answer to this question."""
    if question.path == "/v1/rerank":
        answer: Any = {"results": [{"index": at, "relevance_score": score} for at, score in question.right]}
    else:
        answer = {"data": [{"index": at, "embedding": numbers} for at, numbers in question.right]}
    return orjson.dumps(answer)


def swapped(content: bytes) -> bytes:
    """The values of the first two items exchanged, each under its old index."""
    answer = orjson.loads(content)
    one, other = (answer.get("data") or answer["results"])[:2]
    one["index"], other["index"] = other["index"], one["index"]
    return orjson.dumps(answer)


def other_digit(content: bytes) -> bytes:
    """The last digit of the last number changed."""
    at = max(place for place, byte in enumerate(content) if 48 < byte < 58)
    return content[:at] + bytes([content[at] - 1]) + content[at + 1 :]


@pytest.mark.parametrize("question", [EMBED, RANK])
@pytest.mark.parametrize(
    "spoiled", [swapped, other_digit, partial(spoil, "short"), partial(spoil, "misnumber"), lambda _: b"{}"]
)
def test_a_swapped_index_a_changed_number_and_a_missing_item_are_wrong(
    question: Question, spoiled: Callable[[bytes], bytes]
) -> None:
    assert question.is_answered_by(right(question))
    assert not question.is_answered_by(spoiled(right(question)))


def test_the_answer_to_another_question_is_wrong() -> None:
    others = [embed("one", "two", "four", width=32), embed("one", "two", "three", width=32, task="text-matching")]
    assert [other.is_answered_by(right(EMBED)) for other in others] == [False, False]


def test_the_load_asks_for_the_same_texts_in_many_ways_and_for_new_ones() -> None:
    questions = warm()
    assert len({question.body for question in questions}) == len(questions) > 80
    new = fresh("client")
    assert next(new).right != next(new).right


def note(began: float, ended: float, *, status: int = 200, hit: bool = False, content: bytes = b"") -> Note:
    return Note(EMBED, began, ended, status, hit, content or right(EMBED))


def test_a_row_counts_what_touches_the_fault_to_it_and_judges_every_answer() -> None:
    notes = [
        note(0, 9.0),  # before it was warm: judged, but not measured
        note(1, 2, hit=True),
        note(4, 7),
        note(6, 6.5, hit=True),
        note(7, 7.1, content=b"{}"),
        note(7, 8, status=500),
        note(7, 8, status=LOST),
        note(9, 30),
    ]
    found = row("fault", "disk", notes, warm=0.5, began=5, ended=8, back=0.5, told=3)
    assert (found.answers, found.lost, found.not_200, found.wrong) == (7, 1, 1, 1)
    assert (found.before.most, found.before.hits) == (1, 1)
    assert found.during.most == 9, "the first, which began before and touches it"
    assert found.during.hits == 1 / 5
    assert found.added == 8
    assert found.line("disk_x").startswith("| `disk_x` | fault | disk | 7 | 1 | 1 | 1 | 100%, 20% |")


def test_the_table_is_written_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    write(page, ["new", "rows"])
    assert page.read_text() == f"# Page\n\n{BEGIN}\nnew\nrows\n{END}\n\nmore\n"
    page.write_text("# Page\n")
    with pytest.raises(ValueError, match="no place"):
        write(page, [])
