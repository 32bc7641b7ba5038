"""The disk store's faults, short: nothing wrong, no error, no long wait, and back by itself."""

from pathlib import Path

import pytest

from tests.faults.course import check, ground
from tests.faults.disk_scenarios import LOST, MOUNTING, SCENARIOS
from tests.mounts import NOT_PERMITTED, can_mount

pytestmark = pytest.mark.slow

SHARED = {"disk_shared": (2, 4), "disk_overwritten_running": (2, 2), "disk_removed": (2, 2)}
"""How many servers on the store, and workers of each, where fewer would not show it."""

ALONE = ("_stopped", "_at_start", "_version", "_program", "_planted")
"""What is the same for one process as for many."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_fault_of_the_disk_costs_no_answer(name: str, tmp_path: Path) -> None:
    if name in MOUNTING and not can_mount():
        pytest.skip(NOT_PERMITTED)
    hosts, workers = SHARED.get(name, (1, 1 if name.endswith(ALONE) else 2))
    with ground(tmp_path, seconds=1.0, hosts=hosts, workers=workers, entries=20_000) as here:
        check(SCENARIOS[name](here), lost=LOST.get(name, 0))
