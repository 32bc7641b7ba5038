"""Adds up, by name, what is read from sums and from single rows."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

from cache_proxy.ledger.found import OTHERS, Usage
from cache_proxy.ledger.sums import AMOUNTS

_EPOCH = date(1970, 1, 1).toordinal()


class Tally:
    """What has happened under each name. Callers choose names: beyond ``room`` of them, all new ones are one."""

    def __init__(self, room: int | None = None) -> None:
        """``room`` is for so many names; ``None``: for all."""
        self.room = room
        self._amounts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * len(AMOUNTS))
        self._labels: dict[str, tuple[int, str]] = {}

    def add(
        self, name: str, what: Sequence[int], amounts: Sequence[Any], *, sign: int = 1, label: str = "", day: int = 0
    ) -> None:
        """Count these in, or with ``sign`` -1 out; ``what`` they are is their places in ``AMOUNTS``. The label of the
        last ``day`` is the one that is kept.
        """
        if name not in self._amounts and self.room is not None and len(self._amounts) >= self.room:
            name, label = OTHERS, ""
        sums = self._amounts[name]
        for place, amount in zip(what, amounts, strict=True):
            if amount:
                # PostgreSQL's sums are decimals.
                sums[place] += sign * int(amount)
        if sign > 0 and label:
            self._labels[name] = max(self._labels.get(name, (day, label)), (day, label))

    def close(self) -> None:
        """Take no new name any more: of those that are not here yet, something may be among the others already."""
        self.room = 0

    def found(self) -> Iterator[Usage]:
        """What it came to, without those to whom nothing happened."""
        for name, sums in self._amounts.items():
            if any(sums):
                yield Usage(name, self._labels.get(name, (0, ""))[1], **dict(zip(AMOUNTS, sums, strict=True)))


def first(rows: Sequence[Usage], most: int | None) -> list[Usage]:
    """So many of the rows, and behind them one of all others, if there are any."""
    named = [row for row in rows if row.name != OTHERS]
    left = [row for row in rows if row.name == OTHERS]
    if most is not None:
        named, left = named[:most], [*left, *named[most:]]
    if not left:
        return named
    return [*named, Usage(OTHERS, "", *(sum(column) for column in zip(*(row[2:] for row in left), strict=True)))]


def date_of(day: int) -> str:
    """A day that is counted since the epoch, as people write it."""
    return date.fromordinal(_EPOCH + day).isoformat()
