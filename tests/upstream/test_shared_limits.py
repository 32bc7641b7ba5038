"""Limits that several processes keep together: lanes that know nothing of each other, on one store's counters."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.backends import MemoryBackend
from cache_proxy.errors import StoreError, UpstreamBusy, UpstreamLost
from cache_proxy.models import Deployment, Endpoint
from cache_proxy.standin import StandIn
from cache_proxy.upstream.books import Load
from cache_proxy.upstream.counters import counter_name
from cache_proxy.upstream.lanes import Lanes, Rules, Sent
from cache_proxy.upstream.slots import TICKET_SECONDS
from cache_proxy.wiring import Wired
from tests.support import connect_to, settings_for
from tests.upstream.counting import MemoryCounters, StoppedTime, settle
from tests.upstream.fakes import ANSWER, LOST, Scripted

pytestmark = pytest.mark.anyio

MAX_WAIT = 30.0


def at(name: str = "one", **fields: Any) -> Deployment:
    return Deployment(name, f"http://{name}.test/v1", **fields)


def crowded(limit: int) -> Deployment:
    return at(max_parallel=limit, parallel_everywhere=True)


class Process:
    """One of several: lanes of its own, and a connection to each deployment."""

    def __init__(self, counters: MemoryCounters | None, time: StoppedTime, *deployments: Deployment) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.connections = {found.id: Scripted(gate=self.gate) for found in deployments}
        self.lanes = Lanes(
            lambda found: self.connections[found.id], Rules(MAX_WAIT), time, time.sleep, counters=counters
        )
        self._deployments = deployments

    @property
    def calls(self) -> int:
        return sum(connection.calls for connection in self.connections.values())

    async def send(self, tokens: int = 10) -> Sent:
        return await self.lanes.send(self._deployments, Load(Endpoint.EMBEDDINGS, {}, tokens, 1))

    def sending(self, count: int = 1, tokens: int = 10) -> "list[asyncio.Task[Sent]]":
        return [asyncio.create_task(self.send(tokens)) for _ in range(count)]


class World:
    """Two processes that share a store, in one time."""

    def __init__(self, *deployments: Deployment) -> None:
        self.time = StoppedTime()
        self.counters = MemoryCounters(self.time)
        self.one, self.two = (Process(self.counters, self.time, *deployments) for _ in range(2))

    @property
    def calls(self) -> int:
        return self.one.calls + self.two.calls

    async def close(self) -> None:
        self.one.gate.set()
        self.two.gate.set()
        await asyncio.gather(self.one.lanes.close(), self.two.lanes.close())


async def ended(tasks: "Sequence[asyncio.Task[Sent]]") -> None:
    assert [(await task).answer for task in tasks] == [ANSWER] * len(tasks)


# Requests and tokens a minute ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"rpm": 6}, {"tpm": 60}, {"rpm": 6, "tpm": 1000}, {"rpm": 100, "tpm": 60}])
async def test_what_one_process_used_of_a_minute_the_other_does_not_have(limits: dict[str, Any]) -> None:
    world = World(at(**limits))
    tasks = world.one.sending(6) + world.two.sending(3)
    await settle()
    assert world.calls == 6
    await world.time.passes(10)
    assert world.calls == 7
    await world.time.passes(20)
    await ended(tasks)
    assert world.counters.trips == ["take"] * 9, "one trip a call, for both limits"


async def test_a_wait_beyond_the_bound_is_a_429_and_uses_up_nothing() -> None:
    world = World(at(rpm=1))
    await world.one.send()
    for _ in range(3):
        with pytest.raises(UpstreamBusy) as raised:
            await world.two.send()
        assert raised.value.retry_after == pytest.approx(60.0)
    await world.time.passes(60)
    await world.two.send()
    assert world.calls == 2


async def test_what_a_process_knows_to_be_too_much_makes_no_trip() -> None:
    world = World(at(rpm=1))
    await world.one.send()
    with pytest.raises(UpstreamBusy):
        await world.one.send()
    assert world.counters.trips == ["take"]


async def test_a_deployment_whose_minute_others_used_up_leaves_the_calls_to_the_next() -> None:
    world = World(at("small", rpm=1), at("large", rpm=1000))
    await world.one.send()
    for _ in range(4):
        assert (await world.two.send()).answer == ANSWER
    assert {name: found.calls for name, found in world.two.connections.items()} == {"small": 0, "large": 4}
    takes = world.counters.trips.count("take")
    assert takes == 1 + 1 + 4, "the first try taught it where there is room"


async def test_two_deployments_have_a_minute_each() -> None:
    world = World(at("a", rpm=1), at("b", rpm=1))
    await world.one.send()
    await world.two.send()
    assert [process.connections[name].calls for process in (world.one, world.two) for name in "ab"] == [1, 0, 0, 1]
    for process in (world.one, world.two):
        with pytest.raises(UpstreamBusy):
            await process.send()


@pytest.mark.parametrize("trouble", [StoreError("gone"), StoreError("slow", refused=False)])
async def test_where_the_counters_fail_each_process_keeps_the_limits_by_itself(trouble: StoreError) -> None:
    world = World(at(rpm=2, max_parallel=1, parallel_everywhere=True))
    world.counters.refusing = trouble
    for process in (world.one, world.two):
        tasks = process.sending(3)
        await settle()
        assert process.calls == 2
        await world.time.passes(30)
        await ended(tasks)
    await world.close()


async def test_a_process_keeps_its_own_limit_where_the_store_forgot_the_counts() -> None:
    world = World(at(rpm=2))
    await world.one.send()
    await world.one.send()
    forgetful = MemoryCounters(world.time)
    world.counters.take = forgetful.take  # type: ignore[method-assign]
    (task,) = world.one.sending()
    await settle()
    assert world.calls == 2
    await world.time.passes(30)
    await ended([task])


async def test_without_limits_or_without_counters_there_is_no_trip() -> None:
    world = World(at())
    await world.one.send()
    assert world.counters.trips == []
    alone = Process(None, world.time, at(rpm=1, max_parallel=1, parallel_everywhere=True))
    assert (await alone.send()).answer == ANSWER
    with pytest.raises(UpstreamBusy):
        await alone.send()


def test_a_name_is_the_same_everywhere_and_differs_between_deployments_and_limits() -> None:
    names = [
        counter_name(at(), "rpm"),
        counter_name(at(), "rpm", "tpm"),
        counter_name(at(), "parallel"),
        counter_name(at("two"), "rpm"),
        counter_name(Deployment("one", "http://other.test/v1"), "rpm"),
        counter_name(Deployment("1", "2:x"), "rpm"),
        counter_name(Deployment("12", ":x"), "rpm"),
    ]
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 64
    assert counter_name(Deployment("one", "http://one.test/v1", "jina_key", timeout=5.0, rpm=3), "rpm") == names[0]


def test_those_that_share_an_account_at_one_place_share_a_name() -> None:
    account = at(account="the account")
    assert counter_name(replace(account, id="two", timeout=1.0), "rpm") == counter_name(account, "rpm")
    assert counter_name(account, "rpm") != counter_name(at(), "rpm")
    assert counter_name(replace(account, base_url="http://other.test/v1"), "rpm") != counter_name(account, "rpm")


async def test_those_that_share_an_account_share_its_limits_in_a_process_too() -> None:
    one = at(account="shared", tpm=20, max_parallel=1)
    two = replace(one, id="two", timeout=1.0)
    alone = Process(None, StoppedTime(), one, two)
    alone.gate.clear()
    sending = [
        asyncio.create_task(alone.lanes.send([each], Load(Endpoint.EMBEDDINGS, {}, 10, 1))) for each in (one, two)
    ]
    await settle()
    assert alone.calls == 1, "one at a time"
    alone.gate.set()
    await asyncio.gather(*sending)
    for each in (one, two):
        with pytest.raises(UpstreamBusy):
            await alone.lanes.send([each], Load(Endpoint.EMBEDDINGS, {}, 20, 1))


# Calls at a time -----------------------------------------------------------------------------------------------------


async def test_no_more_calls_are_under_way_in_all_processes_than_the_operator_said() -> None:
    world = World(crowded(3))
    world.one.gate.clear()
    world.two.gate.clear()
    tasks = world.one.sending(2) + world.two.sending(3)
    await world.time.passes(1)
    assert (world.one.calls, world.two.calls) == (2, 1)
    assert world.counters.inside == 3
    world.one.gate.set()
    await world.time.passes(1)
    assert (world.one.calls, world.two.calls) == (2, 3)
    await world.close()
    await ended(tasks)
    assert world.counters.inside == 0


async def test_our_own_guess_of_how_many_holds_for_each_process_and_costs_no_trip() -> None:
    world = World(at(max_parallel=1))
    world.one.gate.clear()
    world.two.gate.clear()
    tasks = world.one.sending(2) + world.two.sending(2)
    await settle()
    assert (world.one.calls, world.two.calls) == (1, 1)
    assert world.counters.trips == []
    await world.close()
    await ended(tasks)


async def test_who_finds_no_room_within_the_bound_is_told_to_come_back() -> None:
    world = World(crowded(1))
    world.one.gate.clear()
    (holding,) = world.one.sending()
    await settle()
    (waiting,) = world.two.sending()
    await world.time.passes(MAX_WAIT - 0.01)
    assert not waiting.done()
    await world.time.passes(0.02)
    with pytest.raises(UpstreamBusy) as raised:
        await waiting
    assert raised.value.retry_after > 0
    assert world.two.calls == 0
    world.one.gate.set()
    await ended([holding])
    await settle()
    assert (await world.two.send()).answer == ANSWER
    await world.close()


async def test_only_one_call_of_a_process_asks_for_room_and_it_asks_ever_less_often() -> None:
    world = World(crowded(5))
    world.one.gate.clear()
    tasks = world.one.sending(5)
    await settle()
    before = len(world.counters.trips)
    tasks += world.two.sending(5)
    await world.time.passes(10)
    asked = len(world.counters.trips) - before
    assert 10 / 0.2 <= asked <= 10 / 0.1 + 10, "from 10 ms to 200 ms, by half at random"
    world.one.gate.set()
    await world.time.passes(1)
    await ended(tasks)
    await world.close()


async def test_a_call_keeps_its_room_for_as_long_as_it_lasts() -> None:
    world = World(crowded(1))
    world.one.gate.clear()
    (long,) = world.one.sending()
    await world.time.passes(10 * TICKET_SECONDS)
    assert world.counters.inside == 1
    (waiting,) = world.two.sending()
    await world.time.passes(1)
    assert world.two.calls == 0
    world.one.gate.set()
    await world.time.passes(1)
    await ended([long, waiting])
    await world.close()
    assert world.counters.inside == 0


async def test_the_room_of_a_process_that_died_comes_back() -> None:
    world = World(crowded(1))
    await world.counters.enter(counter_name(crowded(1), "parallel"), b"of the dead", 1, TICKET_SECONDS)
    (waiting,) = world.two.sending()
    await world.time.passes(TICKET_SECONDS - 1)
    assert not waiting.done()
    await world.time.passes(1)
    await ended([waiting])
    await world.close()


async def test_room_is_left_after_a_failure_too() -> None:
    world = World(crowded(1))
    world.one.connections["one"] = Scripted(usual=LOST)
    with pytest.raises(UpstreamLost):
        await asyncio.gather(world.one.send(), world.time.passes(5))
    await settle()
    assert world.counters.inside == 0
    assert (await world.two.send()).answer == ANSWER
    await world.close()


async def test_a_call_that_is_cancelled_leaves_nothing_behind() -> None:
    world = World(crowded(1))
    world.one.gate.clear()
    (cancelled,) = world.one.sending()
    await settle()
    assert world.counters.inside == 1
    cancelled.cancel()
    await settle()
    assert cancelled.cancelled()
    assert world.counters.inside == 0
    assert (await world.two.send()).answer == ANSWER
    await world.close()


async def test_a_wait_that_is_cancelled_leaves_nothing_behind() -> None:
    world = World(crowded(1))
    world.one.gate.clear()
    (holding,) = world.one.sending()
    await settle()
    first, second = world.two.sending(2)
    await world.time.passes(1)
    first.cancel()
    await settle()
    assert first.cancelled()
    world.one.gate.set()
    await world.time.passes(1)
    await ended([holding, second])
    await world.close()
    assert world.counters.inside == 0


async def test_a_wait_that_is_cancelled_while_the_store_is_asked_leaves_nothing_behind() -> None:
    world = World(crowded(1))
    world.counters.hung.clear()
    (cancelled,) = world.one.sending()
    await settle()
    cancelled.cancel()
    await settle()
    assert cancelled.cancelled(), "nobody waits for the store"
    world.counters.hung.set()
    await settle()
    assert world.counters.trips == ["enter", "leave"], "in this order, so that the ticket is out in the end"
    assert world.counters.inside == 0
    assert (await world.two.send()).answer == ANSWER
    await world.close()


async def test_a_store_that_fails_in_mid_call_does_not_end_the_call() -> None:
    world = World(crowded(1))
    world.one.gate.clear()
    (lasting,) = world.one.sending()
    await settle()
    world.counters.refusing = StoreError("gone")
    await world.time.passes(3 * TICKET_SECONDS)
    world.counters.refusing = None
    await world.time.passes(TICKET_SECONDS)
    assert world.counters.inside == 1, "it counts again as soon as it can"
    world.one.gate.set()
    await ended([lasting])
    await world.close()
    assert world.counters.inside == 0


async def test_the_answer_does_not_wait_for_its_slot_to_be_left() -> None:
    world = World(crowded(1))
    world.one.gate.clear()
    (task,) = world.one.sending()
    await settle()
    world.counters.hung.clear()
    world.one.gate.set()
    await ended([task])
    closing = asyncio.create_task(world.one.lanes.close())
    await settle()
    assert not closing.done(), "but the end does"
    world.counters.hung.set()
    await closing
    assert world.counters.inside == 0


# The whole of it -----------------------------------------------------------------------------------------------------


class Counting(MemoryBackend):
    """A store that several share, counters and all."""

    def __init__(self, counters: MemoryCounters) -> None:
        super().__init__(2**20)
        self._counters = counters

    @property
    def counters(self) -> MemoryCounters:
        return self._counters


@asynccontextmanager
async def worker(folder: Path, standin: StandIn, store: Counting, **limits: int) -> AsyncIterator[httpx.AsyncClient]:
    entry = {"model_name": "mine", "litellm_params": {"model": "jina_ai/jina-embeddings-v3", **limits}}
    document = {"model_list": [entry], "cache_proxy_settings": {"max_wait": 0, "log_format": "off"}}
    wired = Wired(settings_for(folder, document), connect=connect_to(standin), store=lambda _: store)
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client
    await wired.close()


async def embed(client: httpx.AsyncClient, text: str) -> httpx.Response:
    return await client.post("/embeddings", json={"model": "mine", "input": text})


@pytest.mark.parametrize("limits", [{"rpm": 1}, {"tpm": 3}])
async def test_a_miss_beyond_the_limits_of_all_workers_is_a_429_and_a_hit_never_is(
    tmp_path: Path, limits: dict[str, int]
) -> None:
    standin, counters = StandIn(), MemoryCounters(StoppedTime())
    store = Counting(counters)
    async with worker(tmp_path, standin, store, **limits) as one, worker(tmp_path, standin, store, **limits) as two:
        assert (await embed(one, "a")).status_code == 200
        trips = list(counters.trips)
        for client in (one, two, one):
            assert (await embed(client, "a")).headers["cache-status"].startswith("cache-proxy; hit")
        assert counters.trips == trips, "a hit asks for no room"
        refused = await embed(two, "b")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "upstream_busy")
        assert 0 < int(refused.headers["retry-after"]) <= 60
    assert standin.call_count == 1


async def test_workers_do_not_call_more_often_at_a_time_than_the_operator_said(tmp_path: Path) -> None:
    standin, counters = StandIn(delay=0.05), MemoryCounters(StoppedTime())
    store, limits = Counting(counters), {"max_parallel_requests": 1}
    async with worker(tmp_path, standin, store, **limits) as one, worker(tmp_path, standin, store, **limits) as two:
        first = asyncio.create_task(embed(one, "a"))
        while not standin.in_flight:
            await asyncio.sleep(0)
        refused = await embed(two, "b")
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await first).status_code == 200
    assert counters.inside == 0
