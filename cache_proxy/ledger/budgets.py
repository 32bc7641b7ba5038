"""Budgets: what each key has spent and reserved in its window, and whether a call still fits.

An intent is a reservation. Both are written in one transaction, which no other that is about the same keys runs beside,
so whatever else is asked for at that moment, here or on another host, is judged by what stands there afterwards. A call
that does not fit leaves nothing behind. One of which nobody knows the cost stays reserved until its window ends.

A key has a row for each duration that its budget ever had, and each window of it. What is paid with the key is booked
in every row whose window it is sent in, whatever budget the payer carries or none: a budget may be changed, or taken
away and set again, at any moment, and nothing is missing in it. A row that is not there yet is reckoned.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from hashlib import sha256
from typing import NamedTuple

from sqlalchemy import Connection

from cache_proxy.calls import Budget, Call, Settlement, Share
from cache_proxy.core.durations import Window, window
from cache_proxy.errors import BudgetExceeded, Shortage
from cache_proxy.ledger.reckoning import Level, reckoned
from cache_proxy.ledger.statements import Statements, statements

NEVER = 2**53
"""When a window ends that does not."""


class Place(NamedTuple):
    """A budget's row: a key, and a window of a duration."""

    key: str
    duration: str
    window: Window


class Budgets:
    """The budgets of the calls that one transaction writes. Nobody else changes them until it ends."""

    def __init__(self, connection: Connection, say: Statements, calls: Iterable[Call]) -> None:
        self._connection = connection
        self._say = say
        self._levels: dict[Place, Level] = {}
        self._places: defaultdict[str, list[Place]] = defaultdict(list)
        paid = [(share, call.sent_at) for call in calls for share in call.shares if share.payer.account.key]
        if paid:
            self._hold(paid)

    def _hold(self, paid: list[tuple[Share, float]]) -> None:
        keys = {share.payer.account.key for share, _ in paid}
        if self._say.lock_keys is not None:
            # Always in the same order: two that hold several of them then never wait for each other.
            self._connection.execute(self._say.lock_keys, {"locks": sorted(map(_lock, keys))})
        self._levels = _read(self._connection, self._say, keys, [sent_at for _, sent_at in paid])
        needed = {place for share, sent_at in paid if (place := _place(share, sent_at)) is not None}
        missing = _reckoned(self._connection, needed - self._levels.keys())
        for level in missing.values():
            level.changed = True
        self._levels |= missing
        for place in self._levels:
            self._places[place.key].append(place)

    def reserve(self, call: Call, *, surely: bool = False) -> BudgetExceeded | None:
        """Set aside what a call may cost at most, or say for whom it is too much. ``surely`` one that was sent."""
        asked: Counter[str] = Counter()
        for share in call.shares:
            asked[share.payer.account.key] += _bound(call, share)
        short = {
            place.key: Shortage(level.spent, level.reserved, limit, asked[place.key], place.window.ends_at)
            for place, limit in _limits(call).items()
            if (level := self._levels[place]).spent + level.reserved + asked[place.key] > limit
        }
        if short and not surely:
            return BudgetExceeded(short)
        for key, amount in asked.items():
            for level in self._at(key, call.sent_at):
                level.book(reserved=amount)
        return None

    def settle(self, call: Call, settlement: Settlement) -> None:
        """What was set aside for it is free again, and what it cost is spent, in the windows in which it was sent."""
        for share, billed in zip(call.shares, settlement.tokens, strict=True):
            for level in self._at(share.payer.account.key, call.sent_at):
                level.book(spent=billed * (call.price or 0), reserved=-_bound(call, share))

    def _at(self, key: str, moment: float) -> Iterator[Level]:
        """Every row of a key that this moment is in."""
        for place in self._places[key]:
            if place.window.holds(moment):
                yield self._levels[place]

    def write(self) -> None:
        """Write down what has changed."""
        rows = [_row(place, level) for place, level in self._levels.items() if level.changed]
        if rows:
            self._connection.execute(self._say.write_budget, rows)


def levels_of(connection: Connection, budgets: Mapping[str, Budget], now: float) -> dict[str, Level]:
    """What each of these keys has spent and reserved in the window that it is now."""
    if not budgets:
        return {}
    places = {key: Place(key, budget.duration, window(budget.duration, now)) for key, budget in budgets.items()}
    found = _read(connection, statements(connection.dialect.name), places.keys(), [now])
    found |= _reckoned(connection, set(places.values()) - found.keys())
    return {key: found[place] for key, place in places.items()}


def _read(
    connection: Connection, say: Statements, keys: Collection[str], moments: Collection[float]
) -> dict[Place, Level]:
    """The rows that there are of these keys, of all windows that any of these moments is in."""
    asked = {"keys": list(keys), "first": int(min(moments)), "last": int(max(moments))}
    return {
        Place(row.key_hash, row.duration, Window(row.starts_at, None if row.ends_at == NEVER else row.ends_at)): Level(
            row.spent, row.reserved
        )
        for row in connection.execute(say.find_budgets, asked)
    }


def _reckoned(connection: Connection, places: Iterable[Place]) -> dict[Place, Level]:
    """What rows that are not there would hold. Many begin at the same midnight, and are asked about together."""
    alike: defaultdict[Window, list[Place]] = defaultdict(list)
    for place in places:
        alike[place.window].append(place)
    found: dict[Place, Level] = {}
    for span, theirs in alike.items():
        levels = reckoned(connection, [place.key for place in theirs], span)
        found |= {place: levels[place.key] for place in theirs}
    return found


def _limits(call: Call) -> dict[Place, int]:
    limits: dict[Place, int] = {}
    for share in call.shares:
        budget, place = share.payer.account.budget, _place(share, call.sent_at)
        if budget is not None and place is not None:
            # Of two requests that do not agree on the limit, one was asked just before it was changed.
            limits[place] = min(budget.limit, limits.get(place, budget.limit))
    return limits


def _place(share: Share, sent_at: float) -> Place | None:
    account = share.payer.account
    if account.budget is None:
        return None
    return Place(account.key, account.budget.duration, window(account.budget.duration, sent_at))


def _bound(call: Call, share: Share) -> int:
    return share.tokens_bound * (call.price or 0)


def _lock(key: str) -> int:
    """A key as PostgreSQL's locks are called: 64 bits, with a sign."""
    return int.from_bytes(sha256(key.encode()).digest()[:8], "big", signed=True)


def _row(place: Place, level: Level) -> Mapping[str, object]:
    starts_at, ends_at = place.window
    return {
        "key_hash": place.key,
        "duration": place.duration,
        "starts_at": starts_at,
        "ends_at": NEVER if ends_at is None else ends_at,
        "spent": level.spent,
        "reserved": level.reserved,
    }
