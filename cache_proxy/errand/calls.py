"""Upstream calls: for the parcels of one lane, whoever sent them. Send, read, store, land, take failures apart."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, compress
from typing import NamedTuple

from cache_proxy import lasting
from cache_proxy.backends.base import Owner
from cache_proxy.calls import Payer, Settlement, Share
from cache_proxy.core import plan
from cache_proxy.core.asked import WIRES, Asked, store_ttl
from cache_proxy.core.spend import bound, estimate, split
from cache_proxy.core.wire.reply import billed
from cache_proxy.errand import words
from cache_proxy.errand.claims import Claims, Held
from cache_proxy.errand.shelf import Shelf
from cache_proxy.errors import BeyondBudget, UpstreamError, UpstreamNonsense, UpstreamRefused
from cache_proxy.models import Entry, Item, Key, Policy, Reply, Text
from cache_proxy.upstream.books import Load
from cache_proxy.upstream.flights import Bill, Caller, Fallen, Flight, Flights, Landed
from cache_proxy.upstream.lanes import Lanes, Sent

OK = 200

BLAMES_ITEMS = frozenset({400, 413, 422})
"""Statuses that are about what was sent, so that another caller's items may have earned them. Nothing is billed."""

STORE_PATIENCE = 0.25
"""Seconds a reply waits for its own values to be stored. A store that takes longer is written behind it, and for one
that is known to ail nobody waits."""


class Proof(NamedTuple):
    """A parcel that is about the caller's key: that it came home is kept under the parcel's own key, and nothing else.
    What it brought is the answer for ``key``, where there is one, and kept there for ``ttl`` seconds (0: not at all).
    """

    key: Key | None
    ttl: float | None


class Parcel(NamedTuple):
    """What is to be fetched for one flight."""

    flight: Flight
    asked: Asked
    items: tuple[Item, ...]
    ttl: float | None
    """For how long it is kept; 0: not at all."""
    since: int
    """How many purges there had been when it was found missing."""
    payer: Payer
    """Who pays for it."""
    owner: Owner = b""
    """Whose lease it travels under; empty if it has none."""
    proof: Proof | None = None

    @property
    def key(self) -> Key:
        return self.flight.key

    @property
    def tokens(self) -> int:
        """About how many it costs."""
        return sum(map(estimate, self.items))

    @property
    def tokens_bound(self) -> int:
        """The most it can cost."""
        return sum(map(bound, self.items))


class Doubts(NamedTuple):
    """Calls on the way that may have been billed without an answer, and the most tokens that they can have cost."""

    calls: int = 0
    tokens: int = 0

    def and_those_of(self, error: Exception) -> "Doubts":
        """Together with those that this failure tells of."""
        if not isinstance(error, UpstreamError):
            return self
        calls = max(error.unknown_calls, int(error.outcome_unknown))
        return Doubts(self.calls + calls, self.tokens + error.tokens_unsettled)


NONE = Doubts()

NOTHING = Text(b"null")


@dataclass(frozen=True, slots=True)
class Calls:
    """Makes the calls of one engine."""

    shelf: Shelf
    lanes: Lanes
    flights: Flights
    claims: Claims
    policy: Policy
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def make(self, parcels: Sequence[Parcel]) -> None:
        """Fetch these, in as many calls as the model's limits ask for, and end all their flights. They must be of one
        lane. Does not raise.
        """
        target = parcels[0].asked.target
        batches = plan.batches(parcels, lambda parcel: parcel.tokens, target.batch, target.batch_tokens)
        await lasting.all_of(self._call(batch) for batch in batches)

    async def _call(self, parcels: Sequence[Parcel], doubts: Doubts = NONE) -> None:
        try:
            await self._fetch(parcels, doubts)
        except BeyondBudget as error:
            await self._without(error.keys, parcels, error, doubts.and_those_of(error))
        except Exception as error:
            halves = _halves(parcels) if _blames_items(error) else ()
            doubts = doubts.and_those_of(error)
            if halves:
                # What came before is told once, to the first of them.
                await lasting.all_of(self._call(half, each) for half, each in zip(halves, (doubts, NONE), strict=True))
            else:
                await self._fail(parcels, error, doubts)

    async def _without(
        self, keys: Collection[str], parcels: Sequence[Parcel], error: Exception, doubts: Doubts
    ) -> None:
        """Go on without those who may not spend this. Of several requests of theirs some may fit all the same: what is
        too much together is tried in halves. Nothing was sent.
        """
        over = [parcel for parcel in parcels if parcel.payer.account.key in keys] or list(parcels)
        others = [] if len(over) == len(parcels) else [one for one in parcels if one.payer.account.key not in keys]
        halves = _halves(over)
        parts = [part for part in (others, *halves) if part]
        # What came before is told once, to the first of them.
        works = [self._call(part, doubts if at == 0 else NONE) for at, part in enumerate(parts)]
        if not halves:
            works.append(self._fail(over, error, NONE if parts else doubts))
        await lasting.all_of(works)

    async def _fetch(self, parcels: Sequence[Parcel], doubts: Doubts) -> None:
        asked, items = parcels[0].asked, [item for parcel in parcels for item in parcel.items]
        sent = await self.lanes.send(asked.target.deployments, _load(parcels, items))
        reply = await self._read(sent, parcels, items)
        entries = _entries(parcels, reply, items, self.clock())
        bill = Bill(_keys(parcels), parcels[0].flight.leader, _shares(parcels, entries, reply.tokens), sent.call.price)
        bill.unknown, bill.unsettled = sent.unknown + doubts.calls, sent.tokens_unsettled + doubts.tokens
        writes, all_writes = self._write(parcels, entries)
        await self._settle(sent, bill.shares, estimated=not reply.counted)
        await self._wait_a_little(all_writes)
        bill.stored = frozenset(
            parcel.flight.leader
            for parcel, write in zip(parcels, writes, strict=True)
            if write is not None and write.done() and write.result()
        )
        for parcel, entry in zip(parcels, entries, strict=True):
            parcel.flight.end(Landed(entry, bill))
        await self._over(parcels, [await self._kept(*each) for each in zip(parcels, writes, strict=True)])

    async def _wait_a_little(self, writes: set["asyncio.Task[bool]"]) -> None:
        """Let these be stored, if that is soon."""
        if not writes or self.shelf.store.ailing:
            return
        patience = asyncio.ensure_future(self.sleep(STORE_PATIENCE))
        try:
            while not patience.done() and (left := {write for write in writes if not write.done()}):
                await asyncio.wait({*left, patience}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()

    async def _kept(self, parcel: Parcel, write: "asyncio.Task[bool] | None") -> bytes | None:
        """The word for those who wait for what this stores: ``None`` unless it was to be stored and is not."""
        if write is None or await write or self.flights.is_purged(parcel.key, parcel.since):
            return None
        return words.UNKEPT

    async def _settle(self, sent: Sent, shares: Mapping[Caller, int], *, estimated: bool = False) -> None:
        # The callers stand in the order in which the call's shares do.
        await self.lanes.books.settle(sent.call, Settlement(tuple(shares.values()), OK, estimated))

    async def _read(self, sent: Sent, parcels: Sequence[Parcel], items: Sequence[Item]) -> Reply:
        """The reply. One that makes no sense was billed all the same: by what it says, or nobody knows by what."""
        asked = parcels[0].asked
        wire = WIRES[asked.ask.endpoint]
        try:
            reply: Reply = wire.read_reply(sent.answer, asked.ask, items)
            wire.check(reply, asked.ask, asked.target.spec)
        except UpstreamNonsense as error:
            error.tokens, error.price = billed(sent.answer), sent.call.price
            error.unknown_calls = sent.unknown + (not error.tokens)
            error.tokens_unsettled = sent.tokens_unsettled + (0 if error.tokens else sent.call.tokens_bound)
            if error.tokens:
                await self._settle(sent, _guessed(parcels, error.tokens))
            else:
                await self.lanes.books.unsettled(sent.call)
            raise
        return reply

    def _write(
        self, parcels: Sequence[Parcel], entries: Sequence[Entry]
    ) -> "tuple[list[asyncio.Task[bool] | None], set[asyncio.Task[bool]]]":
        """Begin to store what may be stored, each for as long as it may. For each parcel the task that stores it, and
        all there are.
        """
        groups: dict[float | None, dict[Key, Entry]] = {}
        may = [parcel.ttl != 0 and not self.flights.is_purged(parcel.key, parcel.since) for parcel in parcels]
        for parcel, entry in compress(zip(parcels, entries, strict=True), may):
            for ttl, key, kept in self._to_keep(parcel, entry):
                groups.setdefault(ttl, {})[key] = kept
        tasks = {ttl: self.shelf.write(group, store_ttl(ttl, self.policy)) for ttl, group in groups.items()}
        stored = [tasks[parcel.ttl] if each else None for parcel, each in zip(parcels, may, strict=True)]
        return stored, set(tasks.values())

    def _to_keep(self, parcel: Parcel, entry: Entry) -> Iterator[tuple[float | None, Key, Entry]]:
        """What is kept of this, where and for how long."""
        proof = parcel.proof
        if proof is None:
            yield parcel.ttl, parcel.key, entry
            return
        # The answer first: whoever finds the proof goes on to look for that.
        if proof.key is not None and proof.ttl != 0 and not self.flights.is_purged(proof.key, parcel.since):
            expires_at = None if proof.ttl is None else entry.created_at + proof.ttl
            yield proof.ttl, proof.key, replace(entry, expires_at=expires_at)
        yield parcel.ttl, parcel.key, replace(entry, value=NOTHING, tokens=0, query_tokens=0)

    async def _fail(self, parcels: Sequence[Parcel], error: Exception, doubts: Doubts) -> None:
        bill = Bill(_keys(parcels), parcels[0].flight.leader)
        bill.unknown, bill.unsettled = doubts.calls, doubts.tokens
        if isinstance(error, UpstreamError) and error.tokens:
            bill.shares, bill.price = _guessed(parcels, error.tokens), error.price
        for parcel in parcels:
            parcel.flight.end(Fallen(error, bill))
        await self._over(parcels, [words.write(error, parcels[0].flight.via)] * len(parcels))

    async def _over(self, parcels: Sequence[Parcel], told: Sequence[bytes | None]) -> None:
        """These flights are over; with each lease goes the word that is ``told`` to those who wait for it."""
        # At once: a failure is told to those who waited, and to nobody who comes now.
        self.flights.over([parcel.flight for parcel in parcels])
        leases: dict[bytes | None, list[Held]] = {}
        for parcel, word in zip(parcels, told, strict=True):
            if parcel.owner:
                leases.setdefault(word, []).append((parcel.key, parcel.owner))
        await lasting.all_of(self.claims.release(held, word) for word, held in leases.items())


def _blames_items(error: Exception) -> bool:
    return isinstance(error, UpstreamRefused) and error.status in BLAMES_ITEMS


def _halves(parcels: Sequence[Parcel]) -> tuple[Sequence[Parcel], ...]:
    """The parcels of one half of the callers and of the other; nothing if they are all of one."""
    callers: dict[Caller, list[Parcel]] = {}
    for parcel in parcels:
        callers.setdefault(parcel.flight.leader, []).append(parcel)
    if len(callers) < 2:
        return ()
    groups = list(callers.values())
    middle = len(groups) // 2
    return tuple(list(chain.from_iterable(half)) for half in (groups[:middle], groups[middle:]))


def _load(parcels: Sequence[Parcel], items: Sequence[Item]) -> Load:
    """What is sent for these parcels. A query is billed once a call, and the first caller's."""
    asked = parcels[0].asked
    query = asked.ask.query
    bounds = _by_caller(parcels, [parcel.tokens_bound for parcel in parcels])
    if query is not None:
        bounds[parcels[0].flight.leader] += bound(query)
    payers = {parcel.flight.leader: parcel.payer for parcel in parcels}
    return Load(
        asked.ask.endpoint,
        WIRES[asked.ask.endpoint].upstream_body(asked.ask, items),
        tokens=sum(parcel.tokens for parcel in parcels) + (0 if query is None else estimate(query)),
        items=len(items),
        shares=tuple(Share(payers[caller], most) for caller, most in bounds.items()),
        price=asked.target.spec.price,
    )


def _keys(parcels: Sequence[Parcel]) -> frozenset[Key]:
    return frozenset(parcel.key for parcel in parcels)


def _entries(parcels: Sequence[Parcel], reply: Reply, items: Sequence[Item], now: float) -> list[Entry]:
    """What to keep for each parcel, its own time of expiry in it. One key may be in several: one that is kept, and one
    that is not.
    """
    ask = parcels[0].asked.ask
    found = {ttl: plan.entries(reply, ask, items, now, ttl) for ttl in dict.fromkeys(parcel.ttl for parcel in parcels)}
    return [found[parcel.ttl][at] for at, parcel in enumerate(parcels)]


def _shares(parcels: Sequence[Parcel], entries: Sequence[Entry], billed: int) -> Mapping[Caller, int]:
    """What each caller bears of a call. What is no item's (a query) is the first one's."""
    shares = _by_caller(parcels, [entry.tokens for entry in entries])
    bearer = parcels[0].flight.leader
    shares[bearer] += billed - sum(shares.values())
    return shares


def _guessed(parcels: Sequence[Parcel], billed: int) -> Mapping[Caller, int]:
    """The same where nothing tells the items apart."""
    return _by_caller(parcels, split(billed, [parcel.tokens for parcel in parcels]))


def _by_caller(parcels: Sequence[Parcel], amounts: Collection[int]) -> dict[Caller, int]:
    shares: dict[Caller, int] = {}
    for parcel, amount in zip(parcels, amounts, strict=True):
        shares[parcel.flight.leader] = shares.get(parcel.flight.leader, 0) + amount
    return shares
