"""The Redis store of a configuration. Imported by those who have one: it loads the client."""

from collections.abc import Iterable
from typing import Any

from cache_proxy.backends.base import Backend
from cache_proxy.backends.redis import Access, RedisBackend, RedisClusterBackend, Sentinels, Tls
from cache_proxy.settings import CacheSettings, RedisSettings, TlsSettings, reveal
from cache_proxy.settings.sections import Node

PATIENCE = 0.75
"""Of a look-up's deadline: the time that servers of a Cluster have, so that those that answered are heard."""


def build(cache: CacheSettings, namespace: str, *, read_timeout: float) -> Backend:
    """The store, not opened. Raises ``ConfigError``."""
    redis = cache.redis or RedisSettings()
    access = _access(redis)
    common: dict[str, Any] = {"namespace": namespace, "expiring": cache.ttl is not None}
    if redis.cluster:
        seeds = _places(redis.cluster)
        return RedisClusterBackend(seeds, access=access, patience=PATIENCE * read_timeout, **common)
    if redis.sentinel_nodes:
        sentinels = _sentinels(redis)
        return RedisBackend(lambda: sentinels.primary(access), **common)
    if redis.url is not None:
        return RedisBackend.from_url(redis.url.get_secret_value(), access=access, **common)
    return RedisBackend.from_parts(
        redis.host, redis.port, unix_socket_path=redis.unix_socket_path, access=access, **common
    )


def _access(redis: RedisSettings) -> Access:
    return Access(
        username=redis.username,
        password=reveal(redis.password),
        db=redis.db,
        tls=_tls(redis.tls) if redis.ssl else None,
        client_name=redis.client_name,
        max_connections=redis.max_connections,
        timeout=redis.socket_timeout,
        connect_timeout=redis.socket_connect_timeout,
        keepalive=redis.socket_keepalive,
        health_check_interval=redis.health_check_interval,
    )


def _tls(tls: TlsSettings) -> Tls:
    made = Tls(
        ca_certs=tls.ca_certs,
        ca_data=tls.ca_data,
        certfile=tls.certfile,
        keyfile=tls.keyfile,
        password=reveal(tls.password),
        cert_reqs=tls.cert_reqs,
        check_hostname=tls.check_hostname,
        ciphers=tls.ciphers,
    )
    # Files that can not be read are a mistake in the configuration: the moment to hear of it is the start.
    made.context()
    return made


def _sentinels(redis: RedisSettings) -> Sentinels:
    return Sentinels(
        _places(redis.sentinel_nodes), redis.service_name, redis.sentinel_username, reveal(redis.sentinel_password)
    )


def _places(nodes: Iterable[Node]) -> list[tuple[str, int]]:
    return [(node.host, node.port) for node in nodes]
