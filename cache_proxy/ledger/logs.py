"""Single requests, by what was asked for, when, and for whom."""

from collections.abc import Iterator

import orjson
from sqlalchemy import ColumnElement, func, literal, or_, select

from cache_proxy.ledger import tables
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import FAILED, Filters, Logged, Page

_requests = tables.requests.c

COUNTED = 10_000
"""As many requests are counted; that there are more is said."""


def page(
    database: Database, filters: Filters, offset: int, limit: int, *, newest: bool = True, counted: bool = False
) -> Page:
    """``limit`` of the requests that are looked for, from the ``offset``-th on, the ``newest`` first or the oldest; if
    ``counted``, with their number. Raises ``LedgerError``.
    """
    conditions = list(_conditions(filters))
    # The second one decides between those of the same moment, so that no page has what another has.
    order = [column.desc() if newest else column.asc() for column in (_requests.started_at, _requests.id)]
    found = select(*(_requests[name] for name in Logged._fields)).where(*conditions)
    with database.reading() as connection:
        rows = connection.execute(found.order_by(*order).offset(offset).limit(limit)).all()
        some = select(_requests.id).where(*conditions).limit(COUNTED + 1).subquery()
        total = int(connection.scalar(select(func.count()).select_from(some)) or 0) if counted else 0
    logged = (Logged(*row) for row in rows)
    told = tuple(one._replace(tags=tuple(orjson.loads(str(one.tags)))) for one in logged)
    return Page(told, min(total, COUNTED), total > COUNTED)


def _conditions(filters: Filters) -> Iterator[ColumnElement[bool]]:
    if filters.since is not None:
        yield _requests.started_at >= filters.since
    if filters.until is not None:
        yield _requests.started_at < filters.until
    if filters.key_hashes:
        mine = _requests.key_hash.in_(filters.key_hashes)
        yield mine if filters.key_alias is None else or_(mine, _requests.key_alias == filters.key_alias)
    for name in ("request_id", "user", "team", "end_user"):
        if getattr(filters, name) is not None:
            yield _requests[name] == getattr(filters, name)
    if filters.model is not None:
        yield or_(_requests.model == filters.model, _requests.model_group == filters.model)
    if filters.tag is not None:
        yield _has_tag(filters.tag)
    if filters.succeeded is not None:
        yield _requests.status < FAILED if filters.succeeded else _requests.status >= FAILED


def _has_tag(tag: str) -> ColumnElement[bool]:
    """Whether a JSON array of strings has this one; in words of SQL that every database understands.

    Within its quotes a JSON string has no quote that is not escaped, so a comma, the whole of one and another comma are
    an element, unless it is ``found.is_tag_ambiguous``.
    """
    if not tag:
        return _requests.tags == "[]"
    between = func.substr(_requests.tags, 2, func.length(_requests.tags) - 2)
    listed = literal(",").concat(between).concat(literal(","))
    return func.replace(listed, f",{orjson.dumps(tag).decode()},", "") != listed
