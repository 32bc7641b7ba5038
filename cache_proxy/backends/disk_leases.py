"""Leases for the processes that share a folder, and the words left with them, in tables of ``cache.db``. See
``base.Leases``.

They go the way of the values: one thread, one transaction a batch, under the one lock of those who write. A purge
takes them over into the new file. With a file that is damaged they are lost, and ``renew`` tells the holders so.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence, Set
from itertools import islice
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from cache_proxy.backends.base import WORD_SECONDS, Key, Leases, Owner, Turn
from cache_proxy.backends.disk_fence import IS_HELD, FencedCache
from cache_proxy.backends.disk_tables import ANY_LAPSED, COUNTS, FORGET_LAPSED
from cache_proxy.errors import StoreError

AT_ONCE = 512
"""Keys of a trip, so that look-ups get in between."""

NO_WAIT = 0.0
"""Seconds that the thread waits for the lock for a lease: there are many, and look-ups wait behind them."""

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")

Clock = Callable[[], float]


class Trip(Protocol):
    """The way to the file: its thread, and back again as long as another process has the lock."""

    def __call__(
        self, work: Callable[Concatenate[FencedCache, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Awaitable[T]: ...


_TURN = (
    f"SELECT EXISTS (SELECT 1 FROM Cache WHERE {IS_HELD}),"  # noqa: S608 - constants
    f" (SELECT owner FROM Lease WHERE key = ? AND {COUNTS} AND TYPEOF(owner) = 'blob'),"
    f" (SELECT word FROM Word WHERE key = ? AND owner = ? AND {COUNTS} AND TYPEOF(word) = 'blob')"
)
_TAKE = (
    "INSERT INTO Lease (key, owner, from_time, seconds) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (key) DO UPDATE SET owner = excluded.owner,"
    " from_time = excluded.from_time, seconds = excluded.seconds"
)
_IS_OURS = f"SELECT 1 FROM Lease WHERE key = ? AND owner = ? AND {COUNTS}"  # noqa: S608 - constant
_RENEW = "UPDATE Lease SET from_time = ?, seconds = ? WHERE key = ?"
_LEAVE_WORD = (
    "INSERT INTO Word (key, owner, word, from_time, seconds)"  # noqa: S608 - constant
    f" SELECT key, owner, ?, ?, ? FROM Lease WHERE key = ? AND owner = ? AND {COUNTS}"
    " ON CONFLICT (key, owner) DO UPDATE SET word = excluded.word,"
    " from_time = excluded.from_time, seconds = excluded.seconds"
)
_RELEASE = "DELETE FROM Lease WHERE key = ? AND owner = ?"


class DiskLeases(Leases):
    """``look`` is the way for those who only read, ``write`` for all others. What is asked has ``patience`` seconds for
    all its parts together; what some were answered by then is told.
    """

    def __init__(self, look: Trip, write: Trip, clock: Clock, patience: float) -> None:
        self._look = look
        self._write = write
        self._clock = clock
        self._patience = patience

    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        turns: dict[Key, Turn] = {}
        for part in await self._answered(wanted, lambda part: self._acquire(part, owner, ttl)):
            turns |= part
        return turns

    async def _acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        if all(wanted.values()):
            # Who has waited will mostly have to wait on, and need not wait for the lock to learn it.
            seen = await self._look(_look, wanted, owner, self._clock)
            if not any(turn.mine for turn in seen.values()):
                return seen
        return await self._write(_take, wanted, owner, ttl, self._clock)

    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        kept: set[Key] = set()
        for part in await self._answered(held, lambda part: self._write(_renew, part, ttl, self._clock)):
            kept |= part
        return kept

    async def _answered(
        self, asked: Mapping[Key, Owner], ask: Callable[[Mapping[Key, Owner]], Awaitable[T]]
    ) -> Sequence[T]:
        """What the parts were answered that got an answer. Raises ``StoreError`` if none did."""
        answers: list[T] = []
        try:
            async with asyncio.timeout(self._patience):
                for part in _parts(asked):
                    answers.append(await ask(part))  # noqa: PERF401 - those before a failure count
        except (StoreError, TimeoutError) as error:
            if not answers:
                raise error if isinstance(error, StoreError) else StoreError("disk: busy", refused=False) from None
        return answers

    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        for part in _parts(held):
            await self._write(_release, part, word, self._clock)


def _parts(mapping: Mapping[Key, V]) -> Iterator[Mapping[Key, V]]:
    if len(mapping) <= AT_ONCE:
        return iter((mapping,) if mapping else ())
    items = iter(mapping.items())
    return iter(lambda: dict(islice(items, AT_ONCE)), {})


def _look(cache: FencedCache, wanted: Mapping[Key, Owner], owner: Owner, clock: Clock) -> Mapping[Key, Turn]:
    """How it stands; ``mine`` are those that could be had."""
    if not cache.shares:
        return dict.fromkeys(wanted, Turn(mine=True))
    with cache.reading():
        return _turns(cache, wanted, owner, clock())


def _take(
    cache: FencedCache, wanted: Mapping[Key, Owner], owner: Owner, ttl: float, clock: Clock
) -> Mapping[Key, Turn]:
    cache.see_to_tables()
    with cache.writing(NO_WAIT):
        now = clock()
        turns = _turns(cache, wanted, owner, now)
        cache.change(_TAKE, ((key, owner, now, ttl) for key, turn in turns.items() if turn.mine))
    return turns


def _turns(cache: FencedCache, wanted: Mapping[Key, Owner], owner: Owner, now: float) -> dict[Key, Turn]:
    today = time.time()
    found = cache.rows(_TURN, ((key, today, key, now, now, key, owner, now, now) for key, owner in wanted.items()))
    return {key: _turn(row, owner, wanted[key]) for key, row in zip(wanted, found, strict=True)}


def _turn(row: tuple[int, Owner | None, bytes | None], owner: Owner, waited_for: Owner) -> Turn:
    stored, holder, word = row
    if word is not None and holder not in (owner, waited_for):
        return Turn(False, stored == 1, b"", word)
    if holder is None or holder == owner:
        return Turn(True, stored == 1)
    return Turn(False, stored == 1, holder)


def _renew(cache: FencedCache, held: Mapping[Key, Owner], ttl: float, clock: Clock) -> set[Key]:
    cache.see_to_tables()
    with cache.writing(NO_WAIT):
        now = clock()
        found = cache.rows(_IS_OURS, ((key, owner, now, now) for key, owner in held.items()))
        kept = {key for key, row in zip(held, found, strict=True) if row}
        cache.change(_RENEW, ((now, ttl, key) for key in kept))
    return kept


def _release(cache: FencedCache, held: Mapping[Key, Owner], word: bytes | None, clock: Clock) -> None:
    cache.see_to_tables()
    with cache.writing(NO_WAIT):
        if word is not None:
            now = clock()
            rows = ((word, now, WORD_SECONDS, key, owner, now, now) for key, owner in held.items())
            cache.change(_LEAVE_WORD, rows)
        cache.change(_RELEASE, held.items())


def forget_lapsed(cache: FencedCache, rows: int, clock: Clock) -> bool:
    """Let go of what counts no more of leases and counters, a step. Returns whether there is more to do."""
    now = clock()
    lapsed = [table for table, query in ANY_LAPSED.items() if cache.shares and cache.number(query, now, now)]
    if not lapsed:
        return False
    with cache.writing(NO_WAIT):
        gone = [cache.change(FORGET_LAPSED[table], [(now, now, rows)]) for table in lapsed]
    return rows in gone
