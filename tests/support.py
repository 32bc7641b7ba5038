"""The product put together for tests: a stand-in upstream, an app before it, a client before that."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from starlette.types import ASGIApp

from cache_proxy.asgi.auth import Auth
from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.engine import Engine
from cache_proxy.settings import Settings, parse
from cache_proxy.standin import Dropped
from cache_proxy.upstream.client import Clients
from cache_proxy.wiring import Connect, Wired

UPSTREAM = "http://jina.test/v1"


class InProcess(httpx.ASGITransport):
    """An upstream in this process. A dropped connection is an exception of the app there."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except Dropped:
            raise httpx.RemoteProtocolError("dropped", request=request) from None


def connect_to(upstream: ASGIApp) -> Connect:
    """The way from every deployment to this upstream, a stand-in or one in disguise."""
    return Clients(transport=InProcess(upstream))


def set_clock(engine: Engine, clock: Callable[[], float]) -> None:
    """Let this engine keep and judge its entries by this clock."""
    calls = replace(engine.means.calls, clock=clock)
    engine.means = replace(engine.means, clock=clock, calls=calls)


def settings_for(folder: Path, document: Mapping[str, Any] | None = None) -> Settings:
    """Settings of a server on the disk store in ``folder``; ``document`` is merged in, section by section."""
    base: dict[str, Any] = {"cache_proxy_settings": {"log_format": "off"}}
    for section, content in (document or {}).items():
        base[section] = {**base.get(section, {}), **content} if isinstance(content, dict) else content
    environ = {"JINA_AI_API_KEY": "jina_test", "JINA_AI_API_BASE": UPSTREAM, "CACHE_PROXY_DIR": str(folder)}
    return parse(base, environ)


@asynccontextmanager
async def proxy(
    upstream: ASGIApp, folder: Path, document: Mapping[str, Any] | None = None, *, auth: Auth | None = "open"
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a proxy before ``upstream``. Everything is closed at the end."""
    wired = Wired(settings_for(folder, document), connect=connect_to(upstream))
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth=None if wired.settings.master_key else auth)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        try:
            yield client
        finally:
            await wired.close()
