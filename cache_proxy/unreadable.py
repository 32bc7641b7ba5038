"""Entries that a store gave and nobody can read: damaged, cut, another key's, or of another version. Each is a miss."""

import logging

log = logging.getLogger("cache_proxy.store")


class Unreadable:
    """Counts them, and tells of the first, the tenth, the hundredth: a cold cache is explained, and no log flooded."""

    def __init__(self, store: str) -> None:
        self._store = store
        self._total = 0

    def add(self, count: int) -> None:
        """``count`` more were met."""
        before, self._total = self._total, self._total + count
        if _digits(before) < _digits(self._total):
            fields = {"store": self._store, "unreadable": self._total}
            log.warning(
                "store=%(store)s unreadable=%(unreadable)d: entries damaged or of another version, paid for again",
                fields,
                extra=fields,
            )


def _digits(number: int) -> int:
    return len(str(number)) if number else 0
