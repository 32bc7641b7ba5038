"""What is said to the database, put together once: to build a statement takes longer than to run it."""

from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Executable, Table, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from cache_proxy.ledger import tables
from cache_proxy.ledger.sums import AMOUNTS


class Statements(NamedTuple):
    """For one of the two databases. Each takes rows; those that change one take ``of`` (and ``at``) to find it."""

    mark_batch: Executable
    """Gives nothing back where this batch is the last one that was written."""
    add_call: Executable
    add_share: Executable
    settle_call: Executable
    settle_share: Executable
    add_request: Executable
    add_to_day: Executable
    add_budget: Executable
    hold_budgets: Executable
    """Takes ``keys`` and ``starts``; other transactions wait for those rows."""
    write_budget: Executable


@lru_cache(maxsize=2)
def statements(dialect: str) -> Statements:
    """Those of ``sqlite`` or ``postgresql``."""
    # Both know what to do where a row is there already, and say it in the same words.
    into = (postgresql if dialect == "postgresql" else sqlite).insert
    calls, shares, batches, budgets = tables.calls, tables.shares, tables.batches, tables.budgets
    mine = (shares.c.call_id == bindparam("of")) & (shares.c.place == bindparam("at"))
    return Statements(
        mark_batch=_marking(into(batches), batches),
        add_call=into(calls).on_conflict_do_nothing(),
        add_share=into(shares).on_conflict_do_nothing(),
        settle_call=update(calls).where(calls.c.id == bindparam("of")),
        settle_share=update(shares).where(mine),
        add_request=into(tables.requests).on_conflict_do_nothing(),
        add_to_day=_adding(into(tables.days), tables.days),
        add_budget=into(budgets).on_conflict_do_nothing(),
        hold_budgets=_held(budgets),
        write_budget=update(budgets).where(
            (budgets.c.key_hash == bindparam("of")) & (budgets.c.starts_at == bindparam("at"))
        ),
    )


def _held(budgets: Table) -> Executable:
    these = budgets.c.key_hash.in_(bindparam("keys", expanding=True)) & budgets.c.starts_at.in_(
        bindparam("starts", expanding=True)
    )
    # In order: two that hold several of them then never wait for each other. SQLite has one writer at a time anyway.
    return select(budgets).where(these).order_by(budgets.c.key_hash, budgets.c.starts_at).with_for_update()


def _marking(insert: Any, batches: Table) -> Executable:
    set_ = {name: insert.excluded[name] for name in ("batch", "at")}
    another = batches.c.batch != insert.excluded.batch
    statement: Executable = insert.on_conflict_do_update(index_elements=["writer"], set_=set_, where=another).returning(
        batches.c.batch
    )
    return statement


def _adding(insert: Any, days: Table) -> Executable:
    set_: dict[str, Any] = {name: days.c[name] + insert.excluded[name] for name in AMOUNTS}
    set_["label"] = insert.excluded.label
    statement: Executable = insert.on_conflict_do_update(index_elements=["day", "kind", "name"], set_=set_)
    return statement
