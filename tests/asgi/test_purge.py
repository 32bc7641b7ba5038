"""``/cache/delete`` and ``/cache/flushall``, on every store that needs no server."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.backends import Backend, GuardedBackend, MemoryBackend, TieredBackend
from cache_proxy.errors import StoreError
from cache_proxy.settings import Settings
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired, build_store
from tests.backends.fakes import Clock, WaywardStore
from tests.support import connect_to, proxy, settings_for

pytestmark = pytest.mark.anyio

V3 = "jina-embeddings-v3"
A: dict[str, Any] = {"model": V3, "input": ["a"], "dimensions": 8}
RANK: dict[str, Any] = {"model": "jina-reranker-v2-base-multilingual", "query": "q", "documents": ["a", "b"]}
STORES: dict[str, dict[str, Any]] = {
    "memory": {"litellm_settings": {"cache": True, "cache_params": {"type": "local"}}},
    "disk behind memory": {},
    "disk alone": {"cache_proxy_settings": {"memory_mib": 0}},
}


@pytest.fixture(params=STORES)
async def stored(request: pytest.FixtureRequest, standin: StandIn, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a proxy on each store, which holds ``A``, a second text and a ranking."""
    async with proxy(standin, tmp_path, STORES[request.param]) as client:
        for body in (A, {**A, "input": ["b"]}):
            await client.post("/embeddings", json=body)
        await client.post("/rerank", json=RANK)
        yield client


async def is_hit(client: httpx.AsyncClient, body: dict[str, Any]) -> bool:
    """Whether this is in the cache. Changes nothing."""
    path = "/rerank" if "documents" in body else "/embeddings"
    answer = await client.post(path, json=body, headers={"cache-control": "only-if-cached"})
    return answer.status_code == 200


async def test_a_key_is_forgotten_and_the_others_stay(stored: httpx.AsyncClient) -> None:
    key = (await stored.post("/embeddings", json=A)).headers["x-litellm-cache-key"]
    answer = await stored.post("/cache/delete", json={"keys": [key, key, "00" * 32]})
    assert answer.json() == {"status": "success", "deleted": 1}
    assert not await is_hit(stored, A)
    assert await is_hit(stored, {**A, "input": ["b"]})


async def test_all_that_answers_a_request_is_forgotten(stored: httpx.AsyncClient) -> None:
    same = {"dimensions": 8, "model": f"jina_ai/{V3}", "input": "a", "encoding_format": "base64", "user": "u"}
    assert (await stored.post("/cache/delete", json={"request": same})).json()["deleted"] == 1
    assert not await is_hit(stored, A)
    assert await is_hit(stored, RANK)
    assert (await stored.post("/cache/delete", json={"request": RANK})).json()["deleted"] == 2
    assert not await is_hit(stored, RANK)


async def test_a_request_with_a_namespace_purges_that_namespace_only(stored: httpx.AsyncClient) -> None:
    named = {**A, "cache": {"namespace": "n"}}
    await stored.post("/embeddings", json=named)
    assert (await stored.post("/cache/delete", json={"request": named})).json()["deleted"] == 1
    assert (await is_hit(stored, A), await is_hit(stored, named)) == (True, False)


async def test_a_flush_forgets_everything_and_the_next_answer_is_stored_again(stored: httpx.AsyncClient) -> None:
    answer = await stored.post("/cache/flushall")
    assert (answer.status_code, answer.json()) == (200, {"status": "success"})
    assert [await is_hit(stored, body) for body in (A, {**A, "input": ["b"]}, RANK)] == [False] * 3
    await stored.post("/embeddings", json=A)
    assert await is_hit(stored, A)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "keys"),
        ({"keys": []}, "keys"),
        ({"keys": "00"}, "keys"),
        ({"keys": ["zz"]}, "keys[0]"),
        ({"keys": ["00" * 32, 5]}, "keys[1]"),
        ({"keys": ["00" * 31]}, "keys[0]"),
        ({"request": "a"}, "request"),
        ({"request": {}}, "model"),
        ({"request": {"model": V3}}, "input"),
    ],
)
async def test_a_purge_that_says_nothing_clear_is_refused(
    client: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    answer = await client.post("/cache/delete", json=body)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)


def app_of(wired: Wired) -> httpx.AsyncClient:
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


@pytest.mark.parametrize(
    "purge", [("/cache/flushall", {}), ("/cache/delete", {"request": A})], ids=["flushall", "delete"]
)
async def test_a_purge_is_obeyed_by_the_memory_of_another_worker_within_a_second(
    standin: StandIn, tmp_path: Path, purge: tuple[str, dict[str, Any]]
) -> None:
    clock = Clock()

    def with_clock(settings: Settings) -> Backend:
        store = build_store(settings)
        assert isinstance(store, TieredBackend)
        return TieredBackend(MemoryBackend(2**20), store.lower, clock=clock)

    here = Wired(settings_for(tmp_path), connect=connect_to(standin))
    there = Wired(settings_for(tmp_path), connect=connect_to(standin), store=with_clock)
    async with app_of(here) as near, app_of(there) as far:
        await near.post("/embeddings", json=A)
        assert await is_hit(far, A)
        assert (await near.post(purge[0], json=purge[1])).status_code == 200
        clock.now += 0.99
        assert not await is_hit(far, A)
    await here.close()
    await there.close()


async def test_a_broken_store_costs_no_answer_but_never_claims_a_purge(standin: StandIn, tmp_path: Path) -> None:
    store = WaywardStore()
    store.refusing = StoreError("no such store")
    wired = Wired(settings_for(tmp_path), connect=connect_to(standin), store=lambda _: GuardedBackend(store))
    async with app_of(wired) as client:
        for _ in range(3):
            answer = await client.post("/embeddings", json=A)
            assert answer.status_code == 200
            assert answer.headers["cache-status"].startswith("cache-proxy; fwd=miss; detail")
            await wired.drain()
        for path, body in (("/cache/flushall", {}), ("/cache/delete", {"request": A})):
            refused = await client.post(path, json=body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "store_unavailable")
        ping = await client.get("/cache/ping")
        assert (ping.status_code, ping.json()["status"]) == (503, "unhealthy")
        health = (await client.get("/health")).json()
        assert health["status"] == health["store"]["status"] == "degraded"
        assert health["store"]["failures"]["read_refused"] >= 1
        ready = await client.get("/health/readiness")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    await wired.close()
