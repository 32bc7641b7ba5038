"""rpm and tpm, by a clock that stands still until it is told to move."""

import pytest

from cache_proxy.upstream.pace import Pace
from tests.backends.fakes import Clock


def test_a_whole_minute_of_room_may_be_used_at_once() -> None:
    pace = Pace(60, Clock())
    for _ in range(60):
        assert pace.wait(1) == 0
        pace.take(1)
    assert pace.wait(1) == pytest.approx(1.0)


def test_room_comes_back_evenly() -> None:
    clock = Clock()
    pace = Pace(120, clock)
    pace.take(120)
    assert pace.wait(10) == pytest.approx(5.0)
    clock.now += 4.0
    assert pace.wait(10) == pytest.approx(1.0)
    clock.now += 1.0
    assert pace.wait(10) == pytest.approx(0.0)


def test_room_that_is_not_used_does_not_pile_up() -> None:
    clock = Clock()
    pace = Pace(60, clock)
    clock.now += 3600
    pace.take(60)
    assert pace.wait(1) == pytest.approx(1.0)


def test_who_takes_what_is_not_there_yet_lets_later_callers_wait_longer() -> None:
    pace = Pace(60, Clock())
    pace.take(60)
    waits = []
    for _ in range(3):
        waits.append(pace.wait(1))
        pace.take(1)
    assert waits == pytest.approx([1.0, 2.0, 3.0])


def test_what_exceeds_a_minute_waits_for_a_full_bucket_and_not_for_ever() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    assert pace.wait(1000) == 0
    pace.take(1000)
    assert pace.wait(1000) == pytest.approx(600.0)
    clock.now += 600.0
    assert pace.wait(1000) == pytest.approx(0.0)


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    clock = Clock()
    pace = Pace(60, clock)
    pace.take(60)
    clock.now -= 100
    assert pace.wait(1) == pytest.approx(1.0)
    clock.now += 1
    assert pace.wait(1) == pytest.approx(0.0)
