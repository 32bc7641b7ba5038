"""The middleware: our routes under a prefix, everything else the host app's, untouched.

Pure ASGI. It holds no state of a request; an :class:`~cache_proxy.asgi.exchange.Exchange` made per request does.
"""

import os
from collections.abc import Awaitable, Callable, Mapping

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_proxy.asgi.auth import Auth, Gate
from cache_proxy.asgi.errors import reply_to, unexpected
from cache_proxy.asgi.exchange import ClientGoneError, Exchange
from cache_proxy.asgi.inference import Inference
from cache_proxy.asgi.operations import Operations
from cache_proxy.errors import CacheProxyError, ConfigError
from cache_proxy.models import Endpoint
from cache_proxy.settings import Settings, load
from cache_proxy.wiring import MIB, Wired

Handler = Callable[[Exchange, str], Awaitable[None]]

EMBEDDINGS = ("/embeddings", "/v1/embeddings")
RERANK = ("/rerank", "/v1/rerank", "/v2/rerank")
MODELS = ("/models", "/v1/models")
LIVENESS = ("/health/liveliness", "/health/liveness")
READINESS = ("/health/readiness",)

OPEN_TO_ALL = frozenset(LIVENESS + READINESS)
"""Probes come without keys, and learn nothing but that the process is there."""


class CacheProxyMiddleware:
    """Answers ``/embeddings`` and ``/rerank`` from the cache, inside any ASGI app.

    ``config`` is the path of a LiteLLM ``config.yaml``, ``settings`` one that is loaded already; with neither, the
    environment counts. ``prefix`` goes before every route. ``auth`` says who gets in without a key (see
    ``cache_proxy.asgi.auth``); the default is nobody. Raises ``ConfigError``.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        prefix: str = "",
        auth: Auth | None = None,
        wired: Wired | None = None,
    ) -> None:
        """``wired`` comes in place of a configuration: one that is put together already."""
        if config is not None and settings is not None:
            raise ConfigError("give `config` or `settings`, not both")
        if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
            raise ConfigError('`prefix` must start with "/" and not end with it, such as "/cache"')
        self.app = app
        self.wired = wired or Wired(settings or load(config))
        self._gate = Gate(self.wired.settings.master_key, auth)
        self._prefix = prefix
        self._routes = routes(self.wired, prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, request or lifespan of the host's."""
        if scope["type"] == "http":
            path = self._path(scope)
            handler = self._routes.get((scope["method"], path))
            if handler is not None:
                await self._handle(Exchange(scope, receive, send), handler, path)
                return
        elif scope["type"] == "lifespan":
            send = self._with_lifespan(send)
        await self.app(scope, receive, send)

    def _path(self, scope: Scope) -> str:
        """The path below the place where we are mounted and below our prefix; empty if it is not ours."""
        path: str = scope["path"]
        root = (
            scope.get("root_path", "") + self._prefix if path.startswith(scope.get("root_path", "")) else self._prefix
        )
        return path.removeprefix(root) if path.startswith(root) else ""

    async def _handle(self, exchange: Exchange, handler: Handler, path: str) -> None:
        try:
            who = "" if path in OPEN_TO_ALL else await self._gate.admit(exchange)
            await handler(exchange, who)
        except ClientGoneError:
            return
        except CacheProxyError as error:
            reply = reply_to(error)
            if isinstance(handler, Inference):
                handler.note(exchange, reply)
            await exchange.reply(reply.status, reply.body, reply.headers, reply.content_type)
        except Exception as error:
            if exchange.answered:
                raise
            reply = unexpected(error, exchange.request_id)
            await exchange.reply(reply.status, reply.body)

    def _with_lifespan(self, send: Send) -> Send:
        """Open when the host has started, close when it has ended; its own events pass through in order."""

        async def passing(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await self.wired.open()
            elif message["type"].startswith("lifespan.shutdown"):
                await self.wired.close()
            await send(message)

        return passing


def routes(wired: Wired, prefix: str = "") -> Mapping[tuple[str, str], Handler]:
    """Every route that is ours, by method and path."""
    limit = int(wired.settings.own.max_body_mib * MIB)
    operations = Operations(wired, limit, prefix)
    posts: dict[tuple[str, ...], Handler] = {
        EMBEDDINGS: Inference(wired, Endpoint.EMBEDDINGS, limit),
        RERANK: Inference(wired, Endpoint.RERANK, limit),
        ("/cache/delete",): operations.delete,
        ("/cache/flushall",): operations.flushall,
    }
    gets: dict[tuple[str, ...], Handler] = {
        MODELS: operations.models,
        LIVENESS: operations.liveness,
        READINESS: operations.readiness,
        ("/health",): operations.health,
        ("/cache/ping",): operations.ping,
        ("/openapi.json",): operations.openapi,
    }
    table = {("POST", path): handler for paths, handler in posts.items() for path in paths}
    for paths, handler in gets.items():
        table |= {(method, path): handler for method in ("GET", "HEAD") for path in paths}
    return table
