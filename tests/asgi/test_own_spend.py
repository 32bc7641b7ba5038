"""The holder of a key sees what was spent with it, and nothing of anybody else's."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from click.testing import CliRunner

from cache_proxy.access import hashed
from cache_proxy.cli import main
from cache_proxy.ledger.found import GROUPS
from cache_proxy.standin import StandIn
from tests.support import proxy

pytestmark = pytest.mark.anyio

MASTER = {"authorization": "Bearer sk-master"}
LOCKED: dict[str, Any] = {"general_settings": {"master_key": "sk-master"}}
KEYS = {"ada": "sk-ada-and-some-more-of-it", "ben": "sk-ben-and-some-more-of-it"}
PATHS = ("/spend/report", "/spend/logs", "/spend/logs/v2")


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[name]}"}


@pytest.fixture
async def client(standin: StandIn, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A proxy that two keys and the master have asked, each for a model, a tag and a user of his own."""
    async with proxy(standin, tmp_path, LOCKED) as client:
        for name, key in KEYS.items():
            fields = {"key": key, "key_alias": name, "team_id": f"team of {name}"}
            assert (await client.post("/key/generate", json=fields, headers=MASTER)).status_code == 200
        for name, headers in (("ada", bearer("ada")), ("ben", bearer("ben")), ("master", MASTER)):
            body = {"model": "jina-embeddings-v3", "input": [f"a text of {name}", f"another of {name}"], "user": name}
            answer = await client.post("/embeddings", json=body, headers={**headers, "x-litellm-tags": f"{name},all"})
            assert answer.status_code == 200, answer.text
        yield client


async def report(client: httpx.AsyncClient, headers: dict[str, str], **query: str) -> list[dict[str, Any]]:
    answer = await client.get("/spend/report", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


@pytest.mark.parametrize("by", [None, *GROUPS])
async def test_a_key_sees_its_own_sums_in_every_grouping(client: httpx.AsyncClient, by: str | None) -> None:
    query = {} if by is None else {"by": by}
    rows = await report(client, bearer("ada"), **query)
    own = [row for row in await report(client, MASTER, by="key") if row["key"] == "ada"]
    for row in rows:
        for amount in ("requests", "tokens_billed", "cost_usd", "misses"):
            assert row[amount] == own[0][amount] > 0
    named = {"key": ["ada"], "team": ["team of ada"], "user": ["ada"], "tag": ["ada", "all"],
             "model": ["jina-embeddings-v3"], "endpoint": ["embeddings"]}  # fmt: skip
    if by in named:
        assert [row[by] for row in rows if by] == named[by]
    else:
        assert len(rows) == 1


async def test_a_key_sees_its_own_requests(client: httpx.AsyncClient) -> None:
    for name in KEYS:
        rows = (await client.get("/spend/logs", headers=bearer(name))).json()
        assert [row["end_user"] for row in rows] == [name]
        page = (await client.get("/spend/logs/v2", headers=bearer(name))).json()
        assert (page["data"], page["total"]) == (rows, 1)
    assert len((await client.get("/spend/logs", headers=MASTER)).json()) == 3


@pytest.mark.parametrize("path", PATHS)
async def test_nothing_of_anybody_elses_is_told_whatever_is_asked(client: httpx.AsyncClient, path: str) -> None:
    for query in ({}, {"by": "user"}, {"by": "tag"}, {"by": "key"}, {"tag": "all"}, {"end_user": "ben"},
                  {"team_id": "team of ben"}, {"user_id": ""}):  # fmt: skip
        told = (await client.get(path, params=query, headers=bearer("ada"))).text
        assert hashed(KEYS["ben"]) not in told
        assert "ben" not in told.replace(str(query), "")
        assert "master" not in told


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_that_names_another_is_refused_whether_there_is_one_or_not(
    client: httpx.AsyncClient, path: str
) -> None:
    for own in (KEYS["ada"], hashed(KEYS["ada"]), hashed(KEYS["ada"]).upper(), "ada"):
        assert (await client.get(path, params={"api_key": own}, headers=bearer("ada"))).status_code == 200
    for other in (KEYS["ben"], hashed(KEYS["ben"]), "ben", "nobody", "f" * 64, "master", hashed("sk-master")):
        answer = await client.get(path, params={"api_key": other}, headers=bearer("ada"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "master_key_required")


@pytest.mark.parametrize("by", [None, *GROUPS])
async def test_the_master_may_ask_about_one_key(client: httpx.AsyncClient, by: str | None) -> None:
    query = {} if by is None else {"by": by}
    rows = await report(client, bearer("ben"), **query)
    assert rows
    for word in ("ben", hashed(KEYS["ben"])):
        assert await report(client, MASTER, api_key=word, **query) == rows
    assert await report(client, MASTER, api_key="nobody", **query) == []


async def test_the_command_says_the_same_of_one_key(
    client: httpx.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path))
    for word in ("ada", hashed(KEYS["ada"])):
        for by in ("key", "day", "tag", "model"):
            said = CliRunner().invoke(main, ["usage", "--key", word, "--by", by, "--format", "json", "--since", "1h"])
            assert orjson.loads(said.stdout) == {"rows": await report(client, bearer("ada"), by=by, since="1h")}
    told = CliRunner().invoke(main, ["usage", "--key", "ada", "--by", "model"])
    assert told.stderr.startswith("Since ")
    assert "embeddings-v3" in told.stdout
    assert CliRunner().invoke(main, ["usage", "--key", "ada", "--by", "day"]).stderr == ""


async def test_a_report_that_goes_back_a_month_says_so(client: httpx.AsyncClient) -> None:
    told = (await client.get("/spend/report?by=model", headers=bearer("ada"))).json()
    assert told["since"].startswith(time.strftime("%Y-%m-", time.gmtime(time.time() - 30 * 86400)))
    for query in ("", "?by=day", "?by=key", "?by=model&since=90d"):
        assert "since" not in (await client.get(f"/spend/report{query}", headers=bearer("ada"))).json()
    assert "since" not in (await client.get("/spend/report?by=model", headers=MASTER)).json()


async def test_a_guest_sees_no_spend(standin: StandIn, tmp_path: Path) -> None:
    settings = {"general_settings": {"master_key": "sk-master", "pass_through_keys": True}}
    async with proxy(standin, tmp_path, settings) as client:
        for path in PATHS:
            answer = await client.get(path, headers={"authorization": "Bearer jina_somebodys"})
            assert answer.status_code == 401
