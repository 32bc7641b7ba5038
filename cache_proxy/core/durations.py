"""Durations as LiteLLM spells them (``30s``, ``15m``, ``24h``, ``7d``, ``2w``, ``1mo``), and the windows of budgets.

A budget's window is a slot of the calendar (UTC), as at LiteLLM: a day ends at midnight, ``7d`` on Monday, ``30d`` and
``1mo`` on the first. So every process knows it without asking, and a clock that is off by a second makes no difference
but at the very edge.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

_FORM = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|w|mo)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_A_MONDAY = 4 * 86_400
_LONGEST_MONTHS = 1200
_LONGEST = 36_525 * 86_400
"""A hundred years, in seconds: what ends later is beyond what calendars can say before long."""

LAST_MOMENT = 253_402_300_799
"""The last second of the year 9999."""


class Window(NamedTuple):
    """From when until when a budget counts, in whole seconds since the epoch; ``ends_at`` is empty if for good."""

    starts_at: int
    ends_at: int | None

    def holds(self, moment: float) -> bool:
        """Whether this moment is in it."""
        return self.starts_at <= moment and (self.ends_at is None or moment < self.ends_at)


def is_duration(text: str) -> bool:
    """Whether this is one, of at most a hundred years."""
    if _FORM.fullmatch(text) is None:
        return False
    count, unit = _parts(text)
    return count <= _LONGEST_MONTHS if unit == "mo" else count * _SECONDS[unit] <= _LONGEST


def is_date(moment: float) -> bool:
    """Whether a moment, in seconds since the epoch, is one from 1970 to 9999 (UTC)."""
    return 0 <= moment <= LAST_MOMENT


def after(duration: str, moment: float) -> float:
    """The moment a duration later; a month later is the same day, or the last of a shorter month."""
    count, unit = _parts(duration)
    if unit != "mo":
        return moment + count * _SECONDS[unit]
    date = datetime.fromtimestamp(moment, UTC)
    month = date.year * 12 + date.month - 1 + count
    last = (_first_of(month + 1) - timedelta(days=1)).day
    return date.replace(year=month // 12, month=month % 12 + 1, day=min(date.day, last)).timestamp()


def window(duration: str, moment: float) -> Window:
    """The window that a moment is in; an empty duration is for good."""
    if not duration:
        return Window(0, None)
    count, unit = _parts(duration)
    if unit == "mo" or (count, unit) == (30, "d"):
        count = count if unit == "mo" else 1
        date = datetime.fromtimestamp(moment, UTC)
        first = (date.year * 12 + date.month - 1) // count * count
        return Window(int(_first_of(first).timestamp()), int(_first_of(first + count).timestamp()))
    length = count * _SECONDS[unit]
    starts_at = _A_MONDAY + (int(moment) - _A_MONDAY) // length * length
    return Window(starts_at, starts_at + length)


def _parts(duration: str) -> tuple[int, str]:
    found = _FORM.fullmatch(duration)
    if found is None:
        raise ValueError("no duration")
    return int(found[1]), found[2]


def _first_of(month: int) -> datetime:
    """The first of a month that is counted from the year 0."""
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
