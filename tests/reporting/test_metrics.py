"""The numbers themselves: what is added up, over what is open in a process and over processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cache_proxy.calls import Account, Call, Settlement
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Counts, Story
from cache_proxy.reporting.measures import MEASURES, Figures
from cache_proxy.reporting.metrics import MOST_WAITING, RESULTS, Metrics, result_of
from tests.exposition import Scrape, check_form

ROOT = Path(__file__).resolve().parent.parent.parent


def scrape(metrics: Metrics) -> Scrape:
    return Scrape(metrics.text({}).decode())


@pytest.mark.parametrize(
    ("counts", "result"),
    [
        (Counts(2, hits=2), "hit"),
        (Counts(2, hits=1, misses=1), "partial"),
        (Counts(2, misses=1, duplicates=1), "miss"),
        (Counts(2, misses=1, joined=1), "miss"),
        (Counts(2, hits=1, joined=1), "joined"),
        (Counts(), "none"),
    ],
)
def test_a_request_is_one_word(counts: Counts, result: str) -> None:
    assert result_of(counts) == result
    assert result in RESULTS


def test_all_that_is_open_in_a_process_adds_up_and_what_it_has_counted_stays() -> None:
    metrics = Metrics(())
    one, two = (Figures({("memory_entries",): n}, {("evictions_total", "memory"): n}) for n in (3, 4))
    assert metrics.instruments.look(1, one)
    assert metrics.instruments.look(2, two)
    assert not metrics.instruments.look(1, one), "nothing has changed"
    assert scrape(metrics).total("memory_entries") == scrape(metrics).total("evictions_total") == 7
    metrics.instruments.leave(1)
    assert (scrape(metrics).total("memory_entries"), scrape(metrics).total("evictions_total")) == (4, 7)
    metrics.instruments.look(3, Figures({}, {("evictions_total", "memory"): 1}))  # another begins at nothing
    assert scrape(metrics).total("evictions_total") == 8


def test_names_and_units_are_as_prometheus_has_them() -> None:
    for one in MEASURES:
        assert (one.kind == "counter") == one.name.endswith("_total"), one.name
        assert (one.kind == "histogram") == one.name.endswith("_seconds"), one.name
        assert not any(word in one.name for word in ("_ms", "_kb", "_mib", "_milli")), one.name
        assert list(one.buckets) == sorted(set(one.buckets))
        assert one.help.endswith(".")


def test_tokens_are_exact_where_there_are_many() -> None:
    metrics = Metrics({"m"})
    call = Call("id", "d", "m", Endpoint.EMBEDDINGS, 1, 0.0, (), price=None)
    for tokens in (10**15, 1, 1):
        metrics.settled(call, Settlement((tokens,), 200))
    assert scrape(metrics).total("tokens_billed_total") == 10**15 + 2


def test_requests_wait_to_be_counted_but_not_without_end() -> None:
    metrics = Metrics({"m"})
    story = Story("id", "rerank", Account(), 0.0, upstream_model="m", counts=Counts(1, hits=1), tokens_saved=2, price=3)
    for _ in range(MOST_WAITING + 7):
        metrics.record(story.end(status=200, latency=0.1, bytes_out=0))
    assert len(metrics._waiting) == 7
    found = scrape(metrics)
    assert found.total("requests_total") == found.total("request_duration_seconds_count") == MOST_WAITING + 7
    assert found.total("tokens_saved_total") == 2 * (MOST_WAITING + 7)
    assert found.total("saved_usd_total") == pytest.approx(6e-12 * (MOST_WAITING + 7))
    assert scrape(metrics).total("requests_total") == MOST_WAITING + 7, "nothing is counted twice"


def test_a_status_that_is_none_is_another() -> None:
    metrics = Metrics(())
    for status in (200, 999, 1000, -1):
        metrics.record(Story("id", "rerank", Account(), 0.0).end(status=status, latency=0.1, bytes_out=0))
    assert scrape(metrics).labels("status") == {"200", "other"}
    check_form(scrape(metrics))


WORKER = """
from cache_proxy.calls import Account
from cache_proxy.receipts import Counts, Story
from cache_proxy.reporting.metrics import Metrics
from prometheus_client import Counter
Counter("host_requests", "The host's own.").inc()
one, two = Metrics({"m"}), Metrics({"m"})
for metrics in (one, two):
    story = Story("id", "rerank", Account(), 0.0, upstream_model="m", counts=Counts(1, hits=1))
    metrics.record(story.end(status=200, latency=0.1, bytes_out=0))
one.flush()
print(two.text({}).decode())
"""


def test_in_an_app_that_shares_its_numbers_ours_are_those_of_all_its_processes(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    told = [
        subprocess.run([sys.executable, "-c", WORKER], env=environ, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert [Scrape(text).total("requests_total") for text in told] == [2, 4]
    assert [Scrape(text).total("request_duration_seconds_count") for text in told] == [2, 4]
    assert "host_requests" not in told[1]
    check_form(Scrape(told[1]))


def test_importing_the_package_or_the_middleware_does_not_load_the_client() -> None:
    code = "import sys, cache_proxy.asgi.middleware, cache_proxy.sdk.calls; print('prometheus_client' in sys.modules)"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout
    assert told == "False\n"
