"""The counters of a store (see ``base``), as tests. Imported by tests only; it is used as ``lease_contract`` is."""
# ruff: noqa: S101

import asyncio
import os
import time
from collections.abc import Awaitable

import pytest

from cache_proxy.backends.base import Backend, Counters, Want
from cache_proxy.backends.contract import A
from cache_proxy.backends.lease_contract import LONG, SOON, SecondContract, until
from cache_proxy.errors import StoreError

N, OTHER = b"name", b"another name"

PATIENT, HASTY = 1000.0, 0.0
"""Who waits for as long as it takes, and who does not wait, in seconds."""

SIX = 6
"""Units a minute: one comes back in ten seconds, so that a busy machine makes no difference."""

SLACK = 5.0
"""Seconds that a busy machine may lose in the course of a test."""


class CountersContract(SecondContract):
    """Subclass it under a name that pytest collects."""

    @pytest.fixture
    def counters(self, store: Backend) -> Counters:
        assert store.counters is not None
        return store.counters

    @pytest.fixture
    def others(self, beside: Backend) -> Counters:
        """The same counters, as another process has them."""
        assert beside.counters is not None
        return beside.counters

    # Units that come back ---------------------------------------------------------------------------------------------

    async def test_a_full_bucket_holds_a_minutes_worth(self, counters: Counters, others: Counters) -> None:
        for _ in range(3):
            assert await counters.take(N, [Want(2, SIX)], HASTY) == 0.0
        assert about(await others.take(N, [Want(1, SIX)], HASTY), 10.0)

    async def test_waits_add_up(self, counters: Counters, others: Counters) -> None:
        assert await counters.take(N, [Want(6, SIX)], HASTY) == 0.0
        for seconds in (10.0, 20.0, 30.0):
            assert about(await others.take(N, [Want(1, SIX)], PATIENT), seconds)
        assert about(await counters.take(N, [Want(0.5, SIX)], PATIENT), 35.0)

    async def test_who_would_wait_too_long_takes_nothing(self, counters: Counters) -> None:
        assert await counters.take(N, [Want(6, SIX)], HASTY) == 0.0
        for at_most in (HASTY, 3.0, HASTY):
            assert about(await counters.take(N, [Want(1, SIX)], at_most), 10.0)

    async def test_more_than_a_minutes_worth_waits_for_a_full_bucket(self, counters: Counters) -> None:
        assert await counters.take(N, [Want(12, SIX)], HASTY) == 0.0, "it is full"
        assert about(await counters.take(N, [Want(1, SIX)], HASTY), 70.0)
        assert await counters.take(OTHER, [Want(6, SIX)], HASTY) == 0.0
        assert about(await counters.take(OTHER, [Want(12, SIX)], PATIENT), 60.0)
        assert about(await counters.take(OTHER, [Want(1, SIX)], PATIENT), 130.0)

    async def test_of_several_buckets_all_or_none_is_used(self, counters: Counters) -> None:
        assert await counters.take(N, [Want(3, SIX), Want(6, SIX)], HASTY) == 0.0
        assert about(await counters.take(N, [Want(3, SIX), Want(1, SIX)], HASTY), 10.0)
        assert await counters.take(N, [Want(3, SIX), Want(0, SIX)], HASTY) == 0.0, "the first was left as it was"

    async def test_the_longest_wait_of_several_buckets_counts(self, counters: Counters) -> None:
        wants = [Want(6, SIX), Want(60, 60), Want(1, 60)]
        assert await counters.take(N, wants, HASTY) == 0.0
        assert about(await counters.take(N, [Want(1, SIX), Want(5, 60)], PATIENT), 10.0)
        assert about(await counters.take(N, [Want(0, SIX), Want(25, 60)], PATIENT), 30.0)

    async def test_units_come_back_evenly(self, counters: Counters) -> None:
        assert await counters.take(N, [Want(600, 600)], HASTY) == 0.0
        began_at = time.monotonic()
        await until(lambda: goes_ahead(counters, Want(5, 600)), "five units of ten a second")
        assert time.monotonic() - began_at > 0.4

    async def test_a_bucket_that_was_left_alone_is_full_and_no_fuller(self, counters: Counters) -> None:
        assert await counters.take(N, [Want(1, 6000)], HASTY) == 0.0
        await until(lambda: goes_ahead(counters, Want(6000, 6000)), "a full bucket")
        assert await counters.take(N, [Want(3000, 6000)], HASTY) > 0.0

    async def test_no_units_need_no_room(self, counters: Counters) -> None:
        assert await counters.take(N, [Want(6, SIX)], HASTY) == 0.0
        assert await counters.take(N, [Want(0, SIX)], HASTY) == 0.0
        assert await counters.take(N, [], HASTY) == 0.0

    async def test_many_at_a_time_take_what_there_is(self, counters: Counters, others: Counters) -> None:
        calls = [(counters, others)[at % 2].take(N, [Want(1, 10)], HASTY) for at in range(50)]
        began_at = time.monotonic()
        waits = await asyncio.gather(*calls)
        came_back = (time.monotonic() - began_at) * 10 / 60
        assert 10 <= waits.count(0.0) <= 10 + came_back

    # Inside at a time -------------------------------------------------------------------------------------------------

    async def test_no_more_are_inside_than_the_limit(self, counters: Counters, others: Counters) -> None:
        assert [await each.enter(N, t, 2, LONG) for each, t in ((counters, b"1"), (others, b"2"))] == [True, True]
        assert await counters.enter(N, b"3", 2, LONG) is False
        assert await others.enter(N, b"3", 2, LONG) is False
        assert await others.enter(N, b"3", 3, LONG) is True, "the limit is the caller's"

    async def test_who_leaves_makes_room_for_one(self, counters: Counters, others: Counters) -> None:
        for ticket in (b"1", b"2"):
            await counters.enter(N, ticket, 2, LONG)
        for _ in range(2):
            await others.leave(N, b"1")
            await others.leave(N, b"nobody")
        assert await counters.enter(N, b"3", 2, LONG) is True
        assert await counters.enter(N, b"1", 2, LONG) is False

    async def test_who_is_inside_may_always_enter_again(self, counters: Counters, others: Counters) -> None:
        for ticket in (b"1", b"2"):
            await counters.enter(N, ticket, 2, LONG)
        for limit in (2, 1, 0):
            assert await others.enter(N, b"1", limit, LONG) is True
        await counters.leave(N, b"1")
        assert await counters.enter(N, b"3", 2, LONG) is True, "twice inside is one ticket"

    async def test_a_ticket_ends_with_its_time(self, counters: Counters, others: Counters) -> None:
        await counters.enter(N, b"1", 2, LONG)
        await counters.enter(N, b"2", 2, SOON)
        await until(lambda: others.enter(N, b"3", 2, LONG), "the end of a ticket")
        assert await counters.enter(N, b"4", 2, LONG) is False, "the other one's time is not over"

    async def test_who_enters_again_counts_from_then_on(self, counters: Counters) -> None:
        await counters.enter(N, b"1", 1, SOON)
        await counters.enter(OTHER, b"1", 1, SOON)
        await counters.enter(N, b"1", 1, LONG)
        await until(lambda: counters.enter(OTHER, b"2", 1, LONG), "the end of a ticket")
        assert await counters.enter(N, b"2", 1, LONG) is False

    async def test_many_at_a_time_enter_up_to_the_limit(self, counters: Counters, others: Counters) -> None:
        calls = [(counters, others)[at % 2].enter(N, os.urandom(16), 20, LONG) for at in range(50)]
        assert sum(await asyncio.gather(*calls)) == 20

    async def test_tickets_of_every_byte_are_told_apart(self, counters: Counters) -> None:
        tickets = [b"", b"\x00", b"\x00\x00", b" ", b"\n", b"a:b", b"%s'", b"\xff" * 32, bytes(range(32))]
        assert all([await counters.enter(N, ticket, len(tickets), LONG) for ticket in tickets])
        assert await counters.enter(N, b"one more", len(tickets), LONG) is False

    # Names ------------------------------------------------------------------------------------------------------------

    async def test_names_are_told_apart(self, counters: Counters) -> None:
        names = [A, b"n", b"N", b"n\x00", b"n ", b"n:m", b"{n}", b"\xff*?[\n", bytes(64), bytes(63), "ü".encode()]
        for ticket, name in enumerate(names):
            assert await counters.take(name, [Want(6, SIX)], HASTY) == 0.0
            assert await counters.enter(name, bytes([ticket]), 1, LONG) is True
        for name in names:
            assert await counters.take(name, [Want(1, SIX)], HASTY) > 0.0
            assert await counters.enter(name, b"one more", 1, LONG) is False

    async def test_counters_and_values_are_not_mixed(self, store: Backend, counters: Counters) -> None:
        await counters.take(A, [Want(6, SIX)], HASTY)
        await counters.enter(A, b"1", 1, LONG)
        assert await store.get_many([A]) == {}
        await store.set_many({A: b"1"})
        assert await store.delete_many([A]) == 1
        assert await counters.take(A, [Want(1, SIX)], HASTY) > 0.0
        assert await counters.enter(A, b"2", 1, LONG) is False

    async def test_counters_outlive_a_purge(self, store: Backend, counters: Counters) -> None:
        await counters.take(N, [Want(6, SIX)], HASTY)
        await counters.enter(N, b"1", 1, LONG)
        await store.clear()
        assert await counters.take(N, [Want(1, SIX)], HASTY) > 0.0
        assert await counters.enter(N, b"2", 1, LONG) is False

    async def test_once_closed_they_answer_or_raise_store_error(self, store: Backend, counters: Counters) -> None:
        await store.close()
        calls: tuple[Awaitable[object], ...] = (
            counters.take(N, [Want(1, SIX)], HASTY),
            counters.enter(N, b"1", 1, LONG),
            counters.leave(N, b"1"),
        )
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ended if isinstance(each, BaseException)} <= {StoreError}
        await store.open()
        assert await counters.enter(OTHER, b"1", 1, LONG) is True


def about(wait: float, seconds: float) -> bool:
    """Whether this is the wait, less what has come back in the course of the test."""
    return seconds - SLACK < wait <= seconds


async def goes_ahead(counters: Counters, want: Want) -> bool:
    """Whether these units are there at once; if so, they are used."""
    return await counters.take(N, [want], HASTY) == 0.0
