"""The ledger at work: what is durable when, and what happens while the database is away."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection

from cache_proxy.calls import Settlement
from cache_proxy.errors import LedgerError, LedgerUnavailable
from cache_proxy.ledger import books, writer
from cache_proxy.ledger.books import SqlLedger
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import OLDER
from tests.ledger.money import ME, NOON, call, paid, receipt, rows, sums

pytestmark = pytest.mark.anyio


class Wayward(Database):
    """A database that can be made to fail, to hang, or to fail just after it has committed."""

    failing: bool = False
    deaf: bool = False

    def __init__(self, inner: Database) -> None:
        super().__init__(inner._engine, inner.place)
        self.answering = threading.Event()
        self.answering.set()
        self.commits = 0

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        self.answering.wait()
        if self.failing:
            raise LedgerError("the ledger's database failed: CANARY")
        with super().writing() as connection:
            yield connection
        self.commits += 1
        if self.deaf:
            raise LedgerError("nobody heard of the commit")


@pytest.fixture
def wayward(tmp_path: Path) -> Wayward:
    return Wayward(Database.in_folder(tmp_path))


@pytest.fixture
async def ledger(wayward: Wayward) -> AsyncIterator[SqlLedger]:
    made = SqlLedger(wayward, now=lambda: NOON)
    made.open()
    yield made
    wayward.failing = wayward.deaf = False
    wayward.answering.set()
    await made.close(10)


@pytest.fixture
async def going_on(wayward: Wayward) -> AsyncIterator[SqlLedger]:
    """The same, where the operator chose to spend though it can not be written."""
    made = SqlLedger(wayward, refusing=False, now=lambda: NOON)
    made.open()
    yield made
    wayward.failing = False
    wayward.answering.set()
    await made.close(10)


def on_disk(database: Database) -> tuple[int, int]:
    """How many calls another connection sees, and how many of them settled."""
    found = rows(database, "calls")
    return len(found), sum(row["settled_at"] is not None for row in found)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_an_intent_is_on_the_disk_when_the_call_may_be_sent(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(call())
    assert on_disk(wayward) == (1, 0)


async def test_a_settlement_is_on_the_disk_when_it_was_waited_for(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(made := call())
    await ledger.settle(made, paid(60))
    assert on_disk(wayward) == (1, 1)


async def test_one_that_nobody_waits_for_is_written_all_the_same(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(made := call())
    ledger.settle(made, paid(60))
    await until(lambda: on_disk(wayward) == (1, 1))


async def test_those_who_wait_at_a_time_share_a_commit(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(call())
    wayward.answering.clear()
    first = asyncio.create_task(ledger.intend(call()))
    await asyncio.sleep(0.05)
    rest = [asyncio.create_task(ledger.intend(call())) for _ in range(50)]
    await asyncio.sleep(0.05)
    before = wayward.commits
    wayward.answering.set()
    await asyncio.gather(first, *rest)
    assert wayward.commits == before + 2
    assert on_disk(wayward) == (52, 0)


async def test_a_request_that_cost_money_is_on_the_disk_when_it_was_waited_for(
    ledger: SqlLedger, wayward: Wayward
) -> None:
    await ledger.record(receipt(tokens_billed=5))
    assert len(rows(wayward, "requests")) == 1
    await ledger.record(receipt(tokens_unsettled=5))
    assert len(rows(wayward, "requests")) == 2


async def test_a_hit_waits_for_nothing_and_is_written_within_a_second(ledger: SqlLedger, wayward: Wayward) -> None:
    wayward.answering.clear()
    began = time.monotonic()
    for _ in range(20):
        await ledger.record(receipt())
    wayward.answering.set()
    await until(lambda: len(rows(wayward, "requests")) == 20)
    assert time.monotonic() - began < 1.0 + 0.5


async def test_what_still_waits_is_written_at_the_end(wayward: Wayward) -> None:
    ledger = SqlLedger(wayward)
    ledger.open()
    for _ in range(3_000):
        ledger.record(receipt())
    await ledger.close(10)
    assert sums(wayward)[""]["requests"] == 3_000


async def test_nothing_is_spent_while_the_database_is_away(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(call())
    wayward.failing = True
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())
    assert ledger.ailing
    began = time.monotonic()
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())
    assert time.monotonic() - began < 0.1, "the next one is refused without asking"
    wayward.failing = False
    await until(lambda: not ledger.ailing)
    await ledger.intend(call())
    await until(lambda: on_disk(wayward)[0] == 2)
    assert sums(wayward)[""]["tokens_unsettled"] == 200, "what was refused is not counted"


async def test_what_was_spent_before_it_went_away_is_written_when_it_is_back(
    ledger: SqlLedger, wayward: Wayward
) -> None:
    await ledger.intend(one := call())
    await ledger.intend(other := call())
    wayward.failing = True
    await ledger.settle(one, paid(60))
    await ledger.record(receipt(tokens_billed=60))
    await ledger.unsettled(other)
    assert on_disk(wayward) == (2, 0), "it stands there with its bound meanwhile"
    wayward.failing = False
    await until(lambda: on_disk(wayward) == (2, 1))
    await until(lambda: len(rows(wayward, "requests")) == 1)
    assert ledger.missing == {}


async def test_an_answer_does_not_wait_for_a_database_that_fails(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(made := call())
    wayward.failing = True
    await ledger.settle(made, paid(60))
    began = time.monotonic()
    for _ in range(20):
        await ledger.record(receipt(tokens_billed=60))
    assert time.monotonic() - began < 1.0


async def test_where_the_operator_says_so_spending_goes_on_and_is_written_later(
    going_on: SqlLedger, wayward: Wayward
) -> None:
    wayward.failing = True
    for _ in range(5):
        await going_on.intend(made := call())
        await going_on.settle(made, paid(60))
    wayward.failing = False
    await until(lambda: on_disk(wayward) == (5, 5))
    assert sums(wayward)[""]["tokens_billed"] == 300
    assert sums(wayward)[""]["tokens_unsettled"] == 0


async def test_what_is_more_than_can_be_kept_is_counted_as_missing(
    going_on: SqlLedger, wayward: Wayward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "ROOM", 3)
    wayward.failing = True
    await going_on.intend(call())
    for _ in range(5):
        going_on.record(receipt())
    assert going_on.missing == {"told": 2}


async def test_what_can_not_be_written_at_the_end_is_counted_and_told(
    wayward: Wayward, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = SqlLedger(wayward)
    ledger.open()
    wayward.failing = True
    ledger.record(receipt())
    await ledger.close(0.3)
    assert "1 notes are lost to the ledger" in caplog.text


async def test_a_commit_that_nobody_heard_of_counts_once(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(made := call())
    wayward.deaf = True
    await ledger.settle(made, paid(60))
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())
    wayward.deaf = False
    await until(lambda: not ledger.ailing)
    await until(lambda: sums(wayward)[""]["tokens_unsettled"] == 0)
    assert sums(wayward)[""]["tokens_billed"] == 60


async def test_an_intent_of_which_the_commit_was_not_heard_of_is_written_as_never_sent(
    ledger: SqlLedger, wayward: Wayward
) -> None:
    await ledger.intend(call((ME, 7)))
    wayward.deaf = True
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())
    wayward.deaf = False
    await until(lambda: on_disk(wayward) == (2, 1))
    assert sums(wayward)[""]["tokens_unsettled"] == 7


async def test_a_database_that_hangs_is_not_waited_for_for_ever(
    ledger: SqlLedger, wayward: Wayward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.intend(made := call())
    for module in (books, writer):
        monkeypatch.setattr(module, "PATIENCE", 1.0)
    wayward.answering.clear()
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())
    await until(lambda: ledger.ailing)
    began = time.monotonic()
    await ledger.settle(made, paid(60))
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())
    assert time.monotonic() - began < 0.5, "nobody waits for it any more"
    wayward.answering.set()
    await until(lambda: sums(wayward)[""]["tokens_billed"] == 60)
    await until(lambda: sums(wayward)[""]["tokens_unsettled"] == 0)


async def test_who_leaves_before_his_call_is_sent_leaves_nothing_behind(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(call((ME, 7)))
    wayward.answering.clear()
    leaving = asyncio.create_task(ledger.intend(call()))
    await asyncio.sleep(0.05)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    wayward.answering.set()
    await ledger.record(receipt(tokens_billed=1))
    await until(lambda: sums(wayward)[""]["tokens_unsettled"] == 7)


async def test_one_line_says_that_it_fails_and_one_that_it_is_back(
    ledger: SqlLedger, wayward: Wayward, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="cache_proxy.ledger")
    wayward.failing = True
    for _ in range(3):
        with pytest.raises(LedgerUnavailable):
            await ledger.intend(call())
    wayward.failing = False
    # The writer's thread is well again a moment before it says so.
    await until(lambda: len(caplog.records) == 2)
    said = [record.getMessage() for record in caplog.records]
    assert "is not written" in said[0]
    assert "is written again" in said[1]


async def test_before_it_is_opened_and_after_it_is_closed_it_takes_nothing(wayward: Wayward) -> None:
    ledger = SqlLedger(wayward)
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())
    ledger.open()
    await ledger.close(10)
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())
    await ledger.close(10)


async def test_what_is_too_old_is_taken_out_as_time_goes_by(wayward: Wayward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "PRUNE_EVERY", 0.05)
    now = NOON
    ledger = SqlLedger(wayward, days=7, now=lambda: now)
    ledger.open()
    await ledger.record(receipt(tokens_billed=1))
    now += 6 * 86_400
    await asyncio.sleep(0.2)
    assert len(rows(wayward, "requests")) == 1
    now += 2 * 86_400
    await until(lambda: rows(wayward, "requests") == [])
    assert sums(wayward)[""]["requests"] == 1
    await ledger.close(10)


async def test_sums_are_looked_after_as_time_goes_by(wayward: Wayward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "PRUNE_EVERY", 0.05)
    now = NOON
    ledger = SqlLedger(wayward, names_days=7, now=lambda: now)
    ledger.open()
    await ledger.record(receipt(tokens_billed=1, tags=("a", "b")))
    await asyncio.sleep(0.2)
    assert set(sums(wayward, "tag")) == {"a", "b"}
    now += 8 * 86_400
    await until(lambda: set(sums(wayward, "tag")) == {OLDER})
    assert sums(wayward, "tag")[OLDER]["requests"] == 2
    await ledger.close(10)


async def test_a_settlement_says_whether_the_tokens_were_counted(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(made := call())
    await ledger.settle(made, Settlement((60,), 200, estimated=True))
    assert [row["estimated"] for row in rows(wayward, "calls")] == [True]


async def test_how_long_each_commit_took_is_told_also_of_those_that_fail(wayward: Wayward) -> None:
    told: list[tuple[str, float]] = []
    ledger = SqlLedger(wayward, refusing=False, timed=lambda result, seconds: told.append((result, seconds)))
    ledger.open()
    one = call((ME, 7))
    await ledger.intend(one)
    wayward.failing = True
    await ledger.settle(one, paid(7))
    wayward.failing = False
    await ledger.close(10)
    results = [result for result, _ in told]
    assert (results[0], results[-1], set(results)) == ("written", "written", {"written", "failed"})
    assert all(0 <= seconds < 5 for _, seconds in told)


async def test_what_the_database_does_not_take_keeps_nothing_else_from_it(
    ledger: SqlLedger, wayward: Wayward, caplog: pytest.LogCaptureFixture
) -> None:
    await ledger.intend(call((ME, 7)))
    wayward.answering.clear()
    waiting = asyncio.create_task(ledger.intend(call((ME, 11))))
    await asyncio.sleep(0.05)
    ledger.record(receipt())
    ledger.record(receipt(tokens_saved=2**70))
    ledger.record(receipt())
    wayward.answering.set()
    await waiting
    await until(lambda: sums(wayward)[""]["requests"] == 2)
    assert not ledger.ailing
    assert ledger.missing == {"told": 1}
    assert "does not take one told" in caplog.text


async def test_an_intent_that_the_database_does_not_take_is_refused(ledger: SqlLedger, wayward: Wayward) -> None:
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call((ME, 2**70)))
    await ledger.intend(call((ME, 7)))
    assert sums(wayward)[""]["tokens_unsettled"] == 7


async def test_money_goes_before_the_rows_of_hits(ledger: SqlLedger, wayward: Wayward) -> None:
    await ledger.intend(call())
    wayward.answering.clear()
    first = asyncio.create_task(ledger.intend(call()))
    await asyncio.sleep(0.05)
    for _ in range(20_000):
        ledger.record(receipt())
    late = asyncio.create_task(ledger.intend(call()))
    await asyncio.sleep(0.05)
    wayward.answering.set()
    await asyncio.gather(first, late)
    assert len(rows(wayward, "requests")) < 2_000


async def test_the_end_does_not_wait_for_what_can_not_be_written(wayward: Wayward) -> None:
    ledger = SqlLedger(wayward)
    ledger.open()
    wayward.failing = True
    for _ in range(20_000):
        ledger.record(receipt())
    began = time.monotonic()
    await ledger.close(0.3)
    assert time.monotonic() - began < 3.0


async def test_the_end_does_not_wait_for_a_database_that_has_fallen_silent(
    wayward: Wayward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "GRACE", 0.2)
    ledger = SqlLedger(wayward)
    ledger.open()
    await ledger.intend(call())
    wayward.answering.clear()
    ledger.record(receipt())
    began = time.monotonic()
    await ledger.close(0.3)
    assert time.monotonic() - began < 3.0
    wayward.answering.set()


async def test_an_intent_that_finds_no_room_is_refused(
    ledger: SqlLedger, wayward: Wayward, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ledger.intend(call())
    monkeypatch.setattr(writer, "ROOM", 0)
    with pytest.raises(LedgerUnavailable):
        await ledger.intend(call())


async def test_a_request_that_is_answered_after_the_end_is_no_error(wayward: Wayward) -> None:
    ledger = SqlLedger(wayward)
    ledger.open()
    await ledger.close(10)
    await ledger.record(receipt(tokens_billed=5))
