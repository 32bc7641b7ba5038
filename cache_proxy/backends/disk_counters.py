"""Limits for the processes that share a folder, in two tables of ``cache.db``. See ``base.Counters``.

A bucket's row counts for as long as the bucket is not full: ``seconds`` is the time that its filling up takes.
"""

import operator
from collections.abc import Sequence

from cache_proxy.backends.base import Counters, Want
from cache_proxy.backends.disk_fence import FencedCache
from cache_proxy.backends.disk_leases import NO_WAIT, Clock, Trip
from cache_proxy.backends.disk_tables import COUNTS

_MINUTE = 60.0

_MISSING = f"SELECT MIN(seconds, 3600.0) - (? - from_time) FROM Bucket WHERE name = ? AND number = ? AND {COUNTS}"  # noqa: S608 - constant
_DRAW = (
    "INSERT INTO Bucket (name, number, from_time, seconds) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (name, number) DO UPDATE SET from_time = excluded.from_time, seconds = excluded.seconds"
)
_INSIDE = f"SELECT COUNT(*), COALESCE(MAX(ticket = ?), 0) FROM Inside WHERE name = ? AND {COUNTS}"  # noqa: S608 - constant
_ENTER = (
    "INSERT INTO Inside (name, ticket, from_time, seconds) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (name, ticket) DO UPDATE SET from_time = excluded.from_time, seconds = excluded.seconds"
)
_LEAVE = "DELETE FROM Inside WHERE name = ? AND ticket = ?"


class DiskCounters(Counters):
    """``write`` is the way to the file."""

    def __init__(self, write: Trip, clock: Clock) -> None:
        self._write = write
        self._clock = clock

    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        return await self._write(_take, name, wants, at_most, self._clock)

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        return await self._write(_enter, name, ticket, limit, ttl, self._clock)

    async def leave(self, name: bytes, ticket: bytes) -> None:
        await self._write(_leave, name, ticket)


def _take(cache: FencedCache, name: bytes, wants: Sequence[Want], at_most: float, clock: Clock) -> float:
    cache.see_to_tables()
    with cache.writing(NO_WAIT):
        now = clock()
        found = cache.rows(_MISSING, ((now, name, number, now, now) for number in range(len(wants))))
        missing = [row[0] if row else 0.0 for row in found]
        drawn = [want.units * _MINUTE / want.per_minute for want in wants]
        wait = max(map(_wait, missing, drawn), default=0.0)
        if wait <= at_most:
            after = map(operator.add, missing, drawn)
            cache.change(_DRAW, ((name, number, now, seconds) for number, seconds in enumerate(after)))
    return wait


def _wait(missing: float, drawn: float) -> float:
    """Seconds until a bucket that lacks so much has what is drawn, or is full: all in seconds of its filling up."""
    # Sums of fractions come out a little beside the mark, which is not worth a wait.
    return max(round(missing + min(drawn, _MINUTE) - _MINUTE, 6), 0.0)


def _enter(cache: FencedCache, name: bytes, ticket: bytes, limit: int, ttl: float, clock: Clock) -> bool:
    cache.see_to_tables()
    with cache.writing(NO_WAIT):
        now = clock()
        ((inside, already),) = cache.rows(_INSIDE, [(ticket, name, now, now)])
        if inside >= limit and not already:
            return False
        cache.change(_ENTER, [(name, ticket, now, ttl)])
    return True


def _leave(cache: FencedCache, name: bytes, ticket: bytes) -> None:
    cache.see_to_tables()
    with cache.writing(NO_WAIT):
        cache.change(_LEAVE, [(name, ticket)])
