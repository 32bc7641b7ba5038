"""The server's app: the middleware round an app that is empty, and an orderly end round both."""

import multiprocessing
import os
from collections.abc import Collection
from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from cache_proxy.asgi.auth import Auth
from cache_proxy.asgi.drain import Drain
from cache_proxy.asgi.errors import HTTPError, reply_to
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.reporting.logs import StreamLines, set_up_logging
from cache_proxy.settings import Settings, load
from cache_proxy.wiring import Wired

CONFIG_VARIABLE = "CACHE_PROXY_CONFIG"
"""How the path of the configuration reaches the worker processes."""


class Nothing:
    """The host app of a server that hosts nothing: it starts, it ends, and no path leads anywhere."""

    def __init__(self, known: Collection[tuple[str, str]]) -> None:
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse requests in words that name the remedy."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            exchange = Exchange(scope, receive, send)
            reply = reply_to(self._refusal(scope["path"]))
            await exchange.reply(reply.status, reply.body, reply.headers)
        else:
            await send({"type": "websocket.close", "code": 1000})

    def _refusal(self, path: str) -> HTTPError:
        methods = sorted(method for method, known in self._known if known == path)
        if not methods:
            return HTTPError(
                404,
                "There is no such route. GET /openapi.json lists them.",
                kind="invalid_request_error",
                code="not_found",
            )
        allowed = ", ".join(methods)
        return HTTPError(
            405,
            f"This route takes {allowed}.",
            kind="invalid_request_error",
            code="method_not_allowed",
            headers=[(b"allow", allowed.encode())],
        )


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


def build(settings: Settings) -> ASGIApp:
    """The server's app for these settings. Without a ``master_key`` it serves this machine only."""
    wired = Wired(settings, lines=StreamLines())
    auth: Auth | None = None if settings.master_key else "loopback"
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth=auth)
    return Drain(app, settings.own.drain_seconds)


def create_app() -> ASGIApp:
    """The app of a worker process: configured by the file that ``CACHE_PROXY_CONFIG`` names, or the environment."""
    # Here, for it loads the client of Prometheus.
    from cache_proxy.reporting.metrics import take_seat

    settings = load(os.environ.get(CONFIG_VARIABLE) or None)
    set_up_logging(settings.own.log_level)
    take_seat()
    if multiprocessing.parent_process() is not None:
        # One of several: `serve` has warned already, once for all of them.
        settings = replace(settings, warnings=())
    return build(settings)
