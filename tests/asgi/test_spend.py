"""``/spend/report`` and ``/spend/logs``: what was billed and saved, told to who may know it."""

import csv
import io
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner
from sqlalchemy import insert

from cache_proxy.cli import main
from cache_proxy.ledger import tables
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.sums import AMOUNTS
from cache_proxy.standin import StandIn
from tests.ledger.writing import LOCAL, call, post, receipt
from tests.support import proxy

pytestmark = pytest.mark.anyio

KEY = "sk-master"
KEYED = {"general_settings": {"master_key": KEY}}
HEADERS = {"authorization": f"Bearer {KEY}"}
HASH = sha256(KEY.encode()).hexdigest()
TEXTS = {"model": "jina-embeddings-v3", "input": ["a planted text", "another", "a planted text"], "user": "ben"}
RANK = {"model": "jina-reranker-m0", "query": "q", "documents": ["x", "y"], "metadata": {"tags": ["job", "night"]}}


@pytest.fixture
async def asked(standin: StandIn, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A proxy that was asked for embeddings, for the same again, and for a ranking, which cost money and came last: so
    all of it is written down.
    """
    async with proxy(standin, tmp_path, KEYED) as client:
        client.headers.update(HEADERS)
        for path, body in (("/embeddings", TEXTS), ("/embeddings", TEXTS), ("/rerank", RANK)):
            answer = await client.post(path, json=body, headers={"x-request-id": f"id {body['model']}"})
            assert answer.status_code == 200, answer.text
        yield client


async def rows(client: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    answer = await client.get("/spend/report", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["rows"]
    return found


async def logs(client: httpx.AsyncClient, **query: str) -> list[dict[str, Any]]:
    answer = await client.get("/spend/logs", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


async def test_the_report_is_what_the_upstream_billed(asked: httpx.AsyncClient, standin: StandIn) -> None:
    (whole,) = await rows(asked)
    assert whole["tokens_billed"] == standin.billed_tokens
    counted = [whole[name] for name in ("requests", "items", "hits", "misses", "duplicates", "joined")]
    assert counted == [3, 8, 3, 4, 1, 0]
    assert (whole["hit_rate"], whole["tokens_unsettled"], whole["tokens_unpriced"]) == (0.5, 0, 0)
    assert whole["cost_usd"] == whole["cost_usd_known"] > 0


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("key", {"master"}),
        ("team", {""}),
        ("user", {"ben", ""}),
        ("tag", {"job", "night", ""}),
        ("model", {"jina-embeddings-v3", "jina-reranker-m0"}),
        ("endpoint", {"embeddings", "rerank"}),
    ],
)
async def test_the_report_is_grouped_as_asked(asked: httpx.AsyncClient, by: str, names: set[str]) -> None:
    found = await rows(asked, by=by)
    assert {row[by] for row in found} == names
    assert await rows(asked, group_by=by) == found
    if by == "key":
        assert [row["key_hash"] for row in found] == [HASH]


async def test_litellms_words_for_groups_and_dates_are_understood(asked: httpx.AsyncClient) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    assert await rows(asked, group_by="api_key", start_date=today, end_date=today) == await rows(asked, by="key")
    assert [row["user"] for row in await rows(asked, group_by="customer", since="1h")] == [
        row["user"] for row in await rows(asked, by="user")
    ]
    assert await rows(asked, until=today) == []
    assert await rows(asked, start_date="2020-01-01", end_date="2020-12-31") == []


async def test_an_amount_is_a_number_of_all_its_digits_and_unknown_where_the_price_is(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    await client.post("/rerank", json=RANK)
    database = Database.in_folder(tmp_path)
    at = 86400.0 * 20_000
    post(database, call(at, 1, price=1), call(at, 10**5, price=12_345_678_901_234), receipt(at, saved=5, price=None))
    answer = await client.get("/spend/report", params={"start_date": "2024-10-04", "end_date": "2024-10-04"})
    assert b'"cost_usd":1234567.890123400001,' in answer.content
    (row,) = answer.json()["rows"]
    assert (row["saved_usd"], row["saved_usd_known"], row["tokens_saved_unpriced"]) == (None, 0, 5)
    database.close()


async def test_the_logs_have_litellms_fields(asked: httpx.AsyncClient) -> None:
    ranked, again, first = await logs(asked)
    assert [first["call_type"], ranked["call_type"]] == ["aembedding", "arerank"]
    assert [first["cache_hit"], again["cache_hit"]] == ["False", "True"]
    assert (first["api_key"], first["metadata"]["user_api_key_alias"]) == (HASH, "master")
    assert (first["model"], first["model_group"]) == ("jina-embeddings-v3", "jina-embeddings-v3")
    assert (first["end_user"], ranked["request_tags"], first["status"]) == ("ben", ["job", "night"], "success")
    billed, saved = first["metadata"]["tokens_billed"], first["metadata"]["tokens_saved"]
    assert first["total_tokens"] == again["total_tokens"] == again["metadata"]["tokens_saved"] == billed + saved
    assert (first["spend"] > 0, again["spend"], again["metadata"]["saved_usd"] > first["spend"]) == (True, 0, True)
    assert first["request_id"] == "id jina-embeddings-v3"
    assert first["startTime"] <= first["endTime"] <= again["startTime"]


async def test_no_text_and_no_key_is_in_any_of_it(asked: httpx.AsyncClient) -> None:
    for path in ("/spend/logs", "/spend/logs/v2", "/spend/report?by=key", "/spend/report?by=user"):
        told = (await asked.get(path)).text
        assert "planted" not in told
        assert KEY not in told


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"api_key": KEY}, 3),
        ({"api_key": HASH}, 3),
        ({"api_key": HASH.upper()}, 3),
        ({"api_key": "master"}, 3),
        ({"api_key": "sk-other"}, 0),
        ({"tag": "job"}, 1),
        ({"end_user": "ben"}, 2),
        ({"model": "jina-reranker-m0", "status": "success"}, 1),
        ({"status_filter": "failure"}, 0),
        ({"request_id": "id jina-embeddings-v3"}, 2),
        ({"team_id": "", "user_id": ""}, 3),
        ({"since": "1h", "summarize": "false", "sort_by": "startTime", "sort_order": "desc"}, 3),
        ({"until": "1h"}, 0),
    ],
)
async def test_the_logs_are_filtered(asked: httpx.AsyncClient, query: dict[str, str], found: int) -> None:
    assert len(await logs(asked, **query)) == found


async def test_pages_come_with_their_number(asked: httpx.AsyncClient) -> None:
    every = await logs(asked)
    for path in ("/spend/logs", "/spend/logs/v2"):
        answer = await asked.get(path, params={"page": "2", "page_size": "2"})
        assert answer.json() == {
            "data": every[2:], "total": 3, "page": 2, "page_size": 2, "total_pages": 2, "total_is_capped": False,
        }  # fmt: skip
    assert (await asked.get("/spend/logs/v2")).json()["data"] == every


async def test_the_oldest_come_first_where_that_is_asked(asked: httpx.AsyncClient) -> None:
    assert await logs(asked, sort_order="asc") == (await logs(asked))[::-1]


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/spend/report", "by=colour", "by"),
        ("/spend/report", "by=key&group_by=key", "group_by"),
        ("/spend/report", "by=key&by=team", "query"),
        ("/spend/report", "since=yesterday", "since"),
        ("/spend/report", "start_date=", "start_date"),
        ("/spend/report", "end_date=2024-13-01", "end_date"),
        ("/spend/report", "since=1h&until=2h", "since"),
        ("/spend/report", "api_key=", "api_key"),
        ("/spend/report", "tag=sk-1", None),
        ("/spend/report", "limit=0", "limit"),
        ("/spend/report", "limit=10001", "limit"),
        ("/spend/report", "a=%ff", "query"),
        ("/spend/logs", "page=0", "page"),
        ("/spend/logs", "page=-1", "page"),
        ("/spend/logs", "page=1e3", "page"),
        ("/spend/logs", "page=9999999999999999999999", "page"),
        ("/spend/logs", "page=100000&page_size=1000", "page"),
        ("/spend/logs", "page_size=1001", "page_size"),
        ("/spend/logs", "status=200", "status"),
        ("/spend/logs", "status=success&status_filter=success", "status_filter"),
        ("/spend/logs", "sort_by=spend", "sort_by"),
        ("/spend/logs", "sort_order=up", "sort_order"),
        ("/spend/logs", "summarize=true", "summarize"),
        ("/spend/logs", "tag=,", "tag"),
        ("/spend/logs", "api_key=", "api_key"),
        ("/spend/logs", "user_id=%00", "query"),
        ("/spend/logs/v2", "session_id=1", None),
        ("/spend/logs/v2", "&".join(f"a{at}=1" for at in range(100)), "query"),
    ],
)
async def test_a_query_that_is_not_understood_is_400_and_names_the_field(
    client: httpx.AsyncClient, path: str, query: str, field: str | None
) -> None:
    answer = await client.get(f"{path}?{query}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_query", field)
    assert "sk-1" not in answer.text


async def test_without_a_ledger_there_is_nothing_to_read(standin: StandIn, tmp_path: Path) -> None:
    async with proxy(standin, tmp_path, {"cache_proxy_settings": {"ledger": False}}) as client:
        for path in ("/spend/report", "/spend/logs", "/spend/logs/v2"):
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ledger_off")


@pytest.mark.parametrize("damage", ["no database", "of a newer version"])
async def test_a_ledger_that_can_not_be_read_is_503(client: httpx.AsyncClient, tmp_path: Path, damage: str) -> None:
    database = Database.in_folder(tmp_path)
    if damage == "no database":
        (tmp_path / "ledger.db").write_bytes(b"no database at all" * 100)
    else:
        with database.writing() as connection:
            connection.exec_driver_sql("UPDATE schema_version SET version = 99")
    database.close()
    for path in ("/spend/report", "/spend/logs"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "ledger_unavailable")
        assert str(tmp_path) not in answer.text


async def test_beyond_the_limit_all_others_are_one_row(client: httpx.AsyncClient, tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    post(database, *(call(10.0, at, accounts=[LOCAL], end_user=f"user {at}") for at in range(1, 12)))
    database.close()
    told = await rows(client, by="user", limit="3")
    assert [row["user"] for row in told] == ["user 11", "user 10", "user 9", "(others)"]
    assert sum(row["tokens_billed"] for row in told) == sum(range(1, 12))
    assert len(await rows(client, by="user")) == 11


async def test_a_long_report_is_not_written_on_the_event_loop(client: httpx.AsyncClient, tmp_path: Path) -> None:
    database = Database.in_folder(tmp_path)
    amounts = dict.fromkeys(AMOUNTS, 1)
    found = [{"day": 1, "kind": "user", "name": f"user {at}", "label": "", **amounts} for at in range(20_000)]
    with database.writing() as connection:
        connection.execute(insert(tables.days), found)
    database.close()
    await client.get("/spend/report?since=1h")
    # Of this thread alone, for others may have the processor meanwhile.
    before = time.thread_time()
    answer = await client.get("/spend/report?by=user")
    assert time.thread_time() - before < 0.1
    assert len(answer.json()["rows"]) == 10_001


async def test_what_was_never_written_is_empty(client: httpx.AsyncClient) -> None:
    assert (await rows(client), await logs(client)) == ([], [])
    assert (await client.get("/spend/logs/v2")).json()["total"] == 0


async def test_the_command_says_the_same_while_the_server_runs(
    asked: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path))
    for by in ("key", "user", "tag", "model", "endpoint", "day"):
        said = CliRunner().invoke(main, ["usage", "--by", by, "--format", "json"])
        assert orjson.loads(said.stdout) == {"rows": await rows(asked, by=by)}
    cut = CliRunner().invoke(main, ["usage", "--by", "model", "--limit", "1", "--format", "json"])
    assert orjson.loads(cut.stdout) == {"rows": await rows(asked, by="model", limit="1")}
    listed = CliRunner().invoke(main, ["usage", "--by", "model", "--format", "csv"])
    assert [row["model"] for row in csv.DictReader(io.StringIO(listed.stdout))] == [
        row["model"] for row in await rows(asked, by="model")
    ]
