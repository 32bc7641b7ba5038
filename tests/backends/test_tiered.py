import asyncio

import pytest

from cache_proxy.backends.contract import A, B
from cache_proxy.backends.guarded import GuardedBackend
from cache_proxy.backends.memory import MemoryBackend
from cache_proxy.backends.tiered import TRUSTED_FOR, TieredBackend
from cache_proxy.errors import StoreError
from tests.backends.fakes import Clock, WaywardStore

pytestmark = pytest.mark.anyio

WITHIN_A_SECOND = 0.9


@pytest.fixture
async def shared() -> WaywardStore:
    return WaywardStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def tier(shared: WaywardStore, clock: Clock, *, deadline: float = 5.0) -> TieredBackend:
    made = TieredBackend(MemoryBackend(2**20), GuardedBackend(shared, read_deadline=deadline), clock=clock)
    await made.open()
    return made


async def test_a_hot_entry_is_answered_without_the_lower_store_and_without_a_task(
    shared: WaywardStore, clock: Clock
) -> None:
    store = await tier(shared, clock)
    await store.set_many({A: b"1"})
    reads, tasks = shared.reads, len(asyncio.all_tasks())
    clock.now += TRUSTED_FOR * 0.9
    assert await store.get_many([A]) == {A: b"1"}
    assert (shared.reads, len(asyncio.all_tasks())) == (reads, tasks)
    await store.close()


async def test_what_is_read_below_is_promoted(shared: WaywardStore, clock: Clock) -> None:
    shared.entries[A] = b"1"
    store = await tier(shared, clock)
    first = await store.get_many([A])
    reads = shared.reads
    assert (await store.get_many([A]))[A] is first[A]
    assert shared.reads == reads
    await store.close()


@pytest.mark.parametrize("everything", [True, False])
async def test_a_purge_is_obeyed_by_another_tier_within_a_second(
    shared: WaywardStore, clock: Clock, everything: bool
) -> None:
    one, other = await tier(shared, clock), await tier(shared, clock)
    await one.set_many({A: b"1"})
    assert await other.get_many([A]) == {A: b"1"}
    await (one.clear() if everything else one.delete_many([A]))
    assert await one.get_many([A]) == {}
    clock.now += WITHIN_A_SECOND
    assert await other.get_many([A]) == {}
    await one.close()
    await other.close()


async def test_the_look_in_between_does_not_keep_the_caller_waiting(shared: WaywardStore, clock: Clock) -> None:
    store = await tier(shared, clock)
    await store.set_many({A: b"1"})
    shared.answering.clear()
    clock.now += TRUSTED_FOR * 1.1
    assert await asyncio.wait_for(store.get_many([A]), 0.5) == {A: b"1"}
    shared.answering.set()
    await store.close()


async def test_memory_is_trusted_while_the_lower_store_fails(shared: WaywardStore, clock: Clock) -> None:
    store = await tier(shared, clock)
    await store.set_many({A: b"1"})
    await store.delete_many([B])
    clock.now += WITHIN_A_SECOND
    await store.get_many([B])
    await store.set_many({A: b"1"})
    shared.refusing = StoreError("gone")
    for _ in range(5):
        clock.now += WITHIN_A_SECOND
        assert await store.get_many([A]) == {A: b"1"}
    assert await store.set_many({B: b"2"}) is False
    assert await store.get_many([B]) == {B: b"2"}
    await store.close()


async def test_a_read_that_began_before_a_purge_is_not_promoted_after_it(shared: WaywardStore, clock: Clock) -> None:
    store = await tier(shared, clock)
    shared.entries[A] = b"old"
    shared.answering_reads.clear()
    reading = asyncio.create_task(store.get_many([A]))
    for _ in range(3):
        await asyncio.sleep(0)
    await store.clear()
    shared.answering_reads.set()
    assert await reading == {A: b"old"}
    assert store.memory.held([A]) == {}
    await store.close()


async def test_a_value_set_meanwhile_is_not_replaced_by_an_older_one_from_below(
    shared: WaywardStore, clock: Clock
) -> None:
    store = await tier(shared, clock)
    shared.entries[A] = b"old"
    shared.answering.clear()
    reading = asyncio.create_task(store.get_many([A]))
    for _ in range(3):
        await asyncio.sleep(0)
    writing = asyncio.create_task(store.set_many({A: b"new"}))
    await asyncio.sleep(0)
    shared.answering.set()
    await asyncio.gather(reading, writing)
    assert await store.get_many([A]) == {A: b"new"}
    await store.close()


async def test_a_set_cannot_outlive_a_purge_in_memory(shared: WaywardStore, clock: Clock) -> None:
    one, other = await tier(shared, clock), await tier(shared, clock)
    await other.set_many({A: b"1"})
    await one.clear()
    clock.now += WITHIN_A_SECOND
    assert await other.get_many([A]) == {}
    await one.close()
    await other.close()


async def test_a_purge_that_could_not_be_announced_raises(shared: WaywardStore, clock: Clock) -> None:
    store = await tier(shared, clock)
    shared.refusing_writes = StoreError("READONLY")
    with pytest.raises(StoreError):
        await store.clear()
    await store.close()


async def test_forget_sends_the_next_look_up_below(shared: WaywardStore, clock: Clock) -> None:
    store = await tier(shared, clock)
    await store.set_many({A: b"expired"})
    shared.entries[A] = b"renewed"
    store.forget([A])
    assert await store.get_many([A]) == {A: b"renewed"}
    await store.close()


async def test_hits_from_memory_alone_bring_a_store_back_that_was_left_alone(
    shared: WaywardStore, clock: Clock
) -> None:
    guard = GuardedBackend(shared, clock=clock)
    store = TieredBackend(MemoryBackend(2**20), guard, clock=clock)
    await store.open()
    await store.set_many({A: b"1"})
    shared.refusing = StoreError("gone")
    for _ in range(3):
        clock.now += WITHIN_A_SECOND
        assert await store.get_many([A]) == {A: b"1"}
    assert store.ailing
    # It fails on for a while, so that the pauses between the probes grow to their longest.
    for _ in range(60):
        await hit(store, clock)
    shared.refusing = None
    seconds = 0.0
    while store.ailing:
        await hit(store, clock)
        seconds += TRUSTED_FOR
        assert seconds <= 10.0 + WITHIN_A_SECOND, "no probe went out on the back of the hits"
    assert guard.state == "closed"
    await store.close()


async def hit(store: TieredBackend, clock: Clock) -> None:
    clock.now += TRUSTED_FOR
    assert await store.get_many([A]) == {A: b"1"}
    for _ in range(5):
        await asyncio.sleep(0)
