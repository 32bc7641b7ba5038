"""What is known of limits without asking the ledger: for a moment, and never beyond what it said."""

import gc

from cache_proxy.access import AccessKey
from cache_proxy.errors import BudgetExceeded, Shortage
from cache_proxy.wiring.limits import BELIEVED, KeyLimits

KEY = AccessKey(hash="a", max_budget=100)


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def short(resets_at: int | None = None) -> BudgetExceeded:
    return BudgetExceeded({"a": Shortage(spent=90, reserved=0, limit=100, asked=50, resets_at=resets_at)})


def limits(clock: Clock) -> KeyLimits:
    return KeyLimits(None, clock, clock)


def test_what_does_not_fit_beside_what_is_spent_is_refused_for_a_moment_without_asking() -> None:
    clock = Clock()
    known = limits(clock)
    assert known.used_up(KEY, 50) is None
    known.hear(short())
    assert known.used_up(KEY, 11) is not None
    assert known.used_up(KEY, 10) is None, "it may fit"
    clock.at += BELIEVED + 0.1
    assert known.used_up(KEY, 50) is None


def test_a_key_that_asks_on_and_on_does_not_prolong_what_was_said_once() -> None:
    clock = Clock()
    known = limits(clock)
    known.hear(short())
    for _ in range(9):
        clock.at += BELIEVED / 10
        refused = known.used_up(KEY, 50)
        assert refused is not None
        known.hear(refused)
    clock.at += BELIEVED / 5
    assert known.used_up(KEY, 50) is None


def test_it_is_believed_no_longer_than_until_the_budget_resets() -> None:
    clock = Clock()
    known = limits(clock)
    known.hear(short(resets_at=1000))
    assert known.used_up(KEY, 50) is None
    known.hear(short(resets_at=1001))
    assert known.used_up(KEY, 50) is not None


def test_no_error_is_kept_with_all_that_was_being_done_when_it_was_raised() -> None:
    known, before = limits(Clock()), errors()
    for _ in range(100):
        try:
            raise known.used_up(KEY, 50) or short()
        except BudgetExceeded as error:
            known.hear(error)
    assert errors() == before


def errors() -> int:
    gc.collect()
    return sum(type(one) is BudgetExceeded for one in gc.get_objects())
