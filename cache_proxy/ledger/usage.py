"""What was paid and saved in a period, by key, team, user, tag, model, endpoint or day; by all, or by one key.

Whole days come from their sums, so that it takes as long as there are days and names, however many requests there were.
What one key did is in the sums only as a whole: by model, by tag, … its single rows are added up.
"""

import math
from collections.abc import Iterator, Sequence

from sqlalchemy import ColumnElement, Connection, func, or_, select

from cache_proxy.ledger import tables
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import Usage, Whose, of_single_rows
from cache_proxy.ledger.periods import NEVER, Cut, Period, split
from cache_proxy.ledger.singles import EMPTY, Keys, add_calls, add_requests
from cache_proxy.ledger.sums import AMOUNTS
from cache_proxy.ledger.tally import Tally, date_of

_calls, _requests, _days = tables.calls.c, tables.requests.c, tables.days.c

_MONEY = ("tokens_billed", "cost", "cost_unpriced", "tokens_unsettled")
_STORY = tuple(amount for amount in AMOUNTS if amount not in _MONEY)


def usage(
    database: Database,
    by: str | None,
    since: float | None = None,
    until: float | None = None,
    whose: Whose | None = None,
) -> list[Usage]:
    """What happened from ``since`` until before ``until``, in groups of which each had something happen to it: days in
    their order, others with those first that paid most. ``by`` is one of ``found.GROUPS``, or ``None`` for everything
    together; ``whose`` is for one key alone. Raises ``LedgerError``.
    """
    tally = Tally()
    with database.reading() as connection:
        keys = None if whose is None else _names_of(connection, whose)
        if of_single_rows(by, whose):
            cut = Cut(1, 0, -math.inf if since is None else since, math.inf if until is None else until)
            add_requests(connection, by, cut, tally, keys)
            add_calls(connection, by, cut, tally, keys)
        else:
            _add_sums(connection, by, since, until, tally, keys)
    return sorted(tally.found(), key=_by_name if by == "day" else _by_spending)


def _by_name(found: Usage) -> str:
    return found.name


def _by_spending(found: Usage) -> tuple[int, int, int, str]:
    return -found.tokens_billed, -found.tokens_unsettled, -found.tokens_saved, found.name


def _names_of(connection: Connection, whose: Whose) -> list[str]:
    """What the sums of these keys are called."""
    if whose.alias is None:
        return list(whose.hashes)
    called_so = tables.SUMS_OF_KEYS & or_(_days.label == whose.alias, _days.name == whose.alias)
    return [*whose.hashes, *connection.scalars(select(_days.name).where(called_so).distinct())]


def _add_sums(
    connection: Connection, by: str | None, since: float | None, until: float | None, tally: Tally, keys: Keys
) -> None:
    """Whole days from their sums, and single rows for the parts of days that are left."""
    # Each by itself: while much that is old is taken out, one may be gone until later than the other.
    story = split(since, until, _oldest(connection, _requests.started_at))
    money = split(since, until, _oldest(connection, _calls.sent_at))
    if story[:2] == money[:2]:
        _add_days(connection, by, story, tally, AMOUNTS, keys)
    else:
        _add_days(connection, by, story, tally, _STORY, keys)
        _add_days(connection, by, money, tally, _MONEY, keys)
    for cut in story.cuts:
        add_requests(connection, by, cut, tally, keys)
    for cut in money.cuts:
        add_calls(connection, by, cut, tally, keys)


def _oldest(connection: Connection, moment: ColumnElement[float]) -> float:
    """When the oldest single row is from."""
    found = connection.scalar(select(func.min(moment)))
    return NEVER if found is None else found


def _add_days(
    connection: Connection, by: str | None, period: Period, tally: Tally, amounts: Sequence[str], keys: Keys
) -> None:
    """These amounts of the whole days, from their sums."""
    is_whole = by in (None, "day")
    name: ColumnElement[str] = EMPTY if is_whole else _days.name
    label: ColumnElement[str] = EMPTY if is_whole else _days.label
    group = [_days.day] if by == "day" else [] if is_whole else [name, label]
    wanted = select(
        name.label("group_name"), label.label("group_label"), func.max(_days.day).label("last_day"),
        *(func.sum(_days[amount]).label(amount) for amount in amounts),
    ).where(*_wanted(by, period, keys)).group_by(*group)  # fmt: skip
    what = [AMOUNTS.index(amount) for amount in amounts]
    for found, called, day, *sums in connection.execute(wanted):
        if day is not None:
            tally.add(date_of(day) if by == "day" else found, what, sums, label=called, day=day)


def _wanted(by: str | None, period: Period, keys: Keys) -> Iterator[ColumnElement[bool]]:
    """The rows of sums that are added up."""
    if keys is None:
        yield _days.kind == ("all" if by in (None, "day") else by)
    else:
        yield tables.SUMS_OF_KEYS & _days.name.in_(keys)
    if period.first is not None:
        yield _days.day >= period.first
    if period.last is not None:
        yield _days.day < period.last
