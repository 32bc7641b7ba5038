"""What processes tell each other, one story at a time and in the order of events."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr

from cache_proxy.backends.base import Key
from cache_proxy.errand import Sharing
from cache_proxy.errand.trip import UNREAD_MOST
from cache_proxy.errors import PartialAnswer, StoreError, UpstreamBusy, UpstreamRefused
from tests.errand.world import LEASE, MODEL, SIZE, Course, Process, SharedStore, Waiting, World

pytestmark = pytest.mark.anyio

LONG = 1000.0


@pytest.fixture
async def course(tmp_path: Path) -> AsyncIterator[Course]:
    world = World(tmp_path)
    played = Course(world, [Process(world, number) for number in range(2)], Random(0))
    yield played
    await played.clean_up()


def key_of(course: Course, text: str) -> Key:
    body = {"model": MODEL, "dimensions": SIZE, "input": text}
    (key,) = course.processes[0].engine.keys_of(body)
    return key


async def until(course: Course, what: str) -> None:
    """Let things happen until this waits to happen."""
    while not any(one.what == what for one in course.world.waiting):
        await course.world.let_go(course.world.possible()[0])


async def all_want_it(course: Course) -> None:
    """The first process has a call for it under way, and the others wait."""
    first, *others = course.processes
    await course.ask(first, ["a"])
    await until(course, "answer")
    for other in others:
        await course.ask(other, ["a"])
    while steps := [one for one in course.world.waiting if one.process in others and one.due is None]:
        await course.world.let_go(steps[0])


async def test_a_call_may_take_longer_than_a_lease_which_is_renewed_for_it(course: Course) -> None:
    await all_want_it(course)
    began = course.world.now
    while course.world.now < began + 4 * LEASE:
        possible = [one for one in course.world.possible() if one.what != "answer"]
        await course.world.let_go(possible[0])
    await course.fairly(LONG)
    assert course.world.billed == {"a": 1}
    stories = [task.result()[1] for _, _, task in course.callers]
    assert [story.counts.misses for story in stories] == [1, 0]
    assert [story.counts.joined for story in stories] == [0, 1]
    assert "collapsed" in stories[1].cache_status


async def test_who_waits_is_told_of_the_failure_and_the_upstream_is_not_asked_again(course: Course) -> None:
    course.world.upstream_fails = [UpstreamRefused(402, b"words"), UpstreamRefused(402, b"words")]
    await all_want_it(course)
    await course.fairly(LONG)
    first, second = (task.exception() for _, _, task in course.callers)
    assert isinstance(first, UpstreamRefused)
    assert isinstance(second, UpstreamRefused)
    assert (first.status, first.body) == (402, b"words")
    assert (second.status, second.body) == (402, b""), "the words are for whoever asked"
    assert len(course.world.upstream_fails) == 1, "one call"


@pytest.mark.parametrize("status", [401, 402, 403, 407, 429])
async def test_a_refusal_of_one_caller_in_person_is_told_to_nobody_else(course: Course, status: int) -> None:
    refusal = UpstreamRefused(status, b"you")
    refusal.personal = True
    # A 429 is tried twice more before anybody hears of it.
    course.world.upstream_fails = [refusal] * (3 if status == 429 else 1)
    course.processes = [*course.processes, Process(course.world, 2)]
    await all_want_it(course)
    await course.fairly(LONG)
    first, *others = (task for _, _, task in course.callers)
    assert first.exception() is refusal
    assert sorted(task.result()[1].tokens_billed for task in others) == [0, 1], "they try, one for all"


async def test_who_waits_for_what_the_store_does_not_take_pays_at_once_and_not_in_turn(course: Course) -> None:
    course.world.writes_fail = StoreError("full")
    course.processes = [*course.processes, Process(course.world, 2)]
    await all_want_it(course)
    over = course.world.now + LEASE / 2
    while course.world.now < over and (steps := [one for one in course.world.possible() if one.what != "call"]):
        await course.world.let_go(steps[0])
    assert len([one for one in course.world.waiting if one.what == "call"]) == 2, "both who waited, at the same time"
    await course.fairly(LONG)
    assert course.world.billed == {"a": 3}


@pytest.mark.parametrize("fields", [{"cache": {"ttl": 10.0}}, {"cache": {"s-maxage": 10.0}}])
async def test_an_entry_that_is_held_and_too_old_is_paid_for_again_by_one(
    course: Course, fields: dict[str, Any]
) -> None:
    course.processes = [*course.processes, Process(course.world, 2)]
    await course.ask(course.processes[0], ["a"], **fields)
    await course.fairly(LONG)
    course.world.now += 60
    for process in course.processes:
        await course.ask(process, ["a"], **fields)
    await course.fairly(LONG)
    assert course.world.billed == {"a": 2}, "once before, and once after it was over"
    assert sorted(task.result()[1].tokens_billed for _, _, task in course.callers) == [0, 0, 1, 1]


async def test_what_another_process_purged_is_served_to_nobody_who_asks_after_it(course: Course) -> None:
    first, second = course.processes
    await course.ask(second, ["slow"])
    await until(course, "answer")
    (slow,) = (one for one in course.world.waiting if one.what == "answer")

    def others() -> list[Waiting]:
        return [one for one in course.world.possible() if one is not slow and one.what != "renew"]

    await course.ask(second, ["a"])
    while not course.callers[1][2].done() or any(one.what in ("stored", "release", "released") for one in others()):
        await course.world.let_go(others()[0])
    assert await first.means.purge([key_of(course, "a")]) == 1
    await course.ask(second, ["a"])
    while not course.callers[2][2].done():
        await course.world.let_go(others()[0])
    assert course.world.billed["a"] == 2
    assert course.callers[2][2].result()[1].counts.misses == 1
    await course.fairly(LONG)


async def test_who_waited_reads_what_another_stored_and_not_his_own_copy_that_was_too_old(course: Course) -> None:
    world, second = course.world, course.processes[1]
    first = Process(world, 2, near=True)
    course.processes = [first, second]
    await course.ask(first, ["a"], cache={"ttl": 10.0})
    await course.fairly(LONG)
    world.now += 60
    await course.ask(first, ["a"])
    await until(course, "acquire")
    await course.ask(second, ["a"])
    while not course.callers[2][2].done() or world.held:
        await world.let_go(next(one for one in world.possible() if one.process is second))
    await course.fairly(LONG)
    assert world.billed == {"a": 2}, "once before, and once after it was over"
    assert course.callers[1][2].result()[1].counts.joined == 1


async def test_a_renewal_that_hangs_does_not_lose_the_lease(course: Course) -> None:
    await all_want_it(course)
    began = course.world.now
    while course.world.now < began + 3 * LEASE:
        steps = [one for one in course.world.possible() if one.what not in ("answer", "renew")]
        renewals = [one for one in course.world.possible() if one.what == "renew"]
        # Of the renewals under way the oldest is the one that never gets there.
        await course.world.let_go(([*renewals[1:], *steps])[0])
    await course.fairly(LONG)
    assert course.world.billed == {"a": 1}
    assert course.processes[0].means.claims.counts["lost"] == 0


async def test_who_waits_hears_of_a_failure_though_others_take_the_lease_at_once(course: Course) -> None:
    """A key that many want, and an upstream that refuses: between two looks of who waits, others try and fail."""
    first, second = course.processes
    course.world.upstream_fails = [UpstreamRefused(402, b"") for _ in range(20)]
    await all_want_it(course)
    waits = course.callers[1][2]

    def of_the_first() -> list[Waiting]:
        return [one for one in course.world.possible() if one.process is first and one.due is None]

    for _ in range(5):
        while course.callers[-1][2] is not waits and not course.callers[-1][2].done():
            await course.world.let_go(of_the_first()[0])
        while steps := of_the_first():
            await course.world.let_go(steps[0])
        await course.ask(first, ["a"])
        while not any(one.what == "answer" for one in course.world.waiting):
            await course.world.let_go(of_the_first()[0])
    assert not waits.done(), "it has not looked yet"
    while steps := [one for one in course.world.waiting if one.process is second and not waits.done()]:
        await course.world.let_go(steps[0])
    assert isinstance(waits.exception(), UpstreamRefused)
    assert len(course.world.upstream_fails) == 14, "it has tried nothing itself"
    await course.fairly(LONG)


async def test_another_accounts_refusal_is_not_ours(course: Course) -> None:
    theirs = replace(course.world.settings.deployments[0], api_key=SecretStr("jina_another"))
    settings = replace(course.world.settings, deployments=(theirs,))
    course.processes = [course.processes[0], Process(course.world, 1, settings=settings)]
    course.world.upstream_fails = [UpstreamRefused(401, b"words")]
    await all_want_it(course)
    await course.fairly(LONG)
    first, second = (task for _, _, task in course.callers)
    assert isinstance(first.exception(), UpstreamRefused)
    assert second.result()[1].tokens_billed == 1, "who waited has another key, and tries for himself"


async def test_what_the_store_did_not_take_is_paid_by_who_waits_in_one_call(course: Course) -> None:
    course.world.writes_fail = StoreError("full")
    first, second = course.processes
    texts = [f"text {number}" for number in range(20)]
    await course.ask(first, texts)
    await until(course, "answer")
    await course.ask(second, texts)
    while steps := [one for one in course.world.waiting if one.process is second and one.due is None]:
        await course.world.let_go(steps[0])
    await course.fairly(LONG)
    assert course.world.calls == [20, 20]


async def test_what_part_of_a_store_found_is_not_paid_again(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = course.processes
    await course.ask(second, ["a", "b"])
    await until(course, "looked")
    await course.ask(first, ["a", "b"])
    while not course.callers[1][2].done():
        await course.world.let_go(next(one for one in course.world.possible() if one.process is first))
    a = key_of(course, "a")

    async def half(_: SharedStore, keys: Sequence[Key]) -> object:
        raise PartialAnswer("half", {a: course.world.values[a]} if a in keys else {})

    monkeypatch.setattr(SharedStore, "get_strict", half)
    await course.fairly(LONG)
    assert course.world.billed == {"a": 1, "b": 2}


async def test_who_gives_up_a_lease_for_what_is_there_pays_for_the_rest_meanwhile(course: Course) -> None:
    first, second = course.processes
    await course.ask(second, ["a", "b"])
    await until(course, "looked")
    await course.ask(first, ["a"])
    while not course.callers[1][2].done() or course.world.held:
        await course.world.let_go(next(one for one in course.world.possible() if one.process is first))
    over = course.world.now + LEASE
    while course.world.now < over and not any(one.what == "call" for one in course.world.waiting):
        await course.world.let_go(next(one for one in course.world.possible() if one.what != "release"))
    assert {"call", "release"} <= {one.what for one in course.world.waiting}, "the store takes its time with the lease"
    await course.fairly(LONG)
    assert course.world.billed == {"a": 1, "b": 1}


async def test_the_end_of_a_process_gives_up_its_leases(course: Course) -> None:
    first, second = course.processes
    await course.ask(first, ["a"])
    await until(course, "answer")
    ending = asyncio.create_task(first.means.close(0.01))
    while not ending.done():
        await asyncio.sleep(0.001)
        if steps := [one for one in course.world.waiting if one.what in ("release", "released")]:
            await course.world.let_go(steps[0])
    assert course.world.held == {}
    began = course.world.now
    await course.ask(second, ["a"])
    await course.fairly(LONG)
    assert course.world.now - began < 1


async def test_a_lease_that_went_before_its_renewal_came_back_leaves_nothing_behind(course: Course) -> None:
    first = course.processes[0]
    await course.ask(first, ["a"])
    await until(course, "answer")
    while not any(one.what == "renew" for one in course.world.waiting):
        await course.world.let_go(next(one for one in course.world.possible() if one.what != "answer"))
    while first.means.claims._held:
        await course.world.let_go(next(one for one in course.world.possible() if one.what != "renew"))
    await course.go_on(50)
    assert first.means.claims._held == {}
    assert first.means.claims.counts["lost"] == 0


async def test_our_own_limits_are_told_too(course: Course) -> None:
    course.world.upstream_fails = [UpstreamBusy("full", retry_after=7.0)]
    await all_want_it(course)
    await course.fairly(LONG)
    second = course.callers[1][2].exception()
    assert isinstance(second, UpstreamBusy)
    assert second.retry_after == 7.0


async def test_a_lease_is_given_up_only_when_the_value_is_stored(course: Course) -> None:
    await all_want_it(course)
    await until(course, "store")
    assert key_of(course, "a") in course.world.held
    await course.fairly(LONG)
    await course.go_on(50)
    assert course.world.held == {}
    assert course.processes[0].means.claims._held == {}


async def test_what_is_not_kept_leaves_no_word_in_place_of_what_is(course: Course) -> None:
    first = course.processes[0]
    await course.ask(first, ["under way"])
    await until(course, "call")
    await course.ask(first, ["not kept"], cache={"ttl": 0})
    await course.ask(first, ["kept"])
    while course.left() or any(one.due is None for one in course.world.possible()):
        held_up = any("acquire" in one.what for one in course.world.possible())
        # Both are to be in one call, while the first one is under way.
        first_call = len(course.world.calls) == 0 and held_up
        steps = [one for one in course.world.possible() if not (first_call and one.what in ("call", "timer"))]
        await course.world.let_go(steps[0])
    assert course.world.calls == [1, 2]
    assert course.world.held == {}


async def test_each_of_two_leases_of_one_key_is_given_up(course: Course) -> None:
    """As of a trip whose key was purged, and of one that began after it while the leases could not be asked for."""
    claims, key = course.processes[0].means.claims, key_of(course, "a")
    claims._hold([(key, b"one"), (key, b"two")])
    course.world.held[key] = (b"one", course.world.now + LONG)
    giving_up = asyncio.create_task(claims.release([(key, b"one"), (key, b"two")]))
    while not giving_up.done():
        await course.world.settle()
        for step in [one for one in course.world.possible() if one.what in ("release", "released")]:
            await course.world.let_go(step)
    assert claims._held == {}
    assert course.world.held == {}


async def test_a_lease_that_was_lost_is_counted_and_not_taken_from_who_has_it_now(course: Course) -> None:
    await all_want_it(course)
    key = key_of(course, "a")
    thief = (b"another", course.world.now + LONG)
    course.world.held[key] = thief
    began = course.world.now
    while course.world.now < began + 2 * LEASE:
        await course.world.let_go(next(one for one in course.world.possible() if one.what != "answer"))
    assert course.processes[0].means.claims.counts["lost"] == 1
    await until(course, "stored")
    await course.go_on(100)
    assert course.world.held[key] == thief
    assert course.callers[1][2].done(), "the value is there, whoever has the lease"


async def test_who_waits_too_long_pays_for_himself(course: Course) -> None:
    second = course.processes[1]
    key = key_of(course, "a")
    course.world.held[key] = (b"another", course.world.now + 10 * LONG)
    await course.ask(second, ["a"])
    await course.fairly(LONG)
    assert course.callers[0][2].result()[1].tokens_billed == 1
    assert second.means.claims.counts["gave_up"] == 1


async def test_a_value_that_is_there_and_can_not_be_read_for_a_moment_is_not_paid_again(
    course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = course.processes
    await course.ask(second, ["a"])
    await until(course, "looked")
    await course.ask(first, ["a"])
    while not course.callers[1][2].done():
        await course.world.let_go(next(one for one in course.world.possible() if one.process is first))
    failures = [StoreError("busy", refused=False)] * (UNREAD_MOST - 1)
    strict = SharedStore.get_many

    async def busy(store: SharedStore, keys: list[Key]) -> object:
        if failures:
            raise failures.pop()
        return await strict(store, keys)

    monkeypatch.setattr(SharedStore, "get_strict", busy)
    await course.fairly(LONG)
    assert course.world.billed == {"a": 1}
    assert course.callers[0][2].result()[1].counts.joined == 1


async def test_processes_that_do_not_coalesce_pay_each_for_himself(course: Course) -> None:
    for sharing, paid in ((Sharing(leases=False), 2), (Sharing(joining=False, window=0.0), 4)):
        world = World(course.world.settings.cache.directory)
        alone = Course(world, [Process(world, number, sharing) for number in range(2)], Random(0))
        for process in [*alone.processes, *alone.processes]:
            await alone.ask(process, ["a"])
        await alone.fairly(LONG)
        assert world.billed == {"a": paid}
        assert world.held == {}
        await alone.clean_up()


async def test_who_will_not_read_or_store_takes_no_lease_and_waits_for_none(course: Course) -> None:
    await all_want_it(course)
    held = dict(course.world.held)
    task = asyncio.create_task(course.processes[1].ask(["a"], cache={"no-store": True}))
    await course.world.settle()
    while not task.done():
        await course.world.let_go(next(one for one in course.world.possible() if one.process is course.processes[1]))
    assert course.world.held == held
    assert course.world.billed == {"a": 2}
    await course.fairly(LONG)
