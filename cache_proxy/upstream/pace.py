"""A deployment's ``rpm`` and ``tpm``, kept by this process: a bucket that refills evenly over a minute."""

from collections.abc import Callable

MINUTE = 60.0


class Pace:
    """Room for ``per_minute`` units a minute. A burst of up to a whole minute's worth may leave at once."""

    def __init__(self, per_minute: int, clock: Callable[[], float]) -> None:
        self._capacity = float(per_minute)
        self._rate = per_minute / MINUTE
        self._clock = clock
        self._level = self._capacity
        self._seen_at = clock()

    def wait(self, units: float) -> float:
        """Seconds until there is room for these units. What exceeds a minute's worth waits for a full bucket."""
        self._refill()
        return max(0.0, (min(units, self._capacity) - self._level) / self._rate)

    def take(self, units: float) -> None:
        """Use this much room; below zero, later callers wait the longer. Negative units give room back."""
        self._refill()
        self._level = min(self._capacity, self._level - units)

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._capacity, self._level + max(0.0, now - self._seen_at) * self._rate)
        self._seen_at = now
