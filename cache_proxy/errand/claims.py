"""Claims: which process pays for a key, among all that share the store.

A claim takes leases, keeps them alive for as long as the trip lasts, and gives them up when the value is stored or the
trip has failed. Nothing here stands between a caller and his answer: where the store does not answer, the trip goes on
without a lease, and that is counted.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from cache_proxy import lasting
from cache_proxy.backends.base import Leases, Owner, Turn
from cache_proxy.errors import StoreError
from cache_proxy.models import Key

RENEWALS = 4
"""A lease is renewed so many times within its life, whatever becomes of the renewals before: it survives a store that
fails to answer, or never answers, a few of them.
"""

FAREWELL = 1.0
"""Seconds that the end waits for leases to be given up: others wait for them."""

Held = tuple[Key, Owner]
"""A lease. A key may be claimed twice in one process, by a trip whose key was purged and by one that began after."""


class Claims:
    """The leases that this process holds. ``counts``: ``unanswered`` (keys paid for without a lease, since the store
    did not answer), ``lost`` (leases that ran out or were taken while the trip was under way), ``gave_up`` (keys that
    were waited for in vain).
    """

    def __init__(
        self, leases: Leases | None, seconds: float, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        """``seconds`` is how long a lease holds unless it is renewed. Without ``leases`` every key is ours."""
        self.seconds = seconds
        self.counts: Counter[str] = Counter()
        self._leases = leases
        self._sleep = sleep
        # Each with how many renewals in a row did not find it.
        self._held: dict[Held, int] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._renewals: set[asyncio.Task[None]] = set()

    @property
    def needed(self) -> bool:
        """Whether there is anybody to agree with."""
        return self._leases is not None

    @staticmethod
    def owner() -> Owner:
        """A word that nobody else has."""
        return os.urandom(12).hex().encode()

    async def ask(self, wanted: Mapping[Key, Owner], owner: Owner) -> Mapping[Key, Turn]:
        """Whose turn it is for each key. A key that is missing got no answer: pay for it."""
        if self._leases is None:
            return {}
        try:
            turns = await self._leases.acquire(wanted, owner, self.seconds)
        except StoreError:
            turns = {}
        unanswered = wanted.keys() - turns.keys()
        self.counts["unanswered"] += len(unanswered)
        # One whose answer was lost may be ours all the same: renewing will tell.
        self._hold((key, owner) for key in (*unanswered, *(key for key, turn in turns.items() if turn.mine)))
        return turns

    def _hold(self, held: Iterable[Held]) -> None:
        self._held.update(dict.fromkeys(held, 0))
        if self._held and self._keeper is None:
            self._keeper = lasting.start(self._keep())

    async def _keep(self) -> None:
        while self._held:
            await self._sleep(self.seconds / RENEWALS)
            # One that hangs must not keep the next from being sent; more than a lease's worth of them are of no use.
            for batch in _by_key(self._held) if len(self._renewals) < RENEWALS else ():
                self._renewals.add(renewal := lasting.start(self._renew(batch)))
                renewal.add_done_callback(self._renewals.discard)
        self._keeper = None

    async def _renew(self, batch: Mapping[Key, Owner]) -> None:
        assert self._leases is not None  # noqa: S101 - nothing is held without them
        with suppress(StoreError):
            kept = await self._leases.renew(batch, self.seconds)
            for held in batch.items():
                if held in self._held:
                    self._held[held] = 0 if held[0] in kept else self._held[held] + 1
                    # A server that did not answer says nothing: only after a lease's whole life it is over for certain.
                    if self._held[held] >= RENEWALS:
                        del self._held[held]
                        self.counts["lost"] += 1

    async def release(self, held: Iterable[Held], word: bytes | None = None) -> None:
        """Give these up, where they are still held. With a ``word``, those who wait are told it."""
        gone = [each for each in dict.fromkeys(held) if self._held.pop(each, None) is not None]
        for batch in _by_key(gone):
            if self._leases is not None:
                with suppress(StoreError):
                    await self._leases.release(batch, word)

    async def close(self) -> None:
        """Renew nothing any more, and give up what is held: nobody is going to bring it."""
        left = [lasting.start(self.release(list(self._held)))] if self._held else []
        if left:
            await asyncio.wait(left, timeout=FAREWELL)
        tasks = [*left, *self._renewals, *([self._keeper] if self._keeper else [])]
        self._keeper = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _by_key(held: Iterable[Held]) -> Iterator[dict[Key, Owner]]:
    """All these, in batches in which no key stands twice; nearly always one."""
    left = list(held)
    while left:
        batch = dict(reversed(left))
        yield batch
        left = [(key, owner) for key, owner in left if batch[key] != owner]
