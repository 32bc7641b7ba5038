"""Failure on command, and the auditor's log, in this process and over a real network."""

import asyncio
import json
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import httpx
import pytest
import uvicorn

from cache_proxy.standin import Call, Dropped, Fault, StandIn

pytestmark = pytest.mark.anyio

Post = Callable[..., Awaitable[httpx.Response]]

V3 = "jina-embeddings-v3"
BODY: dict[str, Any] = {"model": V3, "input": ["a", "b", "c"], "dimensions": 4}


@asynccontextmanager
async def served(standin: StandIn, http: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the stand-in behind a real uvicorn."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(standin, http=http, loop="asyncio", log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve(sockets=[sock]))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        async with httpx.AsyncClient(base_url=url, headers={"Authorization": "Bearer jina_x"}) as client:
            yield client
    finally:
        server.should_exit = True
        await running


async def test_faults_strike_one_after_the_other_and_then_stop(embed: Post, standin: StandIn) -> None:
    standin.fail_next(Fault("status", status=503), Fault("status", status=429, headers={"Retry-After": "2"}))
    first, second, third = [await embed(**BODY) for _ in range(3)]
    assert (first.status_code, first.json()["code"]) == (503, "SERVICE_UNAVAILABLE")
    assert (second.status_code, second.json()["code"]) == (429, "RATE_REQUEST_LIMIT_EXCEEDED")
    assert second.headers["retry-after"] == "2"
    assert third.status_code == 200
    assert standin.faults_left == 0


async def test_a_fault_may_have_its_own_body_and_strike_several_times(embed: Post, standin: StandIn) -> None:
    standin.fail_next(Fault("status", status=402, body={"detail": "no money"}, times=2))
    assert [(await embed(**BODY)).status_code for _ in range(3)] == [402, 402, 200]
    standin.fail_next(Fault("status", status=500, body="oops", times=None))
    assert {(await embed(**BODY)).text for _ in range(5)} == {"oops"}
    standin.clear_faults()
    assert (await embed(**BODY)).status_code == 200


async def test_a_fault_waits_for_the_call_that_it_matches(embed: Post, rank: Post, standin: StandIn) -> None:
    standin.fail_next(Fault("status", endpoint="rerank"), Fault("status", contains="poison"))
    ask = {"model": "jina-colbert-v2", "query": "q", "documents": ["a"]}
    assert (await embed(**BODY)).status_code == 200
    assert (await rank(**ask)).status_code == 500
    assert (await rank(**ask)).status_code == 200
    assert (await embed(model=V3, input="a poisoned text")).status_code == 500


async def test_wrong_answers_are_wrong_in_the_way_asked_for(embed: Post, standin: StandIn) -> None:
    right = (await embed(**BODY)).json()["data"]

    async def spoiled(kind: Any) -> list[dict[str, Any]]:
        standin.fail_next(Fault(kind))
        response = await embed(**BODY)
        assert response.status_code == 200
        return list(json.loads(response.text)["data"])

    assert await spoiled("short") == right[:2]
    assert [item["index"] for item in await spoiled("long")] == [0, 1, 2, 3]
    assert [item["index"] for item in await spoiled("misnumber")] == [1, 2, 3]
    assert [item["index"] for item in await spoiled("duplicate")] == [0, 1, 0]
    assert await spoiled("shuffle") == right[::-1]
    assert math.isnan((await spoiled("nan"))[0]["embedding"][0])
    assert math.isinf((await spoiled("infinity"))[0]["embedding"][0])
    assert [len(item["embedding"]) for item in await spoiled("ragged")] == [4, 4, 3]
    assert (await spoiled("null"))[0]["embedding"] is None
    assert await spoiled("delay") == right


@pytest.mark.parametrize("kind", ["nan", "infinity", "null", "ragged", "short", "shuffle"])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/rerank", {"model": "jina-colbert-v2", "query": "q", "documents": ["a", "b"]}),
        ("/v1/embeddings", {"model": "jina-colbert-v2", "input": ["a", "b"]}),
        ("/v1/embeddings", {"model": "elser-v2", "input": ["a", "b"]}),
        ("/v1/embeddings", {"model": V3, "input": ["a", "b"], "embedding_type": "base64"}),
    ],
)
async def test_every_shape_of_answer_can_be_spoiled(
    client: httpx.AsyncClient, standin: StandIn, kind: Any, path: str, body: dict[str, Any]
) -> None:
    standin.fail_next(Fault(kind))
    response = await client.post(path, json=body)
    assert response.status_code == 200
    json.loads(response.text)


async def test_html_and_half_json_come_with_status_200(embed: Post, standin: StandIn) -> None:
    standin.fail_next(Fault("html"), Fault("truncated"), Fault("html", status=524))
    page, half, timeout = [await embed(**BODY) for _ in range(3)]
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert half.status_code == 200
    with pytest.raises(json.JSONDecodeError):
        half.json()
    assert timeout.status_code == 524


async def test_only_work_is_billed(embed: Post, standin: StandIn) -> None:
    standin.fail_next(Fault("status"), Fault("refuse"), Fault("drop"), Fault("short"))
    await embed(**BODY)
    for _ in range(2):
        with pytest.raises(Dropped):
            await embed(**BODY)
    cost = (await embed(**BODY)).json()["usage"]["total_tokens"]
    assert [(call.fault, call.status, call.tokens) for call in standin.calls] == [
        ("status", 500, 0),
        ("refuse", 0, 0),
        ("drop", 0, cost),
        ("short", 200, cost),
    ]
    assert standin.billed_tokens == 2 * cost
    assert standin.billed_items == 6


async def test_a_call_whose_caller_gave_up_is_billed_too(embed: Post, standin: StandIn) -> None:
    standin.fail_next(Fault("delay", seconds=30))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(embed(**BODY), 0.05)
    assert standin.billed_tokens > 0
    assert standin.in_flight == 0


async def test_the_log_holds_what_was_received(embed: Post, standin: StandIn) -> None:
    cost = (await embed(**BODY)).json()["usage"]["total_tokens"]
    assert standin.calls == [Call("embeddings", V3, 3, cost, BODY, 200)]
    await embed(model="gpt-9", input="a")
    assert (standin.calls[1].status, standin.calls[1].tokens) == (400, 0)
    standin.clear_log()
    assert (standin.calls, standin.call_count, standin.billed_tokens) == ([], 0, 0)


async def test_the_log_forgets_old_calls_but_not_the_totals() -> None:
    standin = StandIn(keep=2)
    transport = httpx.ASGITransport(standin)
    headers = {"Authorization": "Bearer jina_x"}
    async with httpx.AsyncClient(transport=transport, base_url="http://j", headers=headers) as client:
        for _ in range(3):
            await client.post("/v1/embeddings", json=BODY)
    assert (len(standin.calls), standin.call_count) == (2, 3)
    assert standin.billed_tokens == 3 * standin.calls[0].tokens


async def test_the_peak_of_calls_in_flight_is_told(embed: Post, standin: StandIn) -> None:
    standin.delay = 0.05
    await asyncio.gather(*(embed(**BODY) for _ in range(4)))
    assert (standin.peak_in_flight, standin.in_flight) == (4, 0)


async def test_an_unknown_kind_of_fault_is_refused_with_the_list_of_kinds() -> None:
    with pytest.raises(ValueError, match="truncated"):
        Fault("explode")  # type: ignore[arg-type]


async def test_faults_and_log_can_be_driven_over_http(client: httpx.AsyncClient, embed: Post) -> None:
    faults = [{"kind": "status", "status": 503}, {"kind": "html", "times": None}]
    assert (await client.post("/_standin/faults", json=faults)).json() == {"waiting": 2}
    assert [(await embed(**BODY)).status_code for _ in range(2)] == [503, 200]
    assert (await client.delete("/_standin/faults")).status_code == 204
    cost = (await embed(**BODY)).json()["usage"]["total_tokens"]
    log = (await client.get("/_standin/log")).json()
    assert (log["count"], log["billed_tokens"], log["billed_items"]) == (3, cost, 3)
    assert [call["fault"] for call in log["calls"]] == ["status", "html", None]
    assert log["calls"][2]["body"] == BODY
    assert (await client.delete("/_standin/log")).status_code == 204
    assert (await client.get("/_standin/log")).json()["calls"] == []
    for wrong in ({"kind": "explode"}, {"kind": "html", "colour": 1}, "html", None):
        assert (await client.post("/_standin/faults", json=wrong)).status_code == 400


@pytest.mark.parametrize("http", ["h11", "httptools"])
async def test_connections_are_lost_over_a_real_network(http: str) -> None:
    standin = StandIn()
    async with served(standin, http) as client:
        for kind in ("refuse", "drop", "halfway"):
            await client.post("/_standin/faults", json={"kind": kind})
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post("/v1/embeddings", json=BODY)
        assert (await client.post("/v1/embeddings", json=BODY)).status_code == 200
    assert [(call.status, call.tokens > 0) for call in standin.calls] == [
        (0, False),
        (0, True),
        (200, True),
        (200, True),
    ]


async def test_a_dripping_answer_is_whole_in_the_end() -> None:
    standin = StandIn()
    async with served(standin, "h11") as client:
        right = (await client.post("/v1/embeddings", json=BODY)).content
        standin.fail_next(Fault("drip", seconds=0.2))
        started = monotonic()
        async with client.stream("POST", "/v1/embeddings", json=BODY) as response:
            pieces = [piece async for piece in response.aiter_raw()]
        assert b"".join(pieces) == right
        assert len(pieces) > 1
        assert monotonic() - started >= 0.2
