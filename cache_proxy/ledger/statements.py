"""What is said to the database, put together once: to build a statement takes longer than to run it."""

from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Executable, Table, bindparam, func, select, update
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
    lock_keys: Executable | None
    """Takes ``locks``, one for each key: of transactions that are about the same one, one at a time. Not needed at all
    where there is one writer at a time anyway."""
    find_budgets: Executable
    """Takes ``keys``, ``first`` and ``last``: the rows of windows in which any moment from one to the other is."""
    write_budget: Executable
    """Makes the row if there is none."""


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
        lock_keys=_locked() if dialect == "postgresql" else None,
        find_budgets=_found(budgets),
        write_budget=_leveled(into(budgets), budgets),
    )


def _locked() -> Executable:
    # Not the rows: a row that is not there yet is what two must not make beside each other, and whoever is about to
    # write a call must not miss the row that another is making.
    locks = bindparam("locks", type_=postgresql.ARRAY(BigInteger))
    return select(func.pg_advisory_xact_lock(func.unnest(locks)))


def _found(budgets: Table) -> Executable:
    theirs = budgets.c.key_hash.in_(bindparam("keys", expanding=True))
    begun = budgets.c.starts_at <= bindparam("last", type_=BigInteger)
    return select(budgets).where(theirs & begun & (budgets.c.ends_at > bindparam("first", type_=BigInteger)))


def _leveled(insert: Any, budgets: Table) -> Executable:
    set_ = {name: insert.excluded[name] for name in ("spent", "reserved")}
    statement: Executable = insert.on_conflict_do_update(index_elements=budgets.primary_key, set_=set_)
    return statement


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
