"""Taking out what is old: single calls and requests, and budgets of times gone by. What they add up to stays."""

from collections.abc import Iterable, Iterator

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select

from cache_proxy.ledger import tables

AT_ONCE = 5_000
"""Requests, and calls with their shares, in one transaction: others wait for it."""

CALLS = 50
"""Calls that are looked at together."""


def prune(connection: Connection, before: float) -> bool:
    """Take out some of what is older than ``before`` (seconds since the epoch). Whether there may be more."""
    requests = tables.requests
    old_requests = (
        select(requests.c.id).where(requests.c.started_at < before).order_by(requests.c.started_at).limit(AT_ONCE)
    )
    gone = connection.execute(delete(requests).where(requests.c.id.in_(old_requests))).rowcount
    connection.execute(delete(tables.budgets).where(tables.budgets.c.ends_at < before))
    return _prune_calls(connection, before) or gone == AT_ONCE


def _prune_calls(connection: Connection, before: float) -> bool:
    """Old calls with their shares, until enough rows are gone. Whether there may be more."""
    calls, shares = tables.calls, tables.shares
    borne = select(func.count()).where(shares.c.call_id == calls.c.id).scalar_subquery()
    old = select(calls.c.id, borne).where(calls.c.sent_at < before).order_by(calls.c.sent_at).limit(CALLS)
    # What another process is taking out is none of our business.
    old = old.with_for_update(skip_locked=True, of=calls)
    room = AT_ONCE
    while room > 0:
        found = connection.execute(old).all()
        ids = list(_within(room, ((row[0], row[1]) for row in found)))
        room -= _delete(connection, shares, shares.c.call_id.in_(ids)) + _delete(connection, calls, calls.c.id.in_(ids))
        if len(ids) == len(found) < CALLS:
            return False
    return True


def _within(room: int, calls: Iterable[tuple[str, int]]) -> Iterator[str]:
    """As many of these calls as there is room for, with their shares; one in any case."""
    for id_, shares in calls:
        yield id_
        room -= 1 + shares
        if room <= 0:
            return


def _delete(connection: Connection, table: Table, these: ColumnElement[bool]) -> int:
    return connection.execute(delete(table).where(these)).rowcount
