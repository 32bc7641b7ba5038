"""What grows though it is small: sums by names that callers choose, and the marks of writers."""

from itertools import count
from typing import Any

import pytest
from sqlalchemy import insert, update

from cache_proxy.calls import Account
from cache_proxy.errors import LedgerError
from cache_proxy.ledger import tables, tidying
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import OLDER
from cache_proxy.ledger.notes import Ending, Intent, Note, Prune, Told
from cache_proxy.ledger.posting import Batch
from cache_proxy.ledger.retention import AT_ONCE
from cache_proxy.ledger.sums import AMOUNTS, DAY
from cache_proxy.ledger.tidying import MARKS_KEPT, Place, Tidied, tidy
from tests.ledger.money import ME, NOON, YOU, call, paid, receipt, rows, sums

_batches = count()

TODAY = int(NOON // DAY)


def post(database: Database, *notes: Note, writer: str = "w", now: float = NOON) -> None:
    with database.writing() as connection:
        for intent in Batch(str(next(_batches)), notes).post(connection, writer, now):
            intent.written = True


def tidied(database: Database, now: float = NOON, names_days: int = 0, done: Tidied = Tidied()) -> Tidied:  # noqa: B008
    with database.writing() as connection:
        return tidy(connection, now, names_days, done)


def add_sums(database: Database, *places: tuple[int, str, str], **amounts: int) -> None:
    with database.writing() as connection:
        found = [dict(zip(Place._fields, place, strict=True)) for place in places]
        connection.execute(insert(tables.days), [{**row, "label": "", **amounts} for row in found])


def places(database: Database) -> set[Any]:
    return {(row["day"], row["kind"], row["name"]) for row in rows(database, "days")}


def test_sums_of_days_gone_by_in_which_nothing_stands_are_taken_out(database: Database) -> None:
    made_up = Account("own", "c" * 64)
    for at in (NOON - DAY, NOON):
        intent = Intent(call((made_up, 60), at=at))
        post(database, intent, Ending(intent, paid(0), at))
    post(database, Intent(call((ME, 60), at=NOON - DAY)), Told("1", receipt(YOU, at=NOON - DAY)))
    before = sums(database)
    assert (TODAY - 1, "key", "c" * 64) in places(database)
    tidied(database)
    assert (TODAY - 1, "key", "c" * 64) not in places(database)
    assert {(TODAY, "key", "c" * 64), (TODAY - 1, "key", ME.key), (TODAY - 1, "key", YOU.key)} <= places(database)
    assert sums(database) == before


def test_every_row_is_looked_at_in_portions_and_later_only_what_is_new(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "LOOKED_AT", 3)
    empty = [(TODAY - day, kind, name) for day in (1, 300) for kind in ("key", "tag") for name in ("a", "b")]
    add_sums(database, *empty)
    add_sums(database, (TODAY - 1, "all", ""), requests=1)
    done = Tidied()
    for _ in range(4):
        done = tidied(database, done=done)
    assert (done.more, places(database)) == (False, {(TODAY - 1, "all", "")})
    add_sums(database, *empty)
    for _ in range(4):
        done = tidied(database, done=done)
    assert {place[0] for place in places(database)} == {TODAY - 1, TODAY - 300}
    assert (TODAY - 1, "key", "a") not in places(database)


def test_users_and_tags_of_long_ago_are_one_row_a_day_and_all_others_stay(database: Database) -> None:
    old = NOON - 11 * DAY
    for at in (old, NOON - 9 * DAY):
        for end_user in ("ann", "ben", None):
            who = Account("you", "b" * 64, "team")
            post(database, Told(str(next(_batches)), receipt(who, at, user=end_user, tags=("x", "y"), tokens_saved=7)))
    before = {kind: sums(database, kind) for kind in ("all", "key", "team", "model", "endpoint")}
    tidied(database, names_days=10)
    day = int(old // DAY)
    assert {name for found, kind, name in places(database) if found == day and kind == "user"} == {OLDER, ""}
    assert {name for found, kind, name in places(database) if found == day and kind == "tag"} == {OLDER}
    assert {name for found, kind, name in places(database) if found != day and kind == "user"} == {"ann", "ben", ""}
    assert sums(database, "user")[OLDER]["requests"] == 2
    assert sums(database, "tag")[OLDER]["tokens_saved"] == 3 * 2 * 7
    assert {kind: sums(database, kind) for kind in before} == before
    tidied(database, names_days=10)
    assert sums(database, "user")[OLDER]["requests"] == 2


def test_names_are_kept_for_good_where_that_is_asked(database: Database) -> None:
    post(database, Told("1", receipt(YOU, NOON - 1000 * DAY, user="ann")))
    tidied(database, names_days=0)
    assert set(sums(database, "user")) == {"ann"}


def test_what_comes_late_to_a_day_that_is_folded_is_folded_too(database: Database) -> None:
    intent = Intent(call((YOU, 60), at=NOON - 11 * DAY))
    post(database, intent)
    done = tidied(database, names_days=10)
    assert sums(database, "user")[OLDER]["tokens_unsettled"] == 60
    post(database, Ending(intent, paid(5), NOON))
    while (done := tidied(database, names_days=10, done=done)).more:
        pass
    found = sums(database, "user")
    assert set(found) == {OLDER}
    assert (found[OLDER]["tokens_unsettled"], found[OLDER]["tokens_billed"]) == (0, 5)


def test_a_mark_is_kept_as_long_as_its_batch_may_come_again(database: Database) -> None:
    post(database, Told("1", receipt()), writer="gone", now=NOON)
    post(database, Told("2", receipt()), writer="idle", now=NOON + 10)
    tidied(database, now=NOON + MARKS_KEPT)
    assert {row["writer"] for row in rows(database, "batches")} == {"gone", "idle"}
    tidied(database, now=NOON + MARKS_KEPT + 20)
    assert rows(database, "batches") == []
    post(database, Told("3", receipt()), writer="idle", now=NOON + MARKS_KEPT + 30)
    assert sums(database)[""]["requests"] == 3


@pytest.mark.parametrize("what", ["a request", "an intent", "a settlement"])
def test_a_batch_whose_mark_was_taken_out_before_it_came_again_is_not_written_twice(
    database: Database, what: str
) -> None:
    intent = Intent(call((ME, 60)))
    if what == "a settlement":
        post(database, intent)
    notes: dict[str, list[Note]] = {
        "a request": [Told("1", receipt())], "an intent": [intent], "a settlement": [Ending(intent, paid(5), NOON)],
    }  # fmt: skip
    batch = Batch("b", notes[what])
    with database.writing() as connection:
        batch.post(connection, "asleep", NOON)
    before = sums(database)
    tidied(database, now=NOON + 3 * DAY)
    assert not [row for row in rows(database, "batches") if row["writer"] == "asleep"]
    with database.writing() as connection:
        assert batch.post(connection, "asleep", NOON + 3 * DAY) == ([intent] if what == "an intent" else [])
    assert sums(database) == before


def test_a_batch_that_was_never_committed_is_written_however_late_it_comes(database: Database) -> None:
    intent = Intent(call((ME, 60)))
    batch = Batch("b", [intent, Ending(intent, paid(5), NOON), Told("1", receipt())])

    def fail_at_the_end() -> None:
        with database.writing() as connection:
            batch.post(connection, "w", NOON)
            connection.exec_driver_sql("nonsense")

    with pytest.raises(LedgerError):
        fail_at_the_end()
    with database.writing() as connection:
        batch.post(connection, "w", NOON + 3 * DAY)
    assert (sums(database)[""]["tokens_billed"], sums(database)[""]["requests"]) == (5, 1)


@pytest.mark.parametrize("shares", [1, 200])
def test_a_portion_of_old_calls_is_as_many_rows_however_many_bear_a_call(database: Database, shares: int) -> None:
    calls = [call(*((ME, 10),) * shares, at=NOON - at) for at in range(2 * AT_ONCE // (1 + shares) + 1)]
    post(database, *(Intent(one) for one in calls))
    note, left = Prune(NOON + 1), len(calls)
    while left:
        post(database, note)
        now_left = len(rows(database, "calls"))
        assert 0 < (left - now_left) * (1 + shares) <= AT_ONCE + shares
        assert len(rows(database, "shares")) == now_left * shares
        assert note.more or not now_left
        left = now_left


def test_what_somebody_is_adding_to_is_left_for_the_next_time(database: Database) -> None:
    if not database.place.startswith("postgresql"):
        pytest.skip("SQLite has one writer at a time")
    place = (TODAY - 1, "key", "a")
    add_sums(database, place)
    with database.writing() as busy:
        busy.execute(update(tables.days).values(requests=tables.days.c.requests + 1))
        # One that waited for it would wait for five seconds, and fail.
        tidied(database)
    assert places(database) == {place}


def test_every_amount_must_be_nothing_for_a_row_to_be_empty(database: Database) -> None:
    for amount in AMOUNTS:
        add_sums(database, (TODAY - 1, "tag", amount), **{amount: 1})
    tidied(database)
    assert {name for _, _, name in places(database)} == set(AMOUNTS)
