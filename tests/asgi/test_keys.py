"""Keys for people and jobs: made, changed and taken back while the server runs, and held to what they are for."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.access import AccessKey, hashed
from cache_proxy.asgi.inference import LOOK_AGAIN_AFTER
from cache_proxy.asgi.openapi import document
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.keys import KeyTable
from cache_proxy.standin import StandIn
from cache_proxy.wiring import spent
from tests.asgi.test_openapi import check, response
from tests.support import proxy

pytestmark = pytest.mark.anyio

MASTER = {"authorization": "Bearer sk-CANARYMASTER"}
LOCKED: dict[str, Any] = {"general_settings": {"master_key": "sk-CANARYMASTER"}}
EMBED: dict[str, Any] = {"model": "jina-embeddings-v3", "input": ["one"]}


@pytest.fixture
async def client(standin: StandIn, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with proxy(standin, tmp_path, LOCKED) as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def generate(client: httpx.AsyncClient, **fields: Any) -> str:
    answer = await client.post("/key/generate", json=fields, headers=MASTER)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["key"])


async def embed(client: httpx.AsyncClient, key: str, **fields: Any) -> httpx.Response:
    return await client.post("/embeddings", json={**EMBED, **fields}, headers=bearer(key))


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


# Made, told, changed, taken back -------------------------------------------------------------------------------------


async def test_a_key_is_made_and_lets_in_at_once(client: httpx.AsyncClient) -> None:
    made = (await client.post("/key/generate", json={"key_alias": "search", "team_id": "t"}, headers=MASTER)).json()
    assert made["key"].startswith("sk-")
    assert len(made["key"]) == 3 + 43
    assert (made["key_alias"], made["team_id"], made["models"], made["token"]) == (
        "search", "t", [], hashed(made["key"]),
    )  # fmt: skip
    assert (await embed(client, made["key"])).status_code == 200


async def test_no_key_is_told_again_once_it_was_made(client: httpx.AsyncClient) -> None:
    key = await generate(client, key_alias="search")
    told = [
        await client.get("/key/info", params={"key": key}, headers=MASTER),
        await client.get("/key/info", headers=bearer(key)),
        await client.get("/key/list", params={"return_full_object": "true"}, headers=MASTER),
        await client.post("/key/update", json={"key": key, "team_id": "t"}, headers=MASTER),
        await client.post("/key/delete", json={"keys": [key]}, headers=MASTER),
    ]
    for answer in told:
        assert answer.status_code == 200
        assert hashed(key) in answer.text
        assert key not in answer.text


async def test_a_key_is_named_by_itself_its_hash_or_its_alias(client: httpx.AsyncClient) -> None:
    key = await generate(client, key_alias="search")
    for word in (key, hashed(key), "search"):
        answer = await client.get("/key/info", params={"key": word}, headers=MASTER)
        assert answer.json()["key"] == hashed(key)
    for word in ("sk-other", "f" * 64, "nobody"):
        assert code(await client.get("/key/info", params={"key": word}, headers=MASTER)) == (404, "no_such_key")


async def test_what_is_told_of_a_key_is_what_it_has_spent_and_may_do(client: httpx.AsyncClient) -> None:
    key = await generate(client, max_budget=0.5, budget_duration="30d", rpm_limit=100, metadata={"ticket": 7})
    answer = await embed(client, key)
    info = (await client.get("/key/info", headers=bearer(key))).json()["info"]
    assert info["spend"] == float(answer.headers["x-cost-usd"]) > 0
    assert (info["max_budget"], info["budget_duration"], info["rpm_limit"]) == (0.5, "30d", 100)
    assert (info["metadata"], info["source"], info["blocked"]) == ({"ticket": 7}, "database", False)


async def test_an_update_changes_what_it_says_and_nothing_else(client: httpx.AsyncClient) -> None:
    key = await generate(client, key_alias="search", team_id="t", models=["jina-embeddings-v3"])
    changed = await client.post("/key/update", json={"key": key, "models": [], "team_id": None}, headers=MASTER)
    assert (changed.json()["models"], changed.json()["team_id"], changed.json()["key_alias"]) == ([], None, "search")
    missing = await client.post("/key/update", json={"key": "sk-other", "blocked": True}, headers=MASTER)
    assert code(missing) == (404, "no_such_key")


async def test_keys_are_listed_by_pages_and_filters(client: httpx.AsyncClient) -> None:
    keys = [await generate(client, key_alias=f"key{at}", team_id="even" if at % 2 == 0 else "odd") for at in range(5)]
    first = (await client.get("/key/list", params={"size": 2}, headers=MASTER)).json()
    assert (len(first["keys"]), first["total_count"], first["total_pages"], first["current_page"]) == (2, 5, 3, 1)
    last = (await client.get("/key/list", params={"size": 2, "page": 3}, headers=MASTER)).json()
    assert last["keys"] == [hashed(keys[0])]
    even = await client.get("/key/list", params={"team_id": "even", "return_full_object": "true"}, headers=MASTER)
    assert {one["key_alias"] for one in even.json()["keys"]} == {"key0", "key2", "key4"}
    assert code(await client.get("/key/list", params={"page": 0}, headers=MASTER)) == (422, "out_of_range")


async def test_of_many_keys_only_those_on_the_page_are_asked_about(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in range(5):
        await generate(client, key_alias=f"key{at}", max_budget=1)
    asked: list[int] = []
    real = KeyTable.levels

    def counted(self: KeyTable, keys: Sequence[AccessKey], now: float) -> dict[str, tuple[int, int]]:
        asked.append(len(keys))
        return real(self, keys, now)

    monkeypatch.setattr(KeyTable, "levels", counted)
    for full, page in (("true", 1), ("true", 3), ("false", 1)):
        listed = await client.get(f"/key/list?size=2&page={page}&return_full_object={full}", headers=MASTER)
        assert listed.json()["total_count"] == 5
    assert asked == [2, 1]


async def test_one_that_is_made_with_an_odd_limit_breaks_nothing(client: httpx.AsyncClient) -> None:
    for fields in (
        {"duration": "999999w"}, {"budget_duration": "999999w", "max_budget": 0},
        {"expires": "9999-12-31T23:59:59-23:00"},
    ):  # fmt: skip
        answer = await client.post("/key/generate", json=fields, headers=MASTER)
        assert code(answer) == (422, "out_of_range")
        assert answer.json()["error"]["param"] in fields
    await generate(client, duration="")
    listed = await client.get("/key/list", headers=MASTER)
    assert listed.json()["total_count"] == 1


async def test_one_that_an_older_version_has_made_with_an_odd_limit_is_told_and_held_to_it(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    secret = "sk-made-by-an-older-version"
    table = KeyTable(Database.in_folder(tmp_path))
    table.add(AccessKey(hash=hashed(secret), max_budget=0, budget_duration="999999w", expires_at=9e12))
    table.close()
    (told,) = (await client.get("/key/list?return_full_object=true", headers=MASTER)).json()["keys"]
    assert (told["expires"], told["budget_reset_at"]) == ("9999-12-31T23:59:59Z",) * 2
    assert code(await embed(client, secret)) == (429, "budget_exceeded")


async def test_the_master_key_is_nobody_elses(standin: StandIn, tmp_path: Path) -> None:
    master = "sk-CANARYMASTER-and-long"
    async with proxy(standin, tmp_path, {"general_settings": {"master_key": master}}) as client:
        answer = await client.post("/key/generate", json={"key": master}, headers=bearer(master))
        assert code(answer) == (422, "key_exists")


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("/key/generate", {"key_alias": "sk-search"}, "out_of_range"),
        ("/key/generate", {"key_alias": "aB" * 32}, "out_of_range"),
        ("/key/generate", {"max_budget": "much"}, "out_of_range"),
        ("/key/generate", {"max_parallel_requests": 3}, "not_acted_on"),
        ("/key/generate", {"key": "short"}, "out_of_range"),
        ("/key/update", {"blocked": True}, "missing_field"),
        ("/key/delete", {}, "missing_field"),
        ("/key/delete", {"keys": "sk-1"}, "wrong_type"),
    ],
)
async def test_what_can_not_be_obeyed_is_422(client: httpx.AsyncClient, path: str, body: Any, word: str) -> None:
    assert code(await client.post(path, json=body, headers=MASTER)) == (422, word)


async def test_two_keys_never_have_one_alias(client: httpx.AsyncClient) -> None:
    await generate(client, key_alias="search")
    assert code(await client.post("/key/generate", json={"key_alias": "search"}, headers=MASTER)) == (422, "key_exists")


async def test_the_answers_are_of_the_shape_that_is_told(client: httpx.AsyncClient) -> None:
    made = await client.post("/key/generate", json={"duration": "30d", "max_budget": 1}, headers=MASTER)
    check(made.json(), response("/key/generate", 200))
    key = made.json()["key"]
    check((await client.get("/key/info", headers=bearer(key))).json(), response("/key/info", 200))
    for full in ("true", "false"):
        answer = await client.get("/key/list", params={"return_full_object": full}, headers=MASTER)
        check(answer.json(), response("/key/list", 200))
    changed = await client.post("/key/update", json={"key": key, "blocked": True}, headers=MASTER)
    check(changed.json(), response("/key/update", 200))
    deleted = await client.post("/key/delete", json={"keys": [key]}, headers=MASTER)
    check(deleted.json(), response("/key/delete", 200))
    assert set(document()["components"]["schemas"]["UpdateKey"]["properties"]) >= {"key", "models", "duration"}


# Rights --------------------------------------------------------------------------------------------------------------


async def test_a_key_is_not_the_master(client: httpx.AsyncClient) -> None:
    key = await generate(client)
    other = await generate(client)
    for method, path in (
        ("GET", "/health"), ("GET", "/cache/ping"), ("POST", "/cache/flushall"), ("POST", "/cache/delete"),
        ("GET", "/openapi.json"), ("POST", "/key/generate"), ("POST", "/key/update"), ("POST", "/key/delete"),
        ("GET", "/key/list"), ("GET", f"/key/info?key={other}"),
    ):  # fmt: skip
        answer = await client.request(method, path, headers=bearer(key))
        assert code(answer) == (403, "master_key_required"), path


async def test_the_holder_of_a_key_hears_the_same_of_every_name_that_is_not_his_own(client: httpx.AsyncClient) -> None:
    key, other = await generate(client, key_alias="mine"), await generate(client, key_alias="payroll")
    for word in ("payroll", "nobody", other, hashed(other), "sk-nobody", "f" * 64, "%00"):
        answer = await client.get(f"/key/info?key={word}", headers=bearer(key))
        assert code(answer) == (403, "master_key_required"), word
    for word in ("mine", key, hashed(key)):
        assert (await client.get(f"/key/info?key={word}", headers=bearer(key))).json()["key"] == hashed(key)


@pytest.mark.parametrize("fields", [{"blocked": True}, {"expires": "2020-01-01"}, None])
async def test_a_key_that_is_no_good_is_told_the_same_as_one_that_nobody_knows(
    client: httpx.AsyncClient, standin: StandIn, fields: dict[str, Any] | None
) -> None:
    key = "sk-nobody-knows-this-one" if fields is None else await generate(client, **fields)
    answer = await embed(client, key)
    assert code(answer) == (401, "invalid_api_key")
    assert answer.json()["detail"] == "The API key is missing or wrong. Send it as Authorization: Bearer."
    assert standin.call_count == 0


async def test_a_key_has_a_right_to_its_models_only(client: httpx.AsyncClient, standin: StandIn) -> None:
    key = await generate(client, models=["jina-embeddings-v3", "jina-reranker-*"])
    assert (await embed(client, key)).status_code == 200
    for model in ("jina-embeddings-v4", "jina_ai/jina-embeddings-v3"):
        assert code(await embed(client, key, model=model)) == (403, "key_model_access_denied")
    await client.post("/embeddings", json={**EMBED, "model": "jina-embeddings-v4"}, headers=MASTER)
    refused = await embed(client, key, model="jina-embeddings-v4")
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error"), "not even a hit"
    assert standin.call_count == 2
    names = [model["id"] for model in (await client.get("/v1/models", headers=bearer(key))).json()["data"]]
    assert "jina-embeddings-v3" in names
    assert all(name == "jina-embeddings-v3" or name.startswith("jina-reranker-") for name in names)


async def test_keys_share_one_cache_and_one_with_a_namespace_has_a_room_of_its_own(
    client: httpx.AsyncClient, standin: StandIn
) -> None:
    common, other = await generate(client), await generate(client)
    alone, beside = await generate(client, namespace="team-a"), await generate(client, namespace="team-b")
    await embed(client, common)
    assert "; hit" in (await embed(client, other)).headers["cache-status"]
    assert "; hit" in (await client.post("/embeddings", json=EMBED, headers=MASTER)).headers["cache-status"]
    assert standin.call_count == 1
    for key in (alone, beside):
        assert "; hit" not in (await embed(client, key)).headers["cache-status"]
        assert "; hit" in (await embed(client, key)).headers["cache-status"]
    assert standin.call_count == 3


async def test_a_namespace_that_a_caller_names_leads_into_nobody_elses_room(
    client: httpx.AsyncClient, standin: StandIn
) -> None:
    alone, common = await generate(client, namespace="team-a"), await generate(client)
    await embed(client, alone)
    assert "; hit" not in (await embed(client, common, cache={"namespace": "team-a"})).headers["cache-status"]
    await embed(client, alone, cache={"namespace": "x"})
    assert "; hit" not in (await embed(client, alone, cache={"namespace": "team-a"})).headers["cache-status"]
    assert "; hit" in (await embed(client, alone, cache={"namespace": "x"})).headers["cache-status"]
    assert standin.call_count == 4


async def test_the_master_purges_in_the_room_of_a_key(client: httpx.AsyncClient) -> None:
    alone = await generate(client, namespace="team-a")
    await embed(client, alone)
    for namespace, deleted in ((None, 0), ("team-a", 1)):
        answer = await client.post("/cache/delete", json={"request": EMBED, "namespace": namespace}, headers=MASTER)
        assert answer.json()["deleted"] == deleted


async def test_a_key_may_use_the_cache_controls_it_is_allowed(client: httpx.AsyncClient) -> None:
    key = await generate(client, allowed_cache_controls=["ttl", "no-cache"])
    free = await generate(client)
    for _ in range(2):  # the second time the request is remembered
        assert (await embed(client, key, cache={"ttl": 60, "no-cache": True})).status_code == 200
        assert (await embed(client, free, cache={"no-store": True})).status_code == 200
        for cache in ({"no-store": True}, {"namespace": "n"}, {"s-maxage": 5}):
            assert code(await embed(client, key, cache=cache)) == (403, "cache_control_not_allowed")
        headers = {**bearer(key), "cache-control": "no-store"}
        assert code(await client.post("/embeddings", json=EMBED, headers=headers)) == (403, "cache_control_not_allowed")


# Limits --------------------------------------------------------------------------------------------------------------


async def test_requests_beyond_the_rpm_limit_are_429_hits_too(client: httpx.AsyncClient) -> None:
    key, other = await generate(client, rpm_limit=3), await generate(client)
    assert [(await embed(client, key)).status_code for _ in range(3)] == [200, 200, 200]
    refused = await embed(client, key)
    assert code(refused) == (429, "key_rate_limited")
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert (await embed(client, other)).status_code == 200


async def test_tokens_beyond_the_tpm_limit_are_429_and_hits_are_served(
    client: httpx.AsyncClient, standin: StandIn
) -> None:
    key = await generate(client, tpm_limit=40)
    texts = [["a" * 60], ["b" * 60], ["c" * 60]]
    assert [(await embed(client, key, input=text)).status_code for text in texts] == [200, 200, 429]
    assert code(await embed(client, key, input=texts[2])) == (429, "key_rate_limited")
    assert standin.call_count == 2
    assert (await embed(client, key, input=texts[0])).status_code == 200, "a hit costs no tokens"


async def test_a_query_counts_as_what_it_costs(client: httpx.AsyncClient, standin: StandIn) -> None:
    key = await generate(client, tpm_limit=1500)
    body = {"model": "jina-reranker-v2-base-multilingual", "query": "q" * 4000}
    answers = [
        await client.post("/rerank", json={**body, "documents": [text]}, headers=bearer(key)) for text in ("one", "two")
    ]
    assert answers[0].status_code == 200
    assert code(answers[1]) == (429, "key_rate_limited")
    assert standin.call_count == 1


async def test_the_limit_of_a_key_holds_for_all_servers_of_a_store(standin: StandIn, tmp_path: Path) -> None:
    async with proxy(standin, tmp_path, LOCKED) as one, proxy(standin, tmp_path, LOCKED) as other:
        key = await generate(one, rpm_limit=4)
        statuses = [(await embed(each, key)).status_code for each in (one, other) * 4]
        assert statuses.count(200) == 4


async def test_a_changed_limit_holds_at_once(client: httpx.AsyncClient) -> None:
    key = await generate(client, rpm_limit=1)
    assert [(await embed(client, key)).status_code for _ in range(2)] == [200, 429]
    await client.post("/key/update", json={"key": key, "rpm_limit": None}, headers=MASTER)
    assert (await embed(client, key)).status_code == 200


# Everywhere, and without a database ----------------------------------------------------------------------------------


async def test_who_was_let_in_before_his_key_was_taken_back_and_then_took_his_time_pays_for_nothing(
    standin: StandIn, client: httpx.AsyncClient
) -> None:
    key = await generate(client)
    begun = asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield b'{"model": "jina-embeddings-v3", '
        begun.set()
        await asyncio.sleep(LOOK_AGAIN_AFTER + 0.6)
        yield b'"input": ["late"]}'

    asked = asyncio.create_task(client.post("/embeddings", content=slowly(), headers=bearer(key)))
    await begun.wait()
    await client.post("/key/delete", json={"keys": [key]}, headers=MASTER)
    assert code(await asked) == (401, "invalid_api_key")
    assert standin.call_count == 0


async def test_a_key_that_is_taken_back_lets_nobody_in_anywhere_within_a_second(
    standin: StandIn, tmp_path: Path
) -> None:
    async with proxy(standin, tmp_path, LOCKED) as one, proxy(standin, tmp_path, LOCKED) as other:
        for change in ("/key/delete", "/key/update"):
            key = await generate(one)
            assert [(await embed(each, key)).status_code for each in (one, other)] == [200, 200]
            body = {"keys": [key]} if change == "/key/delete" else {"key": key, "blocked": True}
            assert (await one.post(change, json=body, headers=MASTER)).status_code == 200
            taken_at = time.monotonic()
            assert (await embed(one, key)).status_code == 401, "at once where it was said"
            asked_at = time.monotonic()
            while (await embed(other, key)).status_code == 200:
                assert asked_at - taken_at < 1.0
                asked_at = time.monotonic()
            assert (await embed(other, key)).status_code == 401


async def test_a_key_that_nobody_knew_is_good_within_a_second_of_being_made(standin: StandIn, tmp_path: Path) -> None:
    async with proxy(standin, tmp_path, LOCKED) as one, proxy(standin, tmp_path, LOCKED) as other:
        key = "sk-somebody-thought-of-this"
        assert (await embed(other, key)).status_code == 401
        await generate(one, key=key)
        made_at = time.monotonic()
        asked_at = time.monotonic()
        while (await embed(other, key)).status_code == 401:
            assert asked_at - made_at < 1.0
            asked_at = time.monotonic()


async def test_keys_of_the_file_work_and_are_changed_there_only(standin: StandIn, tmp_path: Path) -> None:
    entry = {"key": "sk-CANARYFILE", "key_alias": "job", "models": ["jina-embeddings-v3"]}
    async with proxy(standin, tmp_path, {**LOCKED, "cache_proxy_settings": {"keys": [entry]}}) as client:
        assert (await embed(client, "sk-CANARYFILE")).status_code == 200
        info = (await client.get("/key/info", headers=bearer("sk-CANARYFILE"))).json()["info"]
        assert (info["source"], info["key_alias"]) == ("config", "job")
        listed = await client.get("/key/list", headers=MASTER)
        assert listed.json()["keys"] == [hashed("sk-CANARYFILE")]
        for path, body in (("/key/update", {"key": "job", "blocked": True}), ("/key/delete", {"key_aliases": ["job"]})):
            assert code(await client.post(path, json=body, headers=MASTER)) == (422, "key_in_config")
        for fields in ({"key_alias": "job"}, {"key": "sk-CANARYFILE-and-more"}):
            answer = await client.post("/key/generate", json=fields, headers=MASTER)
            assert answer.status_code == (422 if "key_alias" in fields else 200)


async def test_keys_of_the_file_need_no_database(standin: StandIn, tmp_path: Path) -> None:
    own = {"keys": [{"key": "sk-CANARYFILE"}], "ledger": False}
    async with proxy(standin, tmp_path, {**LOCKED, "cache_proxy_settings": own}) as client:
        assert (await embed(client, "sk-CANARYFILE")).status_code == 200
        assert (await embed(client, "sk-other-and-long-enough")).status_code == 401
        assert code(await client.post("/key/generate", json={}, headers=MASTER)) == (400, "no_keys_here")
        for query in ("", "?key=sk-CANARYFILE"):
            told = (await client.get(f"/key/info{query}", headers=bearer("sk-CANARYFILE"))).json()
            check(told, response("/key/info", 200))
            assert (told["key"], told["info"]["source"]) == (hashed("sk-CANARYFILE"), "config")
            assert (told["info"]["spend"], told["info"]["reserved"]) == (None, None), "nobody knows"
        other = await client.get("/key/info?key=other", headers=bearer("sk-CANARYFILE"))
        assert code(other) == (403, "master_key_required")


async def test_without_a_master_key_there_are_no_keys(standin: StandIn, tmp_path: Path) -> None:
    async with proxy(standin, tmp_path) as client:
        assert code(await client.post("/key/generate", json={})) == (400, "no_keys_here")


async def test_while_the_database_is_away_a_key_that_is_not_known_is_503(standin: StandIn, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    own = {"ledger_dir": str(tmp_path / "file"), "keys": [{"key": "sk-CANARYFILE"}]}
    async with proxy(standin, tmp_path, {**LOCKED, "cache_proxy_settings": own}) as client:
        answer = await embed(client, "sk-nobody-can-tell")
        assert code(answer) == (503, "ledger_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert code(await client.post("/key/generate", json={}, headers=MASTER)) == (503, "ledger_unavailable")
        assert (await client.get("/v1/models", headers=bearer("sk-CANARYFILE"))).status_code == 200


async def test_no_key_is_in_a_log_line_a_row_or_an_error(
    standin: StandIn, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    own = {"log_format": "json", "keys": [{"key": "sk-CANARYFILE", "key_alias": "job"}]}
    said: list[str] = []
    async with proxy(standin, tmp_path, {**LOCKED, "cache_proxy_settings": own}) as client:
        keys = ["sk-CANARYFILE", await generate(client, key="sk-CANARYCHOSEN-and-long"), await generate(client)]
        for key in (*keys, "sk-CANARYWRONG"):
            for answer in (await embed(client, key), await embed(client, key, model="nobody"),
                           await client.get("/key/list", headers=bearer(key))):  # fmt: skip
                said += [answer.text, str(answer.headers)]
        for path, body in (("/key/generate", {"key": keys[1]}), ("/key/update", {"key": "sk-CANARYWRONG"})):
            said.append((await client.post(path, json=body, headers=MASTER)).text)
        await asyncio.sleep(1.0)
    written = b"".join(path.read_bytes() for path in tmp_path.glob("ledger.db*")).decode("latin-1")
    assert hashed(keys[2]) in written
    for secret in ("CANARY", keys[2].removeprefix("sk-")):
        assert secret not in written
        assert secret not in "\n".join(said)
        assert secret not in "\n".join(line for line in caplog.text.splitlines() if "httpx" not in line)


async def test_the_spend_of_a_key_is_what_all_workers_have_paid_with_it_also_before(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with proxy(standin, tmp_path, LOCKED) as one:
        key = await generate(one)
        first = await embed(one, key)
    monkeypatch.setattr(spent, "EVERY", 0.0)
    async with proxy(standin, tmp_path, LOCKED) as one, proxy(standin, tmp_path, LOCKED) as other:
        cost = Decimal(first.headers["x-cost-usd"])
        assert Decimal((await embed(one, key)).headers["x-litellm-key-spend"]) == cost > 0
        second = await embed(other, key, input=["another text"])
        cost += Decimal(second.headers["x-cost-usd"])
        assert Decimal(second.headers["x-litellm-key-spend"]) == cost
        while Decimal((await embed(one, key)).headers["x-litellm-key-spend"]) != cost:
            await asyncio.sleep(0.01)
        refused = await embed(one, key, model="nobody")
        assert (refused.status_code, Decimal(refused.headers["x-litellm-key-spend"])) == (404, cost)


async def test_a_ledger_that_can_not_be_read_leaves_the_spend_out(standin: StandIn, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    own = {"ledger_dir": str(tmp_path / "file"), "keys": [{"key": "sk-CANARYFILE"}], "ledger_failure": "continue"}
    async with proxy(standin, tmp_path, {**LOCKED, "cache_proxy_settings": own}) as client:
        answer = await embed(client, "sk-CANARYFILE")
        assert answer.status_code == 200
        assert "x-litellm-key-spend" not in answer.headers
        assert "x-cost-usd" in answer.headers


async def test_without_a_ledger_the_spend_of_a_key_is_what_this_worker_has_seen(
    standin: StandIn, tmp_path: Path
) -> None:
    own = {"keys": [{"key": "sk-CANARYFILE"}], "ledger": False}
    async with proxy(standin, tmp_path, {**LOCKED, "cache_proxy_settings": own}) as client:
        answer = await embed(client, "sk-CANARYFILE")
        assert answer.headers["x-litellm-key-spend"] == answer.headers["x-cost-usd"] != "0"


async def test_two_keys_that_are_called_the_same_are_counted_apart(standin: StandIn, tmp_path: Path) -> None:
    async with proxy(standin, tmp_path, LOCKED) as client:
        one, other = await generate(client), await generate(client)
        first = await embed(client, one)
        second = await embed(client, other)
        assert first.headers["x-litellm-key-spend"] == first.headers["x-cost-usd"] != "0"
        assert second.headers["x-litellm-key-spend"] == "0"
