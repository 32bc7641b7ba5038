"""What the log is told of a Redis that takes no writes."""

import logging

import pytest
import redis
from redis.exceptions import ClusterDownError, OutOfMemoryError

from cache_proxy.backends.redis.refusals import CALM, Refusals
from tests.backends.fakes import Clock


def test_a_server_that_refuses_writes_is_told_of_when_it_begins_and_when_it_is_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "cache_proxy.store")
    clock = Clock()
    refusals = Refusals(clock)
    for _ in range(5):
        refusals.met(OutOfMemoryError("OOM command not allowed: SET a-key a-value"))
        refusals.passed()
        clock.now += CALM / 2
    clock.now += CALM / 2
    refusals.passed()
    refusals.passed()
    assert [record.getMessage() for record in caplog.records] == [
        "store=redis takes no writes, answers are not kept reason=redis: OutOfMemoryError OOM",
        "store=redis takes writes again",
    ]


@pytest.mark.parametrize("error", [redis.ConnectionError("gone"), ClusterDownError("CLUSTERDOWN")])
def test_a_server_that_look_ups_miss_as_well_is_not_told_of_here(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    Refusals(Clock()).met(error)
    assert not caplog.records
