import pytest

from cache_proxy.backends.contract import A, B, C, random_entries
from cache_proxy.backends.memory import ENTRY_OVERHEAD, MemoryBackend

pytestmark = pytest.mark.anyio

ROOM = 32 + 100 + ENTRY_OVERHEAD


async def test_the_same_object_comes_back() -> None:
    store, value = MemoryBackend(10_000), b"x" * 1000
    await store.set_many({A: value})
    assert (await store.get_many([A]))[A] is value


async def test_the_least_recently_used_goes_first() -> None:
    store = MemoryBackend(2 * ROOM)
    await store.set_many({A: bytes(100), B: bytes(100)})
    await store.get_many([A])
    await store.set_many({C: bytes(100)})
    assert set(await store.get_many([A, B, C])) == {A, C}


async def test_the_bytes_are_bounded_and_counted_exactly() -> None:
    store = MemoryBackend(10 * ROOM)
    for _ in range(5):
        await store.set_many(random_entries(7))
    assert await store.size() == (10, 10 * ROOM)
    await store.clear()
    assert await store.size() == (0, 0)


async def test_a_value_bigger_than_the_bound_is_not_held_and_displaces_nothing() -> None:
    store = MemoryBackend(2 * ROOM)
    await store.set_many({A: bytes(100)})
    await store.set_many({B: bytes(3 * ROOM)})
    assert set(await store.get_many([A, B])) == {A}


async def test_a_value_that_became_too_big_does_not_leave_the_old_one() -> None:
    store = MemoryBackend(2 * ROOM)
    await store.set_many({A: b"old"})
    await store.set_many({A: bytes(3 * ROOM)})
    assert await store.get_many([A]) == {}
