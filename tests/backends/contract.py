"""The contract of a store, as tests. Give it an async fixture ``store`` that yields an open, empty store:

class TestMyStore(StoreContract):
    @pytest.fixture
    async def store(self):
        store = MyStore()
        await store.open()
        yield store
        await store.close()
"""

import asyncio
import os

import pytest

from cache_proxy.backends.base import Backend, Key, Value

A, B, C = (bytes([letter]) * 32 for letter in b"abc")


def random_entries(count: int, size: int = 100) -> dict[Key, Value]:
    return {os.urandom(32): os.urandom(size) for _ in range(count)}


class StoreContract:
    pytestmark = pytest.mark.anyio

    async def test_a_key_never_set_is_absent(self, store: Backend) -> None:
        assert await store.get_many([A, B]) == {}

    async def test_what_was_set_comes_back(self, store: Backend) -> None:
        assert await store.set_many({A: b"1", B: b"2"}) is True
        assert await store.get_many([A, B, C]) == {A: b"1", B: b"2"}

    async def test_every_byte_and_the_empty_value_come_back(self, store: Backend) -> None:
        entries = {A: bytes(range(256)) * 20, B: b"", C: b"\x00"}
        await store.set_many(entries)
        assert await store.get_many(list(entries)) == entries

    async def test_a_large_value_comes_back(self, store: Backend) -> None:
        entries = {A: os.urandom(500_000)}
        await store.set_many(entries)
        assert await store.get_many([A]) == entries

    async def test_a_later_value_takes_the_place_of_an_older_one(self, store: Backend) -> None:
        await store.set_many({A: b"old"})
        await store.set_many({A: b"new"})
        assert await store.get_many([A]) == {A: b"new"}

    async def test_a_batch_of_thousands_comes_back_whole(self, store: Backend) -> None:
        entries = random_entries(2500)
        await store.set_many(entries)
        assert await store.get_many(list(entries)) == entries

    async def test_no_keys_and_no_entries_are_no_trouble(self, store: Backend) -> None:
        assert await store.get_many([]) == {}
        assert await store.set_many({}) is True
        assert await store.delete_many([]) == 0

    async def test_a_key_asked_twice_is_answered_once(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        assert await store.get_many([A, A]) == {A: b"1"}
        assert await store.delete_many([A, A]) == 1

    async def test_short_reserved_keys_and_keys_of_odd_bytes_work(self, store: Backend) -> None:
        entries = {b"word": b"1", bytes(32): b"2", b"\xff*?[\n" + bytes(27): b"3"}
        await store.set_many(entries)
        assert await store.get_many(list(entries)) == entries

    async def test_a_long_ttl_changes_nothing_now(self, store: Backend) -> None:
        await store.set_many({A: b"1"}, ttl=3600.0)
        assert await store.get_many([A]) == {A: b"1"}

    async def test_delete_forgets_these_keys_only_and_counts_them(self, store: Backend) -> None:
        await store.set_many({A: b"1", B: b"2"})
        assert await store.delete_many([A, C]) == 1
        assert await store.get_many([A, B]) == {B: b"2"}

    async def test_clear_forgets_everything_and_may_be_repeated(self, store: Backend) -> None:
        entries = random_entries(1200)
        await store.set_many(entries)
        await store.clear()
        await store.clear()
        assert await store.get_many(list(entries)) == {}

    async def test_a_cleared_store_takes_new_values(self, store: Backend) -> None:
        await store.clear()
        await store.set_many({A: b"1"})
        assert await store.get_many([A]) == {A: b"1"}

    async def test_ping_succeeds_and_leaves_values_alone(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        await store.ping()
        assert await store.get_many([A]) == {A: b"1"}

    async def test_concurrent_calls_do_not_mix_their_answers(self, store: Backend) -> None:
        batches = [random_entries(20) for _ in range(20)]
        await asyncio.gather(*(store.set_many(batch) for batch in batches))
        answers = await asyncio.gather(*(store.get_many(list(batch)) for batch in batches))
        assert answers == batches

    async def test_a_cancelled_call_leaves_the_store_usable(self, store: Backend) -> None:
        await store.set_many({A: b"1"})
        tasks = [asyncio.create_task(store.get_many([A])) for _ in range(10)]
        tasks += [asyncio.create_task(store.get_many([B])) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(answer == {A: b"1"} for answer in answers[1:10:2])
        assert await store.get_many([A, B]) == {A: b"1"}

    async def test_opening_twice_and_closing_twice_is_no_trouble(self, store: Backend) -> None:
        await store.open()
        await store.close()
        await store.close()
