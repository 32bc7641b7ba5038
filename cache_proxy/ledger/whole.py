"""What whole days come to, from their sums."""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, cast, func, select

from cache_proxy.ledger import tables
from cache_proxy.ledger.found import OLDER, OTHERS
from cache_proxy.ledger.periods import Period
from cache_proxy.ledger.singles import EMPTY, Keys, Standing
from cache_proxy.ledger.sums import AMOUNTS
from cache_proxy.ledger.tally import Tally, date_of
from cache_proxy.ledger.tidying import CHOSEN

_days = tables.days.c

MONEY = ("tokens_billed", "cost", "cost_unpriced", "tokens_unsettled")
STORY = tuple(amount for amount in AMOUNTS if amount not in MONEY)

_ORDER = ("tokens_billed", "tokens_unsettled", "tokens_saved")
_DIGITS = 7
_FAR = 5 * 10 ** (_DIGITS - 1)
"""Added to a day so that all of them have as many digits, and the latest is the last of the alphabet."""


def add_days(
    connection: Connection, by: str | None, period: Period, tally: Tally, amounts: Sequence[str], keys: Keys
) -> None:
    """Count in these amounts of a period's whole days."""
    these = list(_wanted(connection, by, period, keys))
    what = [AMOUNTS.index(amount) for amount in amounts]
    sums = [func.sum(_days[amount]).label(amount) for amount in amounts]
    # The database finds those that paid most faster than they are fetched. It can not where it has only half of it.
    room = tally.room if tuple(amounts) == AMOUNTS else None
    found = connection.execute(_grouped(by, sums).where(*these).limit(room)).all()
    for name, label, day, *found_sums in found:
        if day is not None:
            tally.add(date_of(day) if by == "day" else name, what, found_sums, label=(label or "")[_DIGITS:], day=day)
    if room is not None and len(found) == room:
        tally.close()
        whole = connection.execute(select(*sums).where(*these)).one()
        told = zip(*(row[3:] for row in found), strict=True)
        tally.add(OTHERS, what, [int(all_) - sum(map(int, some)) for all_, some in zip(whole, told, strict=True)])


def _grouped(by: str | None, sums: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """A row for each group: its name, the label that it had last behind that day, its last day, and its sums."""
    last = func.max(_days.day)
    if by in (None, "day"):
        return select(EMPTY, EMPTY, last, *sums).group_by(*([_days.day] if by == "day" else []))
    label = func.max(cast(_days.day + _FAR, Text).concat(_days.label)) if by == "key" else EMPTY
    order = [amount.desc() for amount in sums if amount.key in _ORDER]
    return select(_days.name, label, last, *sums).group_by(_days.name).order_by(*order)


def _wanted(connection: Connection, by: str | None, period: Period, keys: Keys) -> Iterator[ColumnElement[bool]]:
    """The rows of sums that are added up."""
    if keys is None:
        # Day by day, so that of each only the rows of this kind are read: users and tags may be very many.
        yield _days.day.in_(_between(connection, period))
        yield _days.kind == ("all" if by in (None, "day") else by)
        return
    yield tables.SUMS_OF_KEYS & _days.name.in_(keys)
    if period.first is not None:
        yield _days.day >= period.first
    if period.last is not None:
        yield _days.day < period.last


def _between(connection: Connection, period: Period) -> range:
    """The days of a period, as far as there are any."""
    first = connection.scalar(select(func.min(_days.day)))
    last = connection.scalar(select(func.max(_days.day)))
    if first is None or last is None:
        return range(0)
    return range(
        first if period.first is None else max(first, period.first),
        last + 1 if period.last is None else min(last + 1, period.last),
    )


def standing(connection: Connection, by: str | None, day: int) -> Standing:
    """The names of this kind that a day has sums of, if those of some were folded: they are among the older."""
    those = (_days.day == day) & (_days.kind == by)
    if by not in CHOSEN or connection.scalar(select(_days.name).where(those, _days.name == OLDER)) is None:
        return None
    return frozenset(connection.scalars(select(_days.name).where(those)))
