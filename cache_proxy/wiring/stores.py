"""The store of a configuration: one of ours, guarded, and behind the memory tier unless that is off."""

from cache_proxy import backends
from cache_proxy.backends import GuardedBackend, MemoryBackend, TieredBackend
from cache_proxy.backends.base import Backend
from cache_proxy.settings import RedisSettings, Settings, reveal

MIB = 2**20
GIB = 2**30

DEFAULT_NAMESPACE = "cache-proxy"


def build_store(settings: Settings) -> Backend:
    """The store of this configuration: guarded, and behind the memory tier unless that is off."""
    own, cache = settings.own, settings.cache
    memory = MemoryBackend(own.memory_mib * MIB // 2)
    if not cache.enabled:
        return MemoryBackend(0)
    if cache.kind == "memory":
        return memory
    if cache.kind == "redis":
        bare: Backend = _redis(cache.redis or RedisSettings(), cache.namespace or DEFAULT_NAMESPACE)
    else:
        bare = backends.DiskBackend(
            cache.directory, int(own.disk_max_gib * GIB), write_patience=own.store_write_timeout
        )
    guarded = GuardedBackend(bare, read_deadline=own.store_read_timeout, write_deadline=own.store_write_timeout)
    return TieredBackend(memory, guarded) if own.memory_mib else guarded


def _redis(redis: RedisSettings, namespace: str) -> Backend:
    timeout, most = redis.socket_timeout, redis.max_connections
    if redis.url is not None:
        url = redis.url.get_secret_value()
        return backends.RedisBackend.from_url(url, namespace=namespace, timeout=timeout, max_connections=most)
    return backends.RedisBackend.from_parts(
        redis.host,
        redis.port,
        db=redis.db,
        username=redis.username,
        password=reveal(redis.password),
        ssl=redis.ssl,
        namespace=namespace,
        timeout=timeout,
        max_connections=most,
    )
