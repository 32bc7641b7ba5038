"""What is measured of one configuration, if anything is."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from cache_proxy.backends.base import Backend
from cache_proxy.calls import CallObserver
from cache_proxy.engine import Engine
from cache_proxy.errors import StoreError
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Observer
from cache_proxy.reporting.measures import Series
from cache_proxy.settings import Settings
from cache_proxy.wiring.readings import Readings, shared_of
from cache_proxy.wiring.targets import told

if TYPE_CHECKING:
    from cache_proxy.ledger.books import SqlLedger
    from cache_proxy.reporting.metrics import Metrics

log = logging.getLogger("cache_proxy")

Timed = Callable[[str, float], None]


class UnderWay(Protocol):
    """A number of requests that are under way."""

    def inc(self) -> None:
        """One more."""

    def dec(self) -> None:
        """One less."""


class Measuring:
    """The metrics of one configuration, fed; without ``metrics`` nothing is measured."""

    def __init__(self, metrics: "Metrics | None" = None) -> None:
        self._metrics = metrics
        self._readings = None if metrics is None else Readings(metrics)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """Who is to hear of receipts."""
        return () if self._metrics is None or self._readings is None else (self._metrics, self._readings)

    @property
    def call_observers(self) -> tuple[CallObserver, ...]:
        """Who is to hear of calls."""
        return () if self._metrics is None else (self._metrics,)

    def timed(self, what: str) -> Timed | None:
        """Who is to hear how long the ``store``, the ``upstream`` or a ``ledger_commit`` took."""
        return None if self._metrics is None else self._metrics.timed(f"{what}_duration_seconds")

    def under_way(self, endpoint: Endpoint) -> UnderWay:
        """The requests under way on this endpoint."""
        return _UNCOUNTED if self._metrics is None else self._metrics.in_flight[endpoint]

    def begin(self, engine: Engine, ledger: "SqlLedger | None") -> None:
        """This is open."""
        if self._readings is not None:
            self._readings.begin(engine, ledger)

    def end(self, engine: Engine) -> None:
        """This is about to be no more."""
        if self._readings is not None:
            self._readings.end(engine)

    async def text(self, engine: Engine) -> bytes | None:
        """Everything in Prometheus' text format; ``None`` if nothing is measured."""
        if self._metrics is None or self._readings is None:
            return None
        self._readings.look()
        return await asyncio.to_thread(self._metrics.text, await _occupancy(engine.means.store))


def build(settings: Settings) -> Measuring:
    """The measuring of a configuration. Metrics that can not be kept are no reason to answer nothing."""
    # Here, for it loads the client.
    from cache_proxy.reporting.metrics import Metrics

    try:
        return Measuring(Metrics(told(settings)))
    except OSError as error:
        log.warning("there are no metrics: PROMETHEUS_MULTIPROC_DIR can not be used (%s)", error.strerror)
        return Measuring()


async def _occupancy(store: Backend) -> Mapping[Series, float]:
    """What the store that others share holds. It is asked once, and not by each worker: they all have the same."""
    shared = shared_of(store)
    if shared is None:
        return {}
    try:
        held = await shared.occupancy()
    except StoreError:
        return {}
    found = {"store_entries": held.entries, "store_bytes": held.bytes, "store_limit_bytes": held.limit}
    return {(name,): number for name, number in found.items() if number is not None}


class _Uncounted:
    def inc(self) -> None:
        pass

    def dec(self) -> None:
        pass


_UNCOUNTED = _Uncounted()
