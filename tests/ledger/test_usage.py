"""What is read from the ledger is what was written: any period, any grouping, to the token and the pico-USD."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete
from sqlalchemy.event import listen

from cache_proxy.calls import Account
from cache_proxy.errors import LedgerError
from cache_proxy.ledger import tables, tidying
from cache_proxy.ledger import usage as module
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import GROUPS, OTHERS, Usage, Whose, beginning, whose
from cache_proxy.ledger.periods import split
from cache_proxy.ledger.sums import DAY
from cache_proxy.ledger.usage import usage
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Counts
from tests.ledger.writing import (
    ANNA,
    JOB,
    LOCAL,
    Ended,
    Event,
    added_up,
    call,
    clear,
    fold_before,
    forget_before,
    post,
    receipt,
)

DAYS = 4
ALL = (None, *GROUPS)

edges = st.sampled_from([day * DAY + shift for day in range(DAYS + 1) for shift in (-0.001, 0, 0.001, DAY / 2)])
moments = edges | st.floats(0, DAYS * DAY)
accounts = st.sampled_from([ANNA, JOB, LOCAL, Account(), Account("nameless", "c" * 64, "other")])
tags = st.lists(st.sampled_from(["a", "b", 'q"uote', "é", ""]), max_size=3).map(tuple)
end_users = st.sampled_from(["", "anna", "ben"])
models = st.sampled_from([("jina-embeddings-v3", Endpoint.EMBEDDINGS), ("jina-reranker-m0", Endpoint.RERANK)])
prices = st.sampled_from([None, 1, 50_000, 10**12])
tokens = st.integers(0, 10**6)
counts = st.lists(st.integers(0, 512), min_size=4, max_size=4).map(lambda some: Counts(sum(some), *some))


@st.composite
def calls(draw: st.DrawFn) -> Ended:
    model, endpoint = draw(models)
    return call(
        draw(moments),
        *draw(st.lists(tokens, min_size=1, max_size=3)),
        accounts=draw(st.lists(accounts, min_size=1, max_size=3)),
        price=draw(prices),
        settled=draw(st.booleans()),
        tags=draw(tags),
        end_user=draw(end_users),
        model=model,
        endpoint=endpoint,
    )


@st.composite
def receipts(draw: st.DrawFn) -> Event:
    model, endpoint = draw(models)
    return receipt(
        draw(moments),
        draw(counts),
        account=draw(accounts),
        saved=draw(tokens),
        price=draw(prices),
        tags=draw(tags),
        end_user=draw(end_users) or None,
        model=model,
        endpoint=endpoint,
    )


events = st.lists(calls() | receipts(), max_size=12)
periods = st.tuples(st.none() | moments, st.none() | moments).filter(
    lambda span: span[0] is None or span[1] is None or span[0] < span[1]
)
fresh_each_time = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def by_name(found: Sequence[Usage]) -> dict[str, Usage]:
    assert len({row.name for row in found}) == len(found)
    return {row.name: row for row in found}


@fresh_each_time
@given(happened=events, spans=st.lists(periods, min_size=1, max_size=3))
def test_usage_of_any_period_is_the_sum_of_what_happened_in_it(
    database: Database, happened: list[Event], spans: list[tuple[float | None, float | None]]
) -> None:
    clear(database)
    post(database, *happened)
    for since, until in spans:
        for by in ALL:
            assert by_name(usage(database, by, since, until)) == added_up(happened, by, since, until), by


@fresh_each_time
@given(happened=events, span=periods, account=accounts)
def test_usage_of_one_key_is_the_sum_of_what_it_did_in_any_grouping(
    database: Database, happened: list[Event], span: tuple[float | None, float | None], account: Account
) -> None:
    clear(database)
    post(database, *happened)
    whose = Whose((account.key,)) if account.key else Whose((), account.alias)
    for by in ALL:
        found = by_name(usage(database, by, *span, whose))
        assert found == added_up(happened, by, *span, key=account.key or account.alias), by


@fresh_each_time
@given(happened=events, span=periods, most=st.integers(1, 4), room=st.sampled_from([0, 1, 100]))
def test_what_a_report_has_no_room_for_is_one_more_row_and_the_sum_stays(
    database: Database, happened: list[Event], span: tuple[float | None, float | None], most: int, room: int
) -> None:
    clear(database)
    post(database, *happened)
    for by in set(GROUPS) - {"day"}:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "ROOM", room)
            every, some = usage(database, by, *span), usage(database, by, *span, most=most)
        if room == 100:
            assert [row for row in some if row.name != OTHERS] == every[:most], by
        assert OTHERS not in {row.name for row in some[:-1]}
        assert all(row in every for row in some if row.name != OTHERS), by
        for one, other in zip(zip(*every, strict=True), zip(*some, strict=True), strict=True):
            if isinstance(one[0], int):
                assert sum(one) == sum(other), by


def test_those_who_paid_most_are_told_where_there_is_room_for_some(database: Database) -> None:
    users = [call(10.0 + at, at, accounts=[LOCAL], end_user=f"user {at}") for at in range(1, 30)]
    post(database, *users, *(receipt(DAY + 10.0, account=LOCAL, end_user=f"user {at}") for at in range(1, 30)))
    for since, until in ((None, None), (5.0, None), (5.0, 2 * DAY - 5.0), (5.0, 100.0)):
        for who in (None, Whose((), "local")):
            found = usage(database, "user", since, until, who, 3)
            assert [row.name for row in found] == ["user 29", "user 28", "user 27", OTHERS]
            assert found[3].tokens_billed == sum(range(1, 27))
    assert len(usage(database, "day", most=1)) == 2


def test_no_caller_is_called_as_rows_of_ours_are(database: Database) -> None:
    post(database, receipt(10.0, account=Account(OTHERS), tags=(OTHERS,), end_user=OTHERS))
    for by in ("key", "tag", "user"):
        for since in (None, 5.0):
            assert [row.name for row in usage(database, by, since)] == ["\ufffd(others)"]


@fresh_each_time
@given(happened=events, span=periods, day=st.integers(0, DAYS))
def test_usage_is_exact_though_the_names_of_old_days_are_folded(
    database: Database, happened: list[Event], span: tuple[float | None, float | None], day: int
) -> None:
    clear(database)
    post(database, *happened)
    fold_before(database, day)
    for by in ALL:
        assert by_name(usage(database, by, *span)) == added_up(happened, by, *span, folded=day), by


@fresh_each_time
@given(happened=events, span=periods, day=st.integers(0, DAYS), portions=st.integers(1, 4))
def test_users_add_up_to_the_whole_while_some_names_of_a_day_are_folded(
    database: Database, happened: list[Event], span: tuple[float | None, float | None], day: int, portions: int
) -> None:
    clear(database)
    post(database, *happened)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tidying, "FOLDED", 1)
        fold_before(database, day, portions)
    whole = usage(database, None, *span)
    rows = usage(database, "user", *span)
    assert [sum(column) for column in zip(*(row[2:] for row in rows), strict=True)] == [
        amount for row in whole for amount in row[2:]
    ]
    assert all(amount >= 0 for row in rows for amount in row[2:])


def test_an_alias_stands_for_every_key_that_went_by_it_and_for_who_has_none(database: Database) -> None:
    earlier, later = Account("job", "c" * 64), Account("job", "d" * 64)
    renamed = later._replace(alias="night")
    post(database, call(10.0, 1, accounts=[earlier]), call(DAY + 10.0, 2, accounts=[later]))
    post(database, call(2 * DAY + 10.0, 4, accounts=[renamed]), call(10.0, 8, accounts=[Account("job")]))
    post(database, call(10.0, 16, accounts=[ANNA]))
    for by in ALL:
        assert sum(row.tokens_billed for row in usage(database, by, None, None, whose("job"))) == 15, by
        assert sum(row.tokens_billed for row in usage(database, by, None, None, whose("night"))) == 6, by
        assert usage(database, by, None, None, whose("nobody")) == [], by


def test_what_one_key_did_is_looked_up_and_not_looked_for(tmp_path: Path) -> None:
    # In SQLite: what PostgreSQL does hangs on how many rows there are.
    database = Database.in_folder(tmp_path)
    post(database, call(10.0, 1), receipt(10.0))
    said: list[tuple[str, object]] = []
    listen(database._engine, "before_cursor_execute", lambda *of: said.append((of[2], of[3])))
    for by in ALL:
        usage(database, by, 10.0, 2.5 * DAY, whose("a" * 64))
    plans = []
    with database.reading() as connection:
        for statement, given in [one for one in said if "sum(" in one[0]]:
            found = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)  # type: ignore[arg-type]
            plans.append(" ".join(str(row) for row in found))
    assert plans
    for plan in plans:
        assert any(index in plan for index in ("shares_key", "days_key", "requests_key_started_at")), plan
        assert "SCAN" not in plan
    database.close()


@pytest.mark.parametrize(
    ("by", "asked", "since", "began"),
    [
        ("model", "job", None, 70 * DAY),
        ("model", "job", 5.0, 5.0),
        ("day", "job", None, None),
        ("model", "", None, None),
    ],
)
def test_a_report_of_single_rows_goes_back_a_month_unless_more_is_asked(
    by: str, asked: str, since: float | None, began: float | None
) -> None:
    assert beginning(by, whose(asked) if asked else None, since, 100.0 * DAY) == began


@fresh_each_time
@given(happened=events, span=periods, horizon=moments)
def test_where_single_rows_are_gone_whole_days_and_what_came_after_are_still_exact(
    database: Database, happened: list[Event], span: tuple[float | None, float | None], horizon: float
) -> None:
    clear(database)
    post(database, *happened)
    forget_before(database, horizon)
    since, until = span
    if since is not None and since // DAY * DAY < horizon:
        since = since // DAY * DAY  # how much of its day is gone nobody knows, and all of it counts
    if until is not None and until < horizon:
        until = until // DAY * DAY
    if since is not None and until is not None and since >= until:
        return
    for by in ALL:
        assert by_name(usage(database, by, since, until)) == added_up(happened, by, since, until), by


@pytest.mark.parametrize("hour", range(2, 24))
def test_a_day_of_which_some_single_rows_are_gone_is_exact_from_what_is_left_on(database: Database, hour: int) -> None:
    happened = [event for at in range(24) for event in (call(at * 3600.0, at), receipt(at * 3600.0, saved=at))]
    post(database, *happened)
    forget_before(database, 2 * 3600.0)
    for since, until in ((hour * 3600.0, None), (None, hour * 3600.0), (hour * 3600.0, hour * 3600.0 + 1)):
        assert by_name(usage(database, None, since, until)) == added_up(happened, None, since, until)


def test_the_groups_of_a_period_add_up_to_the_whole_of_it(database: Database) -> None:
    happened = [
        call(at * 7000.0, at, 2 * at, accounts=[ANNA, JOB], price=None if at % 5 == 0 else 50_000, settled=at % 3 > 0)
        for at in range(40)
    ]
    post(database, *happened, *(receipt(at * 5000.0, Counts(2, 1, 1), saved=at, account=JOB) for at in range(40)))
    for since, until in ((None, None), (30_000.0, 200_000.0), (90_000.0, 95_000.0)):
        (whole,) = usage(database, None, since, until)
        for by in set(GROUPS) - {"tag"}:
            rows = usage(database, by, since, until)
            assert [sum(column) for column in zip(*(row[2:] for row in rows), strict=True)] == list(whole[2:]), by


def test_a_request_with_several_tags_counts_for_each_of_them(database: Database) -> None:
    post(database, receipt(10.0, tags=("a", "b", "a")), receipt(20.0, tags=("b",)), receipt(30.0))
    for since in (None, 5.0):
        assert {row.name: row.requests for row in usage(database, "tag", since)} == {"a": 1, "b": 2, "": 1}


def test_a_period_is_exact_though_calls_are_gone_until_later_than_requests(database: Database) -> None:
    happened = [event for at in range(96) for event in (call(at * 3600.0, at), receipt(at * 3600.0, saved=at))]
    post(database, *happened)
    with database.writing() as connection:
        connection.execute(delete(tables.requests).where(tables.requests.c.started_at < DAY))
        connection.execute(delete(tables.calls).where(tables.calls.c.sent_at < 3 * DAY))
    for by in ALL:
        (since, until) = (2.0 * DAY, 3.25 * DAY)
        assert by_name(usage(database, by, since, until)) == added_up(happened, by, since, until)
    (cut,) = usage(database, None, 1.75 * DAY, 2.0 * DAY)
    (whole,) = usage(database, None, 1.0 * DAY, 2.0 * DAY)
    assert (cut.requests, cut.tokens_billed) == (6, whole.tokens_billed)


def test_an_empty_ledger_has_no_rows(database: Database) -> None:
    for by in ALL:
        assert usage(database, by) == usage(database, by, 1.0, 2.0) == []


def test_who_had_nothing_happen_to_him_has_no_row(database: Database) -> None:
    post(database, call(10.0, 0, price=None), receipt(20.0, account=JOB))
    assert [row.label for row in usage(database, "key")] == ["job"]


def test_a_call_that_nobody_heard_of_counts_with_the_most_it_can_have_cost(database: Database) -> None:
    post(database, call(10.0, 5, settled=False), call(20.0, 7))
    (row,) = usage(database, None)
    assert (row.tokens_billed, row.tokens_unsettled, row.cost) == (7, 105, 350_000)


def test_those_who_paid_most_come_first_and_days_in_their_order(database: Database) -> None:
    post(database, call(DAY, 5), call(10.0, 3, accounts=[LOCAL]), call(2 * DAY, 9, accounts=[JOB]), receipt(5.0))
    assert [row.label for row in usage(database, "key")] == ["job", "anna's", "local"]
    assert [row.name for row in usage(database, "day")] == ["1970-01-01", "1970-01-02", "1970-01-03"]


def test_a_key_goes_by_the_alias_it_had_last(database: Database) -> None:
    aliases = [ANNA._replace(alias=alias) for alias in ("zoe", "bert", "anna")]
    post(database, *(receipt(day * DAY + 10.0, account=account) for day, account in enumerate(aliases)))
    assert [(row.name, row.label, row.requests) for row in usage(database, "key")] == [("a" * 64, "anna", 3)]
    assert [row.label for row in usage(database, "key", 5.0, 1.5 * DAY)] == ["bert"]
    assert [row.label for row in usage(database, "key", 5.0, 60.0)] == ["zoe"]


def test_sums_beyond_what_a_float_can_tell_are_exact(database: Database) -> None:
    post(database, call(10.0, 10**6 + 1, price=10**12 + 1), call(10.0, 3, price=1))
    for since in (None, 5.0):
        (row,) = usage(database, None, since)
        assert row.cost == (10**6 + 1) * (10**12 + 1) + 3


def test_less_than_half_a_day_of_single_rows_is_read_at_either_end() -> None:
    for since in range(0, DAY, 997):
        for until in range(0, DAY, 1009):
            period = split(float(since), float(5 * DAY + until), 0.0)
            assert all(cut.until - cut.since <= DAY / 2 for cut in period.cuts)


def test_a_database_that_can_not_be_read_is_a_ledger_error(database: Database) -> None:
    post(database, receipt(10.0))
    with database.writing() as connection:
        tables.requests.drop(connection)
    with pytest.raises(LedgerError):
        usage(database, None)


def test_looking_whether_there_is_a_ledger_makes_none(database: Database) -> None:
    assert database.is_there() is False
    assert database.is_there() is False
    post(database, receipt(10.0))
    assert database.is_there() is True
