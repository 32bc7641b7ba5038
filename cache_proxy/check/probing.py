"""Asking the store: whether it can be used, and what should be changed about it."""

import asyncio

from cache_proxy.backends.base import Backend
from cache_proxy.check.report import Store
from cache_proxy.errors import ConfigError, StoreError
from cache_proxy.serving import check_store
from cache_proxy.settings import Settings
from cache_proxy.wiring import build_store

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


async def _asked(store: Backend) -> Store:
    await store.open()
    await store.ping()
    return Store(reachable=True, advice=tuple(await _advice(store)))


async def _advice(store: Backend) -> list[str]:
    try:
        return list(await store.advice())
    except StoreError:
        return []  # it answered just now: what it does not want to tell is no failure
