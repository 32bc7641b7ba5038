"""What callers see when the upstream refuses or answers nonsense, and that it is never stored."""

import asyncio
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.standin import Fault, StandIn
from cache_proxy.standin.faults import Kind
from cache_proxy.wiring import Wired
from tests.support import UPSTREAM, connect_to, proxy, settings_for

pytestmark = pytest.mark.anyio

V3 = "jina-embeddings-v3"
EMBED: dict[str, Any] = {"model": V3, "input": ["a", "b"], "dimensions": 8}
ROWS: dict[str, Any] = {"model": "jina-colbert-v2", "input": ["a", "b"]}
PAIRS: dict[str, Any] = {"model": "jina-reranker-v2-base-multilingual", "query": "q", "documents": ["a", "b"]}
LIST: dict[str, Any] = {**PAIRS, "model": "jina-reranker-v3"}
WHOLE: dict[str, Any] = {**EMBED, "late_chunking": True}
RAW: dict[str, Any] = {**PAIRS, "documents": [{"text": "a", "id": 1}, {"text": "b"}]}
ONCE: dict[str, Any] = {"litellm_settings": {"num_retries": 0}}
IN_MEMORY: dict[str, Any] = {"litellm_settings": {"num_retries": 0, "cache": True, "cache_params": {"type": "local"}}}

NONSENSE: tuple[Kind, ...] = (
    "html", "truncated", "short", "long", "misnumber", "duplicate", "nan", "infinity", "null",
)  # fmt: skip
UNREACHABLE: tuple[Kind, ...] = ("refuse", "drop", "halfway")
HARMLESS: tuple[Kind, ...] = ("status", "delay", "drip", "shuffle", "ragged")


def path_of(body: dict[str, Any]) -> str:
    return "/rerank" if "documents" in body else "/embeddings"


def test_every_kind_of_fault_is_accounted_for() -> None:
    assert {*NONSENSE, *UNREACHABLE, *HARMLESS} == set(get_args(Kind))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        *((body, kind) for body in (EMBED, ROWS, WHOLE, PAIRS, LIST) for kind in NONSENSE),
        *((body, "ragged") for body in (EMBED, ROWS, WHOLE)),
        *((RAW, kind) for kind in ("html", "truncated", "short", "long", "misnumber", "duplicate", "nan", "null")),
    ],
)
async def test_nonsense_is_a_502_that_says_so_and_is_stored_nowhere(
    client: httpx.AsyncClient, standin: StandIn, body: dict[str, Any], kind: Kind
) -> None:
    standin.fail_next(Fault(kind))
    answer = await client.post(path_of(body), json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_invalid_answer")
    assert "upstream" in answer.json()["detail"].lower()
    again = await client.post(path_of(body), json=body)
    assert again.status_code == 200
    assert again.headers["cache-status"].startswith("cache-proxy; fwd=miss; stored")


@pytest.mark.parametrize("kind", UNREACHABLE)
async def test_a_lost_connection_is_a_502_and_the_next_call_works(
    client: httpx.AsyncClient, standin: StandIn, kind: Kind
) -> None:
    standin.fail_next(Fault(kind))
    answer = await client.post("/embeddings", json=EMBED)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_unreachable")
    assert (await client.post("/embeddings", json=EMBED)).status_code == 200


async def test_an_answer_in_another_order_is_put_in_ours(client: httpx.AsyncClient, standin: StandIn) -> None:
    standin.fail_next(Fault("shuffle"))
    shuffled = await client.post("/embeddings", json={**EMBED, "input": ["a", "b", "c"]})
    for place, text in enumerate("abc"):
        alone = await client.post("/embeddings", json={**EMBED, "input": text, "cache": {"no-cache": True}})
        assert alone.json()["data"][0]["embedding"] == shuffled.json()["data"][place]["embedding"]


async def directly(body: dict[str, Any]) -> httpx.Response:
    headers = {"authorization": "Bearer jina_test"}
    transport = httpx.ASGITransport(StandIn())
    async with httpx.AsyncClient(transport=transport, base_url=UPSTREAM, headers=headers) as client:
        return await client.post(path_of(body), json=body)


@pytest.mark.parametrize(
    "body",
    [
        {**EMBED, "dimensions": 5000},
        {**EMBED, "task": "no such task"},
        {**EMBED, "input": ["a", {"image": "aW1hZ2U="}]},
        {"model": V3, "input": ["word " * 9000]},
        {"model": "jina-embeddings-v99", "input": ["a"]},
    ],
)
async def test_a_refusal_comes_back_as_jina_wrote_it(client: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer, expected = await client.post("/embeddings", json=body), await directly(body)
    assert answer.status_code == expected.status_code >= 400
    told, wanted = answer.json(), expected.json()
    # The id is a digest of the request; the proxy's is spelled in its own key order.
    for one in (told, wanted):
        (one["detail"] if isinstance(one["detail"], dict) else one).pop("request_id")
    assert told == wanted
    assert answer.headers["content-type"] == expected.headers["content-type"]
    assert answer.headers["x-tokens-billed"] == "0"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (402, {"detail": "no money"}),
        (
            403,
            {"detail": "Insufficient account balance.", "request_id": "0" * 32, "code": "AUTHZ_INSUFFICIENT_BALANCE"},
        ),
        (404, {"detail": "nothing here"}),
        (418, {"detail": "odd"}),
        (429, {"detail": "slow down"}),
        (500, {"detail": {"message": "Internal server error", "code": "INTERNAL_ERROR"}}),
        (503, {"detail": "not now"}),
        (524, {"detail": "a timeout occurred"}),
    ],
)
async def test_any_status_of_the_upstream_passes_through_with_its_body(
    client: httpx.AsyncClient, standin: StandIn, status: int, body: dict[str, Any]
) -> None:
    standin.fail_next(Fault("status", status=status, body=body, headers={"Retry-After": "7"}))
    answer = await client.post("/embeddings", json=EMBED)
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (status, body, "7")
    assert (await client.post("/embeddings", json=EMBED)).status_code == 200


async def test_an_html_error_page_keeps_its_status_and_type(client: httpx.AsyncClient, standin: StandIn) -> None:
    standin.fail_next(Fault("html", status=524))
    answer = await client.post("/embeddings", json=EMBED)
    assert (answer.status_code, answer.headers["content-type"]) == (524, "text/html; charset=utf-8")
    assert answer.text.startswith("<html>")


@pytest.mark.parametrize(
    "headers", [{"Retry-After": "9" * 400}, {"Retry-After": "soon"}, {"Content-Type": "text/plain; x=\xff"}]
)
async def test_odd_headers_of_a_refusal_do_no_harm(
    client: httpx.AsyncClient, standin: StandIn, headers: dict[str, str]
) -> None:
    standin.fail_next(Fault("status", status=418, body="oops", headers=headers))
    answer = await client.post("/embeddings", json=EMBED)
    assert (answer.status_code, answer.text) == (418, "oops")


async def test_hits_are_not_held_up_by_a_refusal_of_others(client: httpx.AsyncClient, standin: StandIn) -> None:
    await client.post("/embeddings", json=EMBED)
    standin.fail_next(Fault("status", status=403, times=None))
    assert (await client.post("/embeddings", json={**EMBED, "input": ["b", "a"]})).status_code == 200
    assert (await client.post("/embeddings", json={**EMBED, "input": ["a", "new"]})).status_code == 403


async def test_whoever_shares_an_item_with_a_bad_request_gets_his_answer_and_not_its_error(tmp_path: Path) -> None:
    standin = StandIn(delay=0.02)
    async with proxy(standin, tmp_path, IN_MEMORY) as client:
        bad, good = await asyncio.gather(
            client.post("/embeddings", json={**EMBED, "input": ["shared", {"image": "CANARY"}]}),
            client.post("/embeddings", json={**EMBED, "input": ["shared"]}),
        )
    assert bad.status_code == 422
    assert "CANARY" in bad.text
    assert good.status_code == 200
    assert "CANARY" not in good.text
    assert standin.call_count == 2


@pytest.mark.parametrize("status", [401, 403, 418, 429, 500, 503])
async def test_a_caller_who_joined_hears_the_status_but_not_anothers_words(tmp_path: Path, status: int) -> None:
    standin = StandIn(delay=0.02)
    standin.fail_next(Fault("status", status=status, body={"detail": "about CANARY"}))
    async with proxy(standin, tmp_path, IN_MEMORY) as client:
        own, joined = await asyncio.gather(
            client.post("/embeddings", json={**EMBED, "input": ["shared", "CANARY"]}),
            client.post("/embeddings", json={**EMBED, "input": ["shared"]}),
        )
    assert (own.status_code, own.json()) == (status, {"detail": "about CANARY"})
    assert joined.status_code == status
    assert "CANARY" not in joined.text
    assert joined.json()["error"]["code"] == f"upstream_{status}"
    assert standin.call_count == 1


async def test_a_caller_who_leaves_harms_nobody_who_joined(tmp_path: Path) -> None:
    standin = StandIn(delay=0.05)
    wired = Wired(settings_for(tmp_path, IN_MEMORY), connect=connect_to(standin))
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        leaving = asyncio.create_task(client.post("/embeddings", json=EMBED))
        staying = asyncio.create_task(client.post("/embeddings", json=EMBED))
        while not standin.in_flight:
            await asyncio.sleep(0)
        leaving.cancel()
        answer = await staying
        assert leaving.cancelled()
        assert answer.status_code == 200
        assert "joined=2" in answer.headers["cache-status"]
        assert standin.call_count == 1
    await wired.close()


async def test_what_was_paid_for_a_caller_who_left_is_kept_for_the_next(tmp_path: Path) -> None:
    standin = StandIn(delay=0.05)
    async with proxy(standin, tmp_path, IN_MEMORY) as client:
        leaving = asyncio.create_task(client.post("/embeddings", json=EMBED))
        while not standin.in_flight:
            await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        answer = await client.post("/embeddings", json=EMBED)
        assert answer.status_code == 200
    assert standin.call_count == 1


async def test_a_free_refusal_is_tried_again_and_an_answer_is_never(tmp_path: Path) -> None:
    standin = StandIn()
    async with proxy(standin, tmp_path) as client:
        standin.fail_next(Fault("status", status=503, headers={"Retry-After": "0"}))
        assert (await client.post("/embeddings", json=EMBED)).status_code == 200
        assert standin.call_count == 2
        standin.fail_next(Fault("short"))
        assert (await client.post("/embeddings", json={**EMBED, "input": ["c", "d"]})).status_code == 502
        assert standin.call_count == 3
