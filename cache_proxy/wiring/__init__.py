"""Settings to a running engine, and its orderly end. Nothing below this file knows ``Settings``."""

import asyncio
import logging
import time
from collections.abc import Callable

from cache_proxy.core.renderings import Renderings
from cache_proxy.engine import Engine
from cache_proxy.errand import Means
from cache_proxy.models import Deployment, Endpoint, Policy
from cache_proxy.receipts import Observer, Receipt
from cache_proxy.reporting.logs import Lines, LoggerLines, RequestLog
from cache_proxy.reporting.tally import Tally
from cache_proxy.settings import Settings
from cache_proxy.upstream.client import Client
from cache_proxy.upstream.flights import Flights
from cache_proxy.upstream.lanes import Connection, Lanes, Rules
from cache_proxy.wiring.stores import MIB, build_store
from cache_proxy.wiring.targets import names

__all__ = ["MIB", "Connect", "Wired", "build_store", "names", "policy", "requests_bytes"]

log = logging.getLogger("cache_proxy")

Connect = Callable[[Deployment], Connection]

DRAIN_PATIENCE = 20.0
"""Seconds that calls under way have to come home when everything ends."""


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


def _renderings_bytes(settings: Settings) -> int:
    """Half of the memory is for entries, three eighths for what they look like when written."""
    return settings.own.memory_mib * MIB * 3 // 8 if settings.cache.enabled else 0


def requests_bytes(settings: Settings) -> int:
    """A sixteenth of the memory for each endpoint's requests that came before."""
    return settings.own.memory_mib * MIB // 16 if settings.cache.enabled else 0


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
