"""Settings to a running engine, and its orderly end. Nothing below this file knows ``Settings``."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from cache_proxy.access import AccessKey, Admitted
from cache_proxy.backends.base import Backend
from cache_proxy.calls import CallObserver
from cache_proxy.core.renderings import Renderings
from cache_proxy.engine import Engine
from cache_proxy.errand import Means, Sharing
from cache_proxy.errors import ConfigError
from cache_proxy.models import Deployment, Endpoint, Policy
from cache_proxy.own_keys import OwnKeys
from cache_proxy.receipts import Observer, Receipt
from cache_proxy.reporting.logs import Lines, LoggerLines, RequestLog
from cache_proxy.reporting.tally import Tally
from cache_proxy.reporting.unsettled import UnsettledLog
from cache_proxy.settings import APP, Settings
from cache_proxy.upstream.client import Clients
from cache_proxy.upstream.lane import Connection
from cache_proxy.upstream.lanes import Lanes, Rules
from cache_proxy.wiring import measuring
from cache_proxy.wiring.keyring import Keyring
from cache_proxy.wiring.keys import KeyDesk, build_table, desk_at
from cache_proxy.wiring.ledger import NOTHING, Watched, build_ledger
from cache_proxy.wiring.limits import KeyLimits
from cache_proxy.wiring.loops import PerLoop
from cache_proxy.wiring.measuring import Measuring
from cache_proxy.wiring.reading import Reader
from cache_proxy.wiring.spent import Spent
from cache_proxy.wiring.stores import MIB, build_store
from cache_proxy.wiring.targets import names

if TYPE_CHECKING:
    from cache_proxy.ledger.books import SqlLedger

__all__ = ["MIB", "Connect", "Wired", "build_store", "names", "over_http", "policy", "requests_bytes"]

log = logging.getLogger("cache_proxy")

Connect = Callable[[Deployment], Connection]

DRAIN_PATIENCE = 20.0
"""Seconds that calls under way have to come home when everything ends."""

LEDGER_PATIENCE = 10.0
"""Seconds that the ledger has to write what is left when everything ends."""


class Running(NamedTuple):
    """What serves one event loop."""

    engine: Engine
    ledger: "SqlLedger | None"
    measuring: Measuring
    keyring: Keyring | None
    limits: KeyLimits
    own_keys: OwnKeys
    spent: Spent | None


class Wired:
    """One configuration at work: an engine for each event loop that serves it, opened by the first request there that
    needs it, closed when told to, or with the loop.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        connect: Connect | None = None,
        lines: Lines | None = None,
        store: Callable[[Settings], Backend] | None = None,
        measured: bool = True,
    ) -> None:
        """``connect`` makes the way to a deployment (httpx by default), ``store`` the store of an engine; ``lines``
        takes the request log (the ``cache_proxy.request`` logger by default). ``measured`` is for those who have a
        ``/metrics``. Raises ``ConfigError``."""
        self._lines = LoggerLines() if lines is None else lines
        self.settings = settings
        self.tally = Tally()
        self.measuring = measuring.build(settings) if measured else Measuring()
        self._make_store = store or partial(build_store, timed=self.measuring.timed("store"))
        # The first one is made here, so that settings of which no store can be made are refused at the start.
        self._spare: Backend | None = self._make_store(settings)
        self._observers = (*self.measuring.observers, *_observers(settings, self.tally, self._lines))
        self._call_observers = (*self.measuring.call_observers, *_call_observers(settings, self._lines))
        if connect is None:
            _refuse_app(settings)
        self._connect = connect or over_http(settings)
        self._engines = PerLoop(self._begin, _end)
        self._ledgers: WeakKeyDictionary[asyncio.AbstractEventLoop, SqlLedger] = WeakKeyDictionary()
        self.reader = Reader(settings.ledger) if settings.ledger.enabled else None
        self._keys = {key.hash: key for key in settings.keys}
        for warning in settings.warnings:
            log.warning("%s", warning)

    @property
    def running(self) -> Engine | None:
        """The engine of the running loop, if it is open."""
        here = self._engines.here
        return None if here is None else here.engine

    @property
    def ledger(self) -> "SqlLedger | None":
        """The ledger of the running loop, if there is one; also while it ends, for requests that are answered then."""
        here = self._engines.here
        return self._ledgers.get(asyncio.get_running_loop()) if here is None else here.ledger

    async def open(self) -> Engine:
        """The engine of the running loop, made and opened by whoever comes first."""
        return (await self._engines.open()).engine

    async def _begin(self) -> Running:
        # In a thread: the SQL library takes its time to load.
        ledger = await asyncio.to_thread(build_ledger, self.settings.ledger, self.measuring.timed("ledger_commit"))
        spent = None if self.reader is None else Spent(self.reader.spent)
        engine = self._build(ledger, spent)
        try:
            await engine.means.store.open()
        except BaseException:
            await engine.means.store.close()
            raise
        if ledger is not None:
            ledger.open()
            self._ledgers[asyncio.get_running_loop()] = ledger
        table = build_table(self.settings)
        keyring = None if table is None else Keyring(table, self.settings.own.key_grace_seconds)
        self.measuring.begin(engine, ledger)
        limits = KeyLimits(engine.means.store.counters)
        return Running(engine, ledger, self.measuring, keyring, limits, OwnKeys(engine), spent)

    def _build(self, ledger: "SqlLedger | None" = None, spent: Spent | None = None) -> Engine:
        store, self._spare = self._spare or self._make_store(self.settings), None
        lanes = Lanes(
            self._connect,
            _rules(self.settings),
            time.monotonic,
            counters=store.counters,
            ledger=Watched(ledger, self._call_observers if spent is None else (*self._call_observers, spent)),
            timed=self.measuring.timed("upstream"),
        )
        renderings = Renderings(_renderings_bytes(self.settings))
        means = Means.over(store, lanes, renderings, policy(self.settings), sharing=_sharing(self.settings))
        return Engine(names(self.settings), means, renderings, requests_bytes(self.settings))

    async def find_key(self, hash_: str) -> AccessKey | None:
        """The key of this hash, whether it is good or not. Raises ``LedgerError`` where nobody can tell."""
        configured = self._keys.get(hash_)
        if configured is not None:
            return configured
        keyring = (await self._engines.open()).keyring
        return None if keyring is None else await keyring.find(hash_)

    def keys_changed(self) -> None:
        """Let this worker hear of it at once; the others do within a second."""
        here = self._engines.here
        if here is not None and here.keyring is not None:
            here.keyring.forget()

    async def key_desk(self) -> KeyDesk | None:
        """Where keys are made and changed, if they can be."""
        keyring = (await self._engines.open()).keyring
        return None if keyring is None else desk_at(keyring.table, self.settings)

    async def limits(self) -> KeyLimits:
        """The limits of keys, as they are kept on the running loop."""
        return (await self._engines.open()).limits

    async def own_keys(self) -> OwnKeys:
        """What serves those who pay for themselves on the running loop."""
        return (await self._engines.open()).own_keys

    async def spent(self, admitted: Admitted) -> int | None:
        """What this caller has paid, in pico-USD, if that is known. With a key in all, as the ledger has it; without
        one, through this worker: so it is for guests, who may have made theirs up.
        """
        key = admitted.account.key
        if not key or admitted.guest or self.reader is None:
            return self.tally.spent(admitted.account)
        here = self._engines.here
        return None if here is None or here.spent is None else await here.spent.of(key)

    def observe(self, receipt: Receipt) -> None:
        """Tell every observer of one request."""
        for observer in self._observers:
            try:
                observer.record(receipt)
            except Exception as error:
                # An answer that is paid for is worth more than a line about it.
                log.error("%s could not record a receipt (%s)", type(observer).__name__, type(error).__name__)

    def record(self, receipt: Receipt) -> Awaitable[None]:
        """Tell every observer of one request that was let in, and the ledger. Who awaits what is given waits, if the
        request cost money, until it is written down for good.
        """
        self.observe(receipt)
        ledger = self.ledger
        return NOTHING if ledger is None else ledger.record(receipt)

    async def drain(self) -> None:
        """Bring home what is under way on the running loop. What comes later is served all the same."""
        engine = self.running
        if engine is not None:
            await engine.means.flights.close(DRAIN_PATIENCE)

    async def close(self) -> None:
        """Bring home what is under way on the running loop and let go of everything there. Safe to call twice, or
        without ``open``.
        """
        await self._engines.close()
        if self.reader is not None:
            self.reader.close()
        self._lines.flush()


async def _end(running: Running) -> None:
    await running.engine.close(DRAIN_PATIENCE)
    # A ledger that is closed has forgotten what it has missed.
    running.measuring.end(running.engine)
    if running.spent is not None:
        await running.spent.close()
    if running.keyring is not None:
        await running.keyring.close()
    if running.ledger is not None:
        await running.ledger.close(LEDGER_PATIENCE)


def _renderings_bytes(settings: Settings) -> int:
    """Half of the memory is for entries, three eighths for what they look like when written."""
    return settings.own.memory_mib * MIB * 3 // 8 if settings.cache.enabled else 0


def requests_bytes(settings: Settings) -> int:
    """A sixteenth of the memory for each endpoint's requests that came before."""
    return settings.own.memory_mib * MIB // 16 if settings.cache.enabled else 0


def _observers(settings: Settings, tally: Tally, lines: Lines) -> tuple[Observer, ...]:
    form = settings.own.log_format
    return (tally,) if form == "off" else (tally, RequestLog(form, lines))


def _call_observers(settings: Settings, lines: Lines) -> tuple[CallObserver, ...]:
    form = settings.own.log_format
    return () if form == "off" else (UnsettledLog(form, lines),)


def _refuse_app(settings: Settings) -> None:
    """Only the middleware has an app, and only where it was told to call it."""
    if any(one.api_base == APP for one in settings.deployments):
        raise ConfigError(f'model_list: `api_base: {APP}` needs the middleware, with upstream="{APP}"')


def over_http(settings: Settings) -> Connect:
    """The usual way to a deployment."""
    return Clients(trust_env=settings.own.trust_env)


def _sharing(settings: Settings) -> Sharing:
    own = settings.own
    return Sharing(
        joining=own.coalesce != "none",
        leases=own.coalesce == "all",
        lease=own.lease_seconds,
        window=own.batch_window_ms / 1000 if own.coalesce != "none" else 0.0,
    )


def _rules(settings: Settings) -> Rules:
    return Rules(max_wait=settings.own.max_wait, retry_after=settings.retry_after)


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
        stale_if_error=settings.own.stale_if_error,
    )
