"""While Jina is down: hits answer as ever, a request with a miss gets Jina's error, or what has expired."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.standin import Fault, StandIn
from cache_proxy.wiring import Wired
from tests.support import connect_to, set_clock, settings_for

pytestmark = pytest.mark.anyio

TEXTS: dict[str, Any] = {"model": "jina-embeddings-v3", "input": ["a", "b"]}
PAIRS: dict[str, Any] = {"model": "jina-reranker-v2-base-multilingual", "query": "q", "documents": ["a", "b", "c"]}
LIST: dict[str, Any] = {"model": "jina-reranker-v3", "query": "q", "documents": ["a", "b"]}
WHOLE: dict[str, Any] = {**TEXTS, "late_chunking": True}

FAILURES = [
    *((Fault("status", status=status, times=None), status) for status in (402, 403, 429, 500, 502, 503, 504, 524)),
    (Fault("refuse", times=None), 502),
    (Fault("drop", times=None), 502),
]


async def post(client: httpx.AsyncClient, body: dict[str, Any], **changed: Any) -> httpx.Response:
    return await client.post("/rerank" if "documents" in body else "/embeddings", json={**body, **changed})


@pytest.mark.parametrize(("fault", "status"), FAILURES, ids=lambda value: str(getattr(value, "status", value)))
async def test_hits_answer_as_ever_and_a_miss_gets_the_upstreams_error(
    client: httpx.AsyncClient, standin: StandIn, fault: Fault, status: int
) -> None:
    before = [(await post(client, body)).json() for body in (TEXTS, PAIRS, LIST, WHOLE)]
    standin.fail_next(fault)
    for body, answer in zip((TEXTS, PAIRS, LIST, WHOLE), before, strict=True):
        again = await post(client, body)
        assert again.status_code == 200
        assert again.headers["cache-status"].startswith("cache-proxy; hit")
        assert {**again.json(), "id": ""} == {**answer, "id": ""}
    assert (await post(client, TEXTS, input=["a", "new"])).status_code == status
    assert (await post(client, PAIRS, documents=["a", "new"])).status_code == status


async def test_the_part_of_pairs_that_is_present_answers_whatever_its_order(
    client: httpx.AsyncClient, standin: StandIn
) -> None:
    full = (await post(client, PAIRS)).json()["results"]
    standin.fail_next(Fault("status", status=503, times=None))
    part = await post(client, PAIRS, documents=["c", "a"], top_n=1, return_documents=False)
    assert part.status_code == 200
    assert part.headers["x-tokens-billed"] == "0"
    scores = {PAIRS["documents"][result["index"]]: result["relevance_score"] for result in full}
    best = max(("c", "a"), key=scores.__getitem__)
    assert part.json()["results"] == [{"index": ["c", "a"].index(best), "relevance_score": scores[best]}]


async def test_an_expired_answer_is_served_where_the_operator_allows_it(standin: StandIn, tmp_path: Path) -> None:
    document = {
        "litellm_settings": {"cache": True, "num_retries": 0, "cache_params": {"type": "local", "ttl": 100}},
        "cache_proxy_settings": {"stale_if_error": 50},
    }
    wired = Wired(settings_for(tmp_path, document), connect=connect_to(standin))
    engine = await wired.open()
    now = 1_000_000.0
    set_clock(engine, lambda: now)
    transport = httpx.ASGITransport(CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        fresh = await post(client, TEXTS)
        now += 100
        standin.fail_next(Fault("status", status=503, times=None))
        stale = await post(client, TEXTS)
        assert stale.json() == fresh.json()
        detail = 'detail="items=2 hit=2 miss=0 dup=0 joined=0"'
        assert stale.headers["cache-status"] == f"cache-proxy; fwd=stale; fwd-status=503; {detail}"
        saved = fresh.headers["x-tokens-billed"]
        assert (stale.headers["x-tokens-billed"], stale.headers["x-tokens-saved"]) == ("0", saved)
        careful = {"cache-control": "max-age=3600"}
        assert (await client.post("/embeddings", json=TEXTS, headers=careful)).status_code == 503
        assert (await post(client, TEXTS, input=["a", "new"])).status_code == 503
        now += 50.1
        assert (await post(client, TEXTS)).status_code == 503
    await wired.close()
