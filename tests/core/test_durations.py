"""Durations in LiteLLM's spelling, and the windows of budgets: slots of the calendar, in UTC."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.core.durations import Window, after, is_duration, window

WORDS = [
    "1s", "30s", "15m", "1h", "24h", "5h", "1d", "7d", "30d", "45d", "1w", "2w", "1mo", "3mo", "12mo", "1200mo",
    "36525d",
]  # fmt: skip


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def spans(found: Window) -> tuple[str, str]:
    assert found.ends_at is not None
    dates = (datetime.fromtimestamp(edge, UTC) for edge in (found.starts_at, found.ends_at))
    first, last = (date.strftime("%Y-%m-%d %H:%M:%S") for date in dates)
    return first, last


@pytest.mark.parametrize("word", WORDS)
def test_these_are_durations(word: str) -> None:
    assert is_duration(word)


@pytest.mark.parametrize(
    "word",
    ["", "0d", "-1d", "1", "d", "1y", "1.5h", "1 d", "1D", "10000000s", "1d1h", "1201mo", "36526d", "5218w", "999999h"],
)
def test_these_are_none(word: str) -> None:
    assert not is_duration(word)


@pytest.mark.parametrize(
    ("word", "moment", "first", "last"),
    [
        ("1d", "2026-10-06 07:02:12", "2026-10-06 00:00:00", "2026-10-07 00:00:00"),
        ("24h", "2026-10-06 07:02:12", "2026-10-06 00:00:00", "2026-10-07 00:00:00"),
        ("7d", "2026-10-06 07:02:12", "2026-10-05 00:00:00", "2026-10-12 00:00:00"),
        ("1w", "2026-10-05 00:00:00", "2026-10-05 00:00:00", "2026-10-12 00:00:00"),
        ("30d", "2026-10-06 07:02:12", "2026-10-01 00:00:00", "2026-11-01 00:00:00"),
        ("1mo", "2026-12-31 23:59:59", "2026-12-01 00:00:00", "2027-01-01 00:00:00"),
        ("3mo", "2026-11-06 07:02:12", "2026-10-01 00:00:00", "2027-01-01 00:00:00"),
        ("1h", "2026-10-06 07:02:12", "2026-10-06 07:00:00", "2026-10-06 08:00:00"),
        ("5m", "2026-10-06 07:02:12", "2026-10-06 07:00:00", "2026-10-06 07:05:00"),
    ],
)
def test_a_window_is_a_slot_of_the_calendar(word: str, moment: str, first: str, last: str) -> None:
    assert spans(window(word, at(moment))) == (first, last)


def test_without_a_duration_a_budget_is_for_good() -> None:
    assert window("", at("2026-10-06 07:02:12")) == Window(0, None)


@given(st.sampled_from(WORDS), st.floats(0, 4e9))
def test_every_moment_is_in_its_window_and_the_next_begins_where_it_ends(word: str, moment: float) -> None:
    found = window(word, moment)
    assert found.ends_at is not None
    assert found.starts_at <= moment < found.ends_at
    assert window(word, found.starts_at) == found
    assert window(word, found.ends_at).starts_at == found.ends_at


@pytest.mark.parametrize(
    ("word", "moment", "later"),
    [
        ("30d", "2026-01-31 10:00:00", "2026-03-02 10:00:00"),
        ("1mo", "2026-01-31 10:00:00", "2026-02-28 10:00:00"),
        ("1mo", "2026-11-30 10:00:00", "2026-12-30 10:00:00"),
        ("13mo", "2026-12-15 10:00:00", "2028-01-15 10:00:00"),
        ("90s", "2026-12-31 23:59:00", "2027-01-01 00:00:30"),
    ],
)
def test_a_key_expires_after_its_duration(word: str, moment: str, later: str) -> None:
    assert after(word, at(moment)) == at(later)
