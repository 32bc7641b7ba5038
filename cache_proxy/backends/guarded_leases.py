"""The guard's half for leases and counters: nobody waits for a store that fails, and nobody cancels a call on it.

Here a failure is told, as ``StoreError``: what to do without a lease is the caller's to say. A store that answers
look-ups may refuse these all the same (a right that is missing, a full server), so each of the two has a breaker of its
own. While it is open they are not asked, and then one caller's call finds out.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from contextlib import suppress
from typing import TypeVar

from cache_proxy.backends.base import Counters, Key, Leases, Owner, Turn, Want
from cache_proxy.backends.breaker import Breaker
from cache_proxy.backends.calls import Calls, Unsound
from cache_proxy.errors import PartialAnswer, StoreError

T = TypeVar("T")

SIGNS = 2
"""So many times as long as a look-up is an answer waited for, from a store whose writers do not queue."""

_NEARLY = 0.9
"""Of the time that a sign may take: silence for less says nothing of the store."""


class Gate:
    """The way to one of the two. ``what`` is the word it is counted under among the failures of ``calls``; ``store`` is
    the breaker of the whole store and ``breaker`` its own. An answer is waited for for ``deadline`` seconds where it
    ``queues``, else for two ``sign``; and each ``sign`` seconds without one count against the store, unless it answers
    a ``look`` then, or the call after all: one that is busy is waited for, one that hangs is not.
    """

    def __init__(
        self,
        what: str,
        calls: Calls,
        *,
        store: Breaker,
        breaker: Breaker,
        look: Callable[[], Awaitable[object]],
        sign: float,
        deadline: float,
        queues: bool,
        clock: Callable[[], float],
    ) -> None:
        self._what = what
        self._calls = calls
        self._store = store
        self._breaker = breaker
        self._look = look
        self._sign = sign
        self._deadline = deadline
        self._patience = deadline if queues else min(SIGNS * sign, deadline)
        self._clock = clock

    async def ask(self, work: Callable[..., Awaitable[T]], *args: object) -> T:
        """The answer to this call. Raises ``StoreError``."""
        probing = self._breaker.may_probe() if self._store.state == "closed" else False
        if not probing and not self._is_open:
            raise self._left_alone()
        try:
            return await self._asked(work, args)
        finally:
            if probing:
                # Also if the caller leaves; it does nothing once there was an answer.
                self._breaker.probe_failed()

    async def tell(self, work: Callable[..., Awaitable[T]], *args: object) -> T:
        """The same for what goes on while the store is being closed. Nobody's answer waits for it, so like a write it
        says nothing against the store, and a part of the store that hangs does not keep the rest from being asked.
        """
        if not self._is_open:
            raise self._left_alone()
        return await self._calls.timely(self._deadline, self._calls.start_lasting(work, *args), self._what)

    @property
    def _is_open(self) -> bool:
        return (self._store.state, self._breaker.state) == ("closed", "closed")

    def _left_alone(self) -> StoreError:
        return StoreError(f"{self._breaker.name} is being left alone after failures")

    async def _asked(self, work: Callable[..., Awaitable[T]], args: Sequence[object]) -> T:
        began_at = self._clock()
        task = self._calls.start(work, *args)
        try:
            await self._wait(task)
            answer = self._calls.outcome(task, self._what)
        except StoreError as error:
            self._breaker.failed(refused=error.refused, began_at=began_at, said=str(error))
            raise
        finally:
            self._calls.timed(self._what, self._clock() - began_at)
        self._breaker.succeeded()
        return answer

    async def _wait(self, task: "asyncio.Task[T]") -> None:
        silence = _Silence(self._store)
        give_up_at = self._clock() + self._patience
        while self._store.state == "closed" and (left := give_up_at - self._clock()) > 0:
            began_at = self._clock()
            done, _ = await asyncio.wait({task}, timeout=min(self._sign, left))
            if done:
                silence.broken()
                return
            # What is left of the deadline may be too short for its silence to say anything of the store.
            if left < self._sign * _NEARLY:
                return
            if silence.counts(began_at):
                self._calls.start(self._listen, silence)

    async def _listen(self, silence: "_Silence") -> None:
        # A part of its servers is a sign of life, too. Other failures are nobody's business here.
        with suppress(PartialAnswer):
            await self._look()
        silence.broken()


class _Silence:
    """What the waiting of one call has counted against a store."""

    def __init__(self, store: Breaker) -> None:
        self._store = store
        self._counted = 0

    def counts(self, began_at: float) -> bool:
        """Count the silence since then against the store, unless another's was. Returns whether it was."""
        counts = self._store.failed(refused=False, began_at=began_at)
        self._counted += counts
        return counts

    def broken(self) -> None:
        """The store was busy, and did not hang."""
        self._store.excuse(self._counted)
        self._counted = 0


class GuardedLeases(Leases):
    """``inner``, asked through ``gate``. Failures are counted as ``lease_refused`` and ``lease_timeout``."""

    def __init__(self, inner: Leases, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        return await self._gate.ask(self._acquire, wanted, owner, ttl)

    async def _acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        turns = await self._inner.acquire(wanted, owner, ttl)
        if not isinstance(turns, Mapping) or not all(isinstance(turn, Turn) for turn in turns.values()):
            raise Unsound("acquire gave something else than turns under keys")
        if not turns.keys() <= wanted.keys():
            raise Unsound("acquire gave keys that it was not asked for")
        return turns

    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        return await self._gate.ask(self._renew, held, ttl)

    async def _renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        still = await self._inner.renew(held, ttl)
        if not isinstance(still, Set) or not still <= held.keys():
            raise Unsound("renew gave something else than some of its keys")
        return still

    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        # Others wait for these keys: they need not wait longer because this process ends.
        await self._gate.tell(self._inner.release, held, word)


class GuardedCounters(Counters):
    """``inner``, asked through ``gate``. Failures are counted as ``counter_refused`` and ``counter_timeout``."""

    def __init__(self, inner: Counters, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        return await self._gate.ask(self._take, name, wants, at_most)

    async def _take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        wait = await self._inner.take(name, wants, at_most)
        if not isinstance(wait, int | float) or math.isnan(wait):
            raise Unsound("take gave no number")
        return wait

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        return bool(await self._gate.ask(self._inner.enter, name, ticket, limit, ttl))

    async def leave(self, name: bytes, ticket: bytes) -> None:
        await self._gate.tell(self._inner.leave, name, ticket)
