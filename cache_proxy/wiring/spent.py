"""What each key has spent in all, as the ledger says, for the header of every answer.

The ledger is asked in a thread, about all keys that are due at a time; a reply waits for it only where nothing is known
of its key. In between counts what is settled here. Neither ever says more than what was spent, so the greater of the
two does not either: nothing is counted twice, and nothing that was told is taken back.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cache_proxy.calls import Call, Settlement

EVERY = 10.0
"""Seconds after which the ledger is asked again about a key that is in use."""

PATIENCE = 0.25
"""Seconds that the first reply of a key waits for the ledger."""

MOST = 10_000
"""Keys that are remembered."""

AT_ONCE = 200
"""Keys that the ledger is asked about at a time."""


@dataclass(slots=True)
class _Level:
    amount: int = 0
    is_known: bool = False
    asked_at: float = float("-inf")


class Spent:
    """Sums by the hash of a key, in pico-USD; for one event loop. Calls of unknown price are not in them."""

    def __init__(
        self, read: Callable[[Sequence[str]], Mapping[str, int]], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``read`` gives what was spent with each of these keys, and blocks."""
        self._read = read
        self._clock = clock
        self._levels: OrderedDict[str, _Level] = OrderedDict()
        self._due: list[str] = []
        self._asking: asyncio.Task[None] | None = None
        self._began_at = 0.0
        self._rests_until = float("-inf")

    async def of(self, key: str) -> int | None:
        """What was spent with this key; ``None`` where the ledger does not say in time."""
        now = self._clock()
        level = self._levels.get(key) or self._remember(key)
        if now - level.asked_at >= EVERY and now >= self._rests_until:
            self._levels.move_to_end(key)
            level.asked_at = now
            self._due.append(key)
            if self._asking is None:
                self._began_at = now
                self._asking = asyncio.create_task(self._ask())
        if not level.is_known and self._asking is not None:
            # From when on it was asked: nobody waits for a database that has fallen silent.
            await asyncio.wait({self._asking}, timeout=max(0.0, self._began_at + PATIENCE - now))
        return level.amount if level.is_known else None

    def _remember(self, key: str) -> _Level:
        level = self._levels[key] = _Level()
        if len(self._levels) > MOST:
            self._levels.popitem(last=False)
        return level

    async def _ask(self) -> None:
        try:
            while self._due:
                keys, self._due = self._due[:AT_ONCE], self._due[AT_ONCE:]
                self._hear(keys, await asyncio.to_thread(self._read, keys))
                self._began_at = self._clock()
        except Exception:
            # Told by whoever writes there. What is known goes on to be told.
            self._rests_until = self._clock() + EVERY
            self._due.clear()
        finally:
            self._asking = None

    def _hear(self, keys: Sequence[str], sums: Mapping[str, int]) -> None:
        for key in keys:
            level = self._levels.get(key)
            if level is not None:
                level.amount = max(level.amount, sums.get(key, 0))
                level.is_known = True

    def settled(self, call: Call, settlement: Settlement) -> None:
        """See :class:`cache_proxy.calls.CallObserver`. It is heard of before it is written down: what the ledger has
        said by now is without it.
        """
        for share, tokens in zip(call.shares, settlement.tokens, strict=True):
            level = self._levels.get(share.payer.account.key)
            if level is not None:
                level.amount += tokens * (call.price or 0)

    def unsettled(self, call: Call) -> None:
        """See :class:`cache_proxy.calls.CallObserver`. What it cost nobody knows."""

    async def close(self) -> None:
        """Ask nothing more."""
        asking = self._asking
        if asking is not None:
            asking.cancel()
            await asyncio.wait({asking})
