"""What was paid and saved in a period, by key, team, user, tag, model, endpoint or day.

Whole days come from their sums, so that it takes as long as there are days and names, however many requests there were.
Names are chosen as ``sums`` chooses them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Label, case, func, literal_column, select
from sqlalchemy.sql.selectable import FromClause

from cache_proxy.ledger import tables
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import Usage
from cache_proxy.ledger.periods import NEVER, Cut, Period, split
from cache_proxy.ledger.sums import AMOUNTS

_EPOCH = date(1970, 1, 1).toordinal()

_calls, _shares, _requests, _days = tables.calls.c, tables.shares.c, tables.requests.c, tables.days.c

_MONEY = ("tokens_billed", "cost", "cost_unpriced", "tokens_unsettled")
_STORY = tuple(amount for amount in AMOUNTS if amount not in _MONEY)

# Written out, for no database sees that two parameters are the same, and that what is grouped by is what is selected.
_EMPTY: ColumnElement[str] = literal_column("''")


def usage(database: Database, by: str | None, since: float | None = None, until: float | None = None) -> list[Usage]:
    """What happened from ``since`` until before ``until``, in groups of which each had something happen to it: days in
    their order, others with those first that paid most. ``by`` is one of ``found.GROUPS``, or ``None`` for everything
    together. Raises ``LedgerError``.
    """
    tally = _Tally()
    with database.reading() as connection:
        # Each by itself: while much that is old is taken out, one may be gone until later than the other.
        story = split(since, until, _oldest(connection, _requests.started_at))
        money = split(since, until, _oldest(connection, _calls.sent_at))
        if story[:2] == money[:2]:
            _add_days(connection, by, story, tally, AMOUNTS)
        else:
            _add_days(connection, by, story, tally, _STORY)
            _add_days(connection, by, money, tally, _MONEY)
        for cut in story.cuts:
            _add_requests(connection, by, cut, tally)
        for cut in money.cuts:
            _add_calls(connection, by, cut, tally)
    return sorted(tally.found(), key=_by_name if by == "day" else _by_spending)


def _by_name(found: Usage) -> str:
    return found.name


def _by_spending(found: Usage) -> tuple[int, int, int, str]:
    return -found.tokens_billed, -found.tokens_unsettled, -found.tokens_saved, found.name


class _Tally:
    """Adds up by name."""

    def __init__(self) -> None:
        self._amounts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(AMOUNTS))
        self._labels: dict[str, tuple[int, str]] = {}

    def add(
        self, name: str, what: Sequence[int], amounts: Sequence[Any], *, sign: int = 1, label: str = "", day: int = 0
    ) -> None:
        """Count these in, or with ``sign`` -1 out; ``what`` they are is their places in ``AMOUNTS``. The label of the
        last ``day`` is the one that is kept.
        """
        sums = self._amounts[name]
        for place, amount in zip(what, amounts, strict=True):
            if amount:
                # PostgreSQL's sums are decimals.
                sums[place] += sign * int(amount)
        if sign > 0 and label:
            self._labels[name] = max(self._labels.get(name, (day, label)), (day, label))

    def found(self) -> Iterator[Usage]:
        """What it came to, without those to whom nothing happened."""
        for name, sums in self._amounts.items():
            if any(sums):
                yield Usage(name, self._labels.get(name, (0, ""))[1], **dict(zip(AMOUNTS, sums, strict=True)))


def _oldest(connection: Connection, moment: ColumnElement[float]) -> float:
    """When the oldest single row is from."""
    found = connection.scalar(select(func.min(moment)))
    return NEVER if found is None else found


def _add_days(connection: Connection, by: str | None, period: Period, tally: _Tally, amounts: Sequence[str]) -> None:
    """These amounts of the whole days, from their sums."""
    name = _days.day if by == "day" else _days.name
    wanted = select(
        name.label("group_name"), _days.label.label("group_label"), func.max(_days.day).label("last_day"),
        *(func.sum(_days[amount]).label(amount) for amount in amounts),
    ).where(_days.kind == ("all" if by in (None, "day") else by))  # fmt: skip
    if period.first is not None:
        wanted = wanted.where(_days.day >= period.first)
    if period.last is not None:
        wanted = wanted.where(_days.day < period.last)
    what = [AMOUNTS.index(amount) for amount in amounts]
    for group, label, day, *sums in connection.execute(wanted.group_by(name, _days.label)):
        tally.add(_date(group) if by == "day" else group, what, sums, label=label, day=day)


def _add_requests(connection: Connection, by: str | None, cut: Cut, tally: _Tally) -> None:
    """The story of the requests of a part of a day."""
    amounts = [func.sum(_requests[what]).label(what) for what in _COUNTED]
    amounts += [
        func.count().label("requests"),
        func.sum(func.coalesce(_requests.saved, 0)).label("saved"),
        func.sum(case((_requests.saved.is_(None), _requests.tokens_saved), else_=0)).label("saved_unpriced"),
    ]
    rows = tables.requests
    _add(connection, by, cut, tally, _columns(by, rows, rows), amounts, rows, _requests.started_at)


_COUNTED = ("items", "hits", "misses", "duplicates", "joined", "tokens_saved")


def _add_calls(connection: Connection, by: str | None, cut: Cut, tally: _Tally) -> None:
    """The money of the calls of a part of a day."""
    tokens = func.coalesce(_shares.tokens, 0)
    is_known, is_settled = _calls.price.is_not(None), _calls.settled_at.is_not(None)
    amounts = [
        func.sum(case((is_settled, tokens), else_=0)).label("tokens_billed"),
        func.sum(case((is_settled & is_known, tokens * _calls.price), else_=0)).label("cost"),
        func.sum(case((is_settled & ~is_known, tokens), else_=0)).label("cost_unpriced"),
        func.sum(case((is_settled, 0), else_=_shares.tokens_bound)).label("tokens_unsettled"),
    ]
    rows = tables.calls.join(tables.shares, _shares.call_id == _calls.id)
    _add(connection, by, cut, tally, _columns(by, tables.calls, tables.shares), amounts, rows, _calls.sent_at)


def _columns(by: str | None, what: FromClause, who: FromClause) -> tuple[ColumnElement[str], ColumnElement[str]]:
    """The group of a single row and its label. ``what`` was done by ``who``."""
    match by:
        case "key":
            return func.coalesce(func.nullif(who.c.key_hash, _EMPTY), who.c.key_alias), who.c.key_alias
        case "user":
            return func.coalesce(func.nullif(who.c.user, _EMPTY), who.c.end_user), _EMPTY
        case "team":
            return who.c.team, _EMPTY
        case "tag":
            return who.c.tags, _EMPTY
        case "model" | "endpoint":
            return what.c[by], _EMPTY
        case _:
            return _EMPTY, _EMPTY


def _add(
    connection: Connection,
    by: str | None,
    cut: Cut,
    tally: _Tally,
    group: tuple[ColumnElement[str], ColumnElement[str]],
    amounts: Sequence[Label[Any]],
    rows: FromClause,
    moment: ColumnElement[float],
) -> None:
    name, label = group
    wanted = select(name.label("group_name"), label.label("group_label"), *amounts).select_from(rows)
    wanted = wanted.where(moment >= cut.since, moment < cut.until)
    if name is not _EMPTY:
        wanted = wanted.group_by(name, *(() if label is _EMPTY else (label,)))
    what = [AMOUNTS.index(amount.name) for amount in amounts]
    for row in connection.execute(wanted):
        for found in _names(by, row[0], cut):
            tally.add(found, what, row[2:], sign=cut.sign, label=row[1], day=cut.day)


def _names(by: str | None, group: str, cut: Cut) -> list[str]:
    if by == "day":
        return [_date(cut.day)]
    if by == "tag":
        # Those with the same tags are one row. A request with several counts for each of them.
        return list(dict.fromkeys(orjson.loads(group))) or [""]
    return [group]


def _date(day: int) -> str:
    return date.fromordinal(_EPOCH + day).isoformat()
