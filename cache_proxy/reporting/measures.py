"""Every metric there is. What they are made of is ``metrics``'s business; ``docs/metrics.md`` has the same table.

Labels are words of fixed sets: never a user, a key, a tag or a text, and a model only where it is one that the
configuration or the catalog names.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

PREFIX = "cache_proxy_"

OTHER = "other"
"""The model of a request that was not read, or whose model is made up; a status that is none."""

Series = tuple[str, ...]
"""The name of a metric, without the prefix, and the values of its labels."""

Kind = Literal["counter", "gauge", "histogram", "told"]
"""``told`` is a gauge that is asked for at the moment of the scrape and is the same for all workers; the other gauges
are sums over the workers that live."""


class Measure(NamedTuple):
    """One metric."""

    name: str
    kind: Kind
    help: str
    labels: Sequence[str] = ()
    buckets: Sequence[float] = ()
    """Upper bounds, in seconds."""


class Figures(NamedTuple):
    """A look at what serves an event loop: how things stand, and how often something has happened since it began."""

    gauges: Mapping[Series, float]
    totals: Mapping[Series, int]


_MODEL = ("endpoint", "model")
_WHOLE = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_STORE = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
_UPSTREAM = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
_COMMIT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0)

MEASURES: Sequence[Measure] = (
    Measure("requests_total", "counter", "Requests that were answered or refused.", (*_MODEL, "status")),
    Measure("items_total", "counter", "Inputs and documents, by where their values came from.", (*_MODEL, "result")),
    Measure("tokens_billed_total", "counter", "Tokens that the upstream is known to have billed. Exact.", _MODEL),
    Measure("tokens_saved_total", "counter", "Tokens that requests did not have to pay for. Exact.", _MODEL),
    Measure("tokens_unsettled_total", "counter", "Most tokens of calls that may have been billed unanswered.", _MODEL),
    Measure("tokens_unpriced_total", "counter", "Tokens that are in no amount: unknown price.", (*_MODEL, "kind")),
    Measure("cost_usd_total", "counter", "What the billed tokens of known price cost. Rounded.", _MODEL),
    Measure("saved_usd_total", "counter", "What the saved tokens of known price would have cost. Rounded.", _MODEL),
    Measure("upstream_calls_total", "counter", "Calls to upstreams that have ended.", (*_MODEL, "status")),
    Measure("request_duration_seconds", "histogram", "Whole requests.", ("endpoint", "result"), _WHOLE),
    Measure("store_duration_seconds", "histogram", "Calls on the store.", ("operation",), _STORE),
    Measure("upstream_duration_seconds", "histogram", "Calls to upstreams, waits apart.", ("endpoint",), _UPSTREAM),
    Measure("ledger_commit_duration_seconds", "histogram", "Commits of the ledger.", ("result",), _COMMIT),
    Measure("requests_in_flight", "gauge", "Requests under way.", ("endpoint",)),
    Measure("workers", "gauge", "Event loops that serve: one in each worker."),
    Measure("store_failures_total", "counter", "Calls on the store that failed.", ("kind",)),
    Measure("store_breaker_open", "gauge", "Workers that leave the store, or that part of it, alone.", ("part",)),
    Measure("store_entries", "told", "Entries in the store, where it knows."),
    Measure("store_bytes", "told", "Bytes that the store takes, where it knows."),
    Measure("store_limit_bytes", "told", "Bytes that the store keeps within, where it has a bound."),
    Measure("memory_entries", "gauge", "Entries in the memory of the workers."),
    Measure("memory_bytes", "gauge", "Bytes of them."),
    Measure("memory_limit_bytes", "gauge", "Bytes that they keep within."),
    Measure("evictions_total", "counter", "Entries let go of to make room.", ("tier",)),
    Measure("leases_total", "counter", "Keys for which the leases did not do what they are for.", ("event",)),
    Measure("ledger_failing", "gauge", "Workers whose ledger can not be written."),
    Measure("ledger_missing_total", "counter", "Notes that are lost to the ledger for good.", ("kind",)),
    Measure("build_info", "told", "Always 1.", ("version",)),
)
