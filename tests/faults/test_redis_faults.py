"""Redis's faults, short: nothing wrong, no error, no long wait, and back by itself."""

from pathlib import Path

import pytest

from tests.faults import nodes_scenarios, redis_scenarios
from tests.faults.course import check, ground

pytestmark = pytest.mark.slow

SCENARIOS = {**redis_scenarios.SCENARIOS, **nodes_scenarios.SCENARIOS}

BACK = 5.0
"""Seconds after the fault's end in which the server stores again. A probe is due each second and finds out at once."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_of_redis_costs_no_answer(name: str, tmp_path: Path, redis_program: str) -> None:
    with ground(tmp_path, seconds=1.0, workers=1, entries=0) as here:
        row = SCENARIOS[name](here)
    check(row)
    assert row.back < BACK, row
