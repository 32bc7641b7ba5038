"""What is said to the database, put together once: to build a statement takes longer than to run it."""

from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Executable, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cache_proxy.ledger import tables
from cache_proxy.ledger.sums import AMOUNTS


class Statements(NamedTuple):
    """For one of the two databases. Each takes rows; those that change one take ``of`` (and ``at``) to find it."""

    last_batch: Executable
    """Takes ``writer``."""
    mark_batch: Executable
    add_call: Executable
    add_share: Executable
    settle_call: Executable
    settle_share: Executable
    add_request: Executable
    add_to_day: Executable


@lru_cache(maxsize=2)
def statements(dialect: str) -> Statements:
    """Those of ``sqlite`` or ``postgresql``."""
    # Both know what to do where a row is there already, and say it in the same words.
    into = (postgresql if dialect == "postgresql" else sqlite).insert
    calls, shares, batches = tables.calls, tables.shares, tables.batches
    mine = (shares.c.call_id == bindparam("of")) & (shares.c.place == bindparam("at"))
    return Statements(
        last_batch=select(batches.c.batch).where(batches.c.writer == bindparam("writer")),
        mark_batch=_replacing(into(batches), "writer", ("batch", "at")),
        add_call=into(calls).on_conflict_do_nothing(),
        add_share=into(shares).on_conflict_do_nothing(),
        settle_call=update(calls).where(calls.c.id == bindparam("of")),
        settle_share=update(shares).where(mine),
        add_request=into(tables.requests).on_conflict_do_nothing(),
        add_to_day=_adding(into(tables.days), tables.days),
    )


def _replacing(insert: Any, key: str, columns: tuple[str, ...]) -> Executable:
    set_ = {name: insert.excluded[name] for name in columns}
    statement: Executable = insert.on_conflict_do_update(index_elements=[key], set_=set_)
    return statement


def _adding(insert: Any, days: Table) -> Executable:
    set_: dict[str, Any] = {name: days.c[name] + insert.excluded[name] for name in AMOUNTS}
    set_["label"] = insert.excluded.label
    statement: Executable = insert.on_conflict_do_update(index_elements=["day", "kind", "name"], set_=set_)
    return statement
