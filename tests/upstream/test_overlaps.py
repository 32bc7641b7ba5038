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
