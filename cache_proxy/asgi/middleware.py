"""The middleware: our routes under a prefix, everything else the host app's, untouched.

Pure ASGI. It holds no state of a request; an :class:`~cache_proxy.asgi.exchange.Exchange` made per request does.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from starlette.types import ASGIApp, Receive, Scope, Send

from cache_proxy.access import Admitted
from cache_proxy.asgi.auth import Auth, Gate
from cache_proxy.asgi.errors import reply_to, unexpected
from cache_proxy.asgi.exchange import ClientGoneError, Exchange
from cache_proxy.asgi.inference import Inference
from cache_proxy.asgi.inner import Caller, Inner, caller
from cache_proxy.asgi.keys import KeyRoutes
from cache_proxy.asgi.lifespan import Lifespan
from cache_proxy.asgi.operations import Operations
from cache_proxy.asgi.refused import Refused
from cache_proxy.asgi.rights import Handler, for_holders, for_master, for_members
from cache_proxy.asgi.spend import Spend
from cache_proxy.calls import Account
from cache_proxy.errors import CacheProxyError, ConfigError
from cache_proxy.models import Deployment, Endpoint
from cache_proxy.settings import APP, Settings, load
from cache_proxy.upstream.lane import Connection
from cache_proxy.wiring import MIB, Wired, over_http

log = logging.getLogger("cache_proxy")

EMBEDDINGS = ("/embeddings", "/v1/embeddings")
RERANK = ("/rerank", "/v1/rerank", "/v2/rerank")
MODELS = ("/models", "/v1/models")
LIVENESS = ("/health/liveliness", "/health/liveness")
READINESS = ("/health/readiness",)
POSTS: Mapping[str, tuple[str, ...]] = {
    "delete": ("/cache/delete",), "flushall": ("/cache/flushall",), "generate_key": ("/key/generate",),
    "update_key": ("/key/update",), "delete_key": ("/key/delete",),
}  # fmt: skip
GETS: Mapping[str, tuple[str, ...]] = {
    "models": MODELS, "liveness": LIVENESS, "readiness": READINESS, "health": ("/health",), "ping": ("/cache/ping",),
    "stats": ("/cache/stats",), "metrics": ("/metrics",), "openapi": ("/openapi.json",),
    "spend_report": ("/spend/report",), "spend_logs": ("/spend/logs",), "spend_logs_v2": ("/spend/logs/v2",),
    "key_info": ("/key/info",), "list_keys": ("/key/list",),
}  # fmt: skip
"""What is about ourselves."""

OPEN_TO_ALL = frozenset(LIVENESS + READINESS)
"""Probes come without keys, and learn nothing but that the process is there."""

FOR_GUESTS = frozenset({"embeddings", "rerank", "liveness", "readiness"})
"""What those may do of whom nothing is known but a key of the upstream's."""

FOR_MEMBERS = FOR_GUESTS | {"models"}
"""What those may do whom the app lets in, where there is a master key."""

FOR_KEYS = FOR_MEMBERS | {"key_info", "spend_report", "spend_logs", "spend_logs_v2"}
"""What the holder of a key may do; everything else is the master's."""

BESIDE_THE_APP = "/cache-proxy"
"""Where our other routes are when /embeddings and /rerank are the app's: /health and /v1/models are the app's too."""


class CacheProxyMiddleware:
    """Answers ``/embeddings`` and ``/rerank`` from the cache, inside any ASGI app.

    ``config`` is the path of a LiteLLM ``config.yaml``, ``settings`` one that is loaded already; with neither, the
    environment counts. ``prefix`` goes before every route. ``auth`` says who gets in without a key (see
    ``cache_proxy.asgi.auth``); the default is nobody. ``upstream="app"`` caches the app's own ``/embeddings`` and
    ``/rerank`` (see ``cache_proxy.asgi.inner``). Raises ``ConfigError``; inside a running event loop it refuses the
    start instead (see ``cache_proxy.asgi.refused``).
    """

    def __init__(
        self,
        app: ASGIApp,
        config: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        prefix: str = "",
        auth: Auth | None = None,
        upstream: Literal["app"] | None = None,
        wired: Wired | None = None,
    ) -> None:
        """``wired`` comes in place of a configuration: one that is put together already."""
        self.app = app
        self._prefix = prefix
        self._inner = Inner(app) if upstream == APP else None
        self._beside = BESIDE_THE_APP if self._inner is not None and not prefix else ""
        self._refused: Refused | None = None
        try:
            _check(config, settings, prefix, upstream, wired)
            self._set_up(wired or _wired(settings or load(config), self._inner), auth)
        except ConfigError as error:
            if not _in_a_loop():
                raise
            self._refused = Refused(app, error, self._is_ours)

    def _set_up(self, wired: Wired, auth: Auth | None) -> None:
        self.wired = wired
        settings = wired.settings
        self._gate = Gate(
            settings.master_key,
            auth,
            wired.find_key,
            configured=[key.hash for key in settings.keys],
            pass_through=settings.pass_through_keys,
        )
        if self._inner is not None and settings.master_key is None and auth is None:
            raise ConfigError(
                'with upstream="app" say who gets in, for an answer from the cache never reaches the checks of your '
                'app: set general_settings.master_key, or give auth="open" or a callable'
            )
        if settings.master_key is None and auth is None and not settings.pass_through_keys:
            log.warning(
                "nobody gets in: there is no master_key, and the middleware was given no auth; "
                'set general_settings.master_key, or give auth="open" or a callable'
            )
        self._routes = routes(self.wired, self._prefix, self._beside)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, request or lifespan of the host's."""
        if self._refused is not None:
            await self._refused(scope, receive, send)
            return
        if scope["type"] == "http":
            path = self._path(scope)
            handler = self._routes.get((scope["method"], path))
            if handler is not None:
                await self._serve(Exchange(scope, receive, send), handler, path)
                return
        elif scope["type"] == "lifespan":
            await Lifespan(self.wired, receive, send, self._before_end).run(self.app, scope)
            return
        await self.app(scope, receive, send)

    def _is_ours(self, scope: Scope) -> bool:
        return (scope["method"], self._path(scope)) in {(method, path) for _, method, path in taken(self._beside)}

    def _path(self, scope: Scope) -> str:
        """The path below the place where we are mounted and below our prefix; empty if it is not ours."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        # Servers and routers differ in whether a path still has its root.
        if root and path.startswith(root) and path[len(root) : len(root) + 1] == "/":
            path = path[len(root) :]
        return path.removeprefix(self._prefix) if path.startswith(self._prefix) else ""

    async def _serve(self, exchange: Exchange, handler: Handler, path: str) -> None:
        if self._inner is None or not isinstance(handler, Inference):
            await self._handle(exchange, handler, path)
            return
        whole: str = exchange.scope["path"]
        inner_path = whole[: len(whole) - len(self._prefix + path)] + path
        token = caller.set(Caller(exchange, inner_path))
        try:
            await self._handle(exchange, handler, path)
        finally:
            caller.reset(token)

    async def _handle(self, exchange: Exchange, handler: Handler, path: str) -> None:
        try:
            is_open = path.removeprefix(self._beside) in OPEN_TO_ALL
            admitted = Admitted(Account()) if is_open else await self._gate.admit(exchange)
            await handler(exchange, admitted)
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

    async def _before_end(self) -> None:
        """Where the app is the upstream, what is under way needs it: bring that home before the app ends."""
        if self._inner is not None:
            await self.wired.drain()
            await self._inner.finish()


def _check(config: object, settings: Settings | None, prefix: str, upstream: str | None, wired: Wired | None) -> None:
    if config is not None and settings is not None:
        raise ConfigError("give `config` or `settings`, not both")
    if prefix and (not prefix.startswith("/") or prefix.endswith("/")):
        raise ConfigError('`prefix` must start with "/" and not end with it, such as "/cache"')
    if upstream not in (None, APP):
        raise ConfigError('`upstream` can only be "app", the app that is wrapped; leave it out to ask Jina')
    if upstream is not None and wired is not None:
        raise ConfigError("give `upstream` or `wired`, not both")


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _wired(settings: Settings, inner: Inner | None) -> Wired:
    if inner is None:
        return Wired(settings)
    elsewhere = over_http(settings)

    def connect(deployment: Deployment) -> Connection:
        return inner.connect(deployment) if deployment.base_url == APP else elsewhere(deployment)

    return Wired(settings.round_the_app(), connect=connect)


def routes(wired: Wired, prefix: str = "", beside: str = "") -> Mapping[tuple[str, str], Handler]:
    """Every route that is ours, by method and path below ``prefix``; ``beside`` goes before those about ourselves."""
    limit = int(wired.settings.own.max_body_mib * MIB)
    operations, keys = Operations(wired, limit, prefix, beside), KeyRoutes(wired, limit)
    spend = Spend(wired)
    handlers: dict[str, Handler] = {
        "embeddings": Inference(wired, Endpoint.EMBEDDINGS, limit),
        "rerank": Inference(wired, Endpoint.RERANK, limit),
        "delete": operations.delete,
        "flushall": operations.flushall,
        "models": operations.models,
        "liveness": operations.liveness,
        "readiness": operations.readiness,
        "health": operations.health,
        "ping": operations.ping,
        "stats": operations.stats,
        "metrics": operations.metrics,
        "openapi": operations.openapi,
        "spend_report": spend.report,
        "spend_logs": spend.logs,
        "spend_logs_v2": spend.paged_logs,
        "generate_key": keys.generate,
        "update_key": keys.update,
        "delete_key": keys.delete,
        "key_info": keys.info,
        "list_keys": keys.list,
    }
    allowed = {name: _for_whom(name)(handler) for name, handler in handlers.items()}
    return {(method, path): allowed[name] for name, method, path in taken(beside)}


def _for_whom(name: str) -> Callable[[Handler], Handler]:
    if name in FOR_GUESTS:
        return lambda handler: handler
    if name in FOR_MEMBERS:
        return for_members
    return for_holders if name in FOR_KEYS else for_master


def taken(beside: str) -> Iterator[tuple[str, str, str]]:
    """The name, method and path of every route that is ours."""
    yield from (("embeddings", "POST", path) for path in EMBEDDINGS)
    yield from (("rerank", "POST", path) for path in RERANK)
    yield from ((name, "POST", beside + path) for name, paths in POSTS.items() for path in paths)
    for method in ("GET", "HEAD"):
        yield from ((name, method, beside + path) for name, paths in GETS.items() for path in paths)
