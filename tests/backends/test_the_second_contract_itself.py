"""The suites of leases and counters find what they are for: each test fails on the fault that it is meant to find."""
# ruff: noqa: ARG002  the faults keep the signatures

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence, Set
from inspect import signature
from typing import Any, cast

import pytest

from cache_proxy.backends import lease_contract
from cache_proxy.backends.base import WORD_SECONDS, Counters, Key, Leases, Owner, Turn, Want
from cache_proxy.backends.counter_contract import CountersContract
from cache_proxy.backends.lease_contract import LeasesContract
from tests.backends.fakes import WORD, shorter_words
from tests.backends.test_the_contract_itself import Honest, cases

pytestmark = pytest.mark.anyio


class Table(Leases, Counters):
    """Leases and counters in dictionaries that keep the contract, and take a turn of the event loop, as I/O does."""

    def __init__(self, store: Honest) -> None:
        self.store = store
        self.leases: dict[Key, tuple[Owner, float]] = {}
        self.words: dict[tuple[Key, Owner], tuple[bytes, float]] = {}
        self.debts: dict[tuple[bytes, int], tuple[float, float]] = {}
        self.tickets: dict[bytes, dict[bytes, float]] = {}

    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        await asyncio.sleep(0)
        return {key: self.turn(key, waited_for, owner, ttl) for key, waited_for in wanted.items()}

    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        holder, stored = self.holder(key), key in self.store.entries
        word = self.word(key, waited_for)
        if word is not None and not (holder and holder in (owner, waited_for)):
            return Turn(mine=False, stored=stored, word=word)
        if holder not in (b"", owner):
            return Turn(mine=False, stored=stored, owner=holder)
        self.leases[key] = owner, time.monotonic() + ttl
        return Turn(mine=True, stored=stored)

    def holder(self, key: Key) -> Owner:
        owner, until = self.leases.get(key, (b"", 0.0))
        return owner if until >= time.monotonic() else b""

    def word(self, key: Key, waited_for: Owner) -> bytes | None:
        word, until = self.words.get((key, waited_for), (None, 0.0))
        return word if until >= time.monotonic() else None

    def is_owner(self, key: Key, owner: Owner) -> bool:
        return self.holder(key) == owner

    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        await asyncio.sleep(0)
        still = {key for key, owner in held.items() if self.is_owner(key, owner)}
        self.leases |= {key: (held[key], time.monotonic() + ttl) for key in still}
        return still

    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        await asyncio.sleep(0)
        for key, owner in held.items():
            if self.is_owner(key, owner):
                del self.leases[key]
                if word is not None:
                    self.leave_word(key, owner, word)

    def leave_word(self, key: Key, owner: Owner, word: bytes) -> None:
        self.words[key, owner] = word, time.monotonic() + WORD_SECONDS

    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        await asyncio.sleep(0)
        now = time.monotonic()
        wait, later = 0.0, {}
        for bucket, want in enumerate(wants):
            debt, at = self.debts.get((name, bucket), (0.0, now))
            debt, seconds = max(0.0, debt - (now - at)), want.units * 60 / want.per_minute
            wait = max(wait, debt + min(seconds, 60) - 60)
            later[name, bucket] = debt + seconds, now
        if wait <= at_most:
            self.debts |= later
        return wait

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        await asyncio.sleep(0)
        now = time.monotonic()
        inside = {each: until for each, until in self.tickets.get(name, {}).items() if until > now}
        if ticket not in inside and len(inside) >= limit:
            return False
        self.tickets[name] = {**inside, ticket: now + ttl}
        return True

    async def leave(self, name: bytes, ticket: bytes) -> None:
        await asyncio.sleep(0)
        self.tickets.get(name, {}).pop(ticket, None)

    def emptied(self) -> None:
        """The store was cleared: no business of a table that keeps the contract."""

    def closed(self) -> None:
        """The store was closed: likewise."""


class WithTable(Honest):
    def __init__(self, kind: type[Table] = Table) -> None:
        super().__init__()
        self.table = kind(self)

    @property
    def leases(self) -> Leases:
        return self.table

    @property
    def counters(self) -> Counters:
        return self.table

    async def clear(self) -> None:
        await super().clear()
        self.table.emptied()

    async def close(self) -> None:
        self.table.closed()


class TestHonestLeases(LeasesContract):
    @pytest.fixture
    def store(self) -> WithTable:
        return WithTable()

    @pytest.fixture
    def word_seconds(self, monkeypatch: pytest.MonkeyPatch) -> float:
        return shorter_words(monkeypatch, sys.modules[__name__])


class TestHonestCounters(CountersContract):
    @pytest.fixture
    def store(self) -> WithTable:
        return WithTable()


# Faults of leases -----------------------------------------------------------------------------------------------------


class GivesToAll(Table):
    def holder(self, key: Key) -> Owner:
        return b""


class TakesAllForHeld(Table):
    def holder(self, key: Key) -> Owner:
        return b"somebody"


class TellsNoOwner(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        return super().turn(key, waited_for, owner, ttl)._replace(owner=b"")


class GivesViews(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        turn = super().turn(key, waited_for, owner, ttl)
        return turn._replace(owner=cast("bytes", bytearray(turn.owner)))


class KeepsTheFirstTime(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        if self.is_owner(key, owner):
            return Turn(mine=True, stored=key in self.store.entries)
        return super().turn(key, waited_for, owner, ttl)


class RefusesItsOwner(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        if self.is_owner(key, owner):
            return Turn(mine=False, owner=owner)
        return super().turn(key, waited_for, owner, ttl)


class NeverEnds(Table):
    def holder(self, key: Key) -> Owner:
        return self.leases.get(key, (b"", 0.0))[0]


class LooksBeforeItTakes(Table):
    """Two trips, between which others come: both find nobody, and the second takes the lease from the first."""

    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        free = {key for key in wanted if not self.holder(key)}
        await asyncio.sleep(0)
        self.leases |= {key: (owner, time.monotonic() + ttl) for key in free}
        taken = {key: Turn(mine=True, stored=key in self.store.entries) for key in free}
        return {key: taken.get(key) or self.turn(key, waited_for, owner, ttl) for key, waited_for in wanted.items()}


class RenewsNothing(Table):
    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        return {key for key, owner in held.items() if self.is_owner(key, owner)}


class NeverShortens(Table):
    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        before = dict(self.leases)
        still = await super().renew(held, ttl)
        self.leases |= {key: max(self.leases[key], before[key], key=lambda lease: lease[1]) for key in still}
        return still


class RenewsForAnybody(Table):
    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        self.leases |= {key: (self.holder(key) or owner, time.monotonic() + ttl) for key, owner in held.items()}
        return {key for key, owner in held.items() if self.is_owner(key, owner)}


class RenewsForTheFirstOwner(Table):
    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        return await super().renew(dict.fromkeys(held, next(iter(held.values()), b"")), ttl)


class RenewsWords(Table):
    def is_owner(self, key: Key, owner: Owner) -> bool:
        return self.holder(key) == owner or self.word(key, owner) is not None


class NeverReleases(Table):
    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        return None


class ReleasesForAnybody(Table):
    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        for key, owner in held.items():
            self.leases.pop(key, None)
            if word is not None:
                self.leave_word(key, owner, word)


class LeavesWordsForAnybody(Table):
    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        await super().release(held)
        for key, owner in held.items() if word is not None else ():
            self.leave_word(key, owner, cast("bytes", word))


class TellsAWordOnce(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        turn = super().turn(key, waited_for, owner, ttl)
        if turn.word is not None:
            del self.words[key, waited_for]
        return turn


class TellsWordsToAll(Table):
    def word(self, key: Key, waited_for: Owner) -> bytes | None:
        told = [word for (of, _), (word, until) in self.words.items() if of == key and until >= time.monotonic()]
        return told[-1] if told else None


class TellsWordsToLikeOwners(Table):
    def word(self, key: Key, waited_for: Owner) -> bytes | None:
        like = [owner for of, owner in self.words if of == key and waited_for and owner.startswith(waited_for)]
        return super().word(key, like[0] if like else waited_for)


class EndsAWordWithTheNextLease(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        turn = super().turn(key, waited_for, owner, ttl)
        if turn.mine:
            self.words = {of: word for of, word in self.words.items() if of[0] != key}
        return turn


class TellsAWordToWhoHasTheLease(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        word = self.word(key, waited_for)
        told = Turn(mine=False, stored=key in self.store.entries, word=word)
        return super().turn(key, waited_for, owner, ttl) if word is None else told


class EndsAllWordsWithALease(Table):
    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        self.words = {of: word for of, word in self.words.items() if of[0] not in held}
        await super().release(held, word)


class KeepsTheFirstWord(Table):
    def leave_word(self, key: Key, owner: Owner, word: bytes) -> None:
        if (key, owner) not in self.words:
            super().leave_word(key, owner, word)


class TellsWordsAsLongAsALeaseIsHeld(Table):
    def word(self, key: Key, waited_for: Owner) -> bytes | None:
        if self.holder(key):
            return self.words.get((key, waited_for), (None, 0.0))[0]
        return super().word(key, waited_for)


class CutsWords(Table):
    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        await super().release(held, word and word[:128])


class TakesEmptyWordsForNone(Table):
    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        await super().release(held, word or None)


class ForgetsWords(Table):
    def leave_word(self, key: Key, owner: Owner, word: bytes) -> None:
        self.words[key, owner] = word, time.monotonic() + WORD_SECONDS / 2


class SeesNoValues(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        return super().turn(key, waited_for, owner, ttl)._replace(stored=False)


class SeesValuesOfItsOwnOnly(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        turn = super().turn(key, waited_for, owner, ttl)
        return turn._replace(stored=turn.stored and turn.mine)


class LocksInTheValuesPlace(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        turn = super().turn(key, waited_for, owner, ttl)
        self.store.entries.setdefault(key, owner)
        return turn


class GoesWithThePurge(Table):
    def emptied(self) -> None:
        self.leases, self.words, self.debts, self.tickets = {}, {}, {}, {}


class TakesAThousand(Table):
    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        return await super().acquire(dict(list(wanted.items())[:1000]), owner, ttl)


class CanNotTakeNothing(Table):
    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        if not held:
            raise ValueError("wrong number of arguments")
        return await super().renew(held, ttl)


class CutsKeys(Table):
    def turn(self, key: Key, waited_for: Owner, owner: Owner, ttl: float) -> Turn:
        return super().turn(key.rstrip(b"\x00 \n"), waited_for, owner, ttl)


class FailsOnceClosed(Table):
    def closed(self) -> None:
        self.leases, self.tickets = cast("Any", None), cast("Any", None)


# Faults of counters ---------------------------------------------------------------------------------------------------


class NeverRefuses(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        return 0.0

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        return True


class WaitsDoNotAddUp(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        wait = await super().take(name, wants, 0.0)
        return wait if at_most else min(wait, 10.0)


class TakesAllTheSame(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        return await super().take(name, wants, float("inf"))


class NeverGivesMoreThanAMinutesWorth(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        cut = [Want(min(want.units, want.per_minute), want.per_minute) for want in wants]
        return await super().take(name, cut, at_most)


class TakesBucketByBucket(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        waits = [
            await super(TakesBucketByBucket, self).take(name + bytes([at]), [want], at_most)
            for at, want in enumerate(wants)
        ]
        return max(waits, default=0.0)


class WaitsForTheFirstBucket(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        return await super().take(name, wants[:1], at_most)


class FillsUpAtOnce(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        self.debts = {at: (debt, since - 60.0) for at, (debt, since) in self.debts.items()}
        return await super().take(name, wants, at_most)


class NeverFillsUp(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        self.debts = {at: (debt, time.monotonic()) for at, (debt, _) in self.debts.items()}
        return await super().take(name, wants, at_most)


class CountsNothingAsOne(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        return await super().take(name, [want._replace(units=want.units or 1) for want in wants], at_most)


class CountsBeforeItTakes(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        seen = Table(self.store)
        seen.debts = dict(self.debts)
        wait = await seen.take(name, wants, at_most)
        self.debts |= seen.debts
        return wait

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        room = len(self.tickets.get(name, {})) < limit
        await asyncio.sleep(0)
        return room and await super().enter(name, ticket, 10**6, ttl)


class NobodyLeaves(Table):
    async def leave(self, name: bytes, ticket: bytes) -> None:
        return None


class EverybodyLeaves(Table):
    async def leave(self, name: bytes, ticket: bytes) -> None:
        self.tickets.pop(name, None)


class CountsTwiceWhoEntersTwice(Table):
    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        return await super().enter(name, ticket + bytes([len(self.tickets.get(name, {}))]), limit, ttl)


class TicketsNeverEnd(Table):
    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        return await super().enter(name, ticket, limit, 1000.0)


class KeepsTheFirstTicketsTime(Table):
    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        until = self.tickets.get(name, {}).get(ticket)
        return await super().enter(name, ticket, limit, ttl if until is None else until - time.monotonic())


class CutsTickets(Table):
    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        return await super().enter(name.rstrip(b"\x00 \n"), ticket.rstrip(b"\x00 \n"), limit, ttl)


class CountsInTheValuesPlace(Table):
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        self.store.entries.setdefault(name, b"1")
        return await super().take(name, wants, at_most)


LEASE_FAULTS: dict[str, tuple[type[Table], ...]] = {
    "test_the_lease_of_a_key_that_nobody_holds_is_given": (TakesAllForHeld,),
    "test_a_lease_that_is_held_is_told_with_its_owner": (GivesToAll, TellsNoOwner),
    "test_what_comes_back_is_bytes": (GivesViews,),
    "test_who_has_a_lease_keeps_it_when_he_asks_again": (KeepsTheFirstTime, RefusesItsOwner),
    "test_a_lease_ends_with_its_time": (NeverEnds,),
    "test_overlapping_claims_give_each_key_one_owner": (LooksBeforeItTakes, GivesToAll),
    "test_a_lease_that_is_renewed_holds_from_then_on": (RenewsNothing,),
    "test_a_renewal_may_be_shorter_than_what_was_left": (NeverShortens,),
    "test_only_the_owner_renews": (RenewsForAnybody,),
    "test_one_renewal_may_be_for_several_owners": (RenewsForTheFirstOwner,),
    "test_a_lease_that_is_released_is_the_next_ones": (NeverReleases,),
    "test_only_the_owner_releases": (ReleasesForAnybody, LeavesWordsForAnybody),
    "test_a_word_is_told_to_all_who_waited_for_this_owner": (TellsAWordOnce, RenewsWords),
    "test_for_everybody_else_a_word_is_no_lease": (TellsWordsToAll, TellsWordsToLikeOwners),
    "test_a_word_outlives_the_next_lease_for_those_who_waited": (
        EndsAWordWithTheNextLease,
        TellsAWordToWhoHasTheLease,
        EndsAllWordsWithALease,
    ),
    "test_each_of_several_owners_words_is_told_to_those_who_waited_for_him": (EndsAllWordsWithALease,),
    "test_who_left_a_word_may_begin_anew": (TellsWordsToAll, KeepsTheFirstWord),
    "test_words_come_back_as_they_are": (CutsWords, TakesEmptyWordsForNone),
    "test_a_word_is_told_for_its_time": (ForgetsWords, TellsWordsAsLongAsALeaseIsHeld),
    "test_whether_a_value_is_held_is_told_with_every_turn": (SeesNoValues, SeesValuesOfItsOwnOnly),
    "test_leases_are_no_values": (LocksInTheValuesPlace,),
    "test_leases_and_words_outlive_a_purge": (GoesWithThePurge,),
    "test_thousands_of_keys_are_one_call": (TakesAThousand,),
    "test_no_keys_are_no_trouble": (CanNotTakeNothing,),
    "test_keys_and_owners_of_every_byte_and_length_are_told_apart": (CutsKeys,),
    "test_once_closed_they_answer_or_raise_store_error": (FailsOnceClosed,),
}

COUNTER_FAULTS: dict[str, tuple[type[Table], ...]] = {
    "test_a_full_bucket_holds_a_minutes_worth": (NeverRefuses, FillsUpAtOnce),
    "test_waits_add_up": (WaitsDoNotAddUp,),
    "test_who_would_wait_too_long_takes_nothing": (TakesAllTheSame,),
    "test_more_than_a_minutes_worth_waits_for_a_full_bucket": (NeverGivesMoreThanAMinutesWorth,),
    "test_of_several_buckets_all_or_none_is_used": (TakesBucketByBucket,),
    "test_the_longest_wait_of_several_buckets_counts": (WaitsForTheFirstBucket,),
    "test_units_come_back_evenly": (FillsUpAtOnce, NeverFillsUp),
    "test_a_bucket_that_was_left_alone_is_full_and_no_fuller": (NeverFillsUp, NeverRefuses),
    "test_no_units_need_no_room": (CountsNothingAsOne,),
    "test_many_at_a_time_take_what_there_is": (CountsBeforeItTakes, NeverRefuses),
    "test_no_more_are_inside_than_the_limit": (NeverRefuses,),
    "test_who_leaves_makes_room_for_one": (NobodyLeaves, EverybodyLeaves),
    "test_who_is_inside_may_always_enter_again": (CountsTwiceWhoEntersTwice,),
    "test_a_ticket_ends_with_its_time": (TicketsNeverEnd,),
    "test_who_enters_again_counts_from_then_on": (KeepsTheFirstTicketsTime,),
    "test_many_at_a_time_enter_up_to_the_limit": (CountsBeforeItTakes,),
    "test_tickets_of_every_byte_are_told_apart": (CutsTickets,),
    "test_names_are_told_apart": (CutsTickets,),
    "test_counters_and_values_are_not_mixed": (CountsInTheValuesPlace,),
    "test_counters_outlive_a_purge": (GoesWithThePurge,),
    "test_once_closed_they_answer_or_raise_store_error": (FailsOnceClosed,),
}

SUITES = ((LeasesContract, LEASE_FAULTS), (CountersContract, COUNTER_FAULTS))


@pytest.mark.parametrize(("suite", "faults"), SUITES)
def test_every_test_of_the_suites_is_shown_to_find_a_fault(suite: type, faults: Mapping[str, object]) -> None:
    assert set(faults) == {name for name in dir(suite) if name.startswith("test_")}


@pytest.mark.parametrize(
    ("suite", "name", "fault"),
    [
        pytest.param(suite, name, fault, id=f"{fault.__name__}-{name}")
        for suite, faults in SUITES
        for name, kinds in faults.items()
        for fault in kinds
    ],
)
async def test_a_table_with_this_fault_does_not_pass(
    suite: type, name: str, fault: type[Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_contract, "PATIENCE", 1.0)
    if "word_seconds" in signature(getattr(suite, name)).parameters:
        shorter_words(monkeypatch, sys.modules[__name__])
    assert any([await fails(suite, name, fault, arguments) for arguments in cases(suite, name)])


async def fails(suite: type, name: str, fault: type[Table], arguments: Mapping[str, Any]) -> bool:
    test = getattr(suite(), name)
    store = WithTable(fault)
    given = {"store": store, "leases": store.table, "counters": store.table, "others": store.table, **arguments}
    given["word_seconds"] = WORD
    try:
        await test(**{parameter: given[parameter] for parameter in signature(test).parameters})
    except Exception:
        return True
    return False
