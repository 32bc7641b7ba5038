"""Taking out what is old: single calls and requests, and budgets of times gone by. What they add up to stays."""

from sqlalchemy import Connection, delete, select

from cache_proxy.ledger import tables

AT_ONCE = 5_000
"""Rows of a table in one transaction: others wait for it."""


def prune(connection: Connection, before: float) -> bool:
    """Take out some of what is older than ``before`` (seconds since the epoch). Whether there may be more."""
    calls, shares, requests = tables.calls, tables.shares, tables.requests
    old_calls = select(calls.c.id).where(calls.c.sent_at < before).order_by(calls.c.sent_at).limit(AT_ONCE)
    old = [row.id for row in connection.execute(old_calls)]
    if old:
        connection.execute(delete(shares).where(shares.c.call_id.in_(old)))
        connection.execute(delete(calls).where(calls.c.id.in_(old)))
    old_requests = (
        select(requests.c.id).where(requests.c.started_at < before).order_by(requests.c.started_at).limit(AT_ONCE)
    )
    gone = connection.execute(delete(requests).where(requests.c.id.in_(old_requests))).rowcount
    connection.execute(delete(tables.budgets).where(tables.budgets.c.ends_at < before))
    return len(old) == AT_ONCE or gone == AT_ONCE
