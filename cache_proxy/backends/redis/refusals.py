"""What the log is told of a Redis that answers and takes no writes: one line when it begins, one when it is over."""

import logging
import time
from collections.abc import Callable

import redis
from redis.exceptions import ClusterError

from cache_proxy.backends.redis.translated import store_error

log = logging.getLogger("cache_proxy.store")

CALM = 10.0
"""Seconds without a refusal after which it is over: a full server takes one value and refuses the next."""


class Refusals:
    """Told of every write of one store. Plain state: it does no I/O but to log.

    A server that can not be reached, or a Cluster that is down, is no news here: look-ups find that out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._met_at: float | None = None

    def met(self, error: Exception) -> None:
        """A write failed."""
        if not isinstance(error, redis.ResponseError) or isinstance(error, ClusterError):
            return
        if self._met_at is None:
            fields = {"store": "redis", "reason": str(store_error(error))}
            log.warning("store=%(store)s takes no writes, answers are not kept reason=%(reason)s", fields, extra=fields)
        self._met_at = self._clock()

    def passed(self) -> None:
        """A write succeeded."""
        if self._met_at is not None and self._clock() - self._met_at >= CALM:
            self._met_at = None
            fields = {"store": "redis"}
            log.info("store=%(store)s takes writes again", fields, extra=fields)
