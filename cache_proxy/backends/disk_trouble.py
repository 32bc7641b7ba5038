"""What the log is told of a disk store that can not be written: one line when it begins, one when it is over."""

import logging
import time
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger("cache_proxy.disk")

CALM = 10.0
"""Seconds without a failure after which it is over: a disk at its very limit takes one value and refuses the next."""


class Trouble:
    """Told of every write of one store. Plain state: it does no I/O but to log."""

    def __init__(self, directory: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._directory = str(directory)
        self._clock = clock
        self._failed_at: float | None = None

    def met(self, reason: object) -> None:
        """A write failed."""
        if self._failed_at is None:
            fields = {"directory": self._directory, "reason": str(reason)}
            log.warning(
                "disk store not written, answers are not kept directory=%(directory)s reason=%(reason)s",
                fields,
                extra=fields,
            )
        self._failed_at = self._clock()

    def passed(self) -> None:
        """A write succeeded."""
        if self._failed_at is not None and self._clock() - self._failed_at >= CALM:
            self._failed_at = None
            fields = {"directory": self._directory}
            log.info("disk store written again directory=%(directory)s", fields, extra=fields)
