"""The log line of a request: what is in it, and what never is."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.standin import Fault, StandIn
from cache_proxy.wiring import Wired
from tests.support import connect_to, settings_for

pytestmark = pytest.mark.anyio

V3 = "jina-embeddings-v3"
TEXT, KEY, MASTER = "CANARYTEXT", "CANARYKEY", "CANARYMASTER"


class Kept(list[str]):
    """Lines in a list."""

    def __call__(self, line: str) -> None:
        self.append(line)

    def flush(self) -> None:
        """Nothing waits here."""


@pytest.fixture
def lines() -> Kept:
    return Kept()


@asynccontextmanager
async def logged(upstream: ASGIApp, folder: Path, lines: Kept, form: str = "json") -> AsyncIterator[httpx.AsyncClient]:
    document = {
        "cache_proxy_settings": {"log_format": form},
        "general_settings": {"master_key": MASTER},
        "litellm_settings": {"num_retries": 0},
    }
    wired = Wired(settings_for(folder, document), connect=connect_to(upstream), lines=lines)
    app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired)
    headers = {"authorization": f"Bearer {MASTER}"}
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client
    await wired.close()


async def test_the_same_bytes_again_tell_of_their_caller_again(standin: StandIn, tmp_path: Path, lines: Kept) -> None:
    body = {"model": V3, "input": ["a"], "user": "u1", "metadata": {"tags": ["t1"]}}
    async with logged(standin, tmp_path, lines) as client:
        for headers in ({}, {}, {"x-litellm-tags": "t2"}):
            await client.post("/embeddings", json=body, headers=headers)
    told = [orjson.loads(line) for line in lines]
    assert [line["user"] for line in told] == ["u1"] * 3
    assert [line["tags"] for line in told] == [["t1"], ["t1"], ["t2"]]


async def test_a_line_says_who_asked_for_what_and_what_it_cost(standin: StandIn, tmp_path: Path, lines: Kept) -> None:
    async with logged(standin, tmp_path, lines) as client:
        await client.post("/embeddings", json={"model": V3, "input": ["a", "b", "a"]})
        body = {"model": f"jina_ai/{V3}", "input": ["a", "c"], "user": "u1", "metadata": {"tags": ["t1", "t2"]}}
        answer = await client.post("/v1/embeddings", json=body)
    first, second = map(orjson.loads, lines)
    assert first["cache"] == "fwd=miss; stored"
    assert second.pop("time")
    assert second.pop("latency_ms") > 0
    assert second == {
        "event": "request",
        "request_id": answer.headers["x-request-id"],
        "who": "master",
        "endpoint": "embeddings",
        "model": f"jina_ai/{V3}",
        "upstream_model": V3,
        "status": 200,
        "cache": "fwd=partial; stored",
        "items": 2,
        "hits": 1,
        "misses": 1,
        "duplicates": 0,
        "joined": 0,
        "tokens_billed": int(answer.headers["x-tokens-billed"]),
        "tokens_saved": int(answer.headers["x-tokens-saved"]),
        "cost_usd": answer.headers["x-cost-usd"],
        "saved_usd": answer.headers["x-saved-usd"],
        "bytes": len(answer.content),
        "user": "u1",
        "tags": ["t1", "t2"],
    }
    assert first["tokens_billed"] + second["tokens_billed"] == standin.billed_tokens


async def test_every_request_for_an_answer_has_one_line_however_it_ends(
    standin: StandIn, tmp_path: Path, lines: Kept
) -> None:
    async with logged(standin, tmp_path, lines) as client:
        await client.post("/embeddings", content=b"{")
        await client.post("/embeddings", json={"model": V3})
        await client.post("/embeddings", json={"model": "gpt-4", "input": "a"})
        await client.post("/embeddings", json={"model": V3, "input": "a", "dimensions": 5000})
        standin.fail_next(Fault("html"), Fault("drop"))
        for _ in range(2):
            await client.post("/embeddings", json={"model": V3, "input": "a"})
        await client.post("/embeddings", json={"model": V3, "input": "a"}, headers={"cache-control": "only-if-cached"})
    told = [line for line in map(orjson.loads, lines) if line["event"] == "request"]
    assert [(line["status"], line["error"]) for line in told] == [
        (400, "invalid_json"),
        (422, "missing_field"),
        (404, "model_not_found"),
        (422, "upstream_422"),
        (502, "upstream_invalid_answer"),
        (502, "upstream_unreachable"),
        (504, "not_cached"),
    ]
    assert [line.get("outcome_unknown") for line in told[-3:]] == [1, 1, None]


async def test_a_call_that_may_have_been_billed_has_a_line_of_its_own(
    standin: StandIn, tmp_path: Path, lines: Kept
) -> None:
    async with logged(standin, tmp_path, lines) as client:
        for text in ("abcd", "efgh"):
            standin.fail_next(Fault("drop"))
            assert (await client.post("/embeddings", json={"model": V3, "input": text})).status_code == 502
    told = [line for line in map(orjson.loads, lines) if line["event"] == "call_unsettled"]
    assert [orjson.loads(line)["event"] for line in lines] == ["call_unsettled", "request"] * 2
    first, second = told
    assert first.pop("time")
    assert len(first.pop("call_id")) == 32
    bound = first.pop("tokens_bound")
    assert bound > 0
    assert first == {
        "event": "call_unsettled",
        "deployment": "jina",
        "upstream_model": V3,
        "endpoint": "embeddings",
        "items": 1,
        "calls_so_far": 1,
        "tokens_so_far": bound,
    }
    assert (second["calls_so_far"], second["tokens_so_far"]) == (2, 2 * bound)


async def test_a_call_that_may_have_been_billed_is_told_to_people_by_its_name(
    standin: StandIn, tmp_path: Path, lines: Kept
) -> None:
    async with logged(standin, tmp_path, lines, "console") as client:
        standin.fail_next(Fault("drop"))
        await client.post("/embeddings", json={"model": V3, "input": "a"})
    assert " event=call_unsettled call_id=" in lines[0]
    assert " event=" not in lines[1]


async def test_where_the_log_is_off_so_is_that_of_calls(standin: StandIn, tmp_path: Path, lines: Kept) -> None:
    async with logged(standin, tmp_path, lines, "off") as client:
        standin.fail_next(Fault("drop"))
        await client.post("/embeddings", json={"model": V3, "input": "a"})
    assert lines == []


async def test_the_line_for_people_has_the_same_fields(standin: StandIn, tmp_path: Path, lines: Kept) -> None:
    async with logged(standin, tmp_path, lines, "console") as client:
        await client.post("/embeddings", json={"model": V3, "input": "a"})
    assert f" model={V3} " in lines[0]
    assert " status=200 " in lines[0]
    assert "\n" not in lines[0]


@pytest.mark.parametrize("form", ["json", "console"])
async def test_no_text_and_no_key_is_ever_logged(
    tmp_path: Path, lines: Kept, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    caplog.set_level(logging.DEBUG)
    standin = StandIn(keys=["jina_test"])
    bodies: list[Any] = [
        {"model": V3, "input": [TEXT]},
        {"model": V3, "input": [TEXT]},
        {"model": V3, "input": [TEXT, {"image": TEXT}]},
        {"model": V3, "input": TEXT, "task": TEXT},
        {"model": V3, "input": TEXT, "dimensions": TEXT},
        {"model": V3, "input": TEXT, TEXT: TEXT},
        {"model": V3, "input": TEXT, "cache": {TEXT: TEXT}},
        {"model": V3, "input": TEXT, "cache": {"namespace": TEXT}},
        {"model": V3, "input": TEXT, "api_key": KEY},
        {"model": TEXT, "input": TEXT},
        {"model": KEY},
        {"model": {TEXT: TEXT}},
        {"model": V3, "input": {TEXT: TEXT}},
        [TEXT],
        TEXT,
    ]
    async with logged(standin, tmp_path, lines, form) as client:
        for body in bodies:
            await client.post("/embeddings", json=body)
            await client.post("/cache/delete", json={"request": body})
        await client.post("/rerank", json={"model": "jina-reranker-m0", "query": TEXT, "documents": [TEXT]})
        await client.post("/embeddings", json={"model": V3, "input": TEXT}, headers={"authorization": KEY})
        await client.post("/embeddings", content=f'{{"model": "{TEXT}')
        standin.fail_next(Fault("status", status=400, body=TEXT), Fault("html"), Fault("drop"))
        for place in range(3):
            await client.post("/embeddings", json={"model": V3, "input": f"{TEXT} {place}"})
    everything = "\n".join([*lines, caplog.text, *(repr(vars(record)) for record in caplog.records)])
    for canary in (TEXT, KEY, MASTER, "jina_test"):
        assert canary not in everything
    assert len(lines) >= len(bodies)


async def test_a_fault_of_ours_is_logged_by_its_kind_and_place_only(
    tmp_path: Path, lines: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    async def odd(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError(f"{TEXT} {KEY}")

    async with logged(odd, tmp_path, lines) as client:
        answer = await client.post("/embeddings", json={"model": V3, "input": TEXT})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert orjson.loads(lines[0])["error"] == "internal"
    assert "ZeroDivisionError" in caplog.text
    assert answer.headers["x-request-id"] in caplog.text
    for canary in (TEXT, KEY):
        assert canary not in answer.text + caplog.text
