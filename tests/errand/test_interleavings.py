"""The protocol of leases and flights under a scheduler that tries one order of events after the other.

The invariants are those of docs/decisions/0015-leases-and-flights.md. Every step of every process (to the store and
back, to the upstream and back, every timer) is let go in an order that hypothesis chooses, with callers that leave,
processes that die, clocks that jump and an upstream that fails, as the test says.
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache_proxy.errand import Sharing
from cache_proxy.errors import StoreError, UpstreamLost, UpstreamRefused
from tests.errand.world import LEASE, MODEL, SIZE, Course, Process, World

TEXTS = ["a", "b", "c", "d"]
TRIES = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CHANCE = st.randoms(use_true_random=False)
BOUND = 200.0
"""Seconds of the world's clock in which everybody must have an answer once things happen in order: the longest that a
call may take with its retries, and a lease."""


WITH_LEASES, WITHOUT = Sharing(lease=LEASE), Sharing(leases=False)


def in_a_world(
    folder: Path,
    count: int,
    chance: Random,
    play: Callable[[Course], Coroutine[Any, Any, None]],
    sharing: Sharing = WITH_LEASES,
) -> Course:
    async def run() -> Course:
        world = World(folder)
        course = Course(world, [Process(world, number, sharing) for number in range(count)], chance)
        try:
            await play(course)
            await course.fairly(BOUND)
            check(course)
        finally:
            await course.clean_up()
        return course

    return asyncio.run(run())


def check(course: Course) -> None:
    """Everybody is answered, and rightly."""
    assert course.left() == [], "somebody waits beyond the bound"
    for process, texts, task in course.callers:
        if not process.dead and not task.cancelled() and task.exception() is None:
            vectors, _ = task.result()
            assert vectors == [course.world.vector(text) for text in texts]


def paid_once(course: Course) -> None:
    """Each text was billed once, but for leases that were taken over from somebody who had not given them up."""
    process = course.processes[0]
    for text, times in course.world.billed.items():
        body = {"model": MODEL, "dimensions": SIZE, "input": text}
        (key,) = process.engine.keys_of(body)
        assert times <= 1 + course.world.excuses[key], (text, times)


def nobody_failed(course: Course) -> None:
    errors = [task.exception() for _, _, task in course.callers if task.done() and not task.cancelled()]
    assert [error for error in errors if error is not None] == []


async def some_requests(course: Course, count: int = 5) -> None:
    for _ in range(count):
        texts = [course.chance.choice(TEXTS) for _ in range(course.chance.randint(1, 4))]
        await course.ask(course.chance.choice(course.processes), texts)
        await course.go_on(course.chance.randint(0, 12))


@TRIES
@given(CHANCE, st.integers(1, 3))
def test_in_any_order_each_text_is_paid_once_and_everybody_answered(tmp_path: Path, chance: Random, count: int) -> None:
    course = in_a_world(tmp_path, count, chance, some_requests)
    nobody_failed(course)
    paid_once(course)
    asked = {text for _, texts, _ in course.callers for text in texts}
    assert course.world.billed.keys() == asked
    stories = [task.result()[1] for _, _, task in course.callers]
    assert sum(story.tokens_billed for story in stories) == course.world.billed.total(), "the receipts add up"
    for story in stories:
        counts = story.counts
        assert counts.items == counts.hits + counts.misses + counts.duplicates + counts.joined
        assert story.tokens_billed == counts.misses, "a token each here: who says miss has paid"


@TRIES
@given(CHANCE, st.sampled_from([(1, WITHOUT), (2, WITH_LEASES)]))
def test_what_has_landed_and_is_still_being_stored_is_not_paid_again(
    tmp_path: Path, chance: Random, processes: tuple[int, Sharing]
) -> None:
    """A store so slow that no reply waits for it."""

    async def play(course: Course) -> None:
        course.world.holds = {"store"}
        await some_requests(course, 3)
        while not any(task.done() for _, _, task in course.callers):
            await course.world.let_go(course.world.possible()[0])
        assert course.world.values == {}, "somebody has his answer, and nothing is stored"
        await some_requests(course, 3)
        course.world.holds = frozenset()

    count, sharing = processes
    course = in_a_world(tmp_path, count, chance, play, sharing)
    nobody_failed(course)
    paid_once(course)


@TRIES
@given(CHANCE)
def test_callers_who_leave_harm_nobody_and_what_they_began_is_kept(tmp_path: Path, chance: Random) -> None:
    async def play(course: Course) -> None:
        for _ in range(6):
            await some_requests(course, 1)
            if chance.random() < 0.5:
                chance.choice(course.callers)[2].cancel()
                await course.world.settle()

    course = in_a_world(tmp_path, 2, chance, play)
    nobody_failed(course)
    paid_once(course)


@TRIES
@given(CHANCE)
def test_a_process_that_dies_costs_one_lease_and_no_answer(tmp_path: Path, chance: Random) -> None:
    async def play(course: Course) -> None:
        await some_requests(course, 3)
        course.processes[0].kill()
        killed_at.append(course.world.now)
        for _ in range(3):
            await course.ask(course.processes[1 + chance.randrange(2)], [chance.choice(TEXTS)])
            await course.go_on(chance.randint(0, 12))

    killed_at: list[float] = []
    course = in_a_world(tmp_path, 3, chance, play)
    nobody_failed(course)
    paid_once(course)


def test_who_waits_for_one_that_died_waits_for_the_lease_and_hardly_longer(tmp_path: Path) -> None:
    async def play(course: Course) -> None:
        first, second = course.processes
        await course.ask(first, ["a"])
        while not any(one.what == "answer" for one in course.world.waiting):
            await course.world.let_go(course.world.possible()[0])
        first.kill()
        began = course.world.now
        await course.ask(second, ["a"])
        await course.fairly(BOUND)
        waited.append(course.world.now - began)

    waited: list[float] = []
    course = in_a_world(tmp_path, 2, Random(0), play)
    assert 0 < waited[0] <= LEASE + 0.5
    assert course.world.billed["a"] == 2, "the one that died had been billed: that can not be helped"
    paid_once(course)


@TRIES
@given(CHANCE)
def test_a_failure_reaches_those_who_wait_and_is_forgotten(tmp_path: Path, chance: Random) -> None:
    async def play(course: Course) -> None:
        course.world.upstream_fails = [UpstreamRefused(402, b'{"detail":"words"}')]
        await some_requests(course, 4)
        await course.fairly(BOUND)
        failed.extend(task for _, _, task in course.callers if task.exception() is not None)
        await course.ask(chance.choice(course.processes), TEXTS)

    failed: list[Any] = []
    course = in_a_world(tmp_path, 2, chance, play)
    assert all(isinstance(task.exception(), UpstreamRefused) and task.exception().status == 402 for task in failed)
    assert failed, "one call at least was refused, and somebody had asked for it"
    assert course.callers[-1][2].exception() is None, "whoever comes later tries afresh"
    paid_once(course)


@TRIES
@given(CHANCE)
def test_a_bad_text_fails_those_who_asked_for_it_and_nobody_else(tmp_path: Path, chance: Random) -> None:
    async def play(course: Course) -> None:
        for _ in range(6):
            texts = [chance.choice([*TEXTS, "poison"]) for _ in range(chance.randint(1, 3))]
            await course.ask(chance.choice(course.processes), texts)
            await course.go_on(chance.randint(0, 10))

    course = in_a_world(tmp_path, 2, chance, play)
    for _, texts, task in course.callers:
        error = task.exception()
        assert (error is not None) == ("poison" in texts), texts
        if error is not None:
            assert isinstance(error, UpstreamRefused)
            assert (error.status, error.body) == (422, b'{"detail":"poison"}'), "his items alone: he sees the words"
    paid_once(course)


@TRIES
@given(CHANCE)
def test_a_lost_answer_is_paid_again_once_and_never_more(tmp_path: Path, chance: Random) -> None:
    async def play(course: Course) -> None:
        course.world.upstream_fails = [UpstreamLost("gone", outcome_unknown=True)]
        await some_requests(course, 4)

    course = in_a_world(tmp_path, 2, chance, play)
    nobody_failed(course)
    again = [text for text, times in course.world.billed.items() if times > 1]
    assert sum(course.world.billed[text] - 1 for text in again) <= len(TEXTS) + course.world.excuses.total()


@TRIES
@given(CHANCE)
def test_leases_that_can_not_be_had_cost_money_and_no_answer(tmp_path: Path, chance: Random) -> None:
    async def play(course: Course) -> None:
        for _ in range(5):
            course.world.store_fails = StoreError("gone") if chance.random() < 0.5 else None
            await some_requests(course, 1)
        course.world.store_fails = None

    nobody_failed(in_a_world(tmp_path, 2, chance, play))


@TRIES
@given(CHANCE)
def test_a_clock_that_jumps_costs_money_at_most(tmp_path: Path, chance: Random) -> None:
    async def play(course: Course) -> None:
        for _ in range(4):
            await some_requests(course, 1)
            course.world.now += chance.choice([0.0, LEASE, 3600.0, -LEASE / 2])

    course = in_a_world(tmp_path, 2, chance, play)
    nobody_failed(course)
    # Who finds that he has waited long enough pays for himself, and so does who is told that his lease is over.
    gave_up = sum(process.means.claims.counts["gave_up"] for process in course.processes)
    paid_again = sum(times - 1 for times in course.world.billed.values())
    assert paid_again <= course.world.excuses.total() + gave_up
