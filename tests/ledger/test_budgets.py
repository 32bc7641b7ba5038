"""Budgets in the database: an intent is a reservation, and what does not fit is not written."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Connection, event

from cache_proxy.access import AccessKey
from cache_proxy.calls import Account, Budget, Call
from cache_proxy.core.durations import Window
from cache_proxy.errors import BudgetExceeded, BudgetUnknown, LedgerError, LedgerUnavailable, PriceUnknown, Shortage
from cache_proxy.ledger.books import SqlLedger
from cache_proxy.ledger.budgets import NEVER
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.keys import KeyTable
from cache_proxy.ledger.notes import Ending, Intent, Note, Prune
from cache_proxy.ledger.posting import Batch
from cache_proxy.ledger.reckoning import reckoned
from tests.ledger.money import ME, NOON, PRICE, call, paid, rows
from tests.ledger.test_books import Wayward
from tests.ledger.test_posting import post

DAY_BEGAN, DAY_ENDS = int(NOON) - 43_200, int(NOON) + 43_200
_batches = count()


def poor(limit: int = 100, duration: str = "", name: str = "p") -> Account:
    """Somebody who may spend on so many tokens."""
    return Account("poor", name * 64, budget=Budget(limit * PRICE, duration))


FREE = poor()._replace(budget=None)
"""The same key, while it has no budget."""


def level(database: Database, name: str = "p") -> tuple[int, int]:
    """The tokens that are spent and reserved, over all windows."""
    mine = [row for row in rows(database, "budgets") if row["key_hash"] == name * 64]
    return sum(row["spent"] for row in mine) // PRICE, sum(row["reserved"] for row in mine) // PRICE


def told(database: Database, duration: str, now: float = NOON) -> tuple[int, int]:
    """The tokens that are spent and reserved in a budget of this duration, as ``/key/info`` tells of it."""
    key = AccessKey(hash="p" * 64, max_budget=1, budget_duration=duration)
    spent, reserved = KeyTable(database).levels([key], now)[key.hash]
    return spent // PRICE, reserved // PRICE


def spend(database: Database, account: Account, tokens: int, at: float = NOON) -> None:
    """Pay for so many tokens."""
    intent = Intent(call((account, tokens), at=at))
    post(database, [intent])
    assert intent.refusal is None
    post(database, [Ending(intent, paid(tokens), at)])


def refused(database: Database, *intents: Intent) -> list[bool]:
    post(database, intents)
    return [intent.refusal is not None for intent in intents]


def test_an_intent_reserves_its_bound_and_a_settlement_spends_what_was_billed(database: Database) -> None:
    intent = Intent(call((poor(), 60)))
    assert refused(database, intent) == [False]
    assert level(database) == (0, 60)
    post(database, [Ending(intent, paid(7), NOON)])
    assert level(database) == (7, 0)


def test_what_does_not_fit_is_not_written_and_says_why(database: Database) -> None:
    first, second, third = (Intent(call((poor(duration="1d"), bound))) for bound in (60, 41, 40))
    assert refused(database, first, second, third) == [False, True, False]
    assert len(rows(database, "calls")) == 2
    assert level(database) == (0, 100)
    assert second.refusal is not None
    assert second.refusal.short == {"p" * 64: Shortage(0, 60 * PRICE, 100 * PRICE, 41 * PRICE, DAY_ENDS)}


def test_what_ended_makes_room_for_what_comes_with_it(database: Database) -> None:
    first, second = Intent(call((poor(), 100))), Intent(call((poor(), 90)))
    post(database, [first])
    post(database, [second, Ending(first, paid(10), NOON)])
    assert second.refusal is None
    assert level(database) == (10, 90)


def test_of_what_nobody_knows_the_cost_stays_reserved(database: Database) -> None:
    intent = Intent(call((poor(), 60)))
    post(database, [intent, Ending(intent, None, NOON)])
    assert level(database) == (0, 60)
    assert refused(database, Intent(call((poor(), 50)))) == [True]


def test_what_was_never_sent_is_free_again(database: Database) -> None:
    intent = Intent(call((poor(), 60)))
    post(database, [intent])
    intent.void = True
    post(database, [Ending(intent, paid(0), NOON)])
    assert level(database) == (0, 0)


def test_a_call_of_several_is_written_for_all_or_for_nobody(database: Database) -> None:
    both = Intent(call((poor(name="p"), 60), (ME, 500), (poor(50, name="q"), 60)))
    assert refused(database, both) == [True]
    assert both.refusal is not None
    assert both.refusal.keys == {"q" * 64}
    assert (level(database, "p"), level(database, "q")) == ((0, 0), (0, 0))
    assert rows(database, "calls") == []


def test_several_shares_of_one_key_count_together(database: Database) -> None:
    assert refused(database, Intent(call((poor(), 60), (poor(), 60)))) == [True]
    intent = Intent(call((poor(), 50), (poor(), 50)))
    assert refused(database, intent) == [False]
    post(database, [Ending(intent, paid(5, 6), NOON)])
    assert level(database) == (11, 0)


def test_each_window_begins_anew_and_a_call_counts_where_it_was_sent(database: Database) -> None:
    today = Intent(call((poor(duration="1d"), 100)))
    tomorrow = Intent(call((poor(duration="1d"), 100), at=float(DAY_ENDS)))
    assert refused(database, today, tomorrow) == [False, False]
    post(database, [Ending(today, paid(90), DAY_ENDS + 5)])
    found = {row["starts_at"]: (row["ends_at"], row["spent"], row["reserved"]) for row in rows(database, "budgets")}
    assert found == {
        DAY_BEGAN: (DAY_ENDS, 90 * PRICE, 0),
        DAY_ENDS: (DAY_ENDS + 86_400, 0, 100 * PRICE),
    }  # fmt: skip


def test_what_was_spent_before_there_was_a_budget_counts(database: Database) -> None:
    spend(database, FREE, 55)
    assert refused(database, Intent(call((poor(duration="1d"), 50)))) == [True]
    assert refused(database, Intent(call((poor(duration="1d"), 45)))) == [False]
    assert level(database) == (55, 45)


HOUR, DAY = 3_600, 86_400
SPENT = {-8 * DAY: 1, -DAY: 2, -6 * HOUR: 4, -HOUR // 2: 8, 0: 16, HOUR // 2: 32, 6 * HOUR: 64, 35 * HOUR: 128}
"""Tokens by the seconds from the noon of a Friday at which their call was sent."""


@pytest.mark.parametrize(
    ("duration", "tokens"),
    [
        ("", 255),
        ("7d", 2 + 4 + 8 + 16 + 32 + 64 + 128),
        ("1d", 4 + 8 + 16 + 32 + 64),
        ("36h", 16 + 32 + 64 + 128),
        ("5h", 8 + 16 + 32),
        ("1h", 16 + 32),
        ("1s", 16),
    ],
)
def test_what_was_spent_in_a_window_counts_though_it_begins_or_ends_within_a_day(
    database: Database, duration: str, tokens: int
) -> None:
    for after, each in SPENT.items():
        spend(database, FREE, each, at=NOON + after)
    key = AccessKey(hash="p" * 64, max_budget=1, budget_duration=duration)
    assert KeyTable(database).levels([key], NOON) == {key.hash: (tokens * PRICE, 0)}
    assert refused(database, Intent(call((poor(tokens + 5, duration), 6)))) == [True]
    assert refused(database, Intent(call((poor(tokens + 5, duration), 5)))) == [False]
    assert level(database) == (tokens, 5)


def test_what_is_under_way_counts_in_a_budget_that_is_set_or_changed_meanwhile(database: Database) -> None:
    """Whatever the budget of the payer was when it was sent; in no window that it was not sent in."""
    yesterday = Intent(call((poor(duration="1d"), 10), at=NOON - DAY))
    free, of_a_day = Intent(call((FREE, 30))), Intent(call((poor(duration="1d"), 40)))
    assert refused(database, yesterday, free, of_a_day) == [False] * 3
    for duration, under_way in (("1d", 70), ("1h", 70), ("1mo", 80), ("", 80)):
        assert told(database, duration) == (0, under_way)
        assert refused(database, Intent(call((poor(duration=duration), 101 - under_way)))) == [True]
    post(database, [Ending(free, paid(3), NOON), Ending(of_a_day, paid(4), NOON), Ending(yesterday, None, NOON)])
    assert [told(database, duration) for duration in ("1d", "1h", "1mo", "")] == [(7, 0), (7, 0), (7, 10), (7, 10)]


def test_windows_that_begin_at_one_moment_are_apart(database: Database) -> None:
    """``1d`` and ``7d`` on a Monday: what is spent on Tuesday is of one of them only."""
    monday = DAY_BEGAN - 4 * DAY
    spend(database, poor(duration="1d"), 20, at=monday + 10.0)
    spend(database, poor(duration="1d"), 90, at=monday + DAY + 10.0)
    assert told(database, "7d", monday + DAY + 20.0) == (110, 0)
    assert refused(database, Intent(call((poor(duration="7d"), 1), at=monday + DAY + 20.0))) == [True]
    assert told(database, "1d", monday + 20.0) == (20, 0)


def test_a_budget_that_was_taken_away_and_set_again_knows_what_was_spent_between(database: Database) -> None:
    spend(database, poor(duration="1mo"), 10)
    spend(database, FREE, 500)
    spend(database, poor(10_000, "1d"), 7)
    assert told(database, "1mo") == (517, 0)
    assert refused(database, Intent(call((poor(duration="1mo"), 1)))) == [True]


def test_one_call_may_carry_a_budget_as_it_was_and_as_it_is_now(database: Database) -> None:
    monday = float(DAY_BEGAN - 4 * DAY)
    both = Intent(call((poor(50, "1d"), 10), (poor(30, "7d"), 10), (FREE, 10), at=monday))
    too_much = Intent(call((poor(50, "1d"), 10), (poor(30, "7d"), 1), at=monday))
    assert refused(database, both, too_much) == [False, True]
    assert too_much.refusal is not None
    assert too_much.refusal.short["p" * 64].limit == 30 * PRICE
    post(database, [Ending(both, paid(1, 2, 3), monday)])
    assert {row["duration"]: row["spent"] // PRICE for row in rows(database, "budgets")} == {"1d": 6, "7d": 6}


def test_a_row_that_is_made_waits_for_who_writes_of_the_same_key(database: Database) -> None:
    """He can not book in it, and his call is not to be seen yet."""
    database.open()
    later = Intent(call((poor(), 50)))
    thread = threading.Thread(target=post, args=(database, [later]))
    with database.writing() as connection:
        Batch("first", [Intent(call((FREE, 60)))]).post(connection, "first", NOON)
        thread.start()
        thread.join(0.2)
    thread.join()
    assert later.refusal is not None


def test_a_batch_whose_commit_was_not_heard_of_reserves_once(database: Database) -> None:
    fits, does_not = Intent(call((poor(), 60))), Intent(call((poor(), 60)))
    batch = Batch("b", [fits, does_not])
    for _ in range(2):
        with database.writing() as connection:
            assert batch.post(connection, "w", NOON) == [fits]
    assert does_not.refusal is not None
    assert level(database) == (0, 60)


def test_one_that_was_rolled_back_has_reserved_nothing(database: Database) -> None:
    def fail_at_the_end() -> None:
        with database.writing() as connection:
            Batch("b", [Intent(call((poor(), 60)))]).post(connection, "w", NOON)
            connection.exec_driver_sql("nonsense")

    with pytest.raises(LedgerError):
        fail_at_the_end()
    assert refused(database, Intent(call((poor(), 100)))) == [False]


def test_writers_that_come_at_a_time_never_reserve_more_than_there_is(database: Database) -> None:
    """Each with several budgets in a batch, in another order: none waits for another for ever."""
    database.open()
    names = "pqrs"
    written: list[Intent] = []

    def write(turn: int) -> None:
        for at in range(10):
            order = names[(turn + at) % 4 :] + names[: (turn + at) % 4]
            intents: list[Note] = [Intent(call((poor(name=name), 9))) for name in order]
            with database.writing() as connection:
                batch = Batch(str(next(_batches)), intents)
                fitting = batch.post(connection, f"w{turn}", NOON)
            written.extend(fitting)

    threads = [threading.Thread(target=write, args=(turn,)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: level(database, name) for name in names} == dict.fromkeys(names, (0, 99))
    assert len(written) == 4 * 11


def write_at_random(database: Database, turn: int) -> None:
    """Calls of two keys whose budgets come, go and change all the time; of some of them nobody knows the end."""
    chosen, under_way = Random(turn), list[Intent]()
    for _ in range(12):
        notes: list[Note] = []
        for _ in range(chosen.randint(1, 4)):
            accounts = [poor(chosen.choice((150, 10_000)), chosen.choice(("", "1d", "7d", "1h")), name=name)
                        for name in chosen.choice(("p", "q", "pq", "pp"))]  # fmt: skip
            shares = [
                (account._replace(budget=chosen.choice((None, account.budget))), chosen.randint(1, 20))
                for account in accounts
            ]
            notes.append(Intent(call(*shares, at=NOON + chosen.choice((-DAY, 0, HOUR)))))
        while under_way and chosen.random() < 0.7:
            intent = under_way.pop()
            billed = paid(*(chosen.randint(0, share.tokens_bound) for share in intent.call.shares))
            notes.append(Ending(intent, chosen.choice((None, billed, billed)), NOON))
        with database.writing() as connection:
            written = Batch(str(next(_batches)), notes).post(connection, f"w{turn}", NOON)
        for intent in written:
            intent.written = True
        under_way += written


def test_every_row_holds_what_would_be_reckoned_if_it_were_not_there(database: Database) -> None:
    database.open()
    threads = [threading.Thread(target=write_at_random, args=(database, turn)) for turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = rows(database, "budgets")
    assert {row["duration"] for row in found} == {"", "1d", "7d", "1h"}
    with database.reading() as connection:
        for row in found:
            span = Window(row["starts_at"], None if row["ends_at"] == NEVER else row["ends_at"])
            level = reckoned(connection, [row["key_hash"]], span)[row["key_hash"]]
            assert (row["spent"], row["reserved"]) == (level.spent, level.reserved), row


def test_budgets_of_times_gone_by_are_taken_out(database: Database) -> None:
    post(database, [Intent(call((poor(duration="1d"), 5))), Intent(call((poor(name="q"), 5)))])
    post(database, [Prune(DAY_ENDS + 1.0)])
    assert [row["key_hash"][0] for row in rows(database, "budgets")] == ["q"]


def test_what_stands_there_is_told_of_the_window_that_it_is_now(database: Database) -> None:
    table = KeyTable(database)
    key = AccessKey(hash="p" * 64, max_budget=100 * PRICE, budget_duration="1d")
    spend(database, FREE, 20)
    assert table.levels([key, replace(key, max_budget=None)], NOON) == {key.hash: (20 * PRICE, 0)}
    post(database, [Intent(call((poor(duration="1d"), 30)))])
    assert table.levels([key], NOON) == {key.hash: (20 * PRICE, 30 * PRICE)}
    assert table.levels([key], NOON + 86_400) == {key.hash: (0, 0)}


# The ledger at work ---------------------------------------------------------------------------------------------------


async def intend(ledger: SqlLedger, calls: Sequence[Call]) -> list[BaseException | None]:
    return await asyncio.gather(*(ledger.intend(each) for each in calls), return_exceptions=True)


@pytest.mark.anyio
async def test_each_of_a_hundred_hears_for_itself_whether_it_fits(tmp_path: Path) -> None:
    ledger = SqlLedger(Database.in_folder(tmp_path))
    ledger.open()
    calls = [call((poor(), 10)) for _ in range(100)]
    heard = await intend(ledger, calls)
    assert sum(one is None for one in heard) == 10
    assert all(isinstance(one, BudgetExceeded) for one in heard if one is not None)
    for each, one in zip(calls, heard, strict=True):
        if one is None:
            await ledger.settle(each, paid(3))
    await ledger.close(10)
    assert level(Database.in_folder(tmp_path)) == (30, 0)


@pytest.mark.anyio
async def test_who_has_a_budget_may_not_spend_what_nobody_knows(tmp_path: Path) -> None:
    ledger = SqlLedger(Database.in_folder(tmp_path))
    ledger.open()
    with pytest.raises(PriceUnknown) as raised:
        await ledger.intend(call((poor(), 10), (ME, 10), price=None))
    assert raised.value.keys == {"p" * 64}
    await ledger.intend(call((ME, 10), price=None))
    await ledger.close(10)


@pytest.mark.anyio
@pytest.mark.parametrize("refusing", [True, False])
async def test_while_the_database_is_away_nothing_is_spent_on_a_budget_whatever_the_operator_says(
    tmp_path: Path, refusing: bool
) -> None:
    wayward = Wayward(Database.in_folder(tmp_path))
    ledger = SqlLedger(wayward, refusing=refusing)
    ledger.open()
    wayward.failing = True
    for _ in range(2):
        with pytest.raises(LedgerUnavailable if refusing else BudgetUnknown):
            await ledger.intend(call((poor(), 10)))
    if not refusing:
        await ledger.intend(call((ME, 10)))
    wayward.failing = False
    await ledger.close(10)
    assert level(wayward) == (0, 0)


def asked_about_budgets(database: Database, notes: Sequence[Note]) -> list[str]:
    """The first words of what is said about budgets while these notes are written."""
    database.open()
    asked: list[str] = []

    def listen(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if "budgets" in statement or "advisory" in statement:
            asked.append(statement.split(" ", 1)[0])

    event.listen(database._engine, "before_cursor_execute", listen)
    post(database, notes)
    event.remove(database._engine, "before_cursor_execute", listen)
    return asked


def test_budgets_are_asked_about_once_however_many_calls_and_keys_there_are(database: Database) -> None:
    locks = ["SELECT"] if database.place.startswith("postgresql") else []
    nobody, free = Account("local"), Account("free", "f" * 64)
    assert asked_about_budgets(database, [Intent(call((nobody, 10)))]) == []
    assert asked_about_budgets(database, [Intent(call((free, 10))) for _ in range(50)]) == [*locks, "SELECT"]
    many: list[Note] = [Intent(call((poor(name=name), 10))) for name in "pqrs" for _ in range(5)]
    assert asked_about_budgets(database, many) == [*locks, "SELECT", "INSERT"]
    assert asked_about_budgets(database, many[:1]) == [*locks, "SELECT", "INSERT"]
