"""Budgets stop spending, not hits: on one server and on several, a hundred requests at a time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.access import hashed
from cache_proxy.ledger.books import SqlLedger
from cache_proxy.ledger.database import Database
from cache_proxy.serving import hosted
from cache_proxy.standin import Delays, Fault, StandIn
from tests.asgi.test_keys import EMBED, LOCKED, MASTER, bearer, code, embed, generate
from tests.ledger.fleet import Fleet
from tests.ledger.money import rows
from tests.postgres import Postgres
from tests.support import proxy

pytestmark = pytest.mark.anyio

PRICE = 5e-8
"""USD a token."""

ELSEWHERE = {"litellm_settings": {"cache": True, "cache_params": {"type": "local"}}}
"""A store of each server's own: nothing in common but the ledger."""


@pytest.fixture
async def client(standin: StandIn, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with proxy(standin, tmp_path, LOCKED) as client:
        yield client


def tokens(number: int) -> float:
    """So many tokens' worth, in USD."""
    return number * PRICE


def levels(database: Database) -> tuple[int, int]:
    """The tokens that are spent and reserved on the only budget there is."""
    (row,) = rows(database, "budgets")
    return row["spent"] // 50_000, row["reserved"] // 50_000


async def test_over_budget_a_hit_is_served_and_what_would_pay_is_429(
    client: httpx.AsyncClient, standin: StandIn
) -> None:
    key = await generate(client, max_budget=tokens(36), budget_duration="30d")
    assert (await embed(client, key)).status_code == 200
    spent = standin.billed_tokens
    refused = await embed(client, key, input=["two"])
    assert code(refused) == (429, "budget_exceeded")
    told = refused.json()["error"]
    assert told["type"] == "budget_exceeded"
    assert (told["spend"], told["reserved"], told["max_budget"]) == (tokens(spent), 0, tokens(36))
    assert told["budget_reset_at"].endswith("-01T00:00:00Z")
    assert "of 0.0000018 are spent" in told["message"]
    assert 1 <= int(refused.headers["retry-after"]) <= 31 * 86_400
    assert (await embed(client, key)).status_code == 200
    assert code(await embed(client, key, input=["one", "two"])) == (429, "budget_exceeded"), "it would pay for a part"
    assert standin.billed_tokens == spent
    row = (await client.get("/key/info", headers=bearer(key))).json()["info"]
    assert (row["spend"], row["reserved"], row["budget_reset_at"]) == (tokens(spent), 0, told["budget_reset_at"])


async def test_deployments_of_one_name_that_cost_differently_are_booked_at_what_each_costs(
    standin: StandIn, tmp_path: Path
) -> None:
    entries = [
        {
            "model_name": "m",
            "litellm_params": {
                "model": "jina_ai/jina-embeddings-v3", "api_key": f"jina_{price}", "input_cost_per_token": price,
            },
        }
        for price in (1e-9, 1e-6)
    ]  # fmt: skip
    async with proxy(standin, tmp_path, {**LOCKED, "model_list": entries}) as client:
        key = await generate(client, max_budget=1)
        costs = set()
        for text in "abcdef":
            answer = await embed(client, key, model="m", input=[text])
            costs.add(Decimal(answer.headers["x-cost-usd"]) / int(answer.headers["x-tokens-billed"]))
        told = (await client.get("/key/info", headers=bearer(key))).json()["info"]
    assert costs == {Decimal("0.000000001"), Decimal("0.000001")}
    halves = standin.billed_tokens // 2
    assert told["spend"] == pytest.approx(halves * (1e-9 + 1e-6))


async def test_a_budget_for_good_says_no_time_to_come_back(client: httpx.AsyncClient) -> None:
    key = await generate(client, max_budget=0)
    refused = await embed(client, key)
    assert code(refused) == (429, "budget_exceeded")
    assert "retry-after" not in refused.headers
    assert refused.json()["error"]["budget_reset_at"] is None


async def test_a_budget_that_is_raised_is_spent_at_once(client: httpx.AsyncClient) -> None:
    key = await generate(client, max_budget=0)
    assert (await embed(client, key)).status_code == 429
    await client.post("/key/update", json={"key": key, "max_budget": 1}, headers=MASTER)
    assert (await embed(client, key)).status_code == 200


async def test_a_budget_that_was_off_for_a_while_or_changed_knows_what_was_spent(client: httpx.AsyncClient) -> None:
    key = await generate(client, max_budget=tokens(200), budget_duration="1mo")
    await embed(client, key)
    await client.post("/key/update", json={"key": key, "max_budget": None}, headers=MASTER)
    await embed(client, key, input=[f"text {at}" for at in range(100)])
    spent = (await client.get("/key/info", headers=bearer(key))).json()["info"]["spend"]
    assert spent > tokens(200)
    for duration in ("1mo", "7d", "1d", None):
        changed = {"key": key, "max_budget": tokens(200), "budget_duration": duration}
        told = await client.post("/key/update", json=changed, headers=MASTER)
        assert told.json()["spend"] == spent
        assert code(await embed(client, key, input=["one more"])) == (429, "budget_exceeded")


async def test_one_that_is_used_up_is_refused_without_asking_the_ledger_each_time(
    client: httpx.AsyncClient, standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await generate(client, max_budget=tokens(40))
    await embed(client, key)
    asked: list[str] = []
    real = SqlLedger.intend

    async def counted(self: SqlLedger, call: Any) -> None:
        asked.append(call.id)
        await real(self, call)

    monkeypatch.setattr(SqlLedger, "intend", counted)
    answers = [await embed(client, key, input=["a text that is too long for what is left"]) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {429}
    assert len(asked) < 5


async def test_a_model_of_unknown_price_is_not_for_a_key_with_a_budget(standin: StandIn, tmp_path: Path) -> None:
    document = {
        **LOCKED,
        "model_list": [
            {
                "model_name": "mine",
                "litellm_params": {
                    "model": "openai/jina-embeddings-v3",
                    "api_base": "http://jina.test/v1",
                    "api_key": "k",
                },
            }
        ],
    }
    async with proxy(standin, tmp_path, document) as client:
        poor, free = await generate(client, max_budget=1), await generate(client)
        refused = await embed(client, poor, model="mine")
        assert code(refused) == (403, "price_unknown")
        assert standin.call_count == 0
        assert (await embed(client, free, model="mine")).status_code == 200
        assert (await embed(client, poor, model="mine")).status_code == 200, "a hit costs nothing"


async def test_who_travels_with_somebody_over_budget_hears_nothing_of_it(standin: StandIn, tmp_path: Path) -> None:
    slow = StandIn(delay=0.05)
    async with proxy(slow, tmp_path, LOCKED) as client:
        poor, rich = await generate(client, max_budget=0), await generate(client, max_budget=1)
        keys = [poor if at % 2 else rich for at in range(40)]
        answers = await asyncio.gather(*(embed(client, key, input=[f"text {at}"]) for at, key in enumerate(keys)))
        assert [answer.status_code for answer in answers] == [429 if at % 2 else 200 for at in range(40)]
        # The same text, wanted by both: the one who may pays.
        both = await asyncio.gather(*(embed(client, key, input=["the same"]) for key in keys))
        assert all(answer.status_code == 200 for answer, key in zip(both, keys, strict=True) if key == rich)
    assert slow.call_count < 40, "some travelled together"


async def test_what_may_have_been_billed_stays_reserved(
    client: httpx.AsyncClient, standin: StandIn, tmp_path: Path
) -> None:
    standin.fail_next(Fault("drop", times=None))
    key = await generate(client, max_budget=tokens(100))
    assert (await embed(client, key)).status_code >= 500
    spent, reserved = levels(Database.in_folder(tmp_path))
    assert (spent, reserved % 35) == (0, 0)
    assert reserved > 0


# A hundred at a time -------------------------------------------------------------------------------------------------


async def hundred(standin: StandIn, folder: Path, documents: list[Mapping[str, Any]], limit: int) -> Counter[int]:
    """A hundred requests at once, one after the other server, with a key that may spend on so many tokens."""
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(proxy(standin, folder, {**LOCKED, **document})) for document in documents
        ]
        key = await generate(clients[0], max_budget=tokens(limit))
        answers = await asyncio.gather(
            *(embed(clients[at % len(clients)], key, input=[f"number {at} of many"]) for at in range(100))
        )
        assert {code(answer) for answer in answers if answer.status_code != 200} <= {(429, "budget_exceeded")}
        return Counter(answer.status_code for answer in answers)


def assert_within(database: Database, standin: StandIn, statuses: Counter[int], limit: int) -> None:
    spent, reserved = levels(database)
    assert (spent, reserved) == (standin.billed_tokens, 0)
    assert 0 < spent <= limit
    assert statuses[200] > 0
    assert statuses[429] > 0


@pytest.mark.parametrize("limit", [120, 500])
async def test_a_hundred_at_a_time_overspend_by_nothing_and_some_are_answered(tmp_path: Path, limit: int) -> None:
    standin = StandIn(delay=0.01)
    statuses = await hundred(standin, tmp_path, [{}], limit)
    assert_within(Database.in_folder(tmp_path), standin, statuses, limit)


async def test_the_same_on_two_servers_with_one_file(tmp_path: Path) -> None:
    standin = StandIn(delay=0.01)
    statuses = await hundred(standin, tmp_path, [ELSEWHERE, ELSEWHERE], 500)
    assert_within(Database.in_folder(tmp_path), standin, statuses, 500)


async def test_the_same_on_two_servers_with_one_postgresql(tmp_path: Path, shared_postgres: Postgres) -> None:
    standin, url = StandIn(delay=0.01), shared_postgres.database()
    general = {**LOCKED["general_settings"], "database_url": url}
    document = {**ELSEWHERE, "general_settings": general}
    statuses = await hundred(standin, tmp_path, [document, document], 500)
    database = Database.of_postgres(url)
    assert_within(database, standin, statuses, 500)
    database.close()


def test_what_killed_servers_had_under_way_stays_reserved_and_the_rest_adds_up(tmp_path: Path) -> None:
    standin = StandIn(delay=Delays(0.5, 1.0), keep=10_000)
    limit = 4_000
    own = {"lease_seconds": 0.5, "keys": [{"key": "sk-job", "max_budget": tokens(limit)}]}
    with hosted(standin) as upstream:
        fleet = Fleet(tmp_path, upstream, own, {"CACHE_PROXY_MASTER_KEY": "sk-master"})
        database = Database.in_folder(tmp_path / "store")
        asyncio.run(_asked_and_killed(fleet, database))
        fleet.end()
    spent, reserved = levels(database)
    calls = rows(database, "calls")
    assert reserved == sum(row["tokens_bound"] for row in calls if row["settled_at"] is None) > 0
    assert spent == sum(row["tokens"] or 0 for row in calls) > 0
    assert standin.billed_tokens <= spent + reserved <= limit
    assert {row["key_hash"] for row in rows(database, "budgets")} == {hashed("sk-job")}
    database.close()


async def _asked_and_killed(fleet: Fleet, database: Database) -> None:
    """Sixty requests to two servers, both killed while calls are under way; then a few more to another."""
    ports = [fleet.start() for _ in range(2)]
    async with httpx.AsyncClient(timeout=30, trust_env=False, headers=bearer("sk-job")) as client:

        async def ask(port: int, number: int) -> int:
            body = {**EMBED, "input": [f"number {number} of many"]}
            try:
                return (await client.post(f"http://127.0.0.1:{port}/embeddings", json=body)).status_code
            except httpx.TransportError:
                return 0

        tasks = [asyncio.create_task(ask(ports[at % 2], at)) for at in range(60)]
        while not rows(database, "calls"):
            await asyncio.sleep(0.01)
        for port in ports:
            await asyncio.to_thread(fleet.kill, port)
        assert set(await asyncio.gather(*tasks)) == {0}
        port = fleet.start()
        assert await asyncio.gather(*(ask(port, 100 + at) for at in range(5))) == [200] * 5
