"""``/metrics`` and ``/cache/stats``, as they are told by a proxy under all kinds of requests."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY, generate_latest
from prometheus_client import Counter as HostCounter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.backends import GuardedBackend
from cache_proxy.backends.base import Occupancy
from cache_proxy.core.catalog import MODELS
from cache_proxy.errors import StoreError
from cache_proxy.standin import Fault, StandIn
from cache_proxy.wiring import Wired
from tests.backends.fakes import WaywardStore
from tests.exposition import Scrape, check_form, scrape
from tests.support import connect_to, proxy, settings_for

pytestmark = pytest.mark.anyio

V3 = "jina-embeddings-v3"
V2_RANKER = "jina-reranker-v2-base-multilingual"
EMBED: dict[str, Any] = {"model": V3, "input": ["a", "b", "b"], "dimensions": 8}
RANK: dict[str, Any] = {"model": V2_RANKER, "query": "q", "documents": ["a", "b"]}


async def test_a_hit_a_miss_and_a_duplicate_are_told_by_endpoint_and_model(client: httpx.AsyncClient) -> None:
    for _ in range(3):
        await client.post("/embeddings", json=EMBED)
    await client.post("/rerank", json=RANK)
    found = await scrape(client)
    check_form(found)
    where = {"endpoint": "embeddings", "model": V3}
    assert found.total("requests_total", **where, status="200") == 3
    items = {result: found.total("items_total", **where, result=result) for result in ("hit", "miss", "duplicate")}
    assert items == {"hit": 6, "miss": 2, "duplicate": 1}
    assert found.total("items_total", endpoint="rerank", result="miss") == 2
    assert found.total("request_duration_seconds_count", endpoint="embeddings", result="hit") == 2
    assert found.total("request_duration_seconds_count", result="miss") == 2
    assert found.total("upstream_duration_seconds_count", endpoint="embeddings") == 1
    assert found.total("store_duration_seconds_count", operation="write") == 2
    assert found.total("store_duration_seconds_count", operation="read") >= 2
    assert found.total("ledger_commit_duration_seconds_count", result="written") >= 2
    assert found.total("memory_entries") == found.total("store_entries") == 4
    assert found.total("store_bytes") > 0
    assert found.total("workers") == found.total("build_info") == 1


async def test_tokens_and_money_agree_with_the_upstreams_books(client: httpx.AsyncClient, standin: StandIn) -> None:
    answers: list[httpx.Response] = []
    for wave in range(4):
        standin.fail_next(*[Fault("status", status=503), Fault("status", status=429)][: wave % 3])
        bodies = [{**EMBED, "input": [f"{wave}{n % 7}", f"{n % 11}", "always the same"]} for n in range(10)]
        answers += await asyncio.gather(*(client.post("/embeddings", json=body) for body in bodies))
        rankings = [{**RANK, "query": f"q{wave}{n % 3}"} for n in range(9)]
        answers += await asyncio.gather(*(client.post("/rerank", json=body) for body in rankings))
    found = await scrape(client)
    good = [answer for answer in answers if answer.status_code == 200]
    assert 30 < len(good) < len(answers)
    assert found.total("items_total", result="joined") > 0
    assert found.total("tokens_billed_total") == standin.billed_tokens
    assert found.total("upstream_calls_total") == standin.call_count
    asked = sum(answer.json()["usage"]["total_tokens"] for answer in good)
    assert found.total("tokens_saved_total") == asked - sum(int(answer.headers["x-tokens-billed"]) for answer in good)
    assert found.total("tokens_unpriced_total") == found.total("tokens_unsettled_total") == 0
    for model, path in ((V3, "embeddings"), (V2_RANKER, "rerank")):
        price = MODELS[model].price
        assert price is not None
        billed = found.total("tokens_billed_total", model=model, endpoint=path)
        assert found.total("cost_usd_total", model=model) == pytest.approx(billed * price / 1e12)


async def test_what_may_have_been_billed_is_told_by_its_bound_and_apart(
    client: httpx.AsyncClient, standin: StandIn
) -> None:
    standin.fail_next(Fault("drop"))
    assert (await client.post("/embeddings", json={**EMBED, "input": ["a"]})).status_code == 502
    found = await scrape(client)
    assert found.total("tokens_unsettled_total", model=V3) == 1 + 32
    assert found.total("tokens_billed_total") == 0
    assert found.total("upstream_calls_total", status="unsettled") == 1
    assert found.total("requests_total", status="502") == 1


async def test_tokens_of_unknown_price_are_in_no_amount(standin: StandIn, tmp_path: Path) -> None:
    params = {"model": f"openai/{V3}", "api_base": "http://mine.test/v1", "api_key": "k"}
    entry = {"model_name": "mine", "litellm_params": params}
    async with proxy(standin, tmp_path, {"model_list": [entry]}) as client:
        for _ in range(2):
            assert (await client.post("/embeddings", json={"model": "mine", "input": ["a"]})).status_code == 200
        found = await scrape(client)
    billed = found.total("tokens_billed_total")
    assert billed == standin.billed_tokens > 0
    assert found.total("tokens_unpriced_total", kind="billed") == found.total("tokens_unpriced_total", kind="saved")
    assert found.total("tokens_unpriced_total", kind="billed") == billed
    assert found.total("cost_usd_total") == found.total("saved_usd_total") == 0


async def test_made_up_names_make_no_series(client: httpx.AsyncClient) -> None:
    def others(found: Scrape) -> int:
        return len([1 for name, labels in found if ("model", "other") in labels])

    await client.post("/embeddings", json={**EMBED, "model": "jina_ai/made-up"})
    await client.post("/embeddings", json={**EMBED, "model": "no such thing"})
    before = await scrape(client)
    for number in range(60):
        for name in (f"jina_ai/made-up-{number}", f"made-up-{number}", f"jina_ai/\n{number}", "é" * number):
            await client.post("/embeddings", json={**EMBED, "model": name, "user": f"user {number}"})
    after = await scrape(client)
    check_form(after)
    assert after.labels("model") <= {*MODELS, "other"}
    assert set(after) - set(before) <= {one for one in after if "status" in dict(one[1])}
    assert others(after) <= others(before) + 3
    assert after.total("requests_total", model="other") > 200


async def test_nothing_of_a_request_is_told(standin: StandIn, tmp_path: Path) -> None:
    planted = ["hunter2-text", "hunter2-user", "hunter2-tag", "sk-hunter2", "jina_test", "hunter2-model", "hunter2-ns"]
    key = {"authorization": "Bearer sk-hunter2", "x-litellm-tags": "hunter2-tag"}
    async with proxy(standin, tmp_path, {"general_settings": {"master_key": "sk-hunter2"}}) as client:
        body = {**EMBED, "input": ["hunter2-text"], "user": "hunter2-user", "cache": {"namespace": "hunter2-ns"}}
        assert (await client.post("/embeddings", json=body, headers=key)).status_code == 200
        await client.post("/embeddings", json={**body, "model": "jina_ai/hunter2-model"}, headers=key)
        await client.post("/embeddings", json={**body, "model": "hunter2-text"}, headers=key)
        for path in ("/metrics", "/cache/stats"):
            told = (await client.get(path, headers=key)).text
            assert [word for word in planted if word in told] == []


async def test_only_the_master_key_may_read_them(standin: StandIn, tmp_path: Path) -> None:
    async with proxy(standin, tmp_path, {"general_settings": {"master_key": "sk-hunter2"}}) as client:
        for path in ("/metrics", "/cache/stats"):
            assert (await client.get(path)).status_code == 401
            assert (await client.get(path, headers={"authorization": "Bearer sk-other"})).status_code == 401
            assert (await client.get(path, headers={"authorization": "Bearer sk-hunter2"})).status_code == 200
        found = await scrape(client, authorization="Bearer sk-hunter2")
        await client.post("/embeddings", json=EMBED)
        again = await scrape(client, authorization="Bearer sk-hunter2")
    assert again.total("requests_total", status="401", model="other") == 1
    assert again.total("request_duration_seconds_count") == found.total("request_duration_seconds_count")


async def test_a_head_is_the_same_without_a_body(client: httpx.AsyncClient) -> None:
    answer, head = await client.get("/metrics"), await client.head("/metrics")
    assert answer.headers["content-type"] == head.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (head.status_code, head.content) == (200, b"")


async def test_requests_under_way_are_told_and_end_with_a_client_that_leaves(
    client: httpx.AsyncClient, standin: StandIn
) -> None:
    standin.delay = 0.2
    asking = [asyncio.create_task(client.post("/embeddings", json={**EMBED, "input": [str(n)]})) for n in range(3)]
    while standin.in_flight == 0:
        await asyncio.sleep(0)
    assert (await scrape(client)).total("requests_in_flight", endpoint="embeddings") == 3
    asking[0].cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    found = await scrape(client)
    assert found.total("requests_in_flight") == 0
    assert found.total("requests_total", status="499") == 1


class Speechless(WaywardStore):
    """Does not say what it holds either."""

    async def occupancy(self) -> Occupancy:
        raise RuntimeError("no such store")


async def test_a_store_that_fails_is_told_and_costs_no_scrape(standin: StandIn, tmp_path: Path) -> None:
    store = Speechless()
    store.refusing = StoreError("no such store")
    wired = Wired(settings_for(tmp_path), connect=connect_to(standin), store=lambda _: GuardedBackend(store))
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        for _ in range(3):
            await client.post("/embeddings", json=EMBED)
            await wired.drain()
        found = await scrape(client)
        assert found.total("store_breaker_open", part="store") == 1
        assert found.total("store_failures_total", kind="read_refused") >= 2
        assert found.total("store_entries") == 0
        stats = (await client.get("/cache/stats")).json()
        assert (stats["status"], stats["store"], stats["memory"]) == ("degraded", None, None)
        assert stats["breaker"]["store"] == "open"
    await wired.close()


async def test_a_ledger_that_can_not_be_written_is_told(standin: StandIn, tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("no folder")
    document = {"cache_proxy_settings": {"ledger_dir": str(tmp_path / "ledger"), "log_format": "off"}}
    async with proxy(standin, tmp_path, document) as client:
        while (await client.post("/embeddings", json=EMBED)).status_code != 503:
            pass
        found = await scrape(client)
        (tmp_path / "ledger").unlink()  # the end waits for what can not be written
    assert found.total("ledger_failing") == 1
    assert standin.billed_tokens == found.total("tokens_billed_total")


async def test_evictions_of_the_memory_are_told(standin: StandIn, tmp_path: Path) -> None:
    document = {"cache_proxy_settings": {"memory_mib": 1, "log_format": "off"}}
    async with proxy(standin, tmp_path, document) as client:
        await client.post("/embeddings", json={"model": V3, "input": [f"text {n}" for n in range(200)]})
        found = await scrape(client)
        stats = (await client.get("/cache/stats")).json()
    assert found.total("store_entries") == 200
    assert found.total("evictions_total", tier="memory") == 200 - found.total("memory_entries") > 0
    assert found.total("memory_bytes") <= found.total("memory_limit_bytes") == 2**19
    assert stats["memory"]["evicted"] == found.total("evictions_total", tier="memory")
    assert stats["store"] == {
        "entries": 200, "bytes": found.total("store_bytes"), "limit_bytes": found.total("store_limit_bytes"),
        "evicted": 0,
    }  # fmt: skip


async def test_the_stats_tell_of_this_worker_since_it_started(client: httpx.AsyncClient) -> None:
    for _ in range(2):
        await client.post("/embeddings", json=EMBED)
    stats = (await client.get("/cache/stats")).json()
    assert (stats["cache_type"], stats["status"]) == ("disk", "healthy")
    assert {name: number for name, number in stats["worker"].items() if name != "since"} == {
        "requests": 2, "hits": 3, "misses": 2, "duplicates": 1, "joined": 0,
    }  # fmt: skip
    assert stats["breaker"] == {"store": "closed", "leases": "closed", "counters": "closed"}


async def test_the_memory_alone_is_told_as_memory(standin: StandIn, tmp_path: Path) -> None:
    document = {"litellm_settings": {"cache": True, "cache_params": {"type": "local"}}}
    async with proxy(standin, tmp_path, document) as client:
        await client.post("/embeddings", json=EMBED)
        found, stats = await scrape(client), (await client.get("/cache/stats")).json()
    assert (stats["cache_type"], stats["store"], stats["memory"]["entries"]) == ("memory", None, 2)
    assert found.total("memory_entries") == 2
    assert not [name for name, _ in found if name.startswith("store_entries")]


async def test_what_is_closed_is_told_no_more_and_what_it_counted_stays(standin: StandIn, tmp_path: Path) -> None:
    wired = Wired(settings_for(tmp_path), connect=connect_to(standin))
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        await client.post("/embeddings", json=EMBED)
        await wired.close()
        again = await scrape(client)  # which opens it again
        assert (again.total("workers"), again.total("memory_entries")) == (1, 0)
        assert again.total("items_total") == 3
    await wired.close()


HOSTS = HostCounter("host_requests", "The host's own.")


async def hosts_metrics(_request: Request) -> Response:
    return Response(generate_latest(REGISTRY))


async def test_an_app_keeps_its_metrics_and_ours_are_under_the_prefix(standin: StandIn, tmp_path: Path) -> None:
    inner = Starlette(routes=[Route("/metrics", hosts_metrics)])
    wired = Wired(settings_for(tmp_path), connect=connect_to(standin))
    app = CacheProxyMiddleware(inner, wired=wired, auth="open", prefix="/cache")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        HOSTS.inc()
        await client.post("/cache/embeddings", json=EMBED)
        theirs, ours = (await client.get("/metrics")).text, (await client.get("/cache/metrics")).text
    await wired.close()
    assert "host_requests_total" in theirs
    assert "cache_proxy_" not in theirs
    assert "host_requests" not in ours
    assert "python_info" not in ours
    check_form(Scrape(ours))


async def test_two_middlewares_in_one_app_count_apart(standin: StandIn, tmp_path: Path) -> None:
    async with proxy(standin, tmp_path / "one") as one, proxy(standin, tmp_path / "two") as two:
        await one.post("/embeddings", json=EMBED)
        assert (await scrape(one)).total("requests_total") == 1
        assert (await scrape(two)).total("requests_total") == 0
