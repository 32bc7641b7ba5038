"""Several processes and hosts pay once for each item, measured as ``make bench-economy`` measures it, in little."""

from functools import partial

import pytest

from bench import servers
from bench.economy.measure import Load, measure
from bench.economy.options import CALLERS, QUICK
from bench.economy.topologies import TOPOLOGIES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("name", sorted(TOPOLOGIES.keys() - {"process"}))
def test_processes_that_share_a_store_pay_once_for_each_item_and_their_answers_are_right(name: str) -> None:
    topology = TOPOLOGIES[name]
    if topology.redis and not servers.has_redis():
        pytest.skip("there is no redis-server on PATH")
    found = measure(Load(2, QUICK, CALLERS), partial(topology.serving, own={}))
    assert found.flawless
    assert f"{found.audit.ratio:.3f}" == "1.000"
