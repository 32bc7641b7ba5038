"""``rpm_limit`` and ``tpm_limit`` of keys: for all who share a store with counters, else for this process. And which
budgets are known to be used up.
"""

import time
from collections import OrderedDict
from collections.abc import Callable

from cache_proxy.access import AccessKey
from cache_proxy.errors import BudgetExceeded, Shortage
from cache_proxy.upstream.counters import Counters
from cache_proxy.upstream.rates import Rates

MOST = 10_000
"""Keys whose limits are remembered here; one that is forgotten begins with a full minute's worth."""

BELIEVED = 1.0
"""Seconds for which a budget that was used up counts as such without asking the ledger again."""

_NAME_DIGITS = 40


class KeyLimits:
    """The limits of one event loop."""

    def __init__(
        self,
        counters: Counters | None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``now`` is the time of day."""
        self._counters = counters
        self._clock = clock
        self._now = now
        self._rates: OrderedDict[tuple[str, str, int], Rates] = OrderedDict()
        self._used_up: OrderedDict[str, tuple[float, Shortage]] = OrderedDict()

    async def request(self, key: AccessKey) -> float:
        """Count a request: 0, or the seconds after which there is room for it."""
        return 0.0 if key.rpm_limit is None else await self._take(key.hash, "rpm", key.rpm_limit, 1)

    async def tokens(self, key: AccessKey, tokens: int) -> float:
        """Count tokens that are about to be paid for: 0, or the seconds after which there is room for them."""
        return 0.0 if key.tpm_limit is None else await self._take(key.hash, "tpm", key.tpm_limit, tokens)

    def used_up(self, key: AccessKey, cost: int) -> BudgetExceeded | None:
        """The ledger's last word on a budget, where it is a moment old at most and this (pico-USD) does not fit either.

        So a runaway job takes up neither the ledger's time nor the room of a model's ``rpm``.
        """
        told_at, short = self._used_up.get(key.hash, (float("-inf"), None))
        if short is None or self._clock() - told_at > BELIEVED or not self._is_now(short):
            return None
        # What is reserved may come free at any time; what is spent does not.
        fits = short.limit != key.max_budget or short.spent + cost <= short.limit
        # A new error each time: one that is raised again and again holds on to all who have seen it.
        return None if fits else BudgetExceeded({key.hash: short})

    def hear(self, error: BudgetExceeded) -> None:
        """Something does not fit. What was said from here is no news: only the ledger can say it anew."""
        for hash_, short in error.short.items():
            if self._used_up.get(hash_, (0.0, None))[1] is not short:
                self._used_up[hash_] = (self._clock(), short)
                self._used_up.move_to_end(hash_)
        while len(self._used_up) > MOST:
            self._used_up.popitem(last=False)

    def _is_now(self, short: Shortage) -> bool:
        return short.resets_at is None or self._now() < short.resets_at

    async def _take(self, hash_: str, word: str, limit: int, units: int) -> float:
        of = (hash_, word, limit)
        rates = self._rates.get(of)
        if rates is None:
            rates = self._rates[of] = Rates({word: limit}, self._clock, self._counters, lambda *_: _name(hash_, word))
            while len(self._rates) > MOST:
                self._rates.popitem(last=False)
        self._rates.move_to_end(of)
        return await rates.take(units, 0.0)


def _name(hash_: str, word: str) -> bytes:
    return f"key-{hash_[:_NAME_DIGITS]}:{word}".encode()
