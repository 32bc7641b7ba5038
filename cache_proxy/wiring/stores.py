"""The store of a configuration: one of ours, guarded, and behind the memory tier unless that is off."""

from collections.abc import Callable

from cache_proxy import backends
from cache_proxy.backends import GuardedBackend, MemoryBackend, TieredBackend
from cache_proxy.backends.base import Backend
from cache_proxy.settings import Settings

MIB = 2**20
GIB = 2**30

DEFAULT_NAMESPACE = "cache-proxy"


def build_store(settings: Settings, timed: Callable[[str, float], None] | None = None) -> Backend:
    """The store of this configuration: guarded, and behind the memory tier unless that is off. ``timed`` hears how long
    each call on it took.

    Nothing is opened. Raises ``ConfigError`` where a plugin gives none.
    """
    own, cache = settings.own, settings.cache
    memory = MemoryBackend(own.memory_mib * MIB // 2)
    if not cache.enabled:
        return MemoryBackend(0)
    if cache.kind == "memory":
        return memory
    if cache.plugin is not None:
        bare = cache.plugin.build()
    elif cache.kind == "redis":
        bare = _redis(settings)
    else:
        bare = backends.DiskBackend(
            cache.directory, int(own.disk_max_gib * GIB), write_patience=own.store_write_timeout
        )
    guarded = GuardedBackend(
        bare,
        name=cache.kind,
        read_deadline=own.store_read_timeout,
        write_deadline=own.store_write_timeout,
        timed=timed,
    )
    return TieredBackend(memory, guarded) if own.memory_mib else guarded


def _redis(settings: Settings) -> Backend:
    # Here, for it loads the client.
    from cache_proxy.wiring import redis

    namespace = settings.cache.namespace or DEFAULT_NAMESPACE
    return redis.build(settings.cache, namespace, read_timeout=settings.own.store_read_timeout)
