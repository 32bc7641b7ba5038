"""Budgets: what each key has spent and reserved in its window, and whether a call still fits.

An intent is a reservation. Both are written in one transaction, which holds the rows of all budgets that it touches, so
whatever else is asked for at that moment, here or on another host, is judged by what stands there afterwards. A call
that does not fit leaves nothing behind. One of which nobody knows the cost stays reserved until its window ends.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from cache_proxy.calls import Budget, Call, Settlement, Share
from cache_proxy.core.durations import Window, window
from cache_proxy.errors import BudgetExceeded, Shortage
from cache_proxy.ledger import tables
from cache_proxy.ledger.statements import Statements
from cache_proxy.ledger.sums import DAY


class Place(NamedTuple):
    """A budget's row: a key and a window."""

    key: str
    window: Window


@dataclass(slots=True)
class Level:
    """What stands there, in pico-USD."""

    spent: int
    reserved: int
    changed: bool = False


class Budgets:
    """The budgets of the calls that one transaction writes. Their rows are held until it ends."""

    def __init__(self, connection: Connection, say: Statements, calls: Iterable[Call]) -> None:
        self._connection = connection
        self._say = say
        places = sorted({place for call in calls for place, _, _ in _budgeted(call)})
        self._levels: dict[Place, Level] = self._held(places) if places else {}

    def _held(self, places: list[Place]) -> dict[Place, Level]:
        found = self._read(places)
        missing = [place for place in places if place not in found]
        if missing:
            # Always in the same order: two that make the same rows then never lock each other.
            self._connection.execute(self._say.add_budget, [_new(self._connection, place) for place in missing])
            found = self._read(places)
        return found

    def _read(self, places: list[Place]) -> dict[Place, Level]:
        of = {(place.key, place.window.starts_at): place for place in places}
        asked = {"keys": list({key for key, _ in of}), "starts": list({start for _, start in of})}
        rows = self._connection.execute(self._say.hold_budgets, asked)
        held = {(row.key_hash, row.starts_at): Level(row.spent, row.reserved) for row in rows}
        return {place: held[at] for at, place in of.items() if at in held}

    def reserve(self, call: Call, *, surely: bool = False) -> BudgetExceeded | None:
        """Set aside what a call may cost at most, or say for whom it is too much. ``surely`` one that was sent."""
        asked: Counter[Place] = Counter()
        limits: dict[Place, int] = {}
        for place, budget, share in _budgeted(call):
            asked[place] += _bound(call, share)
            # Of two requests that do not agree on the limit, one was asked just before it was changed.
            limits[place] = min(budget.limit, limits.get(place, budget.limit))
        short = {
            place.key: Shortage(level.spent, level.reserved, limits[place], amount, place.window.ends_at)
            for place, amount in asked.items()
            if (level := self._levels[place]).spent + level.reserved + amount > limits[place]
        }
        if short and not surely:
            return BudgetExceeded(short)
        for place, amount in asked.items():
            self._add(place, reserved=amount)
        return None

    def settle(self, call: Call, settlement: Settlement) -> None:
        """What was set aside for it is free again, and what it cost is spent, in the window in which it was sent."""
        for share, billed in zip(call.shares, settlement.tokens, strict=True):
            place = _place(call, share)
            if place is not None:
                self._add(place, spent=billed * (call.price or 0), reserved=-_bound(call, share))

    def _add(self, place: Place, *, spent: int = 0, reserved: int = 0) -> None:
        level = self._levels[place]
        level.spent, level.reserved, level.changed = level.spent + spent, max(0, level.reserved + reserved), True

    def write(self) -> None:
        """Write down what has changed."""
        rows = [
            {"of": place.key, "at": place.window.starts_at, "spent": level.spent, "reserved": level.reserved}
            for place, level in self._levels.items()
            if level.changed
        ]
        if rows:
            self._connection.execute(self._say.write_budget, rows)


def level_of(connection: Connection, key: str, budget: Budget, now: float) -> tuple[int, int]:
    """What a key has spent and reserved in the window that it is now."""
    place = Place(key, window(budget.duration, now))
    budgets = tables.budgets
    mine = (budgets.c.key_hash == key) & (budgets.c.starts_at == place.window.starts_at)
    row = connection.execute(select(budgets.c.spent, budgets.c.reserved).where(mine)).first()
    return (_spent_before(connection, place), 0) if row is None else (row.spent, row.reserved)


def _budgeted(call: Call) -> Iterator[tuple[Place, Budget, Share]]:
    """The shares of those who have a budget."""
    for share in call.shares:
        budget, place = share.payer.account.budget, _place(call, share)
        if budget is not None and place is not None:
            yield place, budget, share


def _place(call: Call, share: Share) -> Place | None:
    account = share.payer.account
    return None if account.budget is None else Place(account.key, window(account.budget.duration, call.sent_at))


def _bound(call: Call, share: Share) -> int:
    return share.tokens_bound * (call.price or 0)


def _new(connection: Connection, place: Place) -> Mapping[str, object]:
    starts_at, ends_at = place.window
    spent = _spent_before(connection, place)
    return {"key_hash": place.key, "starts_at": starts_at, "ends_at": ends_at, "spent": spent, "reserved": 0}


def _spent_before(connection: Connection, place: Place) -> int:
    """What the key had spent in this window while it had no budget of this kind, as far as days tell it."""
    starts_at, ends_at = place.window
    if starts_at % DAY:
        return 0
    days = tables.days
    mine = tables.SUMS_OF_KEYS & (days.c.name == place.key) & (days.c.day >= starts_at // DAY)
    if ends_at is not None:
        mine &= days.c.day < -(-ends_at // DAY)
    return int(connection.execute(select(func.sum(days.c.cost)).where(mine)).scalar() or 0)
