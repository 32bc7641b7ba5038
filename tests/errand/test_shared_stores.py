"""Several engines on one store of the real kinds, in little: each distinct item is paid for once."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import fakeredis
import pytest

from cache_proxy.backends import Backend, DiskBackend, GuardedBackend, MemoryBackend, RedisBackend, TieredBackend
from cache_proxy.backends.disk_lock import FolderLock
from cache_proxy.calls import Account
from cache_proxy.engine import Engine
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Story
from cache_proxy.standin import StandIn
from cache_proxy.standin.tokens import text_tokens
from cache_proxy.wiring import Wired
from tests.support import connect_to, settings_for

pytestmark = pytest.mark.anyio

MODEL, RERANKER = "jina-embeddings-v3", "jina-reranker-v2-base-multilingual"
TEXTS = [f"text number {number}" for number in range(40)]
QUERIES = ["one query", "another query"]
MIB = 2**20


def on_disk(folder: Path) -> Callable[[], Backend]:
    return lambda: DiskBackend(folder / "store")


def on_redis(_: Path) -> Callable[[], Backend]:
    server = fakeredis.FakeServer()
    return lambda: RedisBackend(lambda: fakeredis.FakeAsyncRedis(server=server))


@pytest.fixture(params=[on_disk, on_redis])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Backend]:
    made: Callable[[Path], Callable[[], Backend]] = request.param
    bare = made(tmp_path)
    return lambda: TieredBackend(MemoryBackend(MIB), GuardedBackend(bare(), read_deadline=30.0, write_deadline=30.0))


async def embed(engine: Engine, texts: list[str]) -> Story:
    return await ask(engine, Endpoint.EMBEDDINGS, {"model": MODEL, "dimensions": 8, "input": texts})


async def rerank(engine: Engine, query: str, documents: list[str]) -> Story:
    return await ask(engine, Endpoint.RERANK, {"model": RERANKER, "query": query, "documents": documents})


async def ask(engine: Engine, endpoint: Endpoint, body: dict[str, Any]) -> Story:
    story = Story("id", endpoint.value, Account("me"), 0.0)
    await engine.answer(engine.understand(endpoint, body), story)
    return story


async def opened(folder: Path, standin: StandIn, store: Callable[[], Backend], count: int) -> list[Wired]:
    wired = [Wired(settings_for(folder), connect=connect_to(standin), store=lambda _: store()) for _ in range(count)]
    for one in wired:
        await one.open()
    return wired


def engine_of(wired: Wired) -> Engine:
    assert wired.running is not None
    return wired.running


async def test_texts_asked_for_by_all_at_once_are_paid_once(tmp_path: Path, store: Callable[[], Backend]) -> None:
    standin, chance = StandIn(), Random(1)
    wired = await opened(tmp_path, standin, store, 3)
    batches = [chance.choices(TEXTS, k=chance.randint(1, 20)) for _ in range(30)]
    stories = await asyncio.gather(*(embed(engine_of(chance.choice(wired)), batch) for batch in batches))
    distinct = {text for batch in batches for text in batch}
    assert standin.billed_tokens == sum(map(text_tokens, distinct))
    assert sum(story.tokens_billed for story in stories) == standin.billed_tokens
    assert any(story.counts.joined for story in stories)
    for one in wired:
        await one.close()


async def test_pairs_asked_for_by_all_at_once_are_paid_once(tmp_path: Path, store: Callable[[], Backend]) -> None:
    standin, chance = StandIn(), Random(2)
    wired = await opened(tmp_path, standin, store, 3)
    asked = [(chance.choice(QUERIES), chance.sample(TEXTS, chance.randint(1, 10))) for _ in range(20)]
    stories = await asyncio.gather(*(rerank(engine_of(chance.choice(wired)), *one) for one in asked))
    pairs = {(query, document) for query, documents in asked for document in documents}
    queries = sum(text_tokens(str(call.body["query"])) for call in standin.calls)
    assert standin.billed_tokens == sum(text_tokens(document) for _, document in pairs) + queries
    assert sum(story.tokens_billed for story in stories) == standin.billed_tokens
    for one in wired:
        await one.close()


async def test_a_lease_is_given_back_so_that_nothing_is_left_when_all_are_home(
    tmp_path: Path, store: Callable[[], Backend]
) -> None:
    wired = await opened(tmp_path, StandIn(), store, 2)
    await asyncio.gather(*(embed(engine_of(one), TEXTS) for one in wired))
    for one in wired:
        await one.drain()
        assert engine_of(one).means.claims._held == {}
    for one in wired:
        await one.close()


async def test_who_finds_a_disk_store_busy_waits_for_it_and_does_not_pay_what_another_pays(tmp_path: Path) -> None:
    """Several times as long as a look-up may take, but not as long as a write."""

    def guarded() -> Backend:
        disk = DiskBackend(tmp_path / "store", write_patience=30.0)
        return TieredBackend(MemoryBackend(MIB), GuardedBackend(disk, read_deadline=0.2, write_deadline=30.0))

    standin = StandIn()
    wired = await opened(tmp_path, standin, guarded, 2)
    with FolderLock(tmp_path / "store").held(1.0):
        asking = [asyncio.create_task(embed(engine_of(one), ["a text"])) for one in wired]
        await asyncio.sleep(2.5)
        assert standin.call_count == 0
    stories = await asyncio.gather(*asking)
    assert standin.billed_tokens == text_tokens("a text")
    assert sorted(story.counts.joined for story in stories) == [0, 1]
    for one in wired:
        await one.close()
