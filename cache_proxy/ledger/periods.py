"""A period of time, as whole days and the parts of days that are left.

The sums of a whole day stand in the database. For a day of which only a part is asked, single rows are added up: those
of the part, or those of the rest of the day, to be taken off its sums; whichever is shorter. Single rows may have been
deleted, from the oldest on. Where some of a day are gone only the second way is left, and what is gone then counts as
if it were asked, for nobody knows any more when in the day it was. Where none are gone there is nothing to be wrong.
"""

import math
from typing import NamedTuple

from cache_proxy.ledger.sums import DAY


class Cut(NamedTuple):
    """Single rows of one day, to be counted, or to be taken off the day's sums (``sign`` -1)."""

    sign: int
    day: int
    since: float
    until: float


class Period(NamedTuple):
    """Whole days from ``first`` until before ``last``, ``None`` for as far as there are any; and ``cuts``."""

    first: int | None
    last: int | None
    cuts: tuple[Cut, ...]


def split(since: float | None, until: float | None, oldest: float) -> Period:
    """The period from ``since`` until before ``until``, ``oldest`` being when the first single row is from."""
    cuts: list[Cut] = []
    first = None if since is None else int(since // DAY)
    last = None if until is None else int(until // DAY)
    if since is not None and until is not None and first == last and since >= oldest:
        return Period(0, 0, (Cut(1, int(since // DAY), since, until),))
    if since is not None and first is not None and since > first * DAY:
        first, cut = _begin(since, first, oldest)
        cuts.append(cut)
    if until is not None and last is not None and until > last * DAY:
        last, cut = _end(until, last, oldest)
        cuts.append(cut)
    return Period(first, last, tuple(cut for cut in cuts if cut.since < cut.until))


def _begin(since: float, day: int, oldest: float) -> tuple[int, Cut]:
    """The first whole day, and what is to be done about the one in which the period begins."""
    if since >= oldest and (since - day * DAY > DAY / 2 or day * DAY < oldest):
        return day + 1, Cut(1, day, since, (day + 1) * DAY)
    return day, Cut(-1, day, day * DAY, since)


def _end(until: float, day: int, oldest: float) -> tuple[int, Cut]:
    """The day after the last whole one, and what is to be done about the one in which the period ends."""
    if day * DAY >= oldest and until - day * DAY <= DAY / 2:
        return day, Cut(1, day, day * DAY, until)
    return day + 1, Cut(-1, day, until, (day + 1) * DAY)


NEVER = math.inf
"""When the first single row is from where there is none."""
