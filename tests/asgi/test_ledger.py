"""What requests leave in the ledger, and what happens to them while it is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from cache_proxy.ledger.database import Database
from cache_proxy.standin import Fault, StandIn
from tests.ledger.audit import audit
from tests.ledger.money import rows, sums
from tests.support import proxy

pytestmark = pytest.mark.anyio

TEXTS: dict[str, Any] = {"model": "jina-embeddings-v3", "input": ["CANARYTEXT one", "two", "two"], "user": "ada"}
PAIRS: dict[str, Any] = {
    "model": "jina-reranker-v2-base-multilingual", "query": "CANARYTEXT", "documents": ["CANARYTEXT a", "b"],
}  # fmt: skip
KEY = {"authorization": "Bearer sk-CANARYKEY", "x-litellm-tags": "nightly,search"}
LOCKED: dict[str, Any] = {
    "general_settings": {"master_key": "sk-CANARYKEY"},
    "litellm_settings": {"num_retries": 0},
}


@pytest.fixture
async def client(standin: StandIn, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with proxy(standin, tmp_path, LOCKED) as client:
        client.headers.update(KEY)
        yield client


def ledger(folder: Path) -> Database:
    return Database.in_folder(folder)


async def test_what_was_billed_stands_there_when_the_answer_is_out(
    client: httpx.AsyncClient, standin: StandIn, tmp_path: Path
) -> None:
    answer = await client.post("/embeddings", json=TEXTS)
    found = audit(ledger(tmp_path), standin.calls)
    assert (found.missing, found.invented, found.unsettled) == (0, 0, 0)
    assert found.settled == standin.billed_tokens == int(answer.headers["x-tokens-billed"])
    (row,) = rows(ledger(tmp_path), "requests")
    assert (row["items"], row["misses"], row["duplicates"], row["status"]) == (3, 2, 1, 200)
    assert (row["request_id"], row["bytes_out"]) == (answer.headers["x-request-id"], len(answer.content))
    assert (row["key_alias"], row["end_user"], row["tags"]) == ("master", "ada", '["nightly","search"]')
    assert row["cost"] == row["tokens_billed"] * 50_000


async def test_a_hit_costs_nothing_and_is_told_within_a_second(
    client: httpx.AsyncClient, standin: StandIn, tmp_path: Path
) -> None:
    first, hit = [await client.post("/embeddings", json=TEXTS) for _ in range(2)]
    await asyncio.sleep(1.0)
    total = sums(ledger(tmp_path))[""]
    assert (total["requests"], total["hits"], total["tokens_billed"]) == (2, 3, standin.billed_tokens)
    assert total["tokens_saved"] == sum(int(answer.headers["x-tokens-saved"]) for answer in (first, hit))


async def test_a_call_for_several_requests_is_shared_out_among_them(
    client: httpx.AsyncClient, standin: StandIn, tmp_path: Path
) -> None:
    bodies = [{**TEXTS, "input": [f"text {number}"], "user": f"user{number}"} for number in range(12)]
    answers = await asyncio.gather(*(client.post("/embeddings", json=body) for body in bodies))
    assert standin.call_count < len(bodies), "some travelled together"
    told = {f"user{number}": int(answer.headers["x-tokens-billed"]) for number, answer in enumerate(answers)}
    assert {name: row["tokens_billed"] for name, row in sums(ledger(tmp_path), "user").items()} == told
    assert sum(told.values()) == standin.billed_tokens


@pytest.mark.parametrize("kind", ["drop", "status"])
async def test_a_call_that_may_have_been_billed_stays_with_its_bound(
    client: httpx.AsyncClient, standin: StandIn, tmp_path: Path, kind: str
) -> None:
    standin.fail_next(Fault("drop", times=None) if kind == "drop" else Fault("status", status=500, times=None))
    answer = await client.post("/rerank", json=PAIRS)
    assert answer.status_code >= 500
    bound = sum(len(text) + 32 for text in (PAIRS["query"], *PAIRS["documents"]))
    (call,) = rows(ledger(tmp_path), "calls")
    assert (call["settled_at"], call["tokens_bound"]) == (None, bound)
    (request,) = rows(ledger(tmp_path), "requests")
    assert (request["tokens_unsettled"], request["tokens_billed"]) == (bound, 0)


async def test_a_refusal_cost_nothing(client: httpx.AsyncClient, standin: StandIn, tmp_path: Path) -> None:
    standin.fail_next(Fault("status", status=429, times=None))
    assert (await client.post("/embeddings", json=TEXTS)).status_code == 429
    async with asyncio.timeout(5):
        while rows(ledger(tmp_path), "calls")[0]["settled_at"] is None:
            await asyncio.sleep(0.05)
    (call,) = rows(ledger(tmp_path), "calls")
    assert (call["tokens"], call["status"]) == (0, 429)


async def test_neither_a_text_nor_a_key_is_in_any_row(client: httpx.AsyncClient, tmp_path: Path) -> None:
    for path, body in (("/embeddings", TEXTS), ("/rerank", PAIRS)):
        for _ in range(2):
            await client.post(path, json=body)
    await client.post("/embeddings", json={**TEXTS, "model": "CANARYTEXT"})
    await client.post("/embeddings", json={"input": "CANARYTEXT"})
    await client.post("/embeddings", json=TEXTS, headers={"authorization": "Bearer sk-CANARYWRONG"})
    await asyncio.sleep(1.0)
    assert len(rows(ledger(tmp_path), "requests")) == 6, "who is not let in leaves no row"
    written = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*"))
    assert b"nightly" in written
    assert b"CANARY" not in written


async def test_hits_are_served_and_nothing_is_spent_while_it_is_away(standin: StandIn, tmp_path: Path) -> None:
    store = {
        "litellm_settings": {"cache": True, "cache_params": {"type": "disk", "disk_cache_dir": str(tmp_path / "s")}}
    }
    async with proxy(standin, tmp_path, store) as client:
        await client.post("/embeddings", json=TEXTS)
    spent = standin.billed_tokens
    (tmp_path / "file").touch()
    away = {**store, "cache_proxy_settings": {"ledger_dir": str(tmp_path / "file")}}
    async with proxy(standin, tmp_path, away) as client:
        assert (await client.post("/embeddings", json=TEXTS)).status_code == 200
        refused = await client.post("/embeddings", json={**TEXTS, "input": ["two", "new"]})
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["code"] == "ledger_unavailable"
        health = (await client.get("/health")).json()
        assert (health["status"], health["ledger"]["status"]) == ("degraded", "degraded")
        (tmp_path / "file").unlink()  # the end waits for what can not be written
    assert standin.billed_tokens == spent


async def test_health_says_that_it_is_well_or_that_there_is_none(standin: StandIn, tmp_path: Path) -> None:
    for choice, status in ((True, "healthy"), (False, "off")):
        async with proxy(standin, tmp_path, {"cache_proxy_settings": {"ledger": choice}}) as client:
            await client.post("/embeddings", json=TEXTS)
            assert (await client.get("/health")).json()["ledger"]["status"] == status


async def test_tags_are_kept_once_and_no_more_than_a_person_would_read(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    many = [f"tag{number % 400}" for number in range(1_000)]
    for headers in ({"x-litellm-tags": ",".join(many)}, {"x-litellm-tags": ""}):
        answer = await client.post("/embeddings", json={**TEXTS, "metadata": {"tags": many}}, headers=headers)
        assert answer.status_code == 200
    await asyncio.sleep(1.0)
    assert [len(orjson.loads(row["tags"])) for row in rows(ledger(tmp_path), "requests")] == [32, 32]
