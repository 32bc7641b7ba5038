"""One flight per key, whoever leaves, and no moment in which a key is neither under way nor stored."""

import asyncio
from collections.abc import Callable

import pytest

from cache_proxy.errors import UpstreamLost
from cache_proxy.models import Entry, Key, Text
from cache_proxy.upstream.flights import Fallen, Flight, Flights, Landed

pytestmark = pytest.mark.anyio

A, B = b"a" * 32, b"b" * 32
LEADER = object()
GONE = UpstreamLost("gone", outcome_unknown=True)


def landed(key: Key) -> Landed:
    return Landed(Entry(Text(key), 1, 0.0))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


def begun(flights: Flights, *keys: Key, shared: bool = True) -> list[Flight]:
    return flights.begin(keys, LEADER, shared=shared)


async def test_all_who_ask_for_a_key_wait_for_the_same_flight() -> None:
    flights = Flights()
    a, b = begun(flights, A, B)
    assert flights.under_way(A) is a
    assert flights.under_way(B) is b
    waiting = [asyncio.create_task(a.wait()) for _ in range(10)]
    await asyncio.sleep(0)
    brought = landed(A)
    a.end(brought)
    assert all(outcome is brought for outcome in await asyncio.gather(*waiting))
    assert not b.done


async def test_a_caller_who_leaves_harms_nobody_who_stays() -> None:
    flights = Flights()
    (a,) = begun(flights, A)
    leaver, stayer = (asyncio.create_task(a.wait()) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.gather(leaver, return_exceptions=True)
    a.end(landed(A))
    assert isinstance(await stayer, Landed)


async def test_a_key_is_under_way_until_its_flight_is_over() -> None:
    flights = Flights()
    (a,) = begun(flights, A)
    a.end(landed(A))
    assert flights.under_way(A) is a, "its value is not stored yet"
    flights.over([a])
    assert flights.under_way(A) is None


async def test_what_is_over_lingers_for_those_who_looked_before() -> None:
    flights = Flights()
    with flights.looking() as look:
        (a,) = begun(flights, A)
        a.end(landed(A))
        flights.over([a])
        assert flights.under_way(A, look) is a
    assert flights.under_way(A, look) is None


async def test_what_is_over_is_not_for_those_who_began_to_look_after_it() -> None:
    flights = Flights()
    with flights.looking() as before:
        (a,) = begun(flights, A)
        a.end(landed(A))
        with flights.looking() as meanwhile:
            flights.over([a])
            with flights.looking() as after:
                assert flights.under_way(A, after) is None
                assert flights.under_way(A) is None
            assert flights.under_way(A, meanwhile) is flights.under_way(A, before) is a


async def test_a_failure_is_told_to_all_who_wait_and_to_nobody_after_them() -> None:
    flights = Flights()
    with flights.looking() as look:
        (a,) = begun(flights, A)
        waiting = [asyncio.create_task(a.wait()) for _ in range(5)]
        a.end(Fallen(GONE))
        flights.over([a])
        assert flights.under_way(A, look) is None
        assert [outcome.error for outcome in await asyncio.gather(*waiting) if isinstance(outcome, Fallen)] == [
            GONE
        ] * 5


async def test_only_the_first_end_of_a_flight_counts() -> None:
    (a,) = begun(Flights(), A)
    brought = landed(A)
    a.end(brought)
    a.end(Fallen(GONE))
    assert await a.wait() is brought


async def test_a_flight_that_is_not_shared_can_not_be_joined_and_disturbs_none() -> None:
    flights = Flights()
    (shared,) = begun(flights, A)
    (own,) = begun(flights, A, shared=False)
    assert flights.under_way(A) is shared
    own.end(landed(A))
    flights.over([own])
    assert flights.under_way(A) is shared


async def test_a_private_key_can_not_be_joined() -> None:
    flights = Flights()
    flights.begin([A, B], LEADER, private={B})
    assert flights.under_way(A) is not None
    assert flights.under_way(B) is None


async def test_what_was_purged_is_joined_by_nobody_and_known_as_purged_while_anything_is_abroad() -> None:
    flights = Flights()
    since = flights.purges
    a, b = begun(flights, A, B)
    flights.purge([A])
    assert flights.under_way(A) is None
    assert flights.is_purged(A, since)
    assert not flights.is_purged(B, since)
    (again,) = begun(flights, A)
    flights.over([a])
    assert flights.under_way(A) is again, "the old one's end does not end the new one"
    flights.over([again, b])
    assert not flights._purged, "what nobody can ask about is forgotten"


async def test_purges_that_nobody_on_the_way_has_lived_through_are_forgotten() -> None:
    """Under constant load something is on the way at any time."""
    flights, key = Flights(), b"%032d"
    (abroad,) = begun(flights, A)
    for number in range(1000):
        since = flights.purges
        (coming,) = begun(flights, B)
        flights.purge([key % number, A])
        assert flights.is_purged(key % number, since)
        flights.over([abroad])
        abroad = coming
        assert len(flights._purged) <= 3
        assert flights.is_purged(A, since), "the one that is abroad began before that"
    flights.over([abroad])
    assert not flights._purged


async def test_closing_waits_for_what_is_under_way_and_for_what_that_starts() -> None:
    flights, gate = Flights(), asyncio.Event()
    (a,) = begun(flights, A)

    async def bring() -> None:
        await gate.wait()
        flights.start(store())

    async def store() -> None:
        await asyncio.sleep(0)
        a.end(landed(A))
        flights.over([a])

    flights.start(bring())
    closing = asyncio.create_task(flights.close(30))
    await asyncio.sleep(0)
    assert not closing.done()
    gate.set()
    await closing
    assert a.brought


async def test_closing_gives_up_in_time_and_cancels_those_who_wait() -> None:
    flights = Flights()
    (a,) = begun(flights, A)
    flights.start(asyncio.Event().wait())  # type: ignore[arg-type]
    waiting = asyncio.create_task(a.wait())
    async with asyncio.timeout(5):
        await flights.close(0.01)
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert flights.under_way(A) is None


async def test_closing_with_nothing_under_way_is_no_wait() -> None:
    async with asyncio.timeout(1):
        await Flights().close(100)
