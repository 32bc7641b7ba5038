"""Stores many hosts share: Redis and what speaks its protocol, through redis-py's asyncio client.

Only what is in this folder imports ``redis``. ``store`` is one server (or the primary that ``sentinels`` name),
``cluster`` is many; ``access`` is how either is reached.
"""

from cache_proxy.backends.redis.access import Access, Tls
from cache_proxy.backends.redis.cluster import RedisClusterBackend
from cache_proxy.backends.redis.sentinels import Sentinels
from cache_proxy.backends.redis.store import RedisBackend

__all__ = ["Access", "RedisBackend", "RedisClusterBackend", "Sentinels", "Tls"]
