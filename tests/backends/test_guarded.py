import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from cache_proxy.backends.guarded import GuardedBackend
from cache_proxy.errors import StoreError
from tests.backends.contract import A, B
from tests.backends.fakes import Clock, WaywardStore

pytestmark = pytest.mark.anyio

SOON = 0.02


@pytest.fixture
async def inner() -> WaywardStore:
    return WaywardStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def guard(inner: WaywardStore, clock: Clock) -> AsyncIterator[GuardedBackend]:
    made = GuardedBackend(inner, read_deadline=SOON, write_deadline=SOON, purge_deadline=SOON, clock=clock)
    await made.open()
    await made.set_many({A: b"1"})
    yield made
    inner.answering.set()
    await made.close()


async def until_closed(guard: GuardedBackend) -> None:
    async with asyncio.timeout(5):
        while guard.state != "closed":
            await asyncio.sleep(0)


async def test_a_store_that_never_answers_is_a_miss_within_the_deadline(
    guard: GuardedBackend, inner: WaywardStore
) -> None:
    inner.answering.clear()
    async with asyncio.timeout(5):
        assert await guard.get_many([A]) == {}
    assert guard.failures["read_timeout"] == 1
    assert guard.state == "closed"


async def test_repeated_time_outs_open_the_breaker_and_a_probe_closes_it(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cache_proxy.store")
    inner.answering.clear()
    for _ in range(2):
        await guard.get_many([A])
    assert guard.state == "open"
    reads = inner.reads
    assert await guard.get_many([A]) == {}
    assert inner.reads == reads, "an open breaker leaves the store alone"
    inner.answering.set()
    clock.now += 1.0
    assert await guard.get_many([A]) == {}, "no request waits for the probe"
    await until_closed(guard)
    assert await guard.get_many([A]) == {A: b"1"}
    assert [record.__dict__["state"] for record in caplog.records] == ["open", "closed"]


async def test_only_one_caller_probes_and_failed_probes_come_ever_later(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    inner.refusing = StoreError("gone")
    for _ in range(2):
        await guard.get_many([A])
    probes = []
    for _ in range(40):
        clock.now += 1.0
        before = inner.reads
        await asyncio.gather(*(guard.get_many([A]) for _ in range(5)))
        for _ in range(10):
            await asyncio.sleep(0)
        probes.append(inner.reads - before)
    assert max(probes) == 1
    assert [second for second, probe in enumerate(probes, 1) if probe] == [1, 3, 7, 15, 25, 35]


async def test_calls_that_stalled_together_count_as_one_time_out(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    inner.answering.clear()
    waiting = [asyncio.create_task(guard.get_many([A])) for _ in range(20)]
    await asyncio.sleep(0)
    clock.now += 1.0
    await asyncio.gather(*waiting)
    assert guard.failures["read_timeout"] == 20
    assert guard.state == "closed"


async def test_refusals_open_the_breaker_at_once(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing = StoreError("gone")
    assert await guard.get_many([A]) == {}
    assert await guard.get_many([A]) == {}
    assert guard.state == "open"


async def test_an_error_outside_the_contract_is_a_miss_too(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing = ZeroDivisionError()
    assert await guard.get_many([A]) == {}
    assert await guard.set_many({B: b"2"}) is False


async def test_a_caller_who_leaves_does_not_cancel_the_read(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.answering.clear()
    caller = asyncio.create_task(guard.get_many([A]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    inner.answering.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (inner.reads_finished, inner.reads_cancelled) == (1, 0)


async def test_a_paid_value_is_stored_by_a_store_that_is_only_slow(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.answering.clear()
    assert await guard.set_many({B: b"2"}) is False
    inner.answering.set()
    await guard.close()
    assert inner.entries[B] == b"2"


async def test_a_slow_write_within_the_deadline_is_true_even_with_the_breaker_open(
    inner: WaywardStore, clock: Clock
) -> None:
    guard = GuardedBackend(inner, read_deadline=SOON, clock=clock)
    inner.answering.clear()
    for _ in range(2):
        await guard.get_many([A])
    writing = asyncio.create_task(guard.set_many({B: b"2"}))
    await asyncio.sleep(0)
    inner.answering.set()
    assert await writing is True
    await guard.close()


async def test_a_full_store_that_refuses_writes_is_still_read(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing_writes = StoreError("OOM")
    for _ in range(5):
        assert await guard.set_many({B: b"2"}) is False
    assert guard.failures["write_refused"] == 5
    assert guard.state == "closed"
    assert await guard.get_many([A]) == {A: b"1"}


async def test_writes_under_way_are_bounded_in_bytes(inner: WaywardStore) -> None:
    guard = GuardedBackend(inner, write_deadline=SOON, pending_bytes=1000)
    inner.answering.clear()
    answers = await asyncio.gather(*(guard.set_many({bytes([n]) * 32: bytes(368)}) for n in range(4)))
    assert not any(answers)
    assert guard.failures == {"write_dropped": 2, "write_timeout": 2}
    inner.answering.set()
    await guard.close()


async def test_a_purge_that_failed_does_not_claim_success(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing = StoreError("gone")
    with pytest.raises(StoreError):
        await guard.delete_many([A])
    with pytest.raises(StoreError):
        await guard.clear()
    inner.answering.clear()
    with pytest.raises(StoreError) as slow:
        await guard.clear()
    assert not slow.value.refused


async def test_ping_tells_the_truth(guard: GuardedBackend, inner: WaywardStore) -> None:
    await guard.ping()
    inner.refusing = StoreError("gone")
    with pytest.raises(StoreError):
        await guard.ping()
