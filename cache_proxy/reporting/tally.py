"""Running totals of this worker since it started, per caller. The ledger will know more, and for longer."""

from collections import Counter

from cache_proxy.receipts import Receipt


class Tally:
    """Adds up receipts."""

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()

    def record(self, receipt: Receipt) -> None:
        """Add one receipt."""
        if receipt.cost:
            self._spent[receipt.account.alias] += receipt.cost

    def spent(self, who: str) -> int:
        """What this caller has paid, in pico-USD. Calls of unknown price are not in it."""
        return self._spent[who]
