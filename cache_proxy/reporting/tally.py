"""Running totals of this worker since it started. The ledger knows more, and for longer."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from cache_proxy.calls import Account
from cache_proxy.receipts import Receipt
from cache_proxy.reporting.logs import at


class Tally:
    """Adds up receipts."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._began_at = now()
        self._spent: Counter[str] = Counter()
        self._requests = self._hits = self._misses = self._duplicates = self._joined = 0

    def record(self, receipt: Receipt) -> None:
        """Add one receipt."""
        _, hits, misses, duplicates, joined = receipt.counts
        self._requests += 1
        self._hits += hits
        self._misses += misses
        self._duplicates += duplicates
        self._joined += joined
        if receipt.cost:
            self._spent[_name(receipt.account)] += receipt.cost

    def spent(self, who: Account) -> int:
        """What this caller has paid, in pico-USD. Calls of unknown price are not in it."""
        return self._spent[_name(who)]

    def told(self) -> dict[str, Any]:
        """The requests, and their items by where the values came from."""
        return {
            "since": at(self._began_at),
            "requests": self._requests,
            "hits": self._hits,
            "misses": self._misses,
            "duplicates": self._duplicates,
            "joined": self._joined,
        }


def _name(account: Account) -> str:
    """Two keys may be called the same."""
    return account.key or account.alias
