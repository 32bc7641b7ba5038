"""What one request leads: agree with other processes on who pays, send off what is ours, wait for what is theirs."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from cache_proxy.backends.base import Owner, Turn
from cache_proxy.core import plan
from cache_proxy.core.asked import Asked
from cache_proxy.errand import words
from cache_proxy.errand.calls import Parcel
from cache_proxy.errand.means import Means
from cache_proxy.models import Entry, Key, Shape
from cache_proxy.upstream.flights import Fallen, Landed, Outcome

FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.1
"""Seconds between two looks at what another process pays for."""

UNREAD_MOST = 5
"""So often a value that is there but can not be read is looked for again: the store is busy. Then it is paid for."""


class Trip:
    """The parcels of one request that nobody else in this process fetches."""

    def __init__(self, means: Means, asked: Asked, parcels: Iterable[Parcel]) -> None:
        self._means = means
        self._asked = asked
        self._waiting = {parcel.key: parcel for parcel in parcels}
        self._owner = means.claims.owner()
        # Under whose lease a value was looked at and would not do: the next holder may have stored another.
        self._looked_at: dict[Key, Owner] = {}
        self._unread = 0

    async def run(self) -> None:
        """End every flight, or hand it to a call that will. Does not raise."""
        try:
            await self._run()
        except Exception as error:
            for key in list(self._waiting):
                await self._end(key, Fallen(error))

    async def _run(self) -> None:
        wanted = dict.fromkeys(self._waiting, b"")
        give_up_at = self._means.now() + self._patience()
        for pause in _pauses():
            turns = await self._means.claims.ask(wanted, self._owner)
            await self._take(turns)
            if not self._waiting:
                return
            if self._means.now() >= give_up_at:
                self._means.claims.counts["gave_up"] += len(self._waiting)
                self._pay(list(self._waiting))
                return
            # A word that meant nothing to us is not waited for again: the next look takes the lease over.
            wanted = {key: turns[key].owner if turns[key].word is None else b"" for key in self._waiting}
            await self._means.sleep(pause)

    def _patience(self) -> float:
        """How long a healthy holder may take at most, and the time of a lease for one that dies then."""
        via = self._asked.target.deployments
        longest = max(self._means.lanes.longest(deployment) for deployment in via)
        return longest + self._means.claims.seconds

    async def _take(self, turns: Mapping[Key, Turn]) -> None:
        """Do what each turn calls for; what is left in ``_waiting`` is another's, or can not be read yet."""
        held = await self._held_now(turns)
        self._land(held)
        self._pay([key for key in self._waiting if self._is_ours(key, turns.get(key))])
        await self._means.claims.release([(key, self._owner) for key in held if turns[key].mine])
        for key, turn in turns.items():
            if turn.word is not None and key in self._waiting:
                await self._hear(key, turn.word)

    def _is_ours(self, key: Key, turn: Turn | None) -> bool:
        """Whether it is for us to pay: nobody has the lease, or no lease helps."""
        if turn is None:
            # No answer: it is paid for without a lease.
            return True
        if turn.mine:
            return not turn.stored or self._would_not_do(key, turn)
        return turn.word == words.UNKEPT

    def _would_not_do(self, key: Key, turn: Turn) -> bool:
        return self._looked_at.get(key) == self._holder(turn)

    def _holder(self, turn: Turn) -> Owner:
        return self._owner if turn.mine else turn.owner

    async def _held_now(self, turns: Mapping[Key, Turn]) -> dict[Key, Entry]:
        """The fresh entries among those that the store says it holds."""
        keys = [key for key, turn in turns.items() if turn.stored and not self._would_not_do(key, turn)]
        if not keys:
            return {}
        self._means.shelf.store.forget(keys)  # a nearer copy is the one that was not good enough
        entries, failure = await self._means.shelf.read_surely(keys)
        now = self._means.clock()
        fresh = {key: entry for key, entry in entries.items() if plan.is_fresh(entry, self._asked.controls, now)}
        self._unread += failure is not None
        certain = failure is None or failure.refused or self._unread >= UNREAD_MOST
        self._looked_at.update(
            (key, self._holder(turns[key])) for key in keys if key not in fresh and (certain or key in entries)
        )
        return fresh

    def _land(self, entries: Mapping[Key, Entry]) -> None:
        for key, entry in entries.items():
            self._waiting[key].flight.end(Landed(entry))
        self._means.flights.over([self._waiting.pop(key).flight for key in entries])

    async def _hear(self, key: Key, word: bytes) -> None:
        """Another process could not bring it."""
        error = words.read(word, self._waiting[key].flight.via)
        # A word that is none of ours, or about another's credential: try it ourselves, with the next look.
        if error is not None:
            await self._end(key, Fallen(error))

    async def _end(self, key: Key, outcome: Outcome) -> None:
        parcel = self._waiting.pop(key)
        parcel.flight.end(outcome)
        self._means.flights.over([parcel.flight])
        await self._means.claims.release([(key, self._owner)])

    def _pay(self, keys: Sequence[Key]) -> None:
        if keys:
            send(self._means, self._asked, [self._waiting.pop(key)._replace(owner=self._owner) for key in keys])


def send(means: Means, asked: Asked, parcels: Sequence[Parcel]) -> None:
    """Put these on their way, with others of their kind where they may be merged."""
    if asked.ask.shape is Shape.EACH and asked.target.merges and not asked.ask.alone:
        lane = (asked.scope, *(deployment.id for deployment in asked.target.deployments))
        means.baskets.put(lane, parcels, means.calls.make)
    else:
        means.flights.start(means.calls.make(parcels))


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        # Not all who wait for one key look at the same moment.
        yield pause * random.uniform(0.75, 1.25)  # noqa: S311
        pause = min(pause * 1.5, LONGEST_PAUSE)
