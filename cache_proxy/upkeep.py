"""The configured store, looked at and purged without a server.

A purge from here is obeyed by every running worker within a second, as one by a server is: the word of it is left in
the store that they share.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from cache_proxy.backends import MemoryBackend, TieredBackend
from cache_proxy.backends.base import Backend
from cache_proxy.core.asked import endpoint_of, understand
from cache_proxy.core.wire.fields import parse_body
from cache_proxy.errors import ConfigError, StoreError
from cache_proxy.models import Key
from cache_proxy.serving import check_store, store_of
from cache_proxy.settings import Settings
from cache_proxy.wiring import build_store, names, policy
from cache_proxy.wiring.readings import shared_of

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds until a store that says nothing is given up. A purge of a big one takes its time."""


def stats(settings: Settings) -> dict[str, Any]:
    """Where the store is and what it holds, as far as it knows. Raises ``StoreError`` if it can not be asked, and
    ``ConfigError``.
    """

    async def ask(store: Backend) -> dict[str, Any]:
        await store.ping()
        held = await store.occupancy()
        return {"store": store_of(settings), "entries": held.entries, "bytes": held.bytes, "limit_bytes": held.limit}

    return _with_store(settings, ask)


def clear(settings: Settings) -> None:
    """Forget everything that is ours. Raises ``StoreError``, ``ConfigError``."""
    _with_store(settings, lambda store: store.clear())


def delete(settings: Settings, keys: Sequence[Key]) -> int:
    """Forget these keys; how many were held. Raises ``StoreError``, ``ConfigError``."""
    return _with_store(settings, lambda store: store.delete_many(list(dict.fromkeys(keys))))


def keys_of(settings: Settings, request: bytes) -> Sequence[Key]:
    """The keys under which the answer to the request of this body is kept. Raises ``RequestError``."""
    body = parse_body(request)
    return understand(endpoint_of(body), body, None, names(settings), policy(settings)).seats


def _with_store(settings: Settings, work: Callable[[Backend], Awaitable[T]]) -> T:
    return asyncio.run(_worked(settings, work))


async def _worked(settings: Settings, work: Callable[[Backend], Awaitable[T]]) -> T:
    store = _store(settings)
    try:
        async with asyncio.timeout(PATIENCE):
            await store.open()
            return await work(store)
    except (StoreError, TimeoutError) as error:
        reason = str(error) or f"no answer within {PATIENCE:g} s"
        raise StoreError(f"the store ({store_of(settings)}) did not do it: {reason}") from None
    finally:
        await store.close()


def _store(settings: Settings) -> Backend:
    check_store(settings)
    shared = shared_of(build_store(settings))
    if shared is None:
        raise ConfigError(
            "the cache is off, or in the memory of each worker, where nothing else reaches it; "
            "ask the server (/cache/stats, /cache/delete, /cache/flushall)"
        )
    # Others may have a memory before the store even where this configuration has none: the purge is for them, too.
    return TieredBackend(MemoryBackend(0), shared)
