"""The whole product in this process, without sockets: what is left is our own work and the store's."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message

from bench.load import PATH
from bench.servers import environment
from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.settings import parse
from cache_proxy.wiring import Wired

NO_MEMORY: dict[str, Any] = {"cache_proxy_settings": {"memory_mib": 0, "log_format": "off"}}


@asynccontextmanager
async def opened(upstream: str, home: Path, document: Mapping[str, Any]) -> AsyncIterator[tuple[ASGIApp, Wired]]:
    """The app of these settings, and what is behind it."""
    wired = Wired(parse(document, environment(upstream, home)))
    await wired.open()
    try:
        yield CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open"), wired
    finally:
        await wired.close()


async def ask(app: ASGIApp, body: bytes) -> bytes:
    """What the app replies. Raises ``RuntimeError`` if it is no 200."""
    parts: list[bytes] = []
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        else:
            parts.append(message["body"])

    scope = {"type": "http", "method": "POST", "path": PATH, "headers": [(b"content-type", b"application/json")]}
    await app(scope, receive, send)
    reply = b"".join(parts)
    if statuses != [200]:
        raise RuntimeError(f"answered {statuses}: {reply[:200]!r}")
    return reply
