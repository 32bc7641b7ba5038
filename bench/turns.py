"""Taking turns, so that a busy minute of the machine falls on all sides alike."""

import time
from collections.abc import Awaitable, Callable, Mapping
from statistics import median
from typing import TypeVar

T = TypeVar("T")


def in_turns(rounds: int, sides: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
    """What each side gave, round by round."""
    given: dict[str, list[T]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            given[name].append(run())
    return given


async def timed_in_turns(rounds: int, sides: Mapping[str, Callable[[], Awaitable[object]]]) -> dict[str, list[float]]:
    """The seconds that each side took, round by round, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(rounds + 1):
        for name, run in sides.items():
            began = time.perf_counter()
            await run()
            if round_:
                taken[name].append(time.perf_counter() - began)
    return taken


def ratio(these: list[float], those: list[float]) -> float:
    """The median of the ratios of paired rounds."""
    return median(this / that for this, that in zip(these, those, strict=True))
