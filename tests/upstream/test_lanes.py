"""What is tried again and where, how many calls at once and how fast: told by what is known about money."""

import asyncio
import math
from collections import Counter
from typing import Any

import pytest

from cache_proxy.errors import UpstreamBusy, UpstreamError, UpstreamLost, UpstreamNonsense, UpstreamRefused
from cache_proxy.models import Deployment
from cache_proxy.upstream.lanes import Rules
from tests.upstream.fakes import ANSWER, LOST, TIMED_OUT, UNREACHABLE, Road, Scripted, Step, refused

pytestmark = pytest.mark.anyio

FREE: list[UpstreamError] = [UNREACHABLE, refused(429), refused(503)]
PERHAPS_BILLED: list[UpstreamError] = [LOST, TIMED_OUT, refused(500), refused(502), refused(504), refused(524)]


def at(name: str, **fields: Any) -> Deployment:
    return Deployment(name, f"http://{name}.test/v1", **fields)


def one(*script: Any, rules: Rules | None = None, usual: Any = ANSWER, **fields: Any) -> tuple[Road, Scripted]:
    connection = Scripted(*script, usual=usual)
    return Road((at("one", **fields), connection), rules=rules), connection


def two(first: Scripted, second: Scripted, rules: Rules | None = None, **fields: Any) -> Road:
    return Road((at("a", **fields), first), (at("b", **fields), second), rules=rules)


@pytest.mark.parametrize("error", FREE, ids=str)
@pytest.mark.parametrize("retries", [0, 1, 2, 5])
async def test_what_costs_nothing_is_tried_again_as_often_as_the_deployment_says(
    error: UpstreamError, retries: int
) -> None:
    road, connection = one(*[error] * retries, retries=retries)
    sent = await road.send()
    assert (sent.answer, sent.unknown) == (ANSWER, 0)
    assert connection.calls == retries + 1

    road, connection = one(usual=error, retries=retries)
    with pytest.raises(type(error)) as raised:
        await road.send()
    assert connection.calls == retries + 1
    assert raised.value.unknown_calls == 0


async def test_the_pause_grows_with_each_try_and_is_never_long() -> None:
    road, _ = one(usual=UNREACHABLE, retries=8)
    with pytest.raises(UpstreamLost):
        await road.send()
    slept = road.time.slept
    assert len(slept) == 8
    assert 0.2 <= slept[0] <= 0.6
    assert slept[3] > slept[0]
    assert max(slept) <= 8.5


@pytest.mark.parametrize("error", PERHAPS_BILLED, ids=str)
async def test_what_may_have_been_billed_is_tried_again_once_and_counted(error: UpstreamError) -> None:
    road, connection = one(error, retries=5)
    sent = await road.send()
    assert (sent.answer, sent.unknown) == (ANSWER, 1)
    assert connection.calls == 2

    road, connection = one(usual=error, retries=5)
    with pytest.raises(type(error)) as raised:
        await road.send()
    assert connection.calls == 2
    assert raised.value.unknown_calls == 2


@pytest.mark.parametrize("error", PERHAPS_BILLED, ids=str)
async def test_no_retries_means_none_for_what_may_have_been_billed_either(error: UpstreamError) -> None:
    road, connection = one(usual=error, retries=0)
    with pytest.raises(UpstreamError):
        await road.send()
    assert connection.calls == 1


async def test_free_tries_between_do_not_make_room_for_a_second_repetition() -> None:
    road, connection = one(refused(500), UNREACHABLE, refused(429), LOST, retries=9)
    with pytest.raises(UpstreamLost) as raised:
        await road.send()
    assert connection.calls == 4
    assert raised.value.unknown_calls == 2


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422, 501])
async def test_a_verdict_on_the_request_is_final(status: int) -> None:
    road = two(Scripted(usual=refused(status)), Scripted(usual=refused(status)), retries=5)
    with pytest.raises(UpstreamRefused):
        await road.send()
    assert road.lanes.resting() == []
    assert road.time.slept == []


async def test_a_200_is_never_bought_twice() -> None:
    first, second = (Scripted(usual=UpstreamNonsense("HTML")) for _ in range(2))
    road = two(first, second, retries=5)
    with pytest.raises(UpstreamNonsense) as raised:
        await road.send()
    assert first.calls + second.calls == 1
    assert raised.value.unknown_calls == 1


@pytest.mark.parametrize("status", [401, 402, 403])
async def test_a_refused_key_is_tried_only_at_another_deployment(status: int) -> None:
    road, connection = one(usual=refused(status), retries=5)
    with pytest.raises(UpstreamRefused):
        await road.send()
    assert connection.calls == 1

    bad, good = Scripted(usual=refused(status)), Scripted()
    road = two(bad, good, retries=5)
    for _ in range(4):
        assert (await road.send()).answer == ANSWER
    assert (bad.calls, good.calls) == (1, 4)
    assert road.lanes.resting() == ["a"]

    bad, worse = Scripted(usual=refused(status)), Scripted(usual=refused(status))
    with pytest.raises(UpstreamRefused):
        await two(bad, worse, retries=5).send()
    assert (bad.calls, worse.calls) == (1, 1)


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_retry_after_is_waited_for(status: int) -> None:
    road, connection = one(refused(status, retry_after=17.0))
    assert (await road.send()).answer == ANSWER
    assert road.time.slept == [17.0]
    assert connection.calls == 2


@pytest.mark.parametrize("status", [429, 503, 500])
async def test_a_retry_after_beyond_the_bound_is_the_callers_to_wait_for(status: int) -> None:
    road, connection = one(refused(status, retry_after=31.0), rules=Rules(max_wait=30.0))
    with pytest.raises(UpstreamRefused) as raised:
        await road.send()
    assert raised.value.retry_after == 31.0
    assert connection.calls == 1
    assert road.time.slept == []


async def test_a_retry_after_of_one_deployment_does_not_hold_up_the_other() -> None:
    slow, free = Scripted(refused(429, retry_after=3600.0)), Scripted()
    road = two(slow, free)
    assert (await road.send()).answer == ANSWER
    assert road.time.slept == []
    assert road.lanes.resting() == ["a"]
    road.time.now += 3599
    await road.send()
    assert slow.calls == 1
    road.time.now += 2
    await road.send()
    await road.send()
    assert slow.calls > 1, "it is used again when its time has come"


async def test_a_deployment_back_from_its_rest_gets_its_share_and_not_all_it_has_missed() -> None:
    first, second = Scripted(refused(429, retry_after=60.0)), Scripted()
    road = two(first, second)
    for _ in range(50):
        await road.send()
    road.time.now += 60.0
    before = second.calls
    for _ in range(10):
        await road.send()
    assert (first.calls - 1, second.calls - before) == (5, 5)


async def test_a_failing_deployment_of_a_group_rests_and_is_used_again() -> None:
    bad, good = Scripted(usual=UNREACHABLE), Scripted()
    road = two(bad, good, allowed_fails=3, cooldown=5.0)
    for _ in range(40):
        assert (await road.send()).answer == ANSWER
    assert bad.calls == 4, "more than three failures in a row"
    assert road.lanes.resting() == ["a"]
    road.time.now += 5.0
    for _ in range(4):
        await road.send()
    assert bad.calls > 4


async def test_a_success_in_between_forgives_earlier_failures() -> None:
    script: list[Step] = [UNREACHABLE, UNREACHABLE, UNREACHABLE, ANSWER] * 10
    shaky = Scripted(*script)
    road = two(shaky, Scripted(), allowed_fails=3)
    for _ in range(80):
        await road.send()
    assert shaky.calls > 10
    assert road.lanes.resting() == []


async def test_the_only_deployment_of_a_name_is_never_left_alone() -> None:
    road, connection = one(usual=refused(503), retries=0, allowed_fails=0, cooldown=1000.0)
    for _ in range(5):
        with pytest.raises(UpstreamRefused):
            await road.send()
    assert connection.calls == 5
    assert road.lanes.resting() == []


async def test_where_all_rest_the_one_that_wakes_first_is_asked_all_the_same() -> None:
    first, second = Scripted(refused(429, retry_after=100.0)), Scripted(refused(429, retry_after=200.0))
    road = two(first, second, retries=1)
    with pytest.raises(UpstreamRefused):
        await road.send()
    assert set(road.lanes.resting()) == {"a", "b"}
    assert (await road.send()).answer == ANSWER
    assert (first.calls, second.calls) == (2, 1)


async def test_calls_are_shared_out_by_weight() -> None:
    heavy, light = Scripted(), Scripted()
    road = Road((at("heavy", weight=3.0), heavy), (at("light", weight=1.0), light))
    for _ in range(40):
        await road.send()
    assert Counter(heavy=heavy.calls, light=light.calls) == {"heavy": 30, "light": 10}


async def test_a_call_goes_where_the_fewest_are_under_way() -> None:
    gate = asyncio.Event()
    slow, fast = Scripted(gate=gate), Scripted()
    road = two(slow, fast)
    waiting = [asyncio.create_task(road.send()) for _ in range(2)]
    await asyncio.sleep(0.01)
    for _ in range(10):
        await road.send()
    assert (slow.calls, fast.calls) == (1, 11)
    gate.set()
    await asyncio.gather(*waiting)


async def test_a_higher_order_is_only_for_when_the_lower_ones_fail() -> None:
    first, spare = Scripted(), Scripted()
    road = Road((at("spare", order=2), spare), (at("first", order=1), first))
    for _ in range(10):
        await road.send()
    assert (first.calls, spare.calls) == (10, 0)

    failing, spare = Scripted(usual=refused(503)), Scripted()
    road = Road((at("spare", order=2), spare), (at("first", order=1), failing))
    assert (await road.send()).answer == ANSWER
    assert (failing.calls, spare.calls) == (1, 1)


async def test_no_more_calls_are_under_way_than_the_deployment_takes() -> None:
    road, connection = one(max_parallel=3)
    sent = await asyncio.gather(*(road.send() for _ in range(20)))
    assert [each.answer for each in sent] == [ANSWER] * 20
    assert connection.peak == 3


async def test_who_finds_no_free_slot_within_the_bound_is_told_to_come_back() -> None:
    gate = asyncio.Event()
    connection = Scripted(gate=gate)
    road = Road((at("one", max_parallel=1), connection), rules=Rules(max_wait=0.02))
    first = asyncio.create_task(road.send())
    await asyncio.sleep(0)
    with pytest.raises(UpstreamBusy) as raised:
        await road.send()
    assert raised.value.retry_after > 0
    gate.set()
    assert (await first).answer == ANSWER
    assert connection.calls == 1
    assert (await road.send()).answer == ANSWER, "the slot is free again"


async def test_a_slot_is_free_again_after_a_failure() -> None:
    road, _ = one(*[LOST] * 4, max_parallel=1, retries=0)
    for _ in range(4):
        with pytest.raises(UpstreamLost):
            await road.send()
    assert (await road.send()).answer == ANSWER


async def test_calls_beyond_the_requests_of_a_minute_wait_their_turn() -> None:
    road, connection = one(rpm=2)
    for _ in range(3):
        await road.send()
    assert road.time.slept == pytest.approx([30.0])
    assert connection.calls == 3


async def test_calls_beyond_the_tokens_of_a_minute_wait_their_turn() -> None:
    road, _ = one(tpm=600)
    await road.send(tokens=600)
    await road.send(tokens=100)
    assert road.time.slept == pytest.approx([10.0])


async def test_a_wait_beyond_the_bound_is_refused_at_once_and_uses_up_no_room() -> None:
    road, connection = one(rpm=1, rules=Rules(max_wait=30.0))
    await road.send()
    for _ in range(5):
        with pytest.raises(UpstreamBusy) as raised:
            await road.send()
        assert raised.value.retry_after == pytest.approx(60.0)
    road.time.now += 60.0
    await road.send()
    assert connection.calls == 2
    assert road.time.slept == []


async def test_a_call_of_more_tokens_than_a_minute_has_goes_when_the_bucket_is_full() -> None:
    road, connection = one(tpm=100)
    await road.send(tokens=5000)
    assert connection.calls == 1


async def test_a_deployment_that_used_up_its_minute_leaves_the_calls_to_the_other() -> None:
    small, large = Scripted(), Scripted()
    road = Road((at("small", rpm=2), small), (at("large", rpm=1000), large))
    for _ in range(50):
        await road.send()
    assert (small.calls, large.calls) == (2, 48)
    assert road.time.slept == []
    assert road.lanes.resting() == []


async def test_a_deployment_whose_slots_are_taken_leaves_the_call_to_the_other() -> None:
    gate = asyncio.Event()
    full, free = Scripted(gate=gate), Scripted()
    ways = (at("full", max_parallel=1, retries=0, allowed_fails=0), full), (at("free", order=2), free)
    road = Road(*ways, rules=Rules(max_wait=0.02))
    first = asyncio.create_task(road.send())
    await asyncio.sleep(0)
    assert (await road.send()).answer == ANSWER
    assert (full.calls, free.calls) == (1, 1)
    assert road.lanes.resting() == [], "to be busy is not to fail"
    gate.set()
    await first


async def test_a_retry_is_paced_like_any_call() -> None:
    road, connection = one(refused(429, retry_after=0.0), rpm=1, rules=Rules(max_wait=90.0))
    await road.send()
    assert connection.calls == 2
    assert math.fsum(road.time.slept) == pytest.approx(60.0)


async def test_closing_closes_what_was_opened() -> None:
    first, second = Scripted(), Scripted()
    road = two(first, second)
    await road.send()
    await road.send()
    await road.lanes.close()
    assert first.closed
    assert second.closed
