"""What was paid and saved in a period, by key, team, user, tag, model, endpoint or day; by all, or by one key.

Whole days come from their sums, so that it takes as long as there are days and names, however many requests there were.
What one key did is in the sums only as a whole: by model, by tag, … its single rows are added up.
"""

import math

from sqlalchemy import ColumnElement, Connection, func, or_, select

from cache_proxy.ledger import tables
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import Usage, Whose, of_single_rows
from cache_proxy.ledger.periods import NEVER, Cut, split
from cache_proxy.ledger.singles import Keys, add_calls, add_requests
from cache_proxy.ledger.sums import AMOUNTS
from cache_proxy.ledger.tally import Tally, first
from cache_proxy.ledger.whole import MONEY, STORY, add_days, standing

_calls, _requests, _days = tables.calls.c, tables.requests.c, tables.days.c


def usage(
    database: Database,
    by: str | None,
    since: float | None = None,
    until: float | None = None,
    whose: Whose | None = None,
    most: int | None = None,
) -> list[Usage]:
    """What happened from ``since`` until before ``until``, in groups of which each had something happen to it: days in
    their order, others with those first that paid most. ``by`` is one of ``found.GROUPS``, or ``None`` for everything
    together; ``whose`` is for one key alone. Beyond ``most`` groups all others are one, the last (``found.OTHERS``);
    days are told all. Raises ``LedgerError``.
    """
    limit = None if by in (None, "day") else most
    tally = Tally(None if limit is None else limit + ROOM)
    with database.reading() as connection:
        keys = None if whose is None else _names_of(connection, whose)
        if of_single_rows(by, whose):
            cut = Cut(1, 0, -math.inf if since is None else since, math.inf if until is None else until)
            add_calls(connection, by, cut, tally, keys)
            add_requests(connection, by, cut, tally, keys)
        else:
            _add_sums(connection, by, since, until, tally, keys)
    return first(sorted(tally.found(), key=_by_name if by == "day" else _by_spending), limit)


ROOM = 10_000
"""So many more names than are told are added up: single rows of a part of a day may change who is among the first."""


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
        add_days(connection, by, story, tally, AMOUNTS, keys)
    else:
        add_days(connection, by, story, tally, STORY, keys)
        add_days(connection, by, money, tally, MONEY, keys)
    for cut in money.cuts:
        add_calls(connection, by, cut, tally, keys, standing(connection, by, cut.day))
    for cut in story.cuts:
        add_requests(connection, by, cut, tally, keys, standing(connection, by, cut.day))


def _oldest(connection: Connection, moment: ColumnElement[float]) -> float:
    """When the oldest single row is from."""
    found = connection.scalar(select(func.min(moment)))
    return NEVER if found is None else found
