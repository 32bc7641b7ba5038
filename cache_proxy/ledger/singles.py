"""What single rows add up to: the part of a day that no sums are of, or all that one key did.

Names are chosen as ``sums`` chooses them.
"""

from collections.abc import Collection, Sequence
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Connection, Label, and_, case, func, literal_column, or_, select
from sqlalchemy.sql.selectable import FromClause

from cache_proxy.ids import ids_between
from cache_proxy.ledger import tables
from cache_proxy.ledger.found import OLDER, is_hash
from cache_proxy.ledger.periods import Cut
from cache_proxy.ledger.sums import AMOUNTS
from cache_proxy.ledger.tally import Tally, date_of

_calls, _shares, _requests = tables.calls.c, tables.shares.c, tables.requests.c

_COUNTED = ("items", "hits", "misses", "duplicates", "joined", "tokens_saved")

# Written out, for no database sees that two parameters are the same, and that what is grouped by is what is selected.
EMPTY: ColumnElement[str] = literal_column("''")

Standing = Collection[str] | None
"""The names under which there still are sums of a day; ``None`` where they are all there."""

Keys = Sequence[str] | None
"""The names of the keys that are asked about, as sums are named; ``None``: everybody."""


def add_requests(
    connection: Connection, by: str | None, cut: Cut, tally: Tally, keys: Keys = None, standing: Standing = None
) -> None:
    """The story of the requests of a time."""
    amounts = [func.sum(_requests[what]).label(what) for what in _COUNTED]
    amounts += [
        func.count().label("requests"),
        func.sum(func.coalesce(_requests.saved, 0)).label("saved"),
        func.sum(case((_requests.saved.is_(None), _requests.tokens_saved), else_=0)).label("saved_unpriced"),
    ]
    rows = tables.requests
    these = [_requests.started_at >= cut.since, _requests.started_at < cut.until]
    if keys is not None:
        these.append(_is_of(keys, rows))
    _add(connection, by, cut, tally, _columns(by, rows, rows), amounts, rows, these, standing)


def add_calls(
    connection: Connection, by: str | None, cut: Cut, tally: Tally, keys: Keys = None, standing: Standing = None
) -> None:
    """The money of the calls of a time."""
    tokens = func.coalesce(_shares.tokens, 0)
    is_known, is_settled = _calls.price.is_not(None), _calls.settled_at.is_not(None)
    amounts = [
        func.sum(case((is_settled, tokens), else_=0)).label("tokens_billed"),
        func.sum(case((is_settled & is_known, tokens * _calls.price), else_=0)).label("cost"),
        func.sum(case((is_settled & ~is_known, tokens), else_=0)).label("cost_unpriced"),
        func.sum(case((is_settled, 0), else_=_shares.tokens_bound)).label("tokens_unsettled"),
    ]
    rows = tables.calls.join(tables.shares, _shares.call_id == _calls.id)
    these = [_calls.sent_at >= cut.since, _calls.sent_at < cut.until]
    if keys is not None:
        # A share knows its time by the id of its call only: with this, no others of the key are looked at.
        first, last = ids_between(cut.since, cut.until)
        these += [_is_of(keys, tables.shares), _shares.call_id >= first, _shares.call_id < last]
    _add(connection, by, cut, tally, _columns(by, tables.calls, tables.shares), amounts, rows, these, standing)


def _is_of(keys: Sequence[str], who: FromClause) -> ColumnElement[bool]:
    """Whether a row is of one of these keys; those who have none go by their alias."""
    hashes, aliases = [key for key in keys if is_hash(key)], [key for key in keys if not is_hash(key)]
    with_key: ColumnElement[bool] = who.c.key_hash.in_(hashes)
    if not aliases:
        return with_key
    return or_(with_key, and_(who.c.key_hash == "", who.c.key_alias.in_(aliases)))


def _columns(by: str | None, what: FromClause, who: FromClause) -> tuple[ColumnElement[str], ColumnElement[str]]:
    """The group of a single row and its label. ``what`` was done by ``who``."""
    match by:
        case "key":
            return func.coalesce(func.nullif(who.c.key_hash, EMPTY), who.c.key_alias), who.c.key_alias
        case "user":
            return func.coalesce(func.nullif(who.c.user, EMPTY), who.c.end_user), EMPTY
        case "team":
            return who.c.team, EMPTY
        case "tag":
            return who.c.tags, EMPTY
        case "model" | "endpoint":
            return what.c[by], EMPTY
        case _:
            return EMPTY, EMPTY


def _add(
    connection: Connection,
    by: str | None,
    cut: Cut,
    tally: Tally,
    group: tuple[ColumnElement[str], ColumnElement[str]],
    amounts: Sequence[Label[Any]],
    rows: FromClause,
    these: Sequence[ColumnElement[bool]],
    standing: Standing,
) -> None:
    name, label = group
    wanted = select(name.label("group_name"), label.label("group_label"), *amounts).select_from(rows).where(*these)
    if name is not EMPTY:
        # Where there is not room for all names, those that matter most come first.
        most = next(amount for amount in amounts if amount.name in ("tokens_billed", "tokens_saved"))
        wanted = wanted.group_by(name, *(() if label is EMPTY else (label,))).order_by(most.desc())
    what = [AMOUNTS.index(amount.name) for amount in amounts]
    for row in connection.execute(wanted):
        for found in _standing(_names(by, row[0], cut), standing):
            tally.add(found, what, row[2:], sign=cut.sign, label=row[1], day=cut.day)


def _standing(names: Sequence[str], standing: Standing) -> Sequence[str]:
    """These names as the sums of the day have them, each by itself: a request with several tags counts for each."""
    return names if standing is None else [name if not name or name in standing else OLDER for name in names]


def _names(by: str | None, group: str, cut: Cut) -> list[str]:
    if by == "day":
        return [date_of(cut.day)]
    if by == "tag":
        # Those with the same tags are one row. A request with several counts for each of them.
        return list(dict.fromkeys(orjson.loads(group))) or [""]
    return [group]
