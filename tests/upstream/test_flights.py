"""One trip per key, whoever leaves, and no moment in which a key is neither under way nor stored."""

import asyncio
from collections.abc import Callable

import pytest

from cache_proxy.errors import UpstreamLost
from cache_proxy.models import Entry, Key, Text
from cache_proxy.upstream.flights import Flights, Fly, Land, Landed

pytestmark = pytest.mark.anyio

A, B = b"a" * 32, b"b" * 32


def landed(*keys: Key) -> Landed:
    return Landed({key: Entry(Text(key), 1, 0.0) for key in keys}, tokens=len(keys))


class Journey:
    """A trip that lands and is stored when told to."""

    def __init__(self, *keys: Key) -> None:
        self.lands = asyncio.Event()
        self.stores = asyncio.Event()
        self.stored = False
        self.started = 0
        self.brings = landed(*keys)

    async def __call__(self, land: Land) -> None:
        self.started += 1
        await self.lands.wait()
        land(self.brings)
        await self.stores.wait()
        self.stored = True


def failing(error: Exception, gate: asyncio.Event | None = None) -> Fly:
    async def fly(_: Land) -> None:
        if gate is not None:
            await gate.wait()
        raise error

    return fly


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_all_who_ask_for_a_key_share_one_trip() -> None:
    flights, journey = Flights(), Journey(A, B)
    trip = flights.depart([A, B], journey)
    assert flights.under_way(A) is trip
    assert flights.under_way(B) is trip
    waiting = [asyncio.create_task(trip.wait()) for _ in range(10)]
    journey.lands.set()
    assert all(result is journey.brings for result in await asyncio.gather(*waiting))
    assert journey.started == 1
    journey.stores.set()
    await flights.close(1)


async def test_a_leader_who_leaves_harms_nobody_who_stays() -> None:
    flights, journey = Flights(), Journey(A)

    async def lead() -> None:
        await flights.depart([A], journey).wait()

    leader = asyncio.create_task(lead())
    await until(lambda: flights.under_way(A) is not None)
    trip = flights.under_way(A)
    assert trip is not None
    joiner = asyncio.create_task(trip.wait())
    await asyncio.sleep(0)
    leader.cancel()
    await asyncio.gather(leader, return_exceptions=True)
    assert leader.cancelled()
    journey.lands.set()
    assert await joiner is journey.brings
    journey.stores.set()
    await flights.close(1)


async def test_what_nobody_waits_for_any_more_is_stored_all_the_same() -> None:
    flights, journey = Flights(), Journey(A)
    trip = flights.depart([A], journey)
    waiting = [asyncio.create_task(trip.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    journey.lands.set()
    journey.stores.set()
    await until(lambda: journey.stored)


async def test_a_key_is_under_way_until_its_value_is_stored() -> None:
    flights, journey = Flights(), Journey(A)
    trip = flights.depart([A], journey)
    journey.lands.set()
    await trip.wait()
    assert flights.under_way(A) is trip
    assert await trip.wait() is journey.brings
    journey.stores.set()
    await until(lambda: flights.under_way(A) is None)
    assert journey.stored


async def test_a_failure_reaches_all_who_wait_and_nobody_after_them() -> None:
    flights, gate = Flights(), asyncio.Event()
    trip = flights.depart([A], failing(UpstreamLost("gone", outcome_unknown=True), gate))
    waiting = [asyncio.create_task(trip.wait()) for _ in range(5)]
    gate.set()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UpstreamLost] * 5
    await until(lambda: flights.under_way(A) is None)
    second = Journey(A)
    second.lands.set()
    second.stores.set()
    assert await flights.depart([A], second).wait() is second.brings


async def test_a_failure_after_the_landing_takes_nothing_back() -> None:
    async def fly(land: Land) -> None:
        land(landed(A))
        raise RuntimeError("the store broke")

    flights = Flights()
    trip = flights.depart([A], fly)
    assert A in (await trip.wait()).entries
    await until(lambda: flights.under_way(A) is None)


async def test_a_failure_that_nobody_waits_for_is_not_reported_as_forgotten() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    flights = Flights()
    trip = flights.depart([A], failing(UpstreamLost("gone", outcome_unknown=True)))
    await until(trip.landing.done)
    del trip
    await flights.close(1)
    assert reported == []


async def test_a_trip_that_is_not_shared_can_not_be_joined_and_disturbs_none() -> None:
    flights, shared, alone = Flights(), Journey(A), Journey(A)
    trip = flights.depart([A], shared)
    own = flights.depart([A], alone, shared=False)
    assert flights.under_way(A) is trip
    for event in (alone.lands, alone.stores):
        event.set()
    assert await own.wait() is alone.brings
    await until(lambda: alone.stored)
    assert flights.under_way(A) is trip
    for event in (shared.lands, shared.stores):
        event.set()
    await flights.close(1)


async def test_a_trip_of_its_own_leaves_nothing_to_join() -> None:
    flights = Flights()
    flights.depart([A], Journey(A), shared=False)
    assert flights.under_way(A) is None
    await flights.close(0)


async def test_a_private_key_of_a_shared_trip_can_not_be_joined() -> None:
    flights = Flights()
    trip = flights.depart([A, B], Journey(A, B), private=frozenset({B}))
    assert flights.under_way(A) is trip
    assert flights.under_way(B) is None
    await flights.close(0)


async def test_closing_waits_for_what_is_under_way() -> None:
    flights, journey = Flights(), Journey(A)
    flights.depart([A], journey)
    closing = asyncio.create_task(flights.close(30))
    await asyncio.sleep(0)
    assert not closing.done()
    journey.lands.set()
    journey.stores.set()
    await closing
    assert journey.stored


async def test_closing_gives_up_in_time_and_tells_those_who_wait() -> None:
    flights, journey = Flights(), Journey(A)
    waiting = asyncio.create_task(flights.depart([A], journey).wait())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await flights.close(0.01)
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert not journey.stored
    assert flights.under_way(A) is None


async def test_closing_with_nothing_under_way_is_no_wait() -> None:
    async with asyncio.timeout(1):
        await Flights().close(100)
