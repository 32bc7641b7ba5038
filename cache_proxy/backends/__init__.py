"""The stores: bytes under keys. Each name is loaded on first use, so that nobody imports a client he does not
use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cache_proxy.backends.base import Backend, Key, Value
    from cache_proxy.backends.disk import DiskBackend
    from cache_proxy.backends.guarded import GuardedBackend
    from cache_proxy.backends.memory import MemoryBackend
    from cache_proxy.backends.redis import RedisBackend, RedisClusterBackend
    from cache_proxy.backends.tiered import GENERATION, TieredBackend

__all__ = [
    "GENERATION",
    "Backend",
    "DiskBackend",
    "GuardedBackend",
    "Key",
    "MemoryBackend",
    "RedisBackend",
    "RedisClusterBackend",
    "TieredBackend",
    "Value",
]

_HOME = {
    "Backend": "base",
    "DiskBackend": "disk",
    "GENERATION": "tiered",
    "GuardedBackend": "guarded",
    "Key": "base",
    "MemoryBackend": "memory",
    "RedisBackend": "redis",
    "RedisClusterBackend": "redis",
    "TieredBackend": "tiered",
    "Value": "base",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
