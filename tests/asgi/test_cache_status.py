"""What the headers tell of an answer, and what a caller may say about the cache."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.asgi.middleware import CacheProxyMiddleware
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.support import connect_to, proxy, set_clock, settings_for

pytestmark = pytest.mark.anyio

V3 = "jina-embeddings-v3"
NO_STORE_HERE = {"litellm_settings": {"cache": False}}


def told(answer: httpx.Response) -> str:
    assert answer.status_code == 200, answer.text
    return answer.headers["cache-status"]


async def embed(client: httpx.AsyncClient, *texts: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
    body = {"model": V3, "input": list(texts), "dimensions": 8, **more}
    return await client.post("/v1/embeddings", json=body, headers=headers)


def counted(items: int, hit: int = 0, miss: int = 0, dup: int = 0, joined: int = 0) -> str:
    return f'detail="items={items} hit={hit} miss={miss} dup={dup} joined={joined}"'


async def test_a_miss_is_stored_and_then_a_hit(client: httpx.AsyncClient) -> None:
    assert told(await embed(client, "a", "b", "a")) == f"cache-proxy; fwd=miss; stored; {counted(3, miss=2, dup=1)}"
    assert told(await embed(client, "a", "b", "a")) == f"cache-proxy; hit; {counted(3, hit=3)}"


async def test_a_mix_is_told_as_partial(client: httpx.AsyncClient) -> None:
    await embed(client, "a")
    assert told(await embed(client, "b", "a")) == f"cache-proxy; fwd=partial; stored; {counted(2, hit=1, miss=1)}"


async def test_two_at_once_are_told_as_collapsed_and_billed_once(tmp_path: Path) -> None:
    standin = StandIn(delay=0.02)
    async with proxy(standin, tmp_path) as client:
        answers = await asyncio.gather(embed(client, "a"), embed(client, "a"))
    assert {told(answer) for answer in answers} == {
        f"cache-proxy; fwd=miss; stored; {counted(1, miss=1)}",
        f"cache-proxy; fwd=miss; collapsed; {counted(1, joined=1)}",
    }
    assert sorted(int(answer.headers["x-tokens-billed"]) for answer in answers) == [0, standin.billed_tokens]
    assert standin.call_count == 1


async def test_with_the_cache_off_everything_is_a_bypass_and_nothing_is_stored(
    standin: StandIn, tmp_path: Path
) -> None:
    async with proxy(standin, tmp_path, NO_STORE_HERE) as client:
        for _ in range(2):
            assert told(await embed(client, "a")) == f"cache-proxy; fwd=bypass; {counted(1, miss=1)}"
    assert standin.call_count == 2


@pytest.mark.parametrize("said", [{"headers": {"cache-control": "no-cache"}}, {"cache": {"no-cache": True}}])
async def test_no_cache_asks_again_and_stores_the_new_answer(
    client: httpx.AsyncClient, standin: StandIn, said: dict[str, Any]
) -> None:
    assert told(await embed(client, "a", **said)) == f"cache-proxy; fwd=bypass; stored; {counted(1, miss=1)}"
    assert told(await embed(client, "a", **said)).startswith("cache-proxy; fwd=bypass; stored")
    assert told(await embed(client, "a")).startswith("cache-proxy; hit")
    assert standin.call_count == 2


@pytest.mark.parametrize("said", [{"headers": {"cache-control": "No-Store"}}, {"cache": {"no-store": True}}])
async def test_no_store_takes_a_hit_but_keeps_nothing(
    client: httpx.AsyncClient, standin: StandIn, said: dict[str, Any]
) -> None:
    assert told(await embed(client, "a", **said)) == f"cache-proxy; fwd=miss; {counted(1, miss=1)}"
    assert told(await embed(client, "a")).startswith("cache-proxy; fwd=miss; stored")
    assert told(await embed(client, "a", **said)).startswith("cache-proxy; hit")
    assert standin.call_count == 2


async def test_only_if_cached_spends_nothing_and_says_504(client: httpx.AsyncClient, standin: StandIn) -> None:
    only = {"cache-control": "only-if-cached"}
    refused = await embed(client, "a", headers=only)
    assert refused.status_code == 504
    assert refused.json()["error"]["code"] == "not_cached"
    assert refused.headers["x-tokens-billed"] == "0"
    assert standin.call_count == 0
    await embed(client, "a")
    assert told(await embed(client, "a", headers=only)).startswith("cache-proxy; hit")
    assert (await embed(client, "a", "b", headers=only)).status_code == 504
    assert standin.call_count == 1


@pytest.mark.parametrize(
    "said", [{"headers": {"cache-control": "max-age=0"}}, {"cache": {"s-maxage": 0}}, {"cache": {"s-max-age": 0}}]
)
async def test_an_answer_older_than_the_caller_wants_is_asked_again(
    client: httpx.AsyncClient, said: dict[str, Any]
) -> None:
    await embed(client, "a")
    assert told(await embed(client, "a", **said)).startswith("cache-proxy; fwd=miss; stored")
    young = {"headers": {"cache-control": "max-age=3600"}}
    assert told(await embed(client, "a", **young)).startswith("cache-proxy; hit")


async def test_a_ttl_of_zero_is_not_stored(client: httpx.AsyncClient) -> None:
    assert told(await embed(client, "a", cache={"ttl": 0})) == f"cache-proxy; fwd=miss; {counted(1, miss=1)}"
    assert told(await embed(client, "a")).startswith("cache-proxy; fwd=miss; stored")


@pytest.mark.parametrize("store", ["local", "disk"])
async def test_an_entry_is_stale_when_its_ttl_is_over(standin: StandIn, tmp_path: Path, store: str) -> None:
    document = {"litellm_settings": {"cache": True, "cache_params": {"type": store, "ttl": 100}}}
    wired = Wired(settings_for(tmp_path, document), connect=connect_to(standin))
    engine = await wired.open()
    now = 1_000_000.0
    set_clock(engine, lambda: now)
    transport = httpx.ASGITransport(CacheProxyMiddleware(_nowhere, wired=wired, auth="open"))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        await embed(client, "usual")
        await embed(client, "short", cache={"ttl": 10})
        now += 9.9
        assert told(await embed(client, "usual", "short")) == f"cache-proxy; hit; {counted(2, hit=2)}"
        now += 0.1
        assert counted(2, hit=1, miss=1) in told(await embed(client, "usual", "short"))
        now += 90.0
        # "short" was bought again without a ttl of its own, so the usual one holds for it from then on.
        assert counted(2, hit=1, miss=1) in told(await embed(client, "usual", "short"))
    await wired.close()


async def _nowhere(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("not one of our routes")


async def test_namespaces_see_nothing_of_each_other(client: httpx.AsyncClient, standin: StandIn) -> None:
    spaces: list[dict[str, Any]] = [{}, {"cache": {"namespace": "one"}}, {"cache": {"namespace": "on"}}]
    for said in spaces:
        assert told(await embed(client, "a", **said)).startswith("cache-proxy; fwd=miss; stored")
    for said in spaces:
        assert told(await embed(client, "a", **said)).startswith("cache-proxy; hit")
    assert standin.call_count == 3


async def test_the_operators_namespace_is_not_the_callers(standin: StandIn, tmp_path: Path) -> None:
    named = {"litellm_settings": {"cache": True, "cache_params": {"type": "disk", "namespace": "n"}}}
    async with proxy(standin, tmp_path, named) as client:
        assert told(await embed(client, "a")).startswith("cache-proxy; fwd=miss")
    async with proxy(standin, tmp_path) as client:
        assert told(await embed(client, "a")).startswith("cache-proxy; fwd=miss")
        assert told(await embed(client, "a", cache={"namespace": "n"})).startswith("cache-proxy; fwd=miss")
    async with proxy(standin, tmp_path, named) as client:
        assert told(await embed(client, "a")).startswith("cache-proxy; hit")


async def test_what_is_cached_survives_a_restart(standin: StandIn, tmp_path: Path) -> None:
    async with proxy(standin, tmp_path) as client:
        first = await embed(client, "a", "b")
    async with proxy(standin, tmp_path) as client:
        second = await embed(client, "b", "a")
    assert told(second).startswith("cache-proxy; hit")
    assert [row["embedding"] for row in second.json()["data"]] == [
        row["embedding"] for row in reversed(first.json()["data"])
    ]


async def test_default_off_caches_only_who_asks_for_it(standin: StandIn, tmp_path: Path) -> None:
    document = {"litellm_settings": {"cache": True, "cache_params": {"type": "disk", "mode": "default_off"}}}
    async with proxy(standin, tmp_path, document) as client:
        assert told(await embed(client, "a")).startswith("cache-proxy; fwd=bypass;")
        assert told(await embed(client, "a", cache={"use-cache": True})).startswith("cache-proxy; fwd=miss; stored")
        assert told(await embed(client, "a", cache={"use-cache": True})).startswith("cache-proxy; hit")
        assert told(await embed(client, "a")).startswith("cache-proxy; fwd=bypass;")


@pytest.mark.parametrize(
    ("said", "param"),
    [
        ({"cache": {"no-cahce": True}}, "cache"),
        ({"cache": "no-cache"}, "cache"),
        ({"cache": {"no-cache": "yes"}}, "cache.no-cache"),
        ({"cache": {"ttl": -1}}, "cache.ttl"),
        ({"cache": {"ttl": "1"}}, "cache.ttl"),
        ({"cache": {"namespace": 5}}, "cache.namespace"),
        ({"headers": {"cache-control": "max-age=soon"}}, "Cache-Control"),
    ],
)
async def test_a_wrong_word_about_the_cache_is_refused_by_name(
    client: httpx.AsyncClient, standin: StandIn, said: dict[str, Any], param: str
) -> None:
    answer = await embed(client, "a", **said)
    assert (answer.status_code, answer.json()["error"]["param"]) == (422, param)
    assert standin.call_count == 0


async def test_the_headers_say_what_was_billed_and_saved(client: httpx.AsyncClient, standin: StandIn) -> None:
    first, second = await embed(client, "one two", "three"), await embed(client, "one two", "three")
    tokens = standin.billed_tokens
    assert (first.headers["x-tokens-billed"], first.headers["x-tokens-saved"]) == (str(tokens), "0")
    assert (second.headers["x-tokens-billed"], second.headers["x-tokens-saved"]) == ("0", str(tokens))
    price = Decimal("0.00000005") * tokens
    assert Decimal(first.headers["x-cost-usd"]) == Decimal(first.headers["x-litellm-response-cost"]) == price
    assert Decimal(second.headers["x-cost-usd"]) == 0
    assert Decimal(second.headers["x-saved-usd"]) == price
    assert Decimal(second.headers["x-litellm-key-spend"]) == price
    assert second.headers["x-request-id"] == second.headers["x-litellm-call-id"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    for answer in (first, second):
        assert answer.json()["usage"] == {"total_tokens": tokens, "prompt_tokens": tokens}
        assert answer.headers["cache-control"] == "no-store"


async def test_a_callers_own_request_id_is_kept_if_it_is_fit_for_a_log(client: httpx.AsyncClient) -> None:
    for name in ("x-request-id", "x-litellm-call-id"):
        assert (await embed(client, "a", headers={name: "mine-1"})).headers["x-request-id"] == "mine-1"
    for bad in ("x" * 129, "tab\there"):
        assert len((await embed(client, "a", headers={"x-request-id": bad})).headers["x-request-id"]) == 32


async def test_a_single_item_tells_its_key_and_several_do_not(client: httpx.AsyncClient) -> None:
    assert len((await embed(client, "a")).headers["x-litellm-cache-key"]) == 64
    assert "x-litellm-cache-key" not in (await embed(client, "a", "b")).headers


async def test_a_second_line_of_cache_control_does_not_hide_the_first(client: httpx.AsyncClient) -> None:
    lines = [("cache-control", "no-store"), ("cache-control", "max-age=60")]
    body = {"model": "jina-embeddings-v3", "input": "twice told"}
    for _ in range(2):
        response = await client.post("/embeddings", json=body, headers=lines)
        assert response.headers["cache-status"].startswith("cache-proxy; fwd=miss; detail")
