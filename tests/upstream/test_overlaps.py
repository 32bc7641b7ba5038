"""Look-ups, landings, purges and joiners that overlap: nothing is paid twice, and nothing purged comes back."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cache_proxy.backends import MemoryBackend, TieredBackend
from cache_proxy.core.names import Names, Target
from cache_proxy.errors import UpstreamRefused
from cache_proxy.standin import Fault
from tests.upstream.fakes import SlowToStore
from tests.upstream.test_errand import House, until

pytestmark = pytest.mark.anyio


class SlowToAnswer(MemoryBackend):
    """Looks at once, and tells what it saw only when ``telling`` is set."""

    def __init__(self) -> None:
        super().__init__(2**26)
        self.telling = asyncio.Event()
        self.asked = 0

    async def get_many(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        seen = await super().get_many(keys)
        self.asked += 1
        await self.telling.wait()
        return seen


@pytest.mark.parametrize("tiered", [False, True])
async def test_who_looked_before_a_value_landed_and_hears_after_does_not_pay_for_it_again(
    tmp_path: Path, tiered: bool
) -> None:
    slow = SlowToAnswer()
    store = TieredBackend(MemoryBackend(2**26), slow, clock=lambda: 0.0) if tiered else slow
    slow.telling.set()
    await store.open()
    slow.telling, slow.asked = asyncio.Event(), 0
    house = House(tmp_path, store)
    one, two = (asyncio.create_task(house.ask(["a"])) for _ in range(2))
    await until(lambda: slow.asked >= 2)
    early = slow.telling
    slow.telling = asyncio.Event()
    slow.telling.set()
    await house.ask(["a"])
    early.set()
    await asyncio.gather(one, two)
    assert house.standin.call_count == 1


async def test_what_lingers_for_a_look_up_is_let_go_when_that_is_answered(tmp_path: Path) -> None:
    house = House(tmp_path)
    await asyncio.gather(*(house.ask([f"text {number}"]) for number in range(20)))
    await house.flights.close(5)
    with house.flights.looking():
        pass
    assert house.flights._under_way == {}
    assert not house.flights._lingering


async def test_one_slow_request_does_not_keep_what_others_brought_in_memory(tmp_path: Path) -> None:
    house = House(tmp_path)
    slow_gate = next_calls_wait(house)
    slow = asyncio.create_task(house.ask(["slow"]))
    await until(lambda: house.gate.arrived == 1)
    next_calls_pass(house)
    for number in range(20):
        await house.ask([f"text {number} {at}" for at in range(10)], dimensions=8)
    await until(lambda: len(house.flights._under_way) == 1)
    assert not house.flights._lingering
    slow_gate.set()
    await slow


def next_calls_wait(house: House) -> asyncio.Event:
    """Calls that arrive from now on wait for this."""
    house.gate.open = asyncio.Event()
    return house.gate.open


def next_calls_pass(house: House) -> None:
    next_calls_wait(house).set()


async def test_who_has_to_try_again_finds_what_others_brought_meanwhile(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("status", 422, contains="poison"))
    slow_gate = next_calls_wait(house)
    slow = asyncio.create_task(house.ask(["slow"]))
    await until(lambda: house.gate.arrived == 1)
    bad_gate = next_calls_wait(house)
    leader = asyncio.create_task(house.tell(["good", "poison"]))
    await until(lambda: house.gate.arrived == 2)
    joiner = asyncio.create_task(house.ask(["slow", "good"]))
    await asyncio.sleep(0.01)
    bad_gate.set()
    await leader
    next_calls_pass(house)
    await house.ask(["good"])
    await until(lambda: len(house.flights._under_way) == 1)
    slow_gate.set()
    _, story = await joiner
    assert (story.counts.misses, story.counts.joined, story.tokens_billed) == (0, 2, 0)
    assert "collapsed" in story.cache_status
    assert house.standin.call_count == 3
    await slow


@pytest.mark.parametrize("everything", [False, True])
async def test_what_is_under_way_when_a_purge_comes_is_answered_and_not_kept(tmp_path: Path, everything: bool) -> None:
    house = House(tmp_path)
    house.gate.open.clear()
    asking = asyncio.create_task(house.ask(["a"]))
    await until(lambda: house.gate.arrived == 1)
    key = house.engine.keys_of({"model": "jina-embeddings-v3", "input": "a"})
    await house.engine.means.purge(None if everything else key)
    house.gate.open.set()
    _, story = await asking
    assert "stored" not in story.cache_status
    _, again = await house.ask(["a"])
    assert (again.counts.hits, house.standin.call_count) == (0, 2)


async def test_a_purge_waits_for_what_is_just_being_written(tmp_path: Path) -> None:
    slow = SlowToStore()
    house = House(tmp_path, slow)
    await house.ask(["a"])
    purging = asyncio.create_task(house.engine.means.purge(None))
    await asyncio.sleep(0)
    slow.storing.set()
    await purging
    await house.flights.close(5)
    _, again = await house.ask(["a"])
    assert again.counts.hits == 0


async def test_a_joiner_does_not_fail_by_the_key_that_another_came_with(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("status", status=401))
    names = house.engine.names

    def elsewhere(name: str) -> Target:
        target = names.resolve(name)
        return replace(target, deployments=(replace(target.deployments[0], id="other", api_key="bad"),))

    other = house.engine.under(Names(elsewhere))
    house.gate.open.clear()
    ours, house.engine = house.engine, other
    bad = asyncio.create_task(house.tell(["a"]))
    await until(lambda: house.gate.arrived == 1)
    house.engine = ours
    good = asyncio.create_task(house.ask(["a"]))
    await asyncio.sleep(0.01)
    house.gate.open.set()
    error, _ = await bad
    assert isinstance(error, UpstreamRefused)
    _, story = await good
    assert story.tokens_billed == house.standin.billed_tokens


async def test_a_senseless_answer_is_billed_by_what_it_says(tmp_path: Path) -> None:
    house = House(tmp_path, document={"litellm_settings": {"num_retries": 0}})
    house.standin.fail_next(Fault("short"))
    _, story = await house.tell(["a", "b"])
    assert story.tokens_billed == house.standin.billed_tokens > 0


async def test_a_vector_of_the_wrong_width_is_not_kept_even_if_it_is_alone(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("ragged"))
    error, _ = await house.tell(["a"])
    assert "wide" in str(error)
    _, story = await house.ask(["a"])
    assert story.counts.hits == 0
