"""Paying for what is missing, as one request sees it: join what is under way, lead the rest, and hear how it ends."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cache_proxy.core import plan
from cache_proxy.core.asked import Asked, is_remote, keeping
from cache_proxy.core.spend import bound, estimate
from cache_proxy.errand.calls import BLAMES_ITEMS, Parcel, Proof
from cache_proxy.errand.means import Means
from cache_proxy.errand.trip import Trip, send
from cache_proxy.errors import NotPaid, UpstreamRefused
from cache_proxy.models import Entry, Key, Plan
from cache_proxy.receipts import Story
from cache_proxy.upstream.flights import Bill, Fallen, Flight, Landed, Look

_ROUNDS = 10
"""Tries at keys whose trip failed by another's fault. Each ends with the one at fault, so that few are ever needed; the
last one goes alone."""


class Price(NamedTuple):
    """Of what is to be fetched, in tokens."""

    estimate: int
    bound: int
    """The most that it can cost."""


class Errand:
    """The misses of one request. It boards while its look-up still counts as one, and runs after that."""

    def __init__(self, means: Means, asked: Asked, planned: Plan, story: Story, *, proof: Proof | None = None) -> None:
        """The same key is the same items, unless it is a ``proof``."""
        self.joined: set[Key] = set()
        self.stored = False
        self._means = means
        self._asked = asked
        self._story = story
        self._missing = list(planned.misses)
        self._items = plan.items_of(asked.ask, asked.seats)
        self._own = frozenset(planned.misses)
        self._proof = proof
        self._boarded: list[Flight] = []

    def to_pay(self, look: Look) -> Price:
        """What it would cost to fetch all that is missing and not under way already."""
        alone = [key for key in self._missing if not (self._shares and self._to_join(key, look))]
        items = [item for key in alone for item in self._items[key]]
        if items and self._asked.ask.query is not None:
            items.append(self._asked.ask.query)
        return Price(sum(map(estimate, items)), sum(map(bound, items)))

    def board(self, look: Look) -> None:
        """Join or begin a flight for every miss of this look-up."""
        self._boarded = self._board(look, shared=self._shares)

    @property
    def _shares(self) -> bool:
        return self._asked.controls.shared and self._means.sharing.joining

    async def run(self) -> Mapping[Key, Entry]:
        """An entry for every miss. Raises ``UpstreamError``."""
        entries = await self._collect(self._boarded)
        for round_ in range(1, _ROUNDS):
            self._missing = [key for key in self._missing if key not in entries]
            if not self._missing:
                break
            entries |= await self._again(shared=self._shares and round_ < _ROUNDS - 1)
        return entries

    async def _again(self, *, shared: bool) -> dict[Key, Entry]:
        """Another round for what is missing still. Others may have brought it meanwhile: look it up anew."""
        with self._means.flights.looking() as look:
            held = await self._means.shelf.look_up(self._missing, self._asked.controls, self._means.clock)
            found = {key: entry for key, entry in held.items() if self._is_fresh(entry)}
            self.joined.update(found)
            self._missing = [key for key in self._missing if key not in found]
            flights = self._board(look, shared=shared)
        return found | await self._collect(flights)

    def _board(self, look: Look, *, shared: bool) -> list[Flight]:
        """A flight for each key that is missing: another's where there is one, else one of ours."""
        found = {key: self._to_join(key, look) if shared else None for key in self._missing}
        others = [flight for flight in found.values() if flight is not None]
        return others + self._lead([key for key, flight in found.items() if flight is None], shared=shared)

    def _to_join(self, key: Key, look: Look) -> Flight | None:
        """Another's flight of this key, unless what it has brought is too old for this request."""
        flight = self._means.flights.under_way(key, look)
        if flight is None or flight.brought is None or self._is_fresh(flight.brought):
            return flight
        return None

    def _is_fresh(self, entry: Entry) -> bool:
        return plan.is_fresh(entry, self._asked.controls, self._means.clock())

    def _lead(self, keys: Sequence[Key], *, shared: bool) -> list[Flight]:
        """Begin these flights."""
        kept = {key: self._keeping(key) for key in keys}
        # What may change behind its URL is fetched for whoever asks; nobody is handed another's look at it.
        private = {key for key in keys if kept[key] == 0}
        via, since = self._asked.target.deployments, self._means.flights.purges
        led = self._means.flights.begin(keys, self, shared=shared, private=private, via=via)
        payer = self._story.payer()
        parcels = [
            Parcel(one, self._asked, self._items[one.key], kept[one.key], since, payer, proof=self._proof)
            for one in led
        ]
        claiming = shared and self._means.claims.needed
        self._claim([parcel for parcel in parcels if claiming and parcel.ttl != 0])
        self._send([parcel for parcel in parcels if not claiming or parcel.ttl == 0], shared=shared)
        return led

    def _claim(self, parcels: Sequence[Parcel]) -> None:
        if parcels:
            self._means.flights.start(Trip(self._means, self._asked, parcels).run())

    def _send(self, parcels: Sequence[Parcel], *, shared: bool) -> None:
        if parcels and shared:
            send(self._means, self._asked, parcels)
        elif parcels:
            self._means.flights.start(self._means.calls.make(parcels))

    def _keeping(self, key: Key) -> float | None:
        remote = self._proof is None and is_remote(self._asked, self._items[key])
        return keeping(self._asked, self._means.policy, remote=remote)

    async def _collect(self, flights: Sequence[Flight]) -> dict[Key, Entry]:
        entries: dict[Key, Entry] = {}
        bills: dict[Bill, None] = {}
        failure: Exception | None = None
        for flight in flights:
            outcome = await flight.wait()
            if outcome.bill is not None and flight.leader is self:
                bills[outcome.bill] = None
            if isinstance(outcome, Landed):
                entries |= self._entry_of(flight, outcome)
            elif not self._may_be_anothers_fault(flight, outcome):
                failure = failure or self._told(outcome)
        for bill in bills:
            self._account(bill)
        if failure is not None:
            raise failure
        return entries

    def _entry_of(self, flight: Flight, landed: Landed) -> dict[Key, Entry]:
        """Its entry, if this request may have it: it may be too old for who joined."""
        if (landed.bill is None or flight.leader is not self) and not self._is_fresh(landed.entry):
            return {}
        if landed.bill is None or flight.leader is not self:
            self.joined.add(flight.key)
        else:
            self.joined.discard(flight.key)
        return {flight.key: landed.entry}

    def _account(self, bill: Bill) -> None:
        self._story.pay(bill.shares.get(self, 0), bill.price)
        if bill.bearer is self:
            self._story.outcome_unknown += bill.unknown
            self._story.tokens_unsettled += bill.unsettled
        self.stored = self.stored or self in bill.stored

    def _may_be_anothers_fault(self, flight: Flight, fallen: Fallen) -> bool:
        error = fallen.error
        if isinstance(error, NotPaid):
            return flight.leader is not self
        if flight.via != self._asked.target.deployments or (isinstance(error, UpstreamRefused) and error.personal):
            return flight.leader is not self
        return isinstance(error, UpstreamRefused) and error.status in BLAMES_ITEMS and not self._is_mine_alone(fallen)

    def _is_mine_alone(self, fallen: Fallen) -> bool:
        """Whether nothing but items of this request was in the call that failed."""
        bill = fallen.bill
        return bill is not None and bill.keys <= self._own and (self._proof is None or bill.bearer is self)

    def _told(self, fallen: Fallen) -> Exception:
        """The failure as this caller may hear it: an upstream's body only where all items in the call were his."""
        if isinstance(fallen.error, UpstreamRefused) and not self._is_mine_alone(fallen):
            return fallen.error.without_body()
        return fallen.error
