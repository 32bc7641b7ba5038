"""The whole measurement, in little, with real servers; and that it tells when something is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import orjson
import pytest

from bench.economy.answers import is_right
from bench.economy.asks import Embedding, Rerank
from bench.economy.clients import Note
from bench.economy.load import PAIRWISE, PROFILES
from bench.economy.measure import Load, Outcome, measure, outcome
from bench.economy.spellings import Request, spell
from bench.economy.table import COLUMNS, HEAD, Row, flaws, line, verdict
from bench.economy.topologies import TOPOLOGIES
from cache_proxy.standin import StandIn
from tests.bench.direct import bought

SMALL = Load(seed=5, count=60, callers=16)
EMBED = spell(Embedding(PROFILES[0], ("one", "two", "one")), "list of strings")
RANK = spell(Rerank(PAIRWISE, "a query", ("one", "two", "three")), "list of strings")


def test_one_process_pays_once_for_each_item_and_its_answers_are_right() -> None:
    found = measure(SMALL, partial(TOPOLOGIES["process"].serving, own={}))
    assert found.flawless
    assert f"{found.audit.ratio:.3f}" == "1.000"
    assert found.requests == 60
    assert found.items > found.audit.distinct > 0


def test_without_a_cache_and_anything_to_share_the_number_says_so() -> None:
    """The stand-in asked directly, in its own names: everything is paid for as often as it is asked for."""
    asked = [request for request in SMALL.requests if "jina_ai" not in request.spelling and "/v1" in request.path]
    found = measure(SMALL, straight, asked)
    paid = sum(item.tokens for request in asked for item in request.ask.items)
    assert (found.wrong, found.failed) == (0, 0)
    assert found.audit.billed >= paid
    assert found.audit.ratio > 1.5
    assert not found.flawless  # nobody told the callers what it cost


@contextmanager
def straight(upstream: str) -> Iterator[list[str]]:
    yield [upstream]


async def answered(*requests: Request) -> tuple[list[Note], StandIn]:
    """Notes of a server that passes everything on and tells the truth about it."""
    standin = StandIn()
    answers = await bought(standin, *requests)
    notes = [
        Note(request, 0.1, answer.status_code, answer.json()["usage"]["total_tokens"], answer.content)
        for request, answer in zip(requests, answers, strict=True)
    ]
    return notes, standin


@pytest.mark.anyio
async def test_an_outcome_is_flawless_only_if_the_answers_are_right_and_the_headers_add_up() -> None:
    notes, standin = await answered(EMBED, RANK)
    first, second = notes
    assert outcome(notes, standin.calls).flawless
    assert not outcome([replace(first, billed=0), second], standin.calls).flawless
    assert not outcome([replace(first, status=502), second], standin.calls).flawless
    assert not outcome([replace(first, content=second.content), second], standin.calls).flawless
    assert not outcome(notes, standin.calls[:1]).flawless


@pytest.mark.anyio
@pytest.mark.parametrize("request_", [EMBED, RANK], ids=["embeddings", "rerank"])
async def test_a_changed_number_a_swap_and_a_missing_item_are_wrong_answers(request_: Request) -> None:
    ((note,), _) = await answered(request_)
    assert is_right(request_, note.content)
    answer = orjson.loads(note.content)
    rows = answer.get("data") or answer["results"]
    assert not is_right(request_, orjson.dumps({"data": rows[:-1], "results": rows[:-1]}))
    rows[0]["index"], rows[1]["index"] = rows[1]["index"], rows[0]["index"]
    assert not is_right(request_, orjson.dumps(answer))
    assert not is_right(request_, b"{}")
    assert not is_right(request_, b"<html>")
    other = note.content.replace(b"0.", b"0.1", 1)
    assert other != note.content
    assert not is_right(request_, other)


@pytest.mark.anyio
async def test_the_table_has_a_cell_for_each_column_and_tells_the_worst_ratio_of_what_is_shipped() -> None:
    notes, standin = await answered(EMBED, RANK)
    good = outcome(notes, standin.calls)
    audit = replace(good.audit, ideal=1000, billed=1234)
    bad = replace(good, audit=audit, told=1234)
    rows = [Row("one", good, plain=replace(bad, audit=replace(audit, billed=9999))), Row("two", bad)]
    assert [line(row).count("|") for row in rows] == [len(COLUMNS) + 1] * 2
    assert [each.count("|") for each in HEAD] == [len(COLUMNS) + 1] * 2
    assert "| 1.234 |" in line(rows[1])
    assert "| 9.999 |" in line(rows[0])
    assert verdict(rows) == "paid / ideal = 1.234"


@pytest.mark.anyio
async def test_a_flaw_is_told_with_the_name_of_its_row() -> None:
    notes, standin = await answered(EMBED)
    good: Outcome = outcome(notes, standin.calls)
    assert list(flaws(Row("one", good, good))) == []
    (told,) = flaws(Row("one", good, replace(good, wrong=3)))
    assert told.startswith("one, without coalescing: 3 wrong")
