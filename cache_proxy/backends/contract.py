"""The contract of a store (see ``base``), as tests. Imported by tests only: it needs pytest, and anyio's plugin for it.

Give it a fixture ``store`` that yields an open, empty store with room for 16 MiB::

    from cache_proxy.backends.contract import StoreContract

    class TestMyStore(StoreContract):
        @pytest.fixture
        async def store(self, tmp_path):
            store = MyStore(tmp_path)
            await store.open()
            yield store
            await store.close()

Where others may keep data beside the store's, override ``plant`` and ``is_intact`` as well.
"""
# ruff: noqa: RUF012, S101, S311

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from cache_proxy.backends.base import Backend, Key, Value
from cache_proxy.errors import StoreError

A, B, C = (bytes([letter]) * 32 for letter in b"abc")

MANY = 2500


def random_entries(count: int, size: int = 100) -> dict[Key, Value]:
    """This many entries of random keys and values."""
    return {os.urandom(32): os.urandom(size) for _ in range(count)}


def written(key: Key, version: int) -> Value:
    """A value that tells whose it is, of a length that differs from version to version."""
    return key + bytes([version]) * (version + 1)


def odd_keys() -> list[Key]:
    """Keys of every byte and every length, and keys that differ in little or that a query language would read."""
    every_byte = [bytes([byte]) * 32 for byte in range(256)]
    every_length = [b"w" * length for length in range(1, 32)]
    zeros = [bytes(length) for length in (1, 2, 31)]
    words = [b"word", b"Word", b"word ", b"word\n", b"word\x00", b"wor", b"\xff*?[\n" + bytes(27), b"%s';--", b"a:b"]
    return every_byte + every_length + zeros + words


def differences(found: Mapping[Key, Value], entries: Mapping[Key, Value]) -> list[tuple[Key, int]]:
    """The keys under which the two do not hold the same, each with the size of its value. Short, whatever they hold."""
    foreign = [(key, len(found[key])) for key in found if key not in entries]
    return foreign + [(key, len(value)) for key, value in entries.items() if found.get(key) != value]


class StoreContract:
    """Subclass it under a name that pytest collects."""

    pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="session")]

    async def plant(self) -> None:
        """Put data of others beside the store's own. Where that is, the fixture may leave in ``self``."""
        pytest.skip("nothing of others is near this store; where it may be, override plant() and is_intact()")

    async def is_intact(self) -> bool:
        """Whether all that ``plant`` put there is still there, unchanged."""
        return False

    # What is held ----------------------------------------------------------------------------------------------------

    async def test_it_has_a_name(self, store: Backend) -> None:
        assert isinstance(store.name, str)
        assert store.name

    async def test_a_key_never_set_is_absent(self, store: Backend) -> None:
        assert await store.get_many([A, B]) == {}

    async def test_what_was_set_comes_back_and_nothing_else(self, store: Backend) -> None:
        assert await store.set_many({A: b"1", B: b"2"}) is True
        assert await store.get_many([A, C]) == {A: b"1"}
        assert await store.get_many((C, B, A)) == {A: b"1", B: b"2"}

    async def test_keys_and_values_come_back_as_bytes(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        found = await store.get_many([A])
        assert isinstance(found, Mapping)
        # A view of memory that the store uses again would change after its checksum was looked at.
        assert [(type(key), type(value)) for key, value in found.items()] == [(bytes, bytes)]

    async def test_values_of_every_byte_and_size_come_back(self, store: Backend) -> None:
        sizes = (0, 1, 100, 4145, 65_536, 1_048_577, 5_000_000)
        entries = {bytes([at]) * 32: os.urandom(size) for at, size in enumerate(sizes)}
        entries |= {A: bytes(range(256)), B: b"\x00", C: b"\r\n"}
        assert await store.set_many(entries) is True
        assert differences(await store.get_many(list(entries)), entries) == []

    async def test_a_later_value_takes_the_place_of_an_older_one(self, store: Backend) -> None:
        for value in (b"old", b"a new one that is longer", b"", b"new"):
            await store.set_many({A: value, B: b"2"})
            assert await store.get_many([A, B]) == {A: value, B: b"2"}

    async def test_thousands_at_once_come_back_whole(self, store: Backend) -> None:
        entries = random_entries(MANY)
        assert await store.set_many(entries) is True
        assert differences(await store.get_many(list(entries)), entries) == []

    async def test_of_a_thousand_keys_those_that_are_held_come_back(self, store: Backend) -> None:
        entries, others = random_entries(500), random_entries(500)
        await store.set_many(entries)
        mixed = [key for pair in zip(entries, others, strict=True) for key in pair]
        assert differences(await store.get_many(mixed), entries) == []

    async def test_no_keys_and_no_entries_are_no_trouble(self, store: Backend) -> None:
        assert await store.get_many([]) == {}
        assert await store.set_many({}) is True
        assert await store.delete_many([]) == 0

    async def test_a_key_asked_twice_is_answered_once(self, store: Backend) -> None:
        await store.set_many({A: b"1", B: b"2"})
        assert await store.get_many([A, B, A, A]) == {A: b"1", B: b"2"}
        assert await store.delete_many([A, C, A, C]) == 1
        assert await store.get_many([A, A, B]) == {B: b"2"}

    async def test_keys_of_every_byte_and_length_are_told_apart(self, store: Backend) -> None:
        entries = {key: written(key, at % 256) for at, key in enumerate(odd_keys())}
        await store.set_many(entries)
        assert differences(await store.get_many(list(entries)), entries) == []
        half = list(entries)[::2]
        assert await store.delete_many(half) == len(half)
        left = {key: entries[key] for key in list(entries)[1::2]}
        assert differences(await store.get_many(list(entries)), left) == []

    async def test_what_the_caller_does_with_his_own_changes_nothing(self, store: Backend) -> None:
        given = {A: b"1", B: b"2"}
        await store.set_many(given)
        given[A] = b"3"
        del given[B]
        for _ in range(2):
            found = await store.get_many([A, B])
            assert found == {A: b"1", B: b"2"}
            if isinstance(found, dict):
                found.clear()
        assert await store.set_many(MappingProxyType({C: b"3"})) is True
        assert await store.get_many((A, C)) == {A: b"1", C: b"3"}

    # What is forgotten, and what is not -------------------------------------------------------------------------------

    @pytest.mark.parametrize("ttl", [0.5, 3600.0, 40 * 86400.0, 3650 * 86400.0])
    async def test_a_ttl_that_is_not_over_changes_nothing(self, store: Backend, ttl: float) -> None:
        # Half a second is no "0: for ever", and forty days are no date in 1970, as they are to memcached.
        assert await store.set_many({A: b"1"}, ttl=ttl) is True
        if ttl >= 1:
            assert await store.get_many([A]) == {A: b"1"}

    async def test_a_value_set_again_without_a_ttl_outlives_the_older_ones(self, store: Backend) -> None:
        await store.set_many({A: b"1", B: b"2"}, ttl=0.02)
        await store.set_many({A: b"3"})
        await asyncio.sleep(0.05)
        found = await store.get_many([A, B])
        assert found in ({A: b"3"}, {A: b"3", B: b"2"})

    async def test_delete_forgets_these_keys_only_and_counts_them(self, store: Backend) -> None:
        await store.set_many({A: b"1", B: b"2"})
        assert await store.delete_many([A, C]) == 1
        assert await store.get_many([A, B]) == {B: b"2"}
        assert await store.delete_many([A]) == 0

    async def test_delete_takes_thousands_of_keys(self, store: Backend) -> None:
        entries = random_entries(MANY)
        await store.set_many({**entries, A: b"1"})
        assert await store.delete_many(list(entries)) == MANY
        assert differences(await store.get_many([A, *entries]), {A: b"1"}) == []

    async def test_clear_forgets_everything_and_may_be_repeated(self, store: Backend) -> None:
        entries = random_entries(MANY)
        await store.set_many(entries)
        await store.set_many({A: b"1", b"word": b"2"}, ttl=3600.0)
        await store.clear()
        await store.clear()
        assert differences(await store.get_many([A, b"word", *entries]), {}) == []
        assert await store.delete_many([A, b"word", *entries]) == 0

    async def test_a_cleared_store_takes_values_again(self, store: Backend) -> None:
        await store.set_many({A: b"1", B: b"2"})
        await store.clear()
        assert await store.set_many({A: b"3"}) is True
        assert await store.get_many([A, B]) == {A: b"3"}

    async def test_clear_leaves_what_is_of_others(self, store: Backend) -> None:
        await self.plant()
        assert await store.get_many([A, B, C]) == {}
        await store.set_many({A: b"1", **random_entries(50)})
        assert await self.is_intact()
        await store.clear()
        assert await store.get_many([A]) == {}
        assert await self.is_intact()

    async def test_ping_leaves_values_alone(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        await store.ping()
        assert await store.get_many([A, B]) == {A: b"1"}

    async def test_a_strict_look_up_finds_the_same_and_nothing_ails(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        assert await store.get_strict([A, B]) == {A: b"1"}
        assert store.ailing is False

    async def test_forget_lets_go_of_near_copies_only(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        assert store.forget([A, B]) in (True, False)
        assert await store.get_many([A]) == {A: b"1"}

    # Many at a time --------------------------------------------------------------------------------------------------

    async def test_concurrent_calls_do_not_mix_their_answers(self, store: Backend) -> None:
        batches = [random_entries(20) for _ in range(20)]
        assert all(await asyncio.gather(*(store.set_many(batch) for batch in batches)))
        answers = await asyncio.gather(*(store.get_many(list(batch)) for batch in batches))
        assert all(answer == batch for answer, batch in zip(answers, batches, strict=True))  # no diff of megabytes

    async def test_concurrent_writes_and_purges_leave_it_whole(self, store: Backend) -> None:
        chance = random.Random(7)
        keys = [bytes([at]) * 32 for at in range(12)]

        async def work() -> None:
            for version in range(6):
                some = chance.sample(keys, 6)
                await store.set_many({key: written(key, version) for key in some})
                for key, value in (await store.get_many(some)).items():
                    assert value in [written(key, version) for version in range(6)]
                if chance.random() < 0.3:
                    assert 0 <= await store.delete_many(some[:3]) <= 3
                if chance.random() < 0.1:
                    await store.clear()

        await asyncio.gather(*(work() for _ in range(16)))
        await self._works(store)

    @pytest.mark.parametrize("verb", ["get_many", "set_many", "delete_many", "clear", "ping"])
    async def test_a_cancelled_call_leaves_it_usable_and_right(self, store: Backend, verb: str) -> None:
        keys = [bytes([at]) * 32 for at in range(40)]
        old, new = ({key: written(key, version) for key in keys} for version in (1, 2))
        given = {"get_many": (keys[:20],), "set_many": (new,), "delete_many": (keys,)}
        await store.set_many(old)
        for turns in range(12):
            breaking_off = _broken_off(getattr(store, verb), given.get(verb, ()), turns)
            error, found = await asyncio.gather(breaking_off, store.get_many(keys[20:]))
            assert error is None
            assert set(found) <= set(keys[20:])
            assert all(value in (old[key], new[key]) for key, value in found.items())
        if verb in ("get_many", "ping"):
            assert await store.get_many(keys) == old
        await self._works(store)

    @staticmethod
    async def _works(store: Backend) -> None:
        entries = {bytes([at]) * 32: written(bytes([at]) * 32, 9) for at in range(40)}
        assert await store.set_many(entries) is True
        assert await store.get_many(list(entries)) == entries
        await store.clear()
        assert await store.get_many(list(entries)) == {}
        await store.set_many({A: b"1"})
        assert await store.get_many([A, B]) == {A: b"1"}

    # Opened and closed -----------------------------------------------------------------------------------------------

    async def test_opening_it_again_changes_nothing(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        await store.open()
        assert await store.get_many([A]) == {A: b"1"}

    async def test_once_closed_it_answers_or_raises_store_error(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        await store.close()
        await store.close()
        assert await _ends_well(store.get_many([A]), {}, {A: b"1"})
        assert await _ends_well(store.set_many({B: b"2"}), True, False)
        assert await _ends_well(store.delete_many([B]), 0, 1)
        assert await _ends_well(store.clear(), None)
        assert await _ends_well(store.ping(), None)

    async def test_calls_under_way_when_it_is_closed_get_an_answer_or_a_store_error(self, store: Backend) -> None:
        entries = random_entries(40)
        await store.set_many(entries)
        reads = [_ends_well(store.get_many(list(entries)), {}, entries) for _ in range(5)]
        writes = [_ends_well(store.set_many(entries), True, False) for _ in range(5)]
        *ended, _ = await asyncio.gather(*reads, *writes, store.close())
        assert ended == [True] * 10
        await store.open()
        await self._works(store)

    async def test_closed_and_opened_again_it_works(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        await store.close()
        await store.open()
        assert await store.get_many([A, B]) in ({}, {A: b"1"})
        await self._works(store)


async def _ends_well(call: Awaitable[object], *answers: object) -> bool:
    """Whether this is answered by one of ``answers``, or with a ``StoreError``."""
    try:
        return await call in answers
    except StoreError:
        return True


async def _broken_off(call: Callable[..., Awaitable[Any]], given: tuple[Any, ...], turns: int) -> object:
    """Begin this, leave it alone for so many turns of the loop, cancel it, and give the error it ended with."""
    task = asyncio.ensure_future(call(*given))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    return None if task.cancelled() else task.exception()
