"""The suite finds what it is for: each of its tests fails on a store with the fault that it is meant to find."""
# ruff: noqa: ARG002  the faults keep the signatures

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from cache_proxy.backends.base import Backend, Key, Value
from cache_proxy.backends.contract import A, StoreContract

pytestmark = pytest.mark.anyio


class Honest(Backend):
    """A dictionary that keeps the contract, and takes a turn of the event loop over everything, as I/O does."""

    name = "honest"

    def __init__(self, entries: dict[Key, Value] | None = None) -> None:
        self.entries = {} if entries is None else entries

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        await asyncio.sleep(0)
        return {key: self.entries[key] for key in keys if key in self.entries}

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        await asyncio.sleep(0)
        self.entries.update(entries)
        return True

    async def delete_many(self, keys: Sequence[Key]) -> int:
        await asyncio.sleep(0)
        return sum(self.entries.pop(key, None) is not None for key in keys)

    async def clear(self) -> None:
        await asyncio.sleep(0)
        for key in [key for key in self.entries if len(key) <= 32]:
            del self.entries[key]

    async def ping(self) -> None:
        await asyncio.sleep(0)


class WithNeighbours(StoreContract):
    """Somebody else's data is in the same dictionary, under keys longer than ours ever are."""

    entries: dict[Key, Value]

    async def plant(self) -> None:
        self.entries |= {b"theirs:" + A: b"1"}

    async def is_intact(self) -> bool:
        return self.entries.get(b"theirs:" + A) == b"1"


class TestTheHonestStore(WithNeighbours):
    @pytest.fixture
    def store(self) -> Backend:
        self.entries = {}
        return Honest(self.entries)


# The faults -----------------------------------------------------------------------------------------------------------


class Nameless(Honest):
    name = ""


class RaisesKeyError(Honest):
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return {key: self.entries[key] for key in keys}


class SaysNothingOfSuccess(Honest):
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        self.entries.update(entries)
        return cast("bool", None)


class LiesAboutKeys(Honest):
    """Answers in the order of its own table, not in the order that was asked."""

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        held = [value for key, value in self.entries.items() if key in keys]
        return dict(zip(keys, held, strict=False))


class GivesEverything(Honest):
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return dict(self.entries)


class GivesViews(Honest):
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return {key: cast("bytes", memoryview(value)) for key, value in (await super().get_many(keys)).items()}


class Decodes(Honest):
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        found = await super().get_many(keys)
        return {key: value.decode(errors="replace").encode() for key, value in found.items()}


class DropsLargeValues(Honest):
    """As memcached does above a megabyte, and says nothing."""

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        return await super().set_many({key: value for key, value in entries.items() if len(value) <= 2**20})


class TakesEmptyForAbsent(Honest):
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return {key: value for key, value in (await super().get_many(keys)).items() if value}


class KeepsTheFirst(Honest):
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        return await super().set_many({key: value for key, value in entries.items() if key not in self.entries})


class OverwritesInPlace(Honest):
    """A shorter value leaves the end of a longer one standing."""

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        self.entries.update({key: value + self.entries.get(key, b"")[len(value) :] for key, value in entries.items()})
        return True


class DropsPartially(Honest):
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        return await super().set_many(dict(list(entries.items())[:1000]))


class AnswersInPart(Honest):
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return await super().get_many(keys[:600])


class CanNotTakeNothing(Honest):
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        if not keys:
            raise ValueError("syntax error near IN ()")
        return await super().get_many(keys)


class CountsTwice(Honest):
    async def delete_many(self, keys: Sequence[Key]) -> int:
        held = sum(key in self.entries for key in keys)
        await super().delete_many(keys)
        return held


class CutsKeys(Honest):
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        return await super().set_many({key.rstrip(b"\x00 \n"): value for key, value in entries.items()})

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        found = await super().get_many([key.rstrip(b"\x00 \n") for key in keys])
        return {key: found[key.rstrip(b"\x00 \n")] for key in keys if key.rstrip(b"\x00 \n") in found}


class DeletesByPrefix(Honest):
    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await super().delete_many([held for held in self.entries if held.startswith(tuple(keys))])


class KeepsTheCallersDict(Honest):
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        self.entries = cast("dict[Key, Value]", entries)
        return True


class HandsOutItsOwnDict(Honest):
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return self.entries if set(keys) >= set(self.entries) else await super().get_many(keys)


class ChangesWhatItIsGiven(Honest):
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        await super().set_many(entries)
        cast("dict[Key, Value]", entries).clear()
        return True


class TakesLongTtlsForDates(Honest):
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        return await super().set_many({} if ttl is not None and ttl > 30 * 86400 else entries)


class RefusesShortTtls(Honest):
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        if ttl is not None and int(ttl) == 0:
            raise ValueError("invalid expire time")
        return await super().set_many(entries)


class KeepsTheOlderTtl(Honest):
    def __init__(self, entries: dict[Key, Value] | None = None) -> None:
        super().__init__(entries)
        self.until: dict[Key, float] = {}

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        if ttl is not None:
            self.until |= dict.fromkeys(entries, asyncio.get_running_loop().time() + ttl)
        return await super().set_many(entries)

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        now = asyncio.get_running_loop().time()
        return await super().get_many([key for key in keys if self.until.get(key, now) >= now])


class CountsWhatItWasAsked(Honest):
    async def delete_many(self, keys: Sequence[Key]) -> int:
        await super().delete_many(keys)
        return len(keys)


class DeletesAThousand(Honest):
    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await super().delete_many(keys[:1000])


class ClearsInPart(Honest):
    async def clear(self) -> None:
        for key in list(self.entries)[:1000]:
            del self.entries[key]


class StaysCleared(Honest):
    cleared = False

    async def clear(self) -> None:
        await super().clear()
        self.cleared = True

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        return await super().set_many({} if self.cleared else entries)


class PingsWithAValue(Honest):
    async def ping(self) -> None:
        self.entries[A] = b"ping"


class IsStricterThanItself(Honest):
    async def get_strict(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return {}


class ForgetsForGood(Honest):
    def forget(self, keys: Sequence[Key]) -> bool:
        return bool([self.entries.pop(key, None) for key in keys])


class MixesUpAnswers(Honest):
    """One buffer for all: who asks later takes the place of who asked before."""

    asked: Sequence[Key] = ()

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        self.asked = keys
        await asyncio.sleep(0)
        return await super().get_many(self.asked)


class AnswersTheLast(Honest):
    """The reply to a call that was broken off goes to the next one, as it happened to the clients of Redis."""

    def __init__(self, entries: dict[Key, Value] | None = None) -> None:
        super().__init__(entries)
        self.replies: list[list[Value | None]] = []

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        self.replies.append([self.entries.get(key) for key in keys])
        await asyncio.sleep(0)
        reply = self.replies.pop(0)
        return {key: value for key, value in zip(keys, reply, strict=False) if value is not None}


class TearsWhenBrokenOff(Honest):
    """Writes in place, half a value at a time."""

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        for half in (0.5, 1.0):
            self.entries.update({key: value[: int(len(value) * half)] for key, value in entries.items()})
            await asyncio.sleep(0)
        return True


class HoldsItsLock(Honest):
    """A call that is broken off never gives the lock back, so the next one fails."""

    locked = False

    async def _alone(self) -> None:
        if self.locked:
            raise RuntimeError("locked")
        self.locked = True
        await asyncio.sleep(0)
        self.locked = False

    async def delete_many(self, keys: Sequence[Key]) -> int:
        await self._alone()
        return await super().delete_many(keys)

    async def clear(self) -> None:
        await self._alone()
        await super().clear()

    async def ping(self) -> None:
        await self._alone()


class WalksWhatOthersChange(Honest):
    async def clear(self) -> None:
        for key in self.entries:
            await asyncio.sleep(0)
            self.entries.pop(key)


class EmptiesItselfWhenOpened(Honest):
    async def open(self) -> None:
        self.entries.clear()


class BreaksOnceClosed(Honest):
    async def close(self) -> None:
        self.entries = cast("dict[Key, Value]", None)


class ClosesOnce(Honest):
    closed = False

    async def close(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = True


class StaysClosed(Honest):
    closed = False

    async def close(self) -> None:
        self.closed = True

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        return await super().set_many({} if self.closed else entries)


class SharesBetweenNamespaces(Honest):
    async def clear(self) -> None:
        self.entries.clear()


FOUND_BY: dict[str, tuple[type[Honest], ...]] = {
    "test_it_has_a_name": (Nameless,),
    "test_a_key_never_set_is_absent": (RaisesKeyError,),
    "test_what_was_set_comes_back_and_nothing_else": (SaysNothingOfSuccess, GivesEverything, LiesAboutKeys),
    "test_keys_and_values_come_back_as_bytes": (GivesViews,),
    "test_values_of_every_byte_and_size_come_back": (Decodes, DropsLargeValues, TakesEmptyForAbsent),
    "test_a_later_value_takes_the_place_of_an_older_one": (KeepsTheFirst, OverwritesInPlace),
    "test_thousands_at_once_come_back_whole": (DropsPartially,),
    "test_of_a_thousand_keys_those_that_are_held_come_back": (AnswersInPart, LiesAboutKeys),
    "test_no_keys_and_no_entries_are_no_trouble": (CanNotTakeNothing,),
    "test_a_key_asked_twice_is_answered_once": (CountsTwice, LiesAboutKeys),
    "test_keys_of_every_byte_and_length_are_told_apart": (CutsKeys, DeletesByPrefix),
    "test_what_the_caller_does_with_his_own_changes_nothing": (
        KeepsTheCallersDict,
        HandsOutItsOwnDict,
        ChangesWhatItIsGiven,
    ),
    "test_a_ttl_that_is_not_over_changes_nothing": (TakesLongTtlsForDates, RefusesShortTtls),
    "test_a_value_set_again_without_a_ttl_outlives_the_older_ones": (KeepsTheOlderTtl,),
    "test_delete_forgets_these_keys_only_and_counts_them": (CountsWhatItWasAsked,),
    "test_delete_takes_thousands_of_keys": (DeletesAThousand,),
    "test_clear_forgets_everything_and_may_be_repeated": (ClearsInPart,),
    "test_a_cleared_store_takes_values_again": (StaysCleared,),
    "test_clear_leaves_what_is_of_others": (SharesBetweenNamespaces,),
    "test_ping_leaves_values_alone": (PingsWithAValue,),
    "test_a_strict_look_up_finds_the_same_and_nothing_ails": (IsStricterThanItself,),
    "test_forget_lets_go_of_near_copies_only": (ForgetsForGood,),
    "test_concurrent_calls_do_not_mix_their_answers": (MixesUpAnswers,),
    "test_concurrent_writes_and_purges_leave_it_whole": (WalksWhatOthersChange, TearsWhenBrokenOff),
    "test_a_cancelled_call_leaves_it_usable_and_right": (AnswersTheLast, TearsWhenBrokenOff, HoldsItsLock),
    "test_opening_it_again_changes_nothing": (EmptiesItselfWhenOpened,),
    "test_once_closed_it_answers_or_raises_store_error": (BreaksOnceClosed, ClosesOnce),
    "test_calls_under_way_when_it_is_closed_get_an_answer_or_a_store_error": (BreaksOnceClosed,),
    "test_closed_and_opened_again_it_works": (StaysClosed,),
}


def test_every_test_of_the_suite_is_shown_to_find_a_fault() -> None:
    assert set(FOUND_BY) == {name for name in dir(StoreContract) if name.startswith("test_")}


@pytest.mark.parametrize(
    ("name", "fault"),
    [pytest.param(name, fault, id=f"{fault.__name__}-{name}") for name, faults in FOUND_BY.items() for fault in faults],
)
async def test_a_store_with_this_fault_does_not_pass(name: str, fault: type[Honest]) -> None:
    assert any([await fails(name, fault, arguments) for arguments in cases(StoreContract, name)])


async def fails(name: str, fault: type[Honest], arguments: Mapping[str, Any]) -> bool:
    suite = WithNeighbours()
    suite.entries = {}
    store = fault(suite.entries)
    try:
        await getattr(suite, name)(store, **arguments)
    except Exception:
        return True
    return False


def cases(suite: type, name: str) -> list[dict[str, Any]]:
    """The arguments with which pytest would run this test of a suite."""
    marks = getattr(getattr(suite, name), "pytestmark", [])
    chosen = [mark.args for mark in marks if mark.name == "parametrize"]
    return [{parameter: value} for parameter, values in chosen for value in values] or [{}]
