"""When to leave a store, or one of its servers, alone after failures."""

import logging
from collections.abc import Callable
from typing import Literal

log = logging.getLogger("cache_proxy.store")

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Counts failures in a row and says when to leave a store alone. Plain state: it does no I/O.

    ``refusals`` or ``timeouts`` in a row open it. Calls that were under way together when the store stalled
    count as one time-out. Open, it lets one probe go after ``probe_after`` seconds, doubling up to
    ``probe_at_most`` until the store shows a sign of life.
    """

    def __init__(
        self,
        name: str,
        *,
        refusals: int,
        timeouts: int,
        probe_after: float,
        probe_at_most: float,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.state: State = "closed"
        self._limits = {True: refusals, False: timeouts}
        self._in_a_row = {True: 0, False: 0}
        self._last_timeout_at = float("-inf")
        self._first_pause = self._pause = probe_after
        self._longest_pause = probe_at_most
        self._waiting_since = float("-inf")
        self._clock = clock

    def reset(self) -> None:
        """Forget what was: the store is opened anew."""
        self.state = "closed"
        self._in_a_row = {True: 0, False: 0}
        self._last_timeout_at = float("-inf")
        self._pause = self._first_pause

    def succeeded(self) -> None:
        """A read was answered in time."""
        self._in_a_row = {True: 0, False: 0}
        if self.state != "closed":
            self._pause = self._first_pause
            self._turn("closed", "answered")

    def failed(self, *, refused: bool, began_at: float, said: str = "refused") -> bool:
        """A read that began at ``began_at`` was refused or ran out of time. The log hears what was ``said``. Returns
        whether it counts.
        """
        if self.state != "closed" or not self._counts(refused, began_at):
            return False
        self._in_a_row[refused] += 1
        if self._in_a_row[refused] >= self._limits[refused]:
            self.trip(refused=refused, said=said)
        return True

    def excuse(self, timeouts: int) -> None:
        """So many time-outs that counted were none: the answer came after all. Others' still count, and a store that is
        left alone by now stays so until it is asked.
        """
        self._in_a_row[False] = max(0, self._in_a_row[False] - timeouts)

    def heard_of(self) -> None:
        """Something else than a read was answered: a probe need not wait longer than the first one did."""
        self._pause = self._first_pause

    def trip(self, *, refused: bool, said: str = "refused") -> None:
        """Leave the store alone from now on."""
        self._waiting_since = self._clock()
        self._turn("open", said if refused else "timeout")

    def _counts(self, refused: bool, began_at: float) -> bool:
        if refused:
            return True
        fresh = began_at >= self._last_timeout_at
        self._last_timeout_at = self._clock() if fresh else self._last_timeout_at
        return fresh

    def may_probe(self) -> bool:
        """Whether it is time for a probe. Saying so makes the caller the one who probes."""
        if self.state != "open" or self._clock() < self._waiting_since + self._pause:
            return False
        # Every failed probe would be two more lines about nothing new, so this turn is silent.
        self.state = "half-open"
        return True

    def probe_failed(self) -> None:
        """The probe brought no answer: leave the store alone for twice as long."""
        if self.state == "half-open":
            self.state = "open"
            self._pause = min(self._pause * 2, self._longest_pause)
            self._waiting_since = self._clock()

    def _turn(self, state: State, reason: str) -> None:
        self.state = state
        level = logging.INFO if state == "closed" else logging.WARNING
        fields = {"store": self.name, "state": state, "reason": reason}
        log.log(level, "store=%(store)s state=%(state)s reason=%(reason)s", fields, extra=fields)
