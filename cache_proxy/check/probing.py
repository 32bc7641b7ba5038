"""Asking the store and the ledger: whether they can be used, and what should be changed about them."""

import asyncio
from dataclasses import replace

from cache_proxy.backends.base import Backend
from cache_proxy.check.report import Ledger, Store
from cache_proxy.errors import ConfigError, LedgerError, StoreError
from cache_proxy.serving import check_ledger, check_store, ledger_of
from cache_proxy.settings import Settings
from cache_proxy.wiring import build_store
from cache_proxy.wiring.ledger import open_ledger

PATIENCE = 10.0
"""Seconds until a store that says nothing is given up."""


async def probe(settings: Settings) -> Store:
    """What the store of these settings says. Raises ``ConfigError`` where a server would refuse to start with it."""
    check_store(settings)
    store = build_store(settings)
    try:
        async with asyncio.timeout(PATIENCE):
            return await _asked(store)
    except ConfigError:
        raise
    except (StoreError, TimeoutError) as error:
        return Store(reachable=False, trouble=str(error) or f"no answer within {PATIENCE:g} s")
    finally:
        await store.close()


def ledger(settings: Settings, *, offline: bool) -> Ledger:
    """What the ledger of these settings says. Raises ``ConfigError`` where a server would refuse to start with it."""
    found = Ledger(ledger_of(settings) if settings.ledger.enabled else "", refusing=settings.ledger.refusing)
    if offline or not settings.ledger.enabled:
        return found
    check_ledger(settings)
    try:
        open_ledger(settings.ledger)
    except LedgerError as error:
        return replace(found, writable=False, trouble=str(error))
    return replace(found, writable=True)


async def _asked(store: Backend) -> Store:
    await store.open()
    await store.ping()
    return Store(reachable=True, advice=tuple(await _advice(store)))


async def _advice(store: Backend) -> list[str]:
    try:
        return list(await store.advice())
    except StoreError:
        return []  # it answered just now: what it does not want to tell is no failure
