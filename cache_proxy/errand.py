"""Paying for what is missing: join what is under way, lead the rest, store what came, take failures apart."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType

from cache_proxy import lasting
from cache_proxy.backends.base import Backend
from cache_proxy.core import plan
from cache_proxy.core.asked import WIRES, Asked, is_remote, keeping
from cache_proxy.core.codec import seal
from cache_proxy.core.spend import estimate
from cache_proxy.core.wire.reply import billed
from cache_proxy.errors import StoreError, UpstreamError, UpstreamNonsense, UpstreamRefused
from cache_proxy.models import Entry, Item, Key, Plan, Policy, Reply
from cache_proxy.receipts import Story
from cache_proxy.upstream.flights import Flights, Fly, Land, Landed, Trip
from cache_proxy.upstream.lanes import Lanes, Sent

BLAMES_ITEMS = frozenset({400, 413, 422})
"""Statuses that are about what was sent, so that another caller's items may have earned them."""

STORE_PATIENCE = 0.25
"""Seconds a reply waits for its own values to be stored. A store that takes longer is written behind it, and for one
that is known to ail nobody waits."""

PURGE_PATIENCE = 5.0
"""Seconds a purge waits for writes under way. A store that takes longer is failing, and the purge will say so."""

_ROUNDS = 3
"""Tries at keys whose trip failed by another's fault; the last one goes alone."""


@dataclass(frozen=True, slots=True)
class Means:
    """What errands are run with."""

    store: Backend
    lanes: Lanes
    flights: Flights
    policy: Policy
    clock: Callable[[], float]
    writes: set["asyncio.Task[bool]"] = field(default_factory=set)
    """Writes to the store that are under way."""

    def write(self, entries: Mapping[Key, Entry], ttl: float | None) -> "asyncio.Task[bool]":
        """Begin to store these entries. The task gives whether they were stored."""
        task = lasting.start(self._keep(entries, ttl))
        self.writes.add(task)
        task.add_done_callback(self.writes.discard)
        return task

    async def purge(self, keys: Sequence[Key] | None) -> int:
        """Forget these keys (``None``: everything of ours) here and in the store; how many were held, where known.

        What this process has under way is not kept, and what it is just writing is waited for, so that nothing comes
        back after this returns. Raises ``StoreError``.
        """
        self.flights.purge(keys)
        if self.writes:
            await asyncio.wait(set(self.writes), timeout=PURGE_PATIENCE)
        if keys is not None:
            return await self.store.delete_many(keys)
        await self.store.clear()
        return 0

    async def _keep(self, entries: Mapping[Key, Entry], ttl: float | None) -> bool:
        """Whether these entries were stored. They were paid for: a failing store costs money, never the answer."""
        if ttl == 0 or not entries:
            return False
        try:
            return await self.store.set_many({key: seal(key, entry) for key, entry in entries.items()}, ttl)
        except StoreError:
            return False


class Errand:
    """Paying for the misses of one request: joins what is under way, leads the rest, takes failures apart."""

    def __init__(self, means: Means, asked: Asked, planned: Plan, story: Story) -> None:
        self.joined: set[Key] = set()
        self.stored = False
        self._means = means
        self._asked = asked
        self._story = story
        self._missing = list(planned.misses)
        self._items = plan.items_of(asked.ask, asked.seats)
        self._own = frozenset(planned.misses)

    async def run(self) -> Mapping[Key, Entry]:
        """An entry for every miss. Raises ``UpstreamError``."""
        entries: dict[Key, Entry] = {}
        for round_ in range(_ROUNDS):
            trips = self._board(join=round_ < _ROUNDS - 1)
            entries |= await self._collect(trips)
            self._missing = [key for key in self._missing if key not in entries]
            if not self._missing:
                break
        return entries

    def _board(self, *, join: bool) -> list[tuple[Trip, bool]]:
        """The trips that bring what is missing, and for each whether it is ours to pay."""
        flights = self._means.flights
        shared = self._asked.controls.shared and join
        found = {key: flights.under_way(key) for key in self._missing} if shared else {}
        others = {trip for trip in found.values() if trip is not None}
        joined = {key for key, trip in found.items() if trip is not None}
        # What an earlier round got from others stays joined.
        self.joined = self.joined.difference(self._missing) | joined
        led = [key for key in self._missing if key not in joined]
        return [(trip, False) for trip in others] + [(trip, True) for trip in self._lead(led, shared=shared)]

    def _lead(self, led: Sequence[Key], *, shared: bool) -> list[Trip]:
        return [self._depart(batch, shared=shared) for batch in plan.batches(led, self._asked.target.batch)]

    def _depart(self, batch: tuple[Key, ...], *, shared: bool) -> Trip:
        keeping = {key: self._keeping(key) for key in batch}
        items = [item for key in batch for item in self._items[key]]
        # What may change behind its URL is fetched for whoever asks; nobody is handed another's look at it.
        private = frozenset(key for key, ttl in keeping.items() if ttl == 0)
        via = self._asked.target.deployments
        return self._means.flights.depart(batch, self._fly(keeping, items), shared=shared, private=private, via=via)

    def _keeping(self, key: Key) -> float | None:
        return keeping(self._asked, self._means.policy, remote=is_remote(self._asked, self._items[key]))

    def _fly(self, keeping: Mapping[Key, float | None], items: Sequence[Item]) -> Fly:
        """The trip for these keys: ask the upstream, land the values, see them stored for as long as each may be."""
        means, asked = self._means, self._asked
        departed = means.flights.purges

        async def fly(land: Land) -> None:
            wire = WIRES[asked.ask.endpoint]
            body = wire.upstream_body(asked.ask, items)
            tokens = sum(map(estimate, items))
            sent = await means.lanes.send(asked.target.deployments, asked.ask.endpoint, body, tokens)
            reply = _read(wire, sent, asked, items)
            now = means.clock()
            batches = [
                (ttl, _of_ttl(ttl, keeping, plan.entries(reply, asked.ask, items, now, ttl)))
                for ttl in dict.fromkeys(keeping.values())
            ]
            entries = {key: entry for _, batch in batches for key, entry in batch.items()}
            purged = {key for key in entries if means.flights.is_purged(key, departed)}
            writing = asyncio.gather(*(means.write(_without(purged, batch), ttl) for ttl, batch in batches))
            await asyncio.wait({writing}, timeout=0 if means.store.ailing else STORE_PATIENCE)
            land(Landed(entries, reply.tokens, sent.unknown, stored=writing.done() and any(writing.result())))
            await writing

        return fly

    async def _collect(self, trips: Sequence[tuple[Trip, bool]]) -> dict[Key, Entry]:
        outcomes = await asyncio.gather(*(trip.wait() for trip, _ in trips), return_exceptions=True)
        entries: dict[Key, Entry] = {}
        failure: BaseException | None = None
        for (trip, ours), outcome in zip(trips, outcomes, strict=True):
            if isinstance(outcome, Landed):
                entries |= {key: outcome.entries[key] for key in trip.keys & self._own}
                if ours:
                    self._account(outcome)
            elif ours or not self._may_be_anothers_fault(trip, outcome):
                failure = failure or self._told(trip, outcome, ours=ours)
        if failure is not None:
            raise failure
        return entries

    def _account(self, landed: Landed) -> None:
        self._story.tokens_billed += landed.tokens
        self._story.outcome_unknown += landed.unknown
        self.stored = self.stored or landed.stored

    def _may_be_anothers_fault(self, trip: Trip, outcome: BaseException) -> bool:
        if trip.via != self._asked.target.deployments or (isinstance(outcome, UpstreamRefused) and outcome.personal):
            return True
        blamed = isinstance(outcome, UpstreamRefused) and outcome.status in BLAMES_ITEMS
        return blamed and not trip.keys <= self._own

    def _told(self, trip: Trip, outcome: BaseException, *, ours: bool) -> BaseException:
        """The failure as this caller may hear it: an upstream's body only where all items in the call were his."""
        if ours and isinstance(outcome, UpstreamError):
            self._story.outcome_unknown += max(outcome.unknown_calls, int(outcome.outcome_unknown))
            self._story.tokens_billed += outcome.tokens
        if isinstance(outcome, UpstreamRefused) and not trip.keys <= self._own:
            return outcome.without_body()
        return outcome


def _read(wire: ModuleType, sent: Sent, asked: Asked, items: Sequence[Item]) -> Reply:
    """The reply. One that makes no sense was billed all the same, by as much as it says."""
    try:
        reply: Reply = wire.read_reply(sent.answer, asked.ask, items)
        wire.check(reply, asked.ask, asked.target.spec)
        return reply
    except UpstreamNonsense as error:
        error.tokens = billed(sent.answer)
        error.unknown_calls = sent.unknown + (not error.tokens)
        raise


def _without(purged: Collection[Key], entries: Mapping[Key, Entry]) -> Mapping[Key, Entry]:
    return {key: entry for key, entry in entries.items() if key not in purged} if purged else entries


def _of_ttl(ttl: float | None, keeping: Mapping[Key, float | None], entries: Sequence[Entry]) -> dict[Key, Entry]:
    """Those of a call's entries that are kept for so long."""
    return {key: entry for (key, kept), entry in zip(keeping.items(), entries, strict=True) if kept == ttl}
