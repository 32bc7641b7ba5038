"""A caching proxy, an ASGI middleware and an SDK for Jina AI's ``/embeddings`` and ``/rerank``.

The names below are loaded on first use, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from cache_proxy.asgi.middleware import CacheProxyMiddleware
    from cache_proxy.sdk.calls import aembedding, arerank, embedding, rerank
    from cache_proxy.settings import Settings

__all__ = [
    "CacheProxyMiddleware",
    "Settings",
    "__version__",
    "aembedding",
    "arerank",
    "embedding",
    "rerank",
]

_HOMES = {
    "CacheProxyMiddleware": "cache_proxy.asgi.middleware",
    "Settings": "cache_proxy.settings",
    "aembedding": "cache_proxy.sdk.calls",
    "arerank": "cache_proxy.sdk.calls",
    "embedding": "cache_proxy.sdk.calls",
    "rerank": "cache_proxy.sdk.calls",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
