"""What requests cost when many ask at once: never twice, and never an answer because a store is broken."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from cache_proxy.backends import Backend, GuardedBackend, MemoryBackend
from cache_proxy.calls import Account
from cache_proxy.core.renderings import Renderings
from cache_proxy.engine import Engine
from cache_proxy.errand import Means
from cache_proxy.errand.calls import STORE_PATIENCE
from cache_proxy.errand.shelf import KEEP_PAUSES
from cache_proxy.errors import StoreError, UpstreamLost, UpstreamNonsense, UpstreamRefused
from cache_proxy.models import Endpoint, Json
from cache_proxy.receipts import Story
from cache_proxy.standin import Fault, StandIn
from cache_proxy.standin.tokens import text_tokens
from cache_proxy.upstream.lanes import Lanes, Rules
from cache_proxy.wiring import names, policy
from tests.backends.fakes import Clock, WaywardStore
from tests.support import connect_to, settings_for
from tests.upstream.fakes import SlowToStore, Time

pytestmark = pytest.mark.anyio

MODEL = "jina-embeddings-v3"
URL = "https://pictures.test/cat.png"


class Gated:
    """A stand-in that answers only while its gate is open, and says how many calls have come to it."""

    def __init__(self) -> None:
        self.standin = StandIn()
        self.open = asyncio.Event()
        self.open.set()
        self.arrived = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.arrived += 1
        await self.open.wait()
        await self.standin(scope, receive, send)


class House:
    """An engine over a store before a stand-in, driven without HTTP."""

    def __init__(self, folder: Path, store: Backend | None = None, document: Mapping[str, Any] | None = None) -> None:
        settings = settings_for(folder, document)
        self.gate = Gated()
        self.clock, time = Clock(), Time()
        self.store = store or MemoryBackend(2**26)
        lanes = Lanes(connect_to(self.gate), Rules(), time, time.sleep)
        renderings = Renderings(0)
        means = Means.over(self.store, lanes, renderings, policy(settings), clock=self.clock)
        self.flights = means.flights
        self.engine = Engine(names(settings), means, renderings)

    @property
    def standin(self) -> StandIn:
        return self.gate.standin

    async def ask(self, texts: Sequence[Json], **fields: Any) -> tuple[dict[str, Any], Story]:
        story = Story("id", "embeddings", Account("me"), 0.0)
        body = {"model": MODEL, "input": list(texts), **fields}
        return orjson.loads(await self.engine.answer(self.engine.understand(Endpoint.EMBEDDINGS, body), story)), story

    async def tell(self, texts: Sequence[Json], **fields: Any) -> tuple[Exception, Story]:
        """As ``ask``, for a request that must fail."""
        story = Story("id", "embeddings", Account("me"), 0.0)
        body = {"model": MODEL, "input": list(texts), **fields}
        try:
            await self.engine.answer(self.engine.understand(Endpoint.EMBEDDINGS, body), story)
        except Exception as error:
            return error, story
        raise AssertionError("it did not fail")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


def vectors(answer: Mapping[str, Any]) -> list[Any]:
    assert [item["index"] for item in answer["data"]] == list(range(len(answer["data"])))
    return [item["embedding"] for item in answer["data"]]


def tokens(texts: Sequence[str]) -> int:
    return sum(map(text_tokens, texts))


async def test_twenty_who_ask_the_same_at_once_pay_for_one_call(tmp_path: Path) -> None:
    house = House(tmp_path)
    asked = await asyncio.gather(*(house.ask(["same text", "other text"]) for _ in range(20)))
    assert house.standin.call_count == 1
    assert len({orjson.dumps(answer["data"]) for answer, _ in asked}) == 1
    assert sum(story.tokens_billed for _, story in asked) == house.standin.billed_tokens
    assert sorted(story.counts.joined for _, story in asked) == [0] + [2] * 19
    assert all(answer["usage"]["total_tokens"] == tokens(["same text", "other text"]) for answer, _ in asked)


async def test_a_batch_joins_the_flights_of_others_item_by_item(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.ask(["held"])
    house.gate.open.clear()
    one = asyncio.create_task(house.ask(["x", "y"]))
    await until(lambda: house.gate.arrived == 2)
    two = asyncio.create_task(house.ask(["z", "y", "held", "x", "w", "w"]))
    await until(lambda: house.gate.arrived == 3)
    house.gate.open.set()
    (_, first), (answer, second) = await asyncio.gather(one, two)
    assert [call.body["input"] for call in house.standin.calls[1:]] == [["x", "y"], ["z", "w"]]
    assert first.tokens_billed == tokens(["x", "y"])
    assert second.tokens_billed == tokens(["z", "w"])
    counts = second.counts
    assert (counts.items, counts.hits, counts.misses, counts.joined, counts.duplicates) == (6, 1, 2, 2, 1)
    direct = await House(tmp_path).ask(["z", "y", "held", "x", "w", "w"])
    assert vectors(answer) == vectors(direct[0])


async def test_misses_go_upstream_at_most_512_at_a_time(tmp_path: Path) -> None:
    house = House(tmp_path)
    texts = [f"text {number}" for number in range(1200)]
    answer, story = await house.ask(texts, dimensions=8)
    assert sorted(call.items for call in house.standin.calls) == [176, 512, 512]
    assert story.tokens_billed == house.standin.billed_tokens == tokens(texts)
    assert answer["usage"]["total_tokens"] == tokens(texts)
    again, story = await house.ask(texts, dimensions=8)
    assert vectors(again) == vectors(answer)
    assert (story.tokens_billed, story.counts.hits) == (0, 1200)
    alone, _ = await House(tmp_path).ask([texts[1100]], dimensions=8)
    assert vectors(alone)[0] == vectors(answer)[1100]


async def test_what_a_request_repeats_is_billed_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    answer, story = await house.ask(["a", "b", "a", "a", "b"])
    assert house.standin.calls[0].body["input"] == ["a", "b"]
    assert story.tokens_billed == tokens(["a", "b"])
    assert answer["usage"]["total_tokens"] == tokens(["a", "b", "a", "a", "b"])
    assert story.tokens_saved == tokens(["a", "a", "b"])
    first, second, third, fourth, fifth = vectors(answer)
    assert first == third == fourth != second == fifth
    assert (story.counts.misses, story.counts.duplicates) == (2, 3)


async def test_anothers_bad_item_does_not_harm_who_joined_the_call(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("status", 422, contains="poison"))
    house.gate.open.clear()
    leader = asyncio.create_task(house.tell(["good", "poison"]))
    await until(lambda: house.gate.arrived == 1)
    joiner = asyncio.create_task(house.ask(["good", "mine"]))
    await until(lambda: house.gate.arrived == 2)
    house.gate.open.set()
    error, _ = await leader
    assert isinstance(error, UpstreamRefused)
    assert error.status == 422
    assert error.body, "his items alone were in the call"
    answer, story = await joiner
    assert len(vectors(answer)) == 2
    assert story.tokens_billed == house.standin.billed_tokens == tokens(["good", "mine"])
    assert (story.counts.misses, story.counts.joined) == (2, 0)


async def test_what_was_joined_before_anothers_failure_is_still_told_as_joined(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("status", 422, contains="poison"))
    house.gate.open.clear()
    leaders = [asyncio.create_task(house.ask(["fine"])), asyncio.create_task(house.tell(["good", "poison"]))]
    await until(lambda: house.gate.arrived == 2)
    joiner = asyncio.create_task(house.ask(["fine", "good"]))
    await asyncio.sleep(0.01)
    house.gate.open.set()
    _, story = await joiner
    assert (story.counts.misses, story.counts.joined) == (1, 1)
    assert story.tokens_billed == text_tokens("good")
    await asyncio.gather(*leaders)


async def test_a_joiner_hears_of_anothers_server_error_but_not_its_words(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("status", 403, body={"detail": "secret words"}))
    house.gate.open.clear()
    leader = asyncio.create_task(house.tell(["good", "his own"]))
    await until(lambda: house.gate.arrived == 1)
    joiner = asyncio.create_task(house.tell(["good"]))
    await asyncio.sleep(0.01)
    house.gate.open.set()
    (first, _), (second, story) = await asyncio.gather(leader, joiner)
    assert isinstance(first, UpstreamRefused)
    assert b"secret words" in first.body
    assert isinstance(second, UpstreamRefused)
    assert (second.status, second.body) == (403, b"")
    assert story.tokens_billed == 0


async def test_a_client_that_leaves_has_its_answer_stored(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.gate.open.clear()
    asking = asyncio.create_task(house.ask(["a"]))
    await until(lambda: house.gate.arrived == 1)
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking
    house.gate.open.set()
    await house.flights.close(5)
    _, story = await house.ask(["a"])
    assert story.counts.hits == 1
    assert house.standin.call_count == 1


@pytest.mark.parametrize("controls", [{"no-cache": True}, {"no-store": True}])
async def test_who_will_not_read_or_store_neither_joins_nor_is_joined(
    tmp_path: Path, controls: dict[str, bool]
) -> None:
    house = House(tmp_path)
    house.gate.open.clear()
    asked = [asyncio.create_task(house.ask(["a"], cache=controls)), asyncio.create_task(house.ask(["a"]))]
    await until(lambda: house.gate.arrived == 2)
    house.gate.open.set()
    assert [story.tokens_billed for _, story in await asyncio.gather(*asked)] == [text_tokens("a")] * 2


@pytest.mark.parametrize("refusing", [StoreError("down"), StoreError("slow", refused=False), RuntimeError("broken")])
async def test_a_store_that_refuses_costs_no_answer(
    tmp_path: Path, refusing: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache_proxy.errand.shelf.KEEP_PAUSES", (0.01,) * len(KEEP_PAUSES))
    wayward = WaywardStore()
    wayward.refusing = refusing
    house = House(tmp_path, GuardedBackend(wayward))
    await house.store.open()
    for _ in range(5):
        answer, story = await house.ask(["a", "b"])
        assert len(vectors(answer)) == 2
        assert "stored" not in story.cache_status
        assert story.tokens_billed == tokens(["a", "b"])
        await house.flights.close(5)
    await house.engine.close(1)


async def test_a_store_that_only_refuses_writes_costs_no_answer_even_without_its_guard(tmp_path: Path) -> None:
    wayward = WaywardStore()
    wayward.refusing_writes = StoreError("full")
    house = House(tmp_path, wayward)
    answer, story = await house.ask(["a"])
    assert len(vectors(answer)) == 1
    assert "stored" not in story.cache_status


async def test_a_store_that_hangs_costs_no_answer(tmp_path: Path) -> None:
    wayward = WaywardStore()
    house = House(tmp_path, GuardedBackend(wayward, read_deadline=0.02, write_deadline=0.02))
    await house.store.open()
    wayward.answering.clear()
    async with asyncio.timeout(3):
        answer, _ = await house.ask(["a"])
    assert len(vectors(answer)) == 1
    wayward.answering.set()
    await house.engine.close(1)


async def test_a_slow_store_holds_up_the_reply_for_a_moment_and_gets_the_value_after_all(tmp_path: Path) -> None:
    slow = SlowToStore()
    house = House(tmp_path, GuardedBackend(slow, write_deadline=30.0, read_deadline=30.0))
    await house.store.open()
    began = asyncio.get_running_loop().time()
    answer, story = await house.ask(["a"])
    assert asyncio.get_running_loop().time() - began < STORE_PATIENCE + 2
    assert "stored" not in story.cache_status
    assert slow.entries == {}
    same, second = await house.ask(["a"])
    assert vectors(same) == vectors(answer)
    assert (second.counts.joined, second.tokens_billed) == (1, 0), "meanwhile the flight has it"
    slow.storing.set()
    await house.flights.close(5)
    _, third = await house.ask(["a"])
    assert third.counts.hits == 1
    assert house.standin.call_count == 1
    await house.engine.close(1)


async def test_a_store_that_is_known_to_ail_holds_up_no_reply_and_is_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache_proxy.errand.calls.STORE_PATIENCE", 60.0)
    slow = SlowToStore()
    guard = GuardedBackend(slow, write_deadline=60.0)
    house = House(tmp_path, guard)
    await guard.open()
    slow.refusing = StoreError("gone")
    for _ in range(2):
        await guard.get_many([b"key"])
    assert guard.ailing
    async with asyncio.timeout(10):
        answer, story = await house.ask(["a"])
    assert "stored" not in story.cache_status
    same, second = await house.ask(["a"])
    assert vectors(same) == vectors(answer)
    assert (second.counts.joined, second.tokens_billed) == (1, 0), "until it is stored the flight has it"
    slow.refusing = None
    slow.storing.set()
    await house.flights.close(5)
    assert len(slow.entries) == 1
    await house.engine.close(1)


@pytest.mark.parametrize("kind", ["html", "truncated", "short", "long", "misnumber", "nan", "null", "ragged"])
async def test_a_wrong_200_is_told_counted_and_stored_nowhere(tmp_path: Path, kind: Any) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault(kind))
    error, story = await house.tell(["a", "b"])
    assert isinstance(error, UpstreamNonsense)
    assert story.outcome_unknown == 1
    assert house.standin.call_count == 1
    assert isinstance(house.store, MemoryBackend)
    assert await house.store.size() == (0, 0)
    answer, _ = await house.ask(["a", "b"])
    assert len(vectors(answer)) == 2


async def test_a_lost_answer_is_asked_for_once_more_and_counted(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("drop"))
    _, story = await house.ask(["a"])
    assert story.outcome_unknown == 1
    house.standin.fail_next(Fault("drop", times=2))
    error, story = await house.tell(["b"])
    assert isinstance(error, UpstreamLost)
    assert story.outcome_unknown == 2
    assert house.standin.call_count == 4


async def test_a_picture_behind_a_url_is_never_stored_unless_the_operator_says_so(tmp_path: Path) -> None:
    house = House(tmp_path)
    for _ in range(2):
        _, story = await house.ask([{"image": URL}, {"text": "a cat"}], model="jina-clip-v2")
    assert (story.counts.hits, story.counts.misses) == (1, 1)
    assert [call.body["input"] for call in house.standin.calls] == [[{"image": URL}, "a cat"], [{"image": URL}]]
    asked = await asyncio.gather(*(house.ask([{"image": URL}], model="jina-clip-v2") for _ in range(3)))
    assert all(story.tokens_billed for _, story in asked), "nor is anybody handed another's look at it"


async def test_a_picture_behind_a_url_is_kept_for_as_long_as_the_operator_says(tmp_path: Path) -> None:
    house = House(tmp_path, document={"cache_proxy_settings": {"cache_urls": 60}})
    both = [{"image": URL}, {"text": "a cat"}]
    await house.ask(both, model="jina-clip-v2")
    house.clock.now += 59
    _, story = await house.ask(both, model="jina-clip-v2")
    assert story.counts.hits == 2
    house.clock.now += 2
    _, story = await house.ask(both, model="jina-clip-v2")
    assert (story.counts.hits, story.counts.misses) == (1, 1)
    await house.ask([{"image": URL}], model="jina-clip-v2", cache={"no-cache": True, "ttl": 10})
    house.clock.now += 11
    _, story = await house.ask([{"image": URL}], model="jina-clip-v2")
    assert story.counts.misses == 1, "the shorter of the two times counts"


async def test_an_expired_entry_is_paid_again_and_its_neighbours_are_not(tmp_path: Path) -> None:
    house = House(tmp_path)
    await house.ask(["a"], cache={"ttl": 10})
    await house.ask(["b"])
    house.clock.now += 10
    _, story = await house.ask(["a", "b"])
    assert (story.counts.hits, story.counts.misses) == (1, 1)


async def test_closing_brings_home_what_is_under_way(tmp_path: Path) -> None:
    store = MemoryBackend(2**20)
    house = House(tmp_path, store)
    house.gate.open.clear()
    asking = asyncio.create_task(house.ask(["a"]))
    await until(lambda: house.gate.arrived == 1)
    closing = asyncio.create_task(house.engine.close(10))
    await asyncio.sleep(0.01)
    assert not closing.done()
    house.gate.open.set()
    answer, _ = await asking
    assert len(vectors(answer)) == 1
    await closing
