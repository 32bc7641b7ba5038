"""Settings to a running engine, and its orderly end. Nothing below this file knows ``Settings``."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal

from pydantic import SecretStr

from cache_proxy import backends
from cache_proxy.backends import GuardedBackend, MemoryBackend, TieredBackend
from cache_proxy.backends.base import Backend
from cache_proxy.core.catalog import MODELS, Model, Ranking, look_up
from cache_proxy.core.names import Names, Target
from cache_proxy.core.renderings import Renderings
from cache_proxy.engine import Engine
from cache_proxy.errand import Means
from cache_proxy.models import PICO, Deployment, Endpoint, Policy
from cache_proxy.receipts import Observer, Receipt
from cache_proxy.reporting.logs import Lines, LoggerLines, RequestLog
from cache_proxy.reporting.tally import Tally
from cache_proxy.settings import DeploymentSettings, RedisSettings, Settings
from cache_proxy.upstream.client import Client
from cache_proxy.upstream.flights import Flights
from cache_proxy.upstream.lanes import Connection, Lanes, Rules

log = logging.getLogger("cache_proxy")

Connect = Callable[[Deployment], Connection]

MIB = 2**20
GIB = 2**30
DRAIN_PATIENCE = 20.0
"""Seconds that calls under way have to come home when everything ends."""

LEAST_WEIGHT = 1e-6
"""A weight of 0 is asked only when nobody else is left."""

DEFAULT_NAMESPACE = "cache-proxy"
_MODES = {"embedding": Endpoint.EMBEDDINGS, "rerank": Endpoint.RERANK}


class Wired:
    """One configuration at work. Opened before the first request that needs it, on the loop that serves it."""

    def __init__(self, settings: Settings, *, connect: Connect | None = None, lines: Lines | None = None) -> None:
        """``connect`` makes the way to a deployment (httpx by default); ``lines`` takes the request log
        (the ``cache_proxy.request`` logger by default)."""
        self._lines = LoggerLines() if lines is None else lines
        self.settings = settings
        self.tally = Tally()
        self.store = build_store(settings)
        self._observers = _observers(settings, self.tally, self._lines)
        self._connect = connect or _connect(trust_env=settings.own.trust_env)
        self._engine: Engine | None = None
        self._opening: asyncio.Lock | None = None
        for warning in settings.warnings:
            log.warning("%s", warning)

    @property
    def running(self) -> Engine | None:
        """The engine, if it is open."""
        return self._engine

    async def open(self) -> Engine:
        """The engine, made and opened by whoever comes first."""
        if self._engine is not None:
            return self._engine
        self._opening = self._opening or asyncio.Lock()
        async with self._opening:
            if self._engine is None:
                await self.store.open()
                self._engine = self._build()
        return self._engine

    def _build(self) -> Engine:
        lanes = Lanes(self._connect, _rules(self.settings), time.monotonic)
        means = Means(self.store, lanes, Flights(), policy(self.settings), time.time)
        return Engine(names(self.settings), means, Renderings(_renderings_bytes(self.settings)))

    def record(self, receipt: Receipt) -> None:
        """Tell every observer of one request."""
        for observer in self._observers:
            try:
                observer.record(receipt)
            except Exception as error:
                # An answer that is paid for is worth more than a line about it.
                log.error("%s could not record a receipt (%s)", type(observer).__name__, type(error).__name__)

    async def close(self) -> None:
        """Bring home what is under way and let go of everything. Safe to call twice, or without ``open``."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close(DRAIN_PATIENCE)
        self._lines.flush()
        self._opening = None


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
        password=_secret(redis.password),
        ssl=redis.ssl,
        namespace=namespace,
        timeout=timeout,
        max_connections=most,
    )


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _renderings_bytes(settings: Settings) -> int:
    """Half of the memory is for entries, half for what they look like when written."""
    return settings.own.memory_mib * MIB // 2 if settings.cache.enabled else 0


def _observers(settings: Settings, tally: Tally, lines: Lines) -> tuple[Observer, ...]:
    form = settings.own.log_format
    return (tally,) if form == "off" else (tally, RequestLog(form, lines))


def _connect(*, trust_env: bool) -> Connect:
    return lambda deployment: Client(deployment, trust_env=trust_env)


def _rules(settings: Settings) -> Rules:
    rest = settings.cooldown
    return Rules(
        max_wait=settings.own.max_wait,
        allowed_fails=rest.allowed_fails,
        cooldown=rest.seconds if rest.enabled else None,
    )


def policy(settings: Settings) -> Policy:
    """What the operator decided about the cache."""
    cache = settings.cache
    cached = {Endpoint.EMBEDDINGS: cache.embeddings, Endpoint.RERANK: cache.rerank}
    return Policy(
        endpoints=frozenset(endpoint for endpoint, on in cached.items() if on and cache.enabled),
        default_off=cache.default_off,
        namespace=cache.namespace,
        ttl=cache.ttl,
        url_ttl=settings.own.cache_urls or None,
        max_items=settings.own.max_items,
    )


def names(settings: Settings) -> Names:
    """The table of model names."""
    deployments = {id(found): deployment(found) for found in settings.deployments}

    def find(name: str) -> Target | None:
        route = settings.route(name)
        if route is None:
            return None
        first = route.deployments[0]
        members = tuple(deployments[id(member)] for member in route.deployments)
        return Target(route.model, spec(route.model, first), first.identity, members, first.default_params)

    return Names(find, listed(settings))


def listed(settings: Settings) -> list[str]:
    """The names to show to clients: patterns are filled in from the catalog, hidden aliases left out."""
    shown = {name for name, alias in settings.aliases.items() if not alias.hidden}
    for found in settings.deployments:
        if not found.wildcard:
            shown.add(found.model_name)
            continue
        candidates: Sequence[str] = [name for model in MODELS for name in (model, f"jina_ai/{model}")]
        shown |= {name for name in candidates if settings.route(name) is not None}
    return sorted(shown)


def deployment(settings: DeploymentSettings) -> Deployment:
    """What the upstream side needs to know of a deployment."""
    return Deployment(
        id=settings.id,
        base_url=settings.api_base,
        api_key=_secret(settings.api_key),
        timeout=settings.timeout,
        max_parallel=settings.max_parallel_requests,
        rpm=settings.rpm,
        tpm=settings.tpm,
        retries=settings.num_retries,
        weight=1.0 if settings.weight is None else max(settings.weight, LEAST_WEIGHT),
        order=1 if settings.order is None else settings.order,
        headers=settings.extra_headers,
    )


def spec(model: str, settings: DeploymentSettings) -> Model:
    """What is known of a model: the catalog where it is Jina's dialect, and what the operator says besides."""
    own_server = not settings.on_jina
    found = look_up(model, own_server=own_server)
    if settings.provider != "jina_ai" and found.known:
        # Another server's model of the same name has defaults of its own.
        found = Model(model, price=None, known=False, separate=own_server)
    if settings.items:
        found = replace(found, separate=settings.items == "separate")
    if settings.documents:
        found = replace(found, ranking=Ranking.PAIRS if settings.documents == "pairs" else Ranking.LIST)
    return replace(
        found,
        harmless=settings.harmless_params,
        only=_MODES[settings.mode] if settings.mode else None,
        price=found.price if settings.input_cost_per_token is None else _pico(settings.input_cost_per_token),
    )


def _pico(usd: Decimal) -> int:
    return int((usd * PICO).to_integral_value())
