"""The guard of leases and counters: what a store that refuses, hangs or talks nonsense costs those who ask."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from cache_proxy.backends import GuardedBackend, MemoryBackend, TieredBackend
from cache_proxy.backends.base import Counters, Leases, Turn, Want
from cache_proxy.backends.contract import A, B
from cache_proxy.errors import StoreError
from tests.backends.fakes import Clock, WaywardStore

pytestmark = pytest.mark.anyio

SOON = 0.02

NO_RIGHT = StoreError("redis: NoPermissionError NOPERM")


@pytest.fixture
async def inner() -> WaywardStore:
    return WaywardStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def guard(inner: WaywardStore, clock: Clock) -> AsyncIterator[GuardedBackend]:
    made = GuardedBackend(inner, read_deadline=SOON, write_deadline=SOON, clock=clock)
    await made.open()
    yield made
    inner.answering.set()
    await made.close()


@pytest.fixture
def leases(guard: GuardedBackend) -> Leases:
    assert guard.leases is not None
    return guard.leases


@pytest.fixture
def counters(guard: GuardedBackend) -> Counters:
    assert guard.counters is not None
    return guard.counters


def each_call(guard: GuardedBackend) -> dict[str, Callable[[], Awaitable[object]]]:
    leases, counters = guard.leases, guard.counters
    assert leases is not None
    assert counters is not None
    return {
        "acquire": lambda: leases.acquire({A: b""}, b"me", 1.0),
        "renew": lambda: leases.renew({A: b"me"}, 1.0),
        "release": lambda: leases.release({A: b"me"}),
        "take": lambda: counters.take(b"n", [Want(1, 60)], 1.0),
        "enter": lambda: counters.enter(b"n", b"t", 1, 1.0),
        "leave": lambda: counters.leave(b"n", b"t"),
    }


LEASE_CALLS, COUNTER_CALLS = ("acquire", "renew", "release"), ("take", "enter", "leave")


async def acquired(leases: Leases) -> bool:
    try:
        return (await leases.acquire({A: b""}, b"me", 1.0))[A].mine
    except StoreError:
        return False


async def test_what_the_store_says_is_passed_on(guard: GuardedBackend) -> None:
    said = [await call() for call in each_call(guard).values()]
    assert said == [{A: Turn(mine=True)}, {A}, None, 0.0, True, None]
    assert guard.failures == {}


@pytest.mark.parametrize("name", [*LEASE_CALLS, *COUNTER_CALLS])
async def test_a_store_that_never_answers_is_a_store_error_within_the_deadline(
    guard: GuardedBackend, inner: WaywardStore, name: str
) -> None:
    inner.answering.clear()
    async with asyncio.timeout(5):
        with pytest.raises(StoreError) as late:
            await each_call(guard)[name]()
    assert not late.value.refused
    assert guard.failures == {"lease_timeout" if name in LEASE_CALLS else "counter_timeout": 1}


@pytest.mark.parametrize("name", [*LEASE_CALLS, *COUNTER_CALLS])
@pytest.mark.parametrize("error", [NO_RIGHT, RuntimeError("its own")])
async def test_whatever_a_store_raises_is_a_store_error_and_counted(
    guard: GuardedBackend, inner: WaywardStore, name: str, error: Exception
) -> None:
    inner.refusing = error
    with pytest.raises(StoreError) as refused:
        await each_call(guard)[name]()
    assert refused.value.refused
    assert "its own" not in str(refused.value)
    assert guard.failures == {"lease_refused" if name in LEASE_CALLS else "counter_refused": 1}


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("acquire", [Turn(mine=True)]),
        ("acquire", {A: True}),
        ("acquire", {B: Turn(mine=True)}),
        ("renew", [A]),
        ("renew", {A, B}),
        ("take", "soon"),
        ("take", float("nan")),
    ],
)
async def test_an_answer_that_breaks_the_contract_is_a_failure(
    guard: GuardedBackend, inner: WaywardStore, name: str, answer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    inner.leases.answer = inner.counters.answer = answer
    for _ in range(2):
        with pytest.raises(StoreError):
            await each_call(guard)[name]()
    assert caplog.text.count(f"breaks its contract: {name} gave") == 1


async def test_a_caller_who_leaves_cancels_nothing(guard: GuardedBackend, inner: WaywardStore, leases: Leases) -> None:
    inner.answering.clear()
    calling = asyncio.create_task(leases.acquire({A: b""}, b"me", 1.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calling.cancel()
    await asyncio.wait({calling})
    inner.answering.set()
    await until(lambda: inner.leases.answered == 1)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_while_the_store_is_left_alone_nobody_asks_it_for_leases(
    guard: GuardedBackend, inner: WaywardStore, leases: Leases, clock: Clock
) -> None:
    inner.refusing = StoreError("gone")
    for _ in range(2):
        await guard.get_many([A])
    inner.refusing = None
    clock.now += 100.0
    with pytest.raises(StoreError, match="being left alone"):
        await leases.acquire({A: b""}, b"me", 1.0)
    assert inner.leases.asked == 0
    assert guard.failures["lease_refused"] == 0, "it refused nothing"
    await guard.get_many([A])
    await until(lambda: guard.state == "closed")
    assert await acquired(leases)


async def test_a_store_that_refuses_leases_alone_goes_on_as_a_store_and_is_asked_again_later(
    guard: GuardedBackend, inner: WaywardStore, leases: Leases, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cache_proxy.store")
    inner.leases.refusing = NO_RIGHT
    for _ in range(20):
        assert not await acquired(leases)
    assert inner.leases.asked == 2
    assert guard.state == "closed"
    assert not guard.ailing
    assert await guard.set_many({A: b"1"})
    assert await guard.get_many([A]) == {A: b"1"}
    assert await guard.counters.take(b"n", [Want(1, 60)], 1.0) == 0.0  # type: ignore[union-attr]
    clock.now += 1.0
    assert await asyncio.gather(*(acquired(leases) for _ in range(5))) == [False] * 5
    assert inner.leases.asked == 3, "one of them found out"
    inner.leases.refusing = None
    clock.now += 1.9
    assert not await acquired(leases), "it is tried ever less often"
    clock.now += 0.1
    assert await acquired(leases)
    assert await acquired(leases)
    assert [record.getMessage() for record in caplog.records] == [
        "store=wayward.leases state=open reason=redis: NoPermissionError NOPERM",
        "store=wayward.leases state=closed reason=answered",
    ]


async def test_a_prober_who_leaves_does_not_keep_all_others_out(
    guard: GuardedBackend, inner: WaywardStore, leases: Leases, clock: Clock
) -> None:
    inner.refusing = NO_RIGHT
    for _ in range(2):
        assert not await acquired(leases)
    inner.refusing = None
    inner.answering.clear()
    clock.now += 1.0
    probing = asyncio.create_task(acquired(leases))
    await asyncio.sleep(0)
    probing.cancel()
    await asyncio.wait({probing})
    inner.answering.set()
    clock.now += 2.0
    assert await acquired(leases)


async def test_a_store_that_is_opened_again_is_asked_again(
    guard: GuardedBackend, inner: WaywardStore, leases: Leases
) -> None:
    inner.leases.refusing = NO_RIGHT
    for _ in range(2):
        assert not await acquired(leases)
    inner.leases.refusing = None
    await guard.close()
    await guard.open()
    assert await acquired(leases)


async def test_a_release_under_way_is_waited_for_when_the_store_is_closed(inner: WaywardStore) -> None:
    guard = GuardedBackend(inner)
    await guard.open()
    assert guard.leases is not None
    inner.answering.clear()
    releasing = asyncio.create_task(guard.leases.release({A: b"me"}))
    await until(lambda: inner.leases.asked == 1)
    closing = asyncio.create_task(guard.close())
    await asyncio.sleep(0)
    inner.answering.set()
    await asyncio.gather(releasing, closing)
    assert inner.leases.answered == 1


class HasNone(WaywardStore):
    leases = counters = property(lambda _: None)


class HasItsOwn(WaywardStore):
    leases = counters = property(lambda _: ["something else under this name"])


class FailsToSay(WaywardStore):
    @property
    def leases(self) -> Any:
        raise RuntimeError("not yet")

    counters = leases


@pytest.mark.parametrize("kind", [HasNone, HasItsOwn, FailsToSay])
async def test_a_store_without_leases_has_none_behind_a_guard(kind: type[WaywardStore]) -> None:
    guard = GuardedBackend(kind())
    assert (guard.leases, guard.counters) == (None, None)


async def test_they_are_the_same_however_often_they_are_asked_for(guard: GuardedBackend) -> None:
    tiered = TieredBackend(MemoryBackend(2**20), guard)
    assert tiered.leases is guard.leases is guard.leases
    assert tiered.counters is guard.counters is guard.counters
    assert MemoryBackend(2**20).leases is None
    assert MemoryBackend(2**20).counters is None


async def test_giving_up_leases_in_a_store_that_hangs_says_nothing_against_it(
    inner: WaywardStore, guard: GuardedBackend, leases: Leases, clock: Clock
) -> None:
    """One server of a Cluster may hang alone: then the rest is to be asked as before."""
    inner.answering.clear()
    for _ in range(3):
        clock.now += 10
        with pytest.raises(StoreError):
            await leases.release({A: b"me"})
    inner.answering.set()
    assert guard.state == "closed"
    assert await acquired(leases)


# Busy, or hanging ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def patient(inner: WaywardStore) -> AsyncIterator[GuardedBackend]:
    """A guard that gives up on nothing but a store that hangs: writers queue in this one."""
    inner.queueing = True
    made = GuardedBackend(inner, read_deadline=0.1, write_deadline=60.0)
    await made.open()
    yield made
    inner.answering_reads.set()
    await made.close()


def counted(guard: GuardedBackend) -> int:
    return guard._breaker._in_a_row[False]


async def test_leases_that_take_their_time_in_a_store_that_answers_look_ups_are_waited_for(
    patient: GuardedBackend, inner: WaywardStore
) -> None:
    leases = patient.leases
    assert leases is not None
    inner.leases.answering.clear()
    waiting = [asyncio.create_task(acquired(leases)) for _ in range(5)]
    await until(lambda: inner.reads >= 5)
    assert patient.state == "closed"
    assert not any(each.done() for each in waiting)
    inner.leases.answering.set()
    assert await asyncio.gather(*waiting) == [True] * 5
    assert counted(patient) == 0


async def test_an_answer_that_came_late_clears_what_the_waiting_for_it_counted(
    patient: GuardedBackend, inner: WaywardStore
) -> None:
    leases = patient.leases
    assert leases is not None
    inner.answering_reads.clear()
    for _ in range(3):
        inner.leases.answering.clear()
        waiting = asyncio.create_task(acquired(leases))
        await until(lambda: counted(patient) == 1)
        inner.leases.answering.set()
        assert await waiting
        assert (patient.state, counted(patient)) == ("closed", 0)


async def test_an_answer_that_came_late_excuses_no_look_up_and_closes_no_store_that_is_left_alone(
    patient: GuardedBackend, inner: WaywardStore
) -> None:
    leases = patient.leases
    assert leases is not None
    inner.leases.answering.clear()
    inner.answering_reads.clear()
    waiting = asyncio.create_task(acquired(leases))
    await until(lambda: counted(patient) == 1)
    await patient.get_many([A])
    assert patient.state == "open"
    inner.leases.answering.set()
    await waiting
    assert patient.state == "open"
    inner.answering_reads.set()


async def test_where_no_writers_queue_a_call_that_is_silent_for_long_is_lost_and_the_store_is_not(
    inner: WaywardStore,
) -> None:
    """As on a connection that went silent: others answer."""
    guard = GuardedBackend(inner, read_deadline=SOON, write_deadline=60.0)
    await guard.open()
    assert guard.leases is not None
    inner.leases.answering.clear()
    async with asyncio.timeout(5):
        assert not await acquired(guard.leases)
    await until(lambda: counted(guard) == 0)
    assert guard.state == "closed"
    inner.leases.answering.set()
    assert await acquired(guard.leases)
    await guard.close()


async def test_one_call_finds_out_that_a_store_hangs(inner: WaywardStore) -> None:
    # Its second silence counts if it lasts nearly as long as the first: a busy machine may come a tenth of it too late.
    guard = GuardedBackend(inner, read_deadline=1.0, write_deadline=60.0)
    await guard.open()
    assert guard.leases is not None
    inner.answering.clear()
    async with asyncio.timeout(20):
        assert not await acquired(guard.leases)
    assert guard.state == "open"
    inner.answering.set()
    await guard.close()


async def test_leases_that_never_answer_are_given_up_at_the_deadline_and_left_alone(inner: WaywardStore) -> None:
    guard = GuardedBackend(inner, read_deadline=SOON, write_deadline=3 * SOON)
    await guard.open()
    assert guard.leases is not None
    inner.leases.answering.clear()
    async with asyncio.timeout(5):
        for _ in range(3):
            assert not await acquired(guard.leases)
    assert inner.leases.asked == 2, "then it is left alone"
    assert guard.state == "closed"
    assert await guard.set_many({A: b"1"})
    assert await guard.get_many([A]) == {A: b"1"}
    await guard.close()
