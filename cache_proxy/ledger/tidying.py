"""Looking after what grows though it is small: sums by names that callers choose, and the marks of writers.

Everything is done in portions: others wait for the transaction.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import add
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, select, tuple_

from cache_proxy.ledger import tables
from cache_proxy.ledger.found import OLDER
from cache_proxy.ledger.statements import statements
from cache_proxy.ledger.sums import AMOUNTS, DAY

CHOSEN = ("user", "tag")
"""Kinds of sums whose names callers choose as they like."""

MARKS_KEPT = 2 * DAY
"""Seconds for which the mark of a writer's last batch is kept. It is needed only while that batch may come again; one
that comes again after half of this looks for its own rows (``posting``). A writer that was idle makes a new mark."""

LOOKED_AT = 5_000
"""Rows of sums that are looked at in one transaction."""

FOLDED = 1_000
"""Rows of sums that are folded in one transaction."""

LATE = 8
"""Days after which nothing is added to a day any more, but for what a later look at everything finds."""

_days, _batches = tables.days, tables.batches


class Place(NamedTuple):
    """A row of sums."""

    day: int
    kind: str
    name: str


class Tidied(NamedTuple):
    """How far it came: where to look on for what is empty, from which day on for names to fold, and whether there is
    more to do right now.
    """

    place: Place | None = None
    folded: int | None = None
    more: bool = False


def tidy(connection: Connection, now: float, names_days: int, done: Tidied) -> Tidied:
    """Do a portion of it, from where ``done`` says it came to. Names are kept apart for ``names_days``; 0: for good."""
    today = int(now // DAY)
    end = _drop_empty(connection, done.place, today)
    folded, more_names = done.folded, False
    if names_days:
        more_names = _fold(connection, folded, today - names_days)
        folded = folded if more_names else today - names_days - LATE
    more_marks = _drop_marks(connection, now - MARKS_KEPT)
    # The next time only what may have changed.
    return Tidied(end or Place(today - LATE, "", ""), folded, end is not None or more_names or more_marks)


def _drop_empty(connection: Connection, after: Place | None, today: int) -> Place | None:
    """Take out rows of days gone by in which nothing stands. Where this portion ended, if there are more rows."""
    these = [_days.c.day < today]
    if after is not None:
        these.append(_at() > tuple_(*after))
    in_order = select(_days.c.day, _days.c.kind, _days.c.name).where(*these).order_by(*_days.primary_key)
    end = connection.execute(in_order.offset(LOOKED_AT - 1).limit(1)).first()
    if end is not None:
        these.append(_at() <= tuple_(*end))
    empty = and_(*(_days.c[amount] == 0 for amount in AMOUNTS))
    _drop(connection, connection.execute(_held(*these, empty)).all())
    return None if end is None else Place(*end)


def _at() -> ColumnElement[Any]:
    return tuple_(*_days.primary_key)


def _fold(connection: Connection, since: int | None, until: int) -> bool:
    """Make one row of all names that callers chose on a day, from ``since`` until before ``until``. Whether there are
    more.
    """
    these = [_days.c.day < until, _days.c.kind.in_(CHOSEN), _days.c.name.not_in(("", OLDER))]
    if since is not None:
        these.append(_days.c.day >= since)
    found = connection.execute(_held(*these).limit(FOLDED)).all()
    _drop(connection, found)
    together: defaultdict[tuple[int, str], list[int]] = defaultdict(lambda: [0] * len(AMOUNTS))
    for row in found:
        sums = together[row.day, row.kind]
        sums[:] = map(add, sums, row[-len(AMOUNTS) :])
    # In order: two that do this at a time then never lock each other.
    rows = [_older(*place, dict(zip(AMOUNTS, sums, strict=True))) for place, sums in sorted(together.items())]
    if rows:
        connection.execute(statements(connection.dialect.name).add_to_day, rows)
    return len(found) == FOLDED


def _older(day: int, kind: str, amounts: Mapping[str, int]) -> dict[str, Any]:
    return {"day": day, "kind": kind, "name": OLDER, "label": "", **amounts}


def _held(*these: ColumnElement[bool]) -> Any:
    """Such rows of sums, which nobody adds to until the transaction ends; without those that somebody is adding to."""
    return (
        select(*_days.primary_key, *(_days.c[amount] for amount in AMOUNTS))
        .where(*these)
        .with_for_update(skip_locked=True)
    )


def _drop(connection: Connection, rows: Sequence[Row[Any]]) -> None:
    if rows:
        found = [{f"of_{name}": getattr(row, name) for name in Place._fields} for row in rows]
        connection.execute(_DROP, found)


_DROP = delete(_days).where(*(_days.c[name] == bindparam(f"of_{name}") for name in Place._fields))


def _drop_marks(connection: Connection, before: float) -> bool:
    """Take out marks that no writer can need any more. Whether there may be more."""
    old = select(_batches.c.writer).where(_batches.c.at < before).limit(FOLDED).with_for_update(skip_locked=True)
    gone = connection.scalars(old).all()
    if gone:
        connection.execute(delete(_batches).where(_batches.c.writer.in_(gone)))
    return len(gone) == FOLDED
