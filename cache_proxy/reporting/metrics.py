"""Receipts, calls and looks at what is open, as Prometheus takes them. The only module that imports its client.

The numbers are in a registry of their own, never in the client's global one: inside somebody's app that one is the
app's. Where several processes share their numbers (a server's workers, see ``seats``; or an app that has set the
client's variable) they are in files, and each process tells those of all.
"""

import os
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, values
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from cache_proxy import __version__
from cache_proxy.calls import Call, Settlement
from cache_proxy.models import PICO, Endpoint
from cache_proxy.receipts import Counts, Receipt
from cache_proxy.reporting import seats
from cache_proxy.reporting.measures import MEASURES, OTHER, PREFIX, Figures, Measure, Series

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

MOST_WAITING = 256
"""Receipts that may wait to be counted."""

_CREATED = "_created"
"""The client's note of when a series began, which would double their number."""


def take_seat() -> None:
    """In a worker of a server of ours, before anything is counted: share its numbers with the others."""
    seat = seats.take()
    if seat is None:
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
    else:
        values.ValueClass = values.MultiProcessValue(lambda: seat)  # type: ignore[no-untyped-call]


class Instruments:
    """What the numbers are kept in."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._made = {one.name: _made(one, self.registry) for one in MEASURES if one.kind != "told"}
        self._lock = Lock()
        self._gauges: dict[int, Mapping[Series, float]] = {}
        self._totals: dict[int, Mapping[Series, int]] = {}

    def of(self, name: str, *labels: str) -> Any:
        """The counter, gauge or histogram of this name with these values of its labels."""
        made = self._made[name]
        return made.labels(*labels) if labels else made

    def look(self, source: int, figures: Figures) -> bool:
        """Take note of a look at one of the things that are open; whether anything has changed since the last."""
        with self._lock:
            before, counted = self._gauges.get(source, {}), self._totals.get(source, {})
            self._gauges[source], self._totals[source] = figures
            self._add_up(before.keys() | figures.gauges.keys())
            for series, total in figures.totals.items():
                self.of(*series).inc(max(0, total - counted.get(series, 0)))
        return (before, counted) != figures

    def leave(self, source: int) -> None:
        """It is closed."""
        with self._lock:
            left = self._gauges.pop(source, {})
            self._totals.pop(source, None)
            self._add_up(left.keys())

    def _add_up(self, named: Iterable[Series]) -> None:
        for series in named:
            self.of(*series).set(sum(gauges.get(series, 0) for gauges in self._gauges.values()))


def _made(one: Measure, registry: CollectorRegistry) -> Counter | Gauge | Histogram:
    name = PREFIX + one.name
    if one.kind == "counter":
        return Counter(name, one.help, one.labels, registry=registry)
    if one.kind == "gauge":
        return Gauge(name, one.help, one.labels, registry=registry, multiprocess_mode="livesum")
    return Histogram(name, one.help, one.labels, registry=registry, buckets=one.buckets)


@cache
def _of_this_process(_value_class: object) -> Instruments:
    """Where the numbers are in files, two of the same name in one process would overwrite each other."""
    return Instruments()


class Metrics:
    """Counts receipts and calls, and writes all numbers down. ``shared`` says whether they are those of several
    processes.
    """

    def __init__(self, models: Collection[str]) -> None:
        """``models`` are the upstreams' names that may be told. Raises ``OSError`` where the files can not be made."""
        self.shared = values.ValueClass is not values.MutexValue
        self.instruments = _of_this_process(values.ValueClass) if self.shared else Instruments()
        self._models = frozenset(models)
        self._lines: dict[tuple[str, str], _Line] = {}
        self._waiting: deque[Receipt] = deque()
        of = self.instruments.of
        self._durations = {
            endpoint.value: {result: of("request_duration_seconds", endpoint.value, result) for result in RESULTS}
            for endpoint in Endpoint
        }
        self.in_flight = {endpoint: of("requests_in_flight", endpoint.value) for endpoint in Endpoint}

    def timed(self, name: str) -> "_Timed":
        """What hears of the durations of this histogram."""
        return _Timed({word: self.instruments.of(name, word) for word in TIMED[name]})

    def record(self, receipt: Receipt) -> None:
        """Count one request, a little later: many at once cost less."""
        self._waiting.append(receipt)
        if len(self._waiting) >= MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Count all that wait. Any thread may do it."""
        sums: dict[tuple[str, str, int], _Sum] = defaultdict(_Sum)
        with suppress(IndexError):
            while True:
                receipt = self._waiting.popleft()
                sums[receipt.endpoint, receipt.upstream_model, receipt.status].add(receipt)
                if receipt.latency:  # who was turned away at the gate has none
                    self._durations[receipt.endpoint][result_of(receipt.counts)].observe(receipt.latency)
        for (endpoint, model, status), found in sums.items():
            self._line(endpoint, model).add(status, found)

    def settled(self, call: Call, settlement: Settlement) -> None:
        """Count a call of which the cost is known."""
        self._line(call.endpoint.value, call.model).settled(call, settlement)

    def unsettled(self, call: Call) -> None:
        """Count a call of which nobody knows what it cost."""
        self._line(call.endpoint.value, call.model).unsettled(call)

    def _line(self, endpoint: str, model: str) -> "_Line":
        labels = (endpoint, model if model in self._models else OTHER)
        line = self._lines.get(labels)
        if line is None:
            line = self._lines[labels] = _Line(self.instruments, *labels)
        return line

    def text(self, told: Mapping[Series, float]) -> bytes:
        """Everything in Prometheus' text format, with what was asked for just now. Reads files: for a thread."""
        self.flush()
        return generate_latest(_Families([*self._counted(), *_told({("build_info", __version__): 1, **told})]))

    def _counted(self) -> Iterator[Metric]:
        found = self._of_all() if self.shared else self.instruments.registry.collect()
        for family in sorted(found, key=lambda family: family.name):
            family.samples = [sample for sample in family.samples if not sample.name.endswith(_CREATED)]
            if family.samples:
                yield family

    @staticmethod
    def _of_all() -> Iterable[Metric]:
        """Those of every process. In an app's folder are the app's own, too."""
        files = seats.files(Path(os.environ[seats.VARIABLE]))
        merged = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
        return [family for family in merged if family.name.startswith(PREFIX)]


TIMED: Mapping[str, Sequence[str]] = {
    "store_duration_seconds": ("read", "write", "purge", "lease", "counter"),
    "upstream_duration_seconds": tuple(endpoint.value for endpoint in Endpoint),
    "ledger_commit_duration_seconds": ("written", "failed"),
}
"""The words by which durations are told apart."""

RESULTS = ("hit", "partial", "miss", "joined", "none")


def result_of(counts: Counts) -> str:
    """What a request was, in one word: ``joined`` if all that was missing was on its way already."""
    if counts.misses:
        return "partial" if counts.hits else "miss"
    if counts.joined:
        return "joined"
    return "hit" if counts.hits else "none"


class _Timed:
    """Notes durations by a word; a word that is not known is not noted."""

    def __init__(self, histograms: Mapping[str, Any]) -> None:
        self._histograms = histograms

    def __call__(self, word: str, seconds: float) -> None:
        histogram = self._histograms.get(word)
        if histogram is not None:
            histogram.observe(seconds)


class _Sum:
    """What some requests come to."""

    __slots__ = ("duplicates", "hits", "joined", "misses", "requests", "saved", "saved_pico", "unpriced")

    def __init__(self) -> None:
        self.requests = self.hits = self.misses = self.duplicates = self.joined = 0
        self.saved = self.saved_pico = self.unpriced = 0

    def add(self, receipt: Receipt) -> None:
        _, hits, misses, duplicates, joined = receipt.counts
        self.requests += 1
        self.hits += hits
        self.misses += misses
        self.duplicates += duplicates
        self.joined += joined
        self.saved += receipt.tokens_saved
        if receipt.saved is None:
            self.unpriced += receipt.tokens_saved
        else:
            self.saved_pico += receipt.saved


class _Line:
    """The counters of one endpoint and model, looked up once."""

    def __init__(self, instruments: Instruments, endpoint: str, model: str) -> None:
        def of(name: str, *more: str) -> Any:
            return instruments.of(name, endpoint, model, *more)

        self._of = of
        self._statuses: dict[tuple[str, int], Any] = {}
        self._hits, self._misses, self._duplicates, self._joined = (
            of("items_total", result) for result in ("hit", "miss", "duplicate", "joined")
        )
        self._billed, self._cost = of("tokens_billed_total"), of("cost_usd_total")
        self._saved, self._saved_usd = of("tokens_saved_total"), of("saved_usd_total")
        self._unsettled = of("tokens_unsettled_total")
        self._unpriced = {kind: of("tokens_unpriced_total", kind) for kind in ("billed", "saved")}

    def add(self, status: int, found: "_Sum") -> None:
        self._status("requests_total", status).inc(found.requests)
        self._hits.inc(found.hits)
        self._misses.inc(found.misses)
        self._duplicates.inc(found.duplicates)
        self._joined.inc(found.joined)
        self._saved.inc(found.saved)
        self._saved_usd.inc(found.saved_pico / PICO)
        self._unpriced["saved"].inc(found.unpriced)

    def settled(self, call: Call, settlement: Settlement) -> None:
        self._status("upstream_calls_total", settlement.status).inc()
        tokens = sum(settlement.tokens)
        if tokens > 0:
            self._billed.inc(tokens)
            if call.price is None:
                self._unpriced["billed"].inc(tokens)
            else:
                self._cost.inc(tokens * call.price / PICO)

    def unsettled(self, call: Call) -> None:
        self._of("upstream_calls_total", "unsettled").inc()
        self._unsettled.inc(call.tokens_bound)

    def _status(self, name: str, status: int) -> Any:
        counter = self._statuses.get((name, status))
        if counter is None:
            word = str(status) if 100 <= status <= 599 else "unreached" if status == 0 else OTHER
            counter = self._statuses[name, status] = self._of(name, word)
        return counter


def _told(told: Mapping[Series, float]) -> Iterator[Metric]:
    for one in MEASURES:
        found = [(labels, value) for (name, *labels), value in told.items() if name == one.name]
        if one.kind == "told" and found:
            family = GaugeMetricFamily(PREFIX + one.name, one.help, labels=list(one.labels))
            for labels, value in found:
                family.add_metric(labels, value)
            yield family


class _Families:
    """Families that are gathered already, in the form that the client writes down."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families
