"""Every scenario by its name."""

from collections.abc import Callable, Mapping

from tests.faults import disk_scenarios, nodes_scenarios, redis_scenarios
from tests.faults.course import Ground
from tests.faults.table import Row

SCENARIOS: Mapping[str, Callable[[Ground], Row]] = {
    **disk_scenarios.SCENARIOS,
    **redis_scenarios.SCENARIOS,
    **nodes_scenarios.SCENARIOS,
}
