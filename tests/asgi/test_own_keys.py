"""Keys of Jina's that callers bring along: who pays, what must be proved first, and who is told what."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from cache_proxy.access import hashed
from cache_proxy.errors import UpstreamRefused
from cache_proxy.ledger.database import Database
from cache_proxy.own_keys import TAG
from cache_proxy.standin import Fault, StandIn
from tests.ledger.money import rows
from tests.support import proxy

pytestmark = pytest.mark.anyio

OURS = {"x-litellm-api-key": "sk-CANARYMASTER"}
ANNA, BERT, MADE_UP = "jina_CANARYanna", "jina_CANARYbert", "jina_CANARYmadeup"
OPERATOR = "jina_test"
OPENED: dict[str, Any] = {"general_settings": {"pass_through_keys": True}}
LOCKED: dict[str, Any] = {"general_settings": {"master_key": "sk-CANARYMASTER", "pass_through_keys": True}}
MODEL = "jina-embeddings-v3"


class Jina:
    """The stand-in, and the keys that it was called with."""

    def __init__(self) -> None:
        self.standin = StandIn(keys={ANNA, BERT, OPERATOR})
        self.paid: list[str] = []
        self.refused_from_now_on: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        self.paid.append(key)
        if key in self.refused_from_now_on:
            self.standin.fail_next(Fault("status", status=401))
        await self.standin(scope, receive, send)


@pytest.fixture
def jina() -> Jina:
    return Jina()


@pytest.fixture
async def client(jina: Jina, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with proxy(jina, tmp_path, LOCKED) as client:
        yield client


async def embed(client: httpx.AsyncClient, key: str, *texts: str, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
    return await client.post("/embeddings", json={"model": MODEL, "input": list(texts), **more}, headers=headers)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


def inputs(jina: Jina) -> list[list[str]]:
    return [call.body["input"] for call in jina.standin.calls]


# Who pays ------------------------------------------------------------------------------------------------------------


async def test_a_caller_with_a_key_of_jinas_and_none_of_ours_pays_for_himself(
    client: httpx.AsyncClient, jina: Jina
) -> None:
    answer = await embed(client, ANNA, "one", "longer")
    assert answer.status_code == 200, answer.text
    assert set(jina.paid) == {ANNA}
    assert int(answer.headers["x-tokens-billed"]) == jina.standin.billed_tokens


async def test_with_both_headers_ours_lets_in_and_the_other_pays(client: httpx.AsyncClient, jina: Jina) -> None:
    assert (await embed(client, BERT, "one", headers=OURS)).status_code == 200
    assert set(jina.paid) == {BERT}
    refused = await embed(client, BERT, "two", headers={"x-litellm-api-key": "sk-unknown"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert set(jina.paid) == {BERT}


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
async def test_our_key_may_be_in_any_header_that_is_for_us(client: httpx.AsyncClient, jina: Jina, header: str) -> None:
    assert (await embed(client, BERT, "one", headers={header: "sk-CANARYMASTER"})).status_code == 200
    assert set(jina.paid) == {BERT}


async def test_a_key_of_ours_where_jinas_would_be_is_ours_and_the_operator_pays(
    client: httpx.AsyncClient, jina: Jina
) -> None:
    made = await client.post("/key/generate", json={}, headers=OURS)
    for key in ("sk-CANARYMASTER", made.json()["key"]):
        assert (await embed(client, key, key[-5:])).status_code == 200
    both = await embed(client, "sk-CANARYMASTER", "both", headers=OURS)
    assert both.status_code == 200
    assert set(jina.paid) == {OPERATOR}


async def test_a_key_that_was_ours_is_never_sent_to_jina(client: httpx.AsyncClient, jina: Jina) -> None:
    made = (await client.post("/key/generate", json={}, headers=OURS)).json()["key"]
    await client.post("/key/delete", json={"keys": [made]}, headers=OURS)
    refused = await embed(client, made, "one")
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert jina.paid == []


async def test_where_nobody_is_asked_for_a_key_whoever_brings_one_pays_and_the_operator_for_the_others(
    jina: Jina, tmp_path: Path
) -> None:
    async with proxy(jina, tmp_path, OPENED) as client:
        assert (await embed(client, ANNA, "one")).status_code == 200
        body = {"model": MODEL, "input": ["two"]}
        assert (await client.post("/embeddings", json=body)).status_code == 200
    assert jina.paid == [ANNA, OPERATOR]


async def test_without_the_setting_a_key_of_jinas_is_nobodys(jina: Jina, tmp_path: Path) -> None:
    async with proxy(jina, tmp_path, {"general_settings": {"master_key": "sk-CANARYMASTER"}}) as client:
        assert (await embed(client, ANNA, "one")).status_code == 401
    assert jina.paid == []


async def test_what_the_operator_wrote_into_a_header_does_not_pay_for_guests(jina: Jina, tmp_path: Path) -> None:
    entry = {
        "model_name": "m",
        "litellm_params": {
            "model": f"jina_ai/{MODEL}", "api_key": OPERATOR, "extra_headers": {"Authorization": f"Bearer {OPERATOR}"},
        },
    }  # fmt: skip
    async with proxy(jina, tmp_path, {**LOCKED, "model_list": [entry]}) as client:
        assert (await embed(client, ANNA, "one", model="m")).status_code == 200
    assert set(jina.paid) == {ANNA}


async def test_a_key_of_jinas_goes_to_jina_only(jina: Jina, tmp_path: Path) -> None:
    entry = {
        "model_name": "theirs",
        "litellm_params": {"model": "openai/some-model", "api_base": "http://other.test/v1", "api_key": OPERATOR},
    }
    async with proxy(jina, tmp_path, {**LOCKED, "model_list": [entry]}) as client:
        refused = await embed(client, ANNA, "one", model="theirs")
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "own_key_not_taken")
        assert jina.paid == []
        await embed(client, ANNA, "one", model="theirs", headers=OURS)
    assert set(jina.paid) == {OPERATOR}, "who has a key of ours as well is the operator's guest there"


async def test_nothing_that_the_operator_says_to_a_gateway_is_said_for_a_guest(jina: Jina, tmp_path: Path) -> None:
    seen: list[set[bytes]] = []

    async def gateway(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append({name for name, _ in scope["headers"]})
        await jina(scope, receive, send)

    entry = {
        "model_name": "m",
        "litellm_params": {"model": f"jina_ai/{MODEL}", "api_key": OPERATOR, "extra_headers": {"X-API-Key": "CANARY"}},
    }
    async with proxy(gateway, tmp_path, {**LOCKED, "model_list": [entry]}) as client:
        await embed(client, "sk-CANARYMASTER", "one", model="m")
        await embed(client, ANNA, "two", model="m")
    assert [b"x-api-key" in names for names in seen] == [True, False]


async def test_what_begins_as_keys_of_ours_do_goes_nowhere_where_there_are_none(jina: Jina, tmp_path: Path) -> None:
    async with proxy(jina, tmp_path, OPENED) as client:
        assert (await embed(client, "sk-proj-CANARY", "one")).status_code == 200
    assert jina.paid == [OPERATOR]


async def test_a_key_that_is_good_at_one_place_of_a_group_is_not_made_up_because_another_does_not_know_it(
    jina: Jina, tmp_path: Path
) -> None:
    async def two_places(scope: Scope, receive: Receive, send: Send) -> None:
        if dict(scope["headers"])[b"host"] == b"second.test":
            jina.standin.fail_next(Fault("status", status=401))
        await jina.standin(scope, receive, send)

    entries = [
        {
            "model_name": "m",
            "litellm_params": {"model": f"jina_ai/{MODEL}", "api_base": f"http://{place}.test/v1", "order": order},
        }
        for order, place in enumerate(("first", "second"), 1)
    ]
    document = {**LOCKED, "model_list": entries, "router_settings": {"num_retries": 1, "retry_after": 0}}
    async with proxy(two_places, tmp_path, document) as client:
        assert (await embed(client, ANNA, "one", model="m")).status_code == 200
        jina.standin.fail_next(Fault("status", status=503))
        await embed(client, ANNA, "two", model="m")
        assert (await embed(client, ANNA, "one", model="m")).status_code == 200


async def test_two_accounts_at_one_place_are_one_for_who_brings_a_key(jina: Jina, tmp_path: Path) -> None:
    entries = [
        {"model_name": "m", "litellm_params": {"model": f"jina_ai/{MODEL}", "api_key": key}} for key in (OPERATOR, BERT)
    ]
    async with proxy(jina, tmp_path, {**LOCKED, "model_list": entries}) as client:
        assert (await embed(client, MADE_UP, "one", model="m")).status_code == 401
    assert jina.paid == [MADE_UP]


async def test_in_an_app_that_decides_who_gets_in_the_key_only_pays(jina: Jina, tmp_path: Path) -> None:
    def only_anna(scope: Scope) -> str | None:
        return "anna" if (b"cookie", b"anna") in scope["headers"] else None

    async with proxy(jina, tmp_path, OPENED, auth=only_anna) as client:
        assert (await embed(client, ANNA, "one")).status_code == 401
        assert jina.paid == []
        assert (await embed(client, ANNA, "one", headers={"cookie": "anna"})).status_code == 200
    assert set(jina.paid) == {ANNA}


async def test_in_an_app_that_says_nothing_about_callers_only_those_who_pay_get_in(jina: Jina, tmp_path: Path) -> None:
    async with proxy(jina, tmp_path, OPENED, auth=None) as client:
        assert (await client.post("/embeddings", json={"model": MODEL, "input": ["one"]})).status_code == 401
        assert (await embed(client, ANNA, "one")).status_code == 200
        assert (await client.get("/spend/report", headers={"authorization": f"Bearer {ANNA}"})).status_code == 401
    assert set(jina.paid) == {ANNA}


async def test_a_key_of_ours_is_held_to_its_limits_whoever_pays(client: httpx.AsyncClient, jina: Jina) -> None:
    fields = {"models": ["jina-reranker-*"], "max_budget": 1}
    made = (await client.post("/key/generate", json=fields, headers=OURS)).json()["key"]
    refused = await embed(client, ANNA, "one", headers={"x-litellm-api-key": made})
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "key_model_access_denied")
    poor = (await client.post("/key/generate", json={"max_budget": 0}, headers=OURS)).json()["key"]
    refused = await embed(client, ANNA, "one", "longer", headers={"x-litellm-api-key": poor})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "budget_exceeded")
    assert inputs(jina) == [["one"]], "the proof is on the account of the key that it is about"


async def test_a_budget_of_ours_that_is_used_up_stops_no_hits_of_who_pays_for_himself(
    client: httpx.AsyncClient, jina: Jina
) -> None:
    await embed(client, "sk-CANARYMASTER", "one", "two")
    poor = (await client.post("/key/generate", json={"max_budget": 0}, headers=OURS)).json()["key"]
    assert (await embed(client, ANNA, "one", "two", headers={"x-litellm-api-key": poor})).status_code == 200


# The proof -----------------------------------------------------------------------------------------------------------


async def test_before_a_hit_the_key_is_proved_with_the_shortest_item_once(
    client: httpx.AsyncClient, jina: Jina
) -> None:
    await embed(client, "sk-CANARYMASTER", "the longest", "short", "longer")
    before = jina.standin.billed_tokens
    answer = await embed(client, ANNA, "the longest", "short", "longer")
    assert answer.status_code == 200
    assert inputs(jina)[1:] == [["short"]]
    assert jina.paid[1:] == [ANNA]
    billed = jina.standin.billed_tokens - before
    assert int(answer.headers["x-tokens-billed"]) == billed > 0
    assert int(answer.headers["x-tokens-saved"]) == answer.json()["usage"]["total_tokens"] - billed
    status = answer.headers["cache-status"]
    assert status.startswith("cache-proxy; hit; ")
    assert status.endswith(f"; {TAG}")
    again = await embed(client, ANNA, "the longest")
    assert again.headers["x-tokens-billed"] == "0"
    assert TAG not in again.headers["cache-status"]
    assert len(jina.paid) == 2


async def test_what_the_proof_brought_is_an_answer_like_any_other(client: httpx.AsyncClient, jina: Jina) -> None:
    assert (await embed(client, ANNA, "longer", "one")).status_code == 200
    assert inputs(jina) == [["one"], ["longer"]], "nothing is paid for twice"
    plain = await embed(client, "sk-CANARYMASTER", "one", "longer")
    assert plain.headers["x-tokens-billed"] == "0"
    assert plain.json()["data"] == [
        {**each, "index": at} for at, each in enumerate((await embed(client, ANNA, "one", "longer")).json()["data"])
    ]


async def test_a_made_up_key_gets_jinas_own_refusal_and_never_a_hit(client: httpx.AsyncClient, jina: Jina) -> None:
    await embed(client, "sk-CANARYMASTER", "one")
    for _ in range(3):
        refused = await embed(client, MADE_UP, "one")
        assert refused.status_code == 401
        assert refused.json()["code"] == "AUTH_INVALID_API_KEY", "it is Jina's word, not ours"
    assert jina.paid[1:] == [MADE_UP], "Jina is asked once"


@pytest.mark.parametrize("control", [{"no-cache": True}, {"no-store": True}])
async def test_no_control_of_the_cache_is_a_way_round_the_proof(
    client: httpx.AsyncClient, jina: Jina, control: dict[str, bool]
) -> None:
    await embed(client, "sk-CANARYMASTER", "one")
    refused = await embed(client, MADE_UP, "one", cache=control)
    assert refused.status_code == 401
    assert jina.paid[1:] == [MADE_UP]


@pytest.mark.parametrize(
    "fields",
    [
        {"cache": {"no-store": True}}, {"cache": {"no-cache": True}}, {"cache": {"ttl": 0}}, {"cache": {"s-maxage": 0}},
        {"model": "jina-clip-v2", "input": [{"image": "https://pictures.test/a.png"}]},
    ],
    ids=str,
)  # fmt: skip
async def test_an_item_is_not_paid_for_twice_because_it_came_first(
    client: httpx.AsyncClient, jina: Jina, fields: dict[str, Any]
) -> None:
    assert (await embed(client, ANNA, "one", **fields)).status_code == 200
    assert len(jina.paid) == 1


async def test_what_is_not_to_be_stored_proves_a_key_as_well(jina: Jina, tmp_path: Path) -> None:
    async with proxy(jina, tmp_path, LOCKED) as client, proxy(jina, tmp_path, LOCKED) as another:
        await embed(client, "sk-CANARYMASTER", "one", "two")
        answers = await asyncio.gather(
            *(embed(one, ANNA, "one", cache={"no-store": True}) for one in (client, another) for _ in range(5))
        )
        assert [answer.status_code for answer in answers] == [200] * 10
        assert jina.paid.count(ANNA) == 1
        await embed(client, BERT, "secret", cache={"no-store": True})
        assert (await embed(client, ANNA, "secret")).headers["x-tokens-billed"] != "0"


async def test_only_if_cached_spends_nothing_not_even_on_a_proof(client: httpx.AsyncClient, jina: Jina) -> None:
    await embed(client, "sk-CANARYMASTER", "one")
    only = {"cache-control": "only-if-cached"}
    assert (await embed(client, ANNA, "one", headers=only)).status_code == 504
    assert ANNA not in jina.paid
    await embed(client, ANNA, "one")
    assert (await embed(client, ANNA, "one", headers=only)).status_code == 200


async def test_an_unproved_key_joins_no_flight(client: httpx.AsyncClient, jina: Jina) -> None:
    jina.standin.delay = 0.2
    first = asyncio.create_task(embed(client, "sk-CANARYMASTER", "one"))
    await asyncio.sleep(0.05)
    refused = await embed(client, MADE_UP, "one")
    assert refused.status_code == 401
    answer = await first
    assert answer.status_code == 200
    assert answer.headers["cache-status"].startswith("cache-proxy; fwd=miss; stored")


async def test_a_made_up_key_spoils_nobodys_request(client: httpx.AsyncClient, jina: Jina) -> None:
    jina.standin.delay = 0.1
    answers = await asyncio.gather(
        *(embed(client, key, "one", "two") for key in (MADE_UP, "sk-CANARYMASTER", MADE_UP, ANNA))
    )
    assert [answer.status_code for answer in answers] == [401, 200, 401, 200]


async def test_twenty_requests_at_once_prove_a_key_once(client: httpx.AsyncClient, jina: Jina) -> None:
    texts = [f"text {at}" for at in range(20)]
    await embed(client, "sk-CANARYMASTER", *texts)
    jina.standin.delay = 0.05
    answers = await asyncio.gather(*(embed(client, ANNA, text) for text in texts))
    assert {answer.status_code for answer in answers} == {200}
    assert jina.paid.count(ANNA) == 1
    assert sum(int(answer.headers["x-tokens-billed"]) for answer in answers) == jina.standin.calls[-1].tokens


async def test_a_worker_believes_what_another_has_proved(jina: Jina, tmp_path: Path) -> None:
    async with proxy(jina, tmp_path, LOCKED) as one, proxy(jina, tmp_path, LOCKED) as another:
        await embed(one, ANNA, "one")
        assert (await embed(another, ANNA, "one")).headers["x-tokens-billed"] == "0"
    assert jina.paid == [ANNA]


async def test_two_workers_at_once_prove_a_key_once(jina: Jina, tmp_path: Path) -> None:
    async with proxy(jina, tmp_path, LOCKED) as one, proxy(jina, tmp_path, LOCKED) as another:
        await embed(one, "sk-CANARYMASTER", "one", "two")
        jina.standin.delay = 0.2
        answers = await asyncio.gather(embed(one, ANNA, "one"), embed(another, ANNA, "two"))
    assert [answer.status_code for answer in answers] == [200, 200]
    assert jina.paid.count(ANNA) == 1


async def test_what_a_proof_brings_after_a_purge_is_not_kept(client: httpx.AsyncClient, jina: Jina) -> None:
    jina.standin.delay = 0.2
    asking = asyncio.create_task(embed(client, ANNA, "one"))
    await until(lambda: bool(jina.paid))
    assert (await client.post("/cache/flushall", headers=OURS)).status_code == 200
    assert (await asking).status_code == 200
    assert inputs(jina) == [["one"]]
    assert (await embed(client, "sk-CANARYMASTER", "one")).headers["x-tokens-billed"] != "0"


async def test_a_key_that_jina_takes_back_is_out_everywhere_with_the_first_call(jina: Jina, tmp_path: Path) -> None:
    async with proxy(jina, tmp_path, LOCKED) as client, proxy(jina, tmp_path, LOCKED) as another:
        await embed(client, ANNA, "one")
        jina.refused_from_now_on.add(ANNA)
        assert (await embed(client, ANNA, "one")).status_code == 200, "it was accepted a moment ago"
        assert (await embed(client, ANNA, "two")).status_code == 401
        assert (await embed(client, ANNA, "one")).status_code == 401
        assert (await embed(another, ANNA, "one")).status_code == 401


@pytest.mark.parametrize("status", [402, 403, 429, 500, 503])
async def test_a_proof_that_fails_is_no_proof_whatever_the_cache_holds(jina: Jina, tmp_path: Path, status: int) -> None:
    document = {
        **LOCKED, "litellm_settings": {"num_retries": 0}, "cache_proxy_settings": {"stale_if_error": 1000},
    }  # fmt: skip
    async with proxy(jina, tmp_path, document) as client:
        await embed(client, "sk-CANARYMASTER", "one")
        jina.standin.fail_next(Fault("status", status=status))
        refused = await embed(client, ANNA, "one")
        assert refused.status_code == status
        assert (await embed(client, ANNA, "one")).status_code == 200, "only a key that does not exist is remembered"


async def test_one_callers_item_that_jina_refuses_is_not_held_against_his_others(
    client: httpx.AsyncClient, jina: Jina
) -> None:
    await embed(client, "sk-CANARYMASTER", "good")
    jina.standin.fail_next(Fault("status", status=422, contains="bad"))
    jina.standin.delay = 0.1
    bad, good = await asyncio.gather(embed(client, ANNA, "bad"), embed(client, ANNA, "good"))
    assert (bad.status_code, good.status_code) == (422, 200)


async def test_rerank_is_proved_with_its_shortest_document(client: httpx.AsyncClient, jina: Jina) -> None:
    for model in ("jina-reranker-v2-base-multilingual", "jina-reranker-v3"):
        body = {"model": model, "query": "what", "documents": ["the longest", "short", "longer"]}
        plain = await client.post("/rerank", json=body, headers=OURS)
        assert plain.status_code == 200
    jina.standin.clear_log()
    for model in ("jina-reranker-v3", "jina-reranker-v2-base-multilingual"):
        body = {"model": model, "query": "what", "documents": ["the longest", "short", "longer"]}
        answer = await client.post("/rerank", json=body, headers={"authorization": f"Bearer {ANNA}"})
        assert answer.status_code == 200
    (call,) = jina.standin.calls
    assert [each if isinstance(each, str) else each["text"] for each in call.body["documents"]] == ["short"]


# What guests may do, and what is kept of them ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"), ("GET", "/spend/report"), ("GET", "/spend/logs"), ("GET", "/key/info"),
        ("GET", "/key/list"), ("POST", "/key/generate"), ("POST", "/cache/flushall"), ("POST", "/cache/delete"),
        ("GET", "/metrics"), ("GET", "/cache/stats"), ("GET", "/health"), ("GET", "/openapi.json"),
    ],
)  # fmt: skip
async def test_a_guest_may_ask_for_what_he_pays_for_and_nothing_else(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    assert (await embed(client, ANNA, "one")).status_code == 200
    refused = await client.request(method, path, json={}, headers={"authorization": f"Bearer {ANNA}"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    "key",
    [
        "jina key",
        "jina_é",
        "j" * 600,
        "",
        '"sk-CANARYMASTER"',
        "Bearer:sk-CANARYMASTER",
        "SK-canary",
        "sk-CANARYMASTER,",
    ],
)
async def test_what_can_not_be_a_key_goes_nowhere(client: httpx.AsyncClient, jina: Jina, key: str) -> None:
    headers = [(b"authorization", f"Bearer {key}".encode("latin-1"))]
    refused = await client.post("/embeddings", json={"model": MODEL, "input": ["one"]}, headers=headers)
    assert refused.status_code == 401
    assert jina.paid == []


async def test_who_pays_stands_in_the_ledger_by_the_hash_of_his_key(
    client: httpx.AsyncClient, jina: Jina, tmp_path: Path
) -> None:
    await embed(client, "sk-CANARYMASTER", "one")
    await embed(client, ANNA, "one")
    await embed(client, ANNA, "two")
    (report,) = [
        row
        for row in (await client.get("/spend/report", params={"by": "key"}, headers=OURS)).json()["rows"]
        if row["key_hash"] == hashed(ANNA)
    ]
    assert report["tokens_billed"] == sum(call.tokens for call in jina.standin.calls[1:])
    by_tag = (await client.get("/spend/report", params={"by": "tag"}, headers=OURS)).json()["rows"]
    assert [row["tokens_billed"] for row in by_tag if row["tag"] == TAG] == [jina.standin.calls[1].tokens]


async def test_a_made_up_key_leaves_no_request_behind(client: httpx.AsyncClient, tmp_path: Path) -> None:
    headers = {"authorization": f"Bearer {MADE_UP}", "x-litellm-tags": "a,b,c"}
    for body in ({"model": MODEL, "input": ["one"], "user": "x"}, {"model": MODEL}, {"model": "no", "input": ["one"]}):
        for control in ("", "no-cache, only-if-cached", "only-if-cached", "no-store"):
            refused = await client.post("/embeddings", json=body, headers={**headers, "cache-control": control})
            assert refused.status_code in (401, 404, 422, 504)
    assert (await client.get("/spend/logs", headers=OURS)).json() == []
    database = Database.in_folder(tmp_path)
    names = {(row["kind"], row["name"]) for row in rows(database, "days")}
    database.close()
    assert {name for kind, name in names if kind in ("tag", "user")} <= {"", TAG}


async def test_no_key_is_in_a_log_a_row_a_file_a_metric_or_an_error(
    client: httpx.AsyncClient, jina: Jina, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await embed(client, "sk-CANARYMASTER", "one")
    answers = [await embed(client, key, "one", "two") for key in (ANNA, MADE_UP)]
    jina.standin.fail_next(Fault("drop"), Fault("html"))
    answers += [await embed(client, ANNA, text) for text in ("three", "four")]
    told = [(await client.get(path, headers=OURS)).text for path in ("/metrics", "/spend/logs", "/cache/stats")]
    told += [answer.text + str(answer.headers) for answer in answers]
    told += [record.getMessage() + str(vars(record)) for record in caplog.records]
    assert not [text for text in told if "CANARY" in text]
    database = Database.in_folder(tmp_path)
    assert not [row for table in ("calls", "shares", "requests", "days") for row in rows(database, table)
                if "CANARY" in str(row)]  # fmt: skip
    database.close()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 1
    assert not [path for path in files if b"CANARY" in path.read_bytes()]


async def test_no_caller_can_call_his_spending_a_proof(client: httpx.AsyncClient) -> None:
    await embed(client, "sk-CANARYMASTER", "one", metadata={"tags": [TAG, "mine"]})
    await embed(client, "sk-CANARYMASTER", "two", headers={"x-litellm-tags": f"{TAG},mine"})
    logs = (await client.get("/spend/logs", headers=OURS)).json()
    assert [row["request_tags"] for row in logs] == [["mine"], ["mine"]]


async def test_what_is_remembered_of_made_up_keys_is_not_what_they_came_with(client: httpx.AsyncClient) -> None:
    before = refusals()
    for at in range(3):
        assert (await embed(client, f"{MADE_UP}{at}", "one " * 100_000)).status_code == 401
    assert refusals() == before, "an error that is kept holds on to everything that was being done when it was raised"


def refusals() -> int:
    gc.collect()
    return sum(type(one) is UpstreamRefused for one in gc.get_objects())


@pytest.mark.parametrize("field", ["api_key", "api_base", "base_url"])
async def test_a_key_or_a_place_in_a_body_is_refused(client: httpx.AsyncClient, jina: Jina, field: str) -> None:
    refused = await embed(client, ANNA, "one", **{field: "CANARY"})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == field
    assert "CANARY" not in refused.text
    assert jina.paid == []
