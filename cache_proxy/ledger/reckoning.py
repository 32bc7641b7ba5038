"""What keys have spent and have under way in a window, reckoned from what was written of their calls.

It is what the row of a budget would hold that had been there all the time, so a row may begin at any moment. Whole days
are read from ``days``; what is left of a window at its ends (``5h`` begins and ends within a day), and calls without a
settlement, from ``calls``.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, literal_column, select

from cache_proxy.core.durations import Window
from cache_proxy.ids import ids_between
from cache_proxy.ledger import tables
from cache_proxy.ledger.sums import DAY

calls, shares, days = tables.calls, tables.shares, tables.days


@dataclass(slots=True)
class Level:
    """What a key has spent and reserved in a window, in pico-USD."""

    spent: int
    reserved: int
    changed: bool = False
    """Whether the database does not say so yet."""

    def book(self, *, spent: int = 0, reserved: int = 0) -> None:
        """So much more is spent, and reserved; what is reserved is never less than nothing."""
        self.spent += spent
        self.reserved = max(0, self.reserved + reserved)
        self.changed = True


def reckoned(connection: Connection, keys: Sequence[str], window: Window) -> dict[str, Level]:
    """The level of each of these keys in this window."""
    spent = _spent_on_whole_days(connection, keys, window)
    for first, last in _ends(window):
        spent += _spent_between(connection, keys, first, last)
    reserved = _under_way(connection, keys, _open_in(window))
    return {key: Level(spent[key], reserved[key]) for key in keys}


def _spent_on_whole_days(connection: Connection, keys: Sequence[str], window: Window) -> Counter[str]:
    first, last = _whole_days(window)
    if last is not None and last <= first:
        return Counter()
    theirs = tables.SUMS_OF_KEYS & days.c.name.in_(keys) & (days.c.day >= first)
    if last is not None:
        theirs &= days.c.day < last
    added = select(days.c.name, func.sum(days.c.cost)).where(theirs).group_by(days.c.name)
    return Counter({name: int(cost or 0) for name, cost in connection.execute(added)})


def _whole_days(window: Window) -> tuple[int, int | None]:
    """The first day that is wholly in a window, and the first after it that is not."""
    return -(-window.starts_at // DAY), None if window.ends_at is None else window.ends_at // DAY


def _ends(window: Window) -> Iterator[tuple[int, int]]:
    """From when until when the parts of a window are that are no whole days."""
    first, last = _whole_days(window)
    if window.ends_at is None or last is None:
        return
    if first > last:
        yield window.starts_at, window.ends_at
        return
    if window.starts_at < first * DAY:
        yield window.starts_at, first * DAY
    if last * DAY < window.ends_at:
        yield last * DAY, window.ends_at


def _open_in(window: Window) -> ColumnElement[bool]:
    found = calls.c.settled_at.is_(None) & (calls.c.sent_at >= window.starts_at)
    return found if window.ends_at is None else found & (calls.c.sent_at < window.ends_at)


def _spent_between(connection: Connection, keys: Sequence[str], first: float, last: float) -> Counter[str]:
    """What was billed for calls of these keys that were sent then; those of unknown price are in no budget. Shares are
    found by the ids of the calls, which stand in the order of time.
    """
    from_, until = ids_between(first, last)
    theirs = shares.c.key_hash.in_(keys) & (shares.c.call_id >= from_) & (shares.c.call_id < until)
    theirs &= (shares.c.call_id == calls.c.id) & (calls.c.sent_at >= first) & (calls.c.sent_at < last)
    return _added(connection, shares.c.key_hash, shares.c.tokens, theirs)


def _under_way(connection: Connection, keys: Sequence[str], which: ColumnElement[bool]) -> Counter[str]:
    """The most that the calls of these keys can cost that are not settled."""
    # An expression, so that no index of the column is taken: these calls are few, and all that a key had are many.
    key = shares.c.key_hash.concat(literal_column("''")).label("key")
    theirs = (shares.c.call_id == calls.c.id) & which & key.in_(keys)
    return _added(connection, key, shares.c.tokens_bound, theirs)


def _added(
    connection: Connection, key: ColumnElement[str], tokens: ColumnElement[Any], theirs: ColumnElement[bool]
) -> Counter[str]:
    added = select(key, func.sum(tokens * calls.c.price)).where(theirs).group_by(key)
    return Counter({name: int(cost or 0) for name, cost in connection.execute(added)})
