"""Expired answers in place of an upstream that fails, where the operator allows it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from cache_proxy.calls import Account
from cache_proxy.errors import NotCached, UpstreamBusy, UpstreamRefused
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Story
from cache_proxy.standin import Fault
from tests.support import set_clock
from tests.upstream.test_errand import MODEL, House, tokens, vectors

pytestmark = pytest.mark.anyio

TTL, ALLOWED = 100.0, 50.0
PAIRS = "jina-reranker-v2-base-multilingual"


def house(folder: Path, document: Mapping[str, Any] | None = None, **own: Any) -> House:
    base = {
        "litellm_settings": {"cache": True, "num_retries": 0, "cache_params": {"type": "local", "ttl": TTL}},
        "cache_proxy_settings": {"stale_if_error": ALLOWED, **own},
    }
    return House(folder, document={**base, **(document or {})})


def down(house: House, kind: Any = "status", status: int = 503) -> None:
    house.standin.fail_next(Fault(kind, status=status, times=None))


async def rank(house: House, documents: Sequence[str], **fields: Any) -> tuple[Mapping[str, Any], Story]:
    story = Story("id", "rerank", Account("me"), 0.0)
    body = {"model": PAIRS, "query": "q", "documents": list(documents), **fields}
    return orjson.loads(await house.engine.answer(house.engine.understand(Endpoint.RERANK, body), story)), story


@pytest.mark.parametrize(
    ("kind", "status"),
    [*(("status", status) for status in (402, 403, 429, 500, 503, 524)), ("drop", 200), ("refuse", 200), ("html", 200)],
)
async def test_an_expired_answer_is_served_where_the_upstream_fails(tmp_path: Path, kind: Any, status: int) -> None:
    cached = house(tmp_path)
    fresh, _ = await cached.ask(["a", "b", "a"])
    cached.clock.now += TTL
    down(cached, kind, status)
    stale, story = await cached.ask(["a", "b", "a"])
    assert vectors(stale) == vectors(fresh)
    assert stale["usage"] == fresh["usage"]
    assert (story.counts.items, story.counts.hits, story.counts.misses) == (3, 3, 0)
    assert (story.tokens_billed, story.tokens_saved) == (0, tokens(["a", "b", "a"]))
    told = f"; fwd-status={status}" if kind == "status" else ""
    assert story.cache_status.startswith(f'cache-proxy; fwd=stale{told}; detail="items=3 hit=3 ')


async def test_a_call_that_may_have_been_billed_is_counted_all_the_same(tmp_path: Path) -> None:
    cached = house(tmp_path)
    await cached.ask(["a"])
    cached.clock.now += TTL
    down(cached, "drop")
    _, story = await cached.ask(["a"])
    assert story.outcome_unknown > 0


async def test_when_the_upstream_is_back_the_answer_is_paid_and_fresh_again(tmp_path: Path) -> None:
    cached = house(tmp_path)
    await cached.ask(["a"])
    cached.clock.now += TTL
    cached.standin.fail_next(Fault("status", status=503))
    await cached.ask(["a"])
    _, story = await cached.ask(["a"])
    assert (story.counts.misses, story.tokens_billed) == (1, tokens(["a"]))
    _, story = await cached.ask(["a"])
    assert story.counts.hits == 1
    assert story.cache_status.startswith("cache-proxy; hit")


async def test_what_expired_too_long_ago_is_not_served(tmp_path: Path) -> None:
    cached = house(tmp_path)
    await cached.ask(["a"])
    down(cached)
    cached.clock.now += TTL + ALLOWED
    await cached.ask(["a"])
    cached.clock.now += 0.1
    error, story = await cached.tell(["a"])
    assert isinstance(error, UpstreamRefused)
    assert "fwd=stale" not in story.cache_status


async def test_what_expires_too_long_ago_while_the_upstream_is_asked_is_not_served(tmp_path: Path) -> None:
    cached = house(tmp_path)
    await cached.ask(["a"])
    cached.clock.now += TTL + ALLOWED - 1

    def later() -> float:
        cached.clock.now += 1
        return cached.clock.now

    down(cached)
    set_clock(cached.engine, later)
    error, _ = await cached.tell(["a"])
    assert isinstance(error, UpstreamRefused)


async def test_one_item_that_was_never_paid_gets_the_upstreams_error(tmp_path: Path) -> None:
    cached = house(tmp_path)
    await cached.ask(["a", "b"])
    cached.clock.now += TTL
    down(cached)
    error, story = await cached.tell(["a", "b", "new"])
    assert isinstance(error, UpstreamRefused)
    assert (story.counts.hits, story.counts.misses) == (0, 3)
    assert story.cache_status.startswith("cache-proxy; fwd=miss;")


async def test_fresh_and_expired_answers_go_together(tmp_path: Path) -> None:
    cached = house(tmp_path)
    fresh, _ = await cached.ask(["a", "b"])
    cached.clock.now += TTL
    await cached.ask(["b"])
    down(cached)
    answer, story = await cached.ask(["a", "b"])
    assert vectors(answer) == vectors(fresh)
    assert (story.counts.hits, story.counts.misses) == (2, 0)
    assert story.cache_status.startswith("cache-proxy; fwd=stale")


async def test_it_holds_for_pairs_rankings_and_what_is_kept_whole(tmp_path: Path) -> None:
    cached = house(tmp_path)
    ranked, _ = await rank(cached, ["x", "y"])
    listed, _ = await rank(cached, ["x", "y"], model="jina-reranker-v3")
    whole, _ = await cached.ask(["a", "b"], late_chunking=True)
    cached.clock.now += TTL
    down(cached)
    for fresh, (stale, story) in (
        (ranked, await rank(cached, ["x", "y"])),
        (listed, await rank(cached, ["x", "y"], model="jina-reranker-v3")),
        (whole, await cached.ask(["a", "b"], late_chunking=True)),
    ):
        assert {**stale, "id": ""} == {**fresh, "id": ""}
        assert (story.counts.hits, story.counts.misses) == (2, 0)
    with pytest.raises(UpstreamRefused):
        await rank(cached, ["x", "new"])


@pytest.mark.parametrize(
    "said", [{"no-cache": True}, {"s-maxage": 0}, {"s-maxage": 10_000}, {"s-max-age": TTL + ALLOWED}], ids=str
)
async def test_who_limits_the_age_or_wants_none_from_the_cache_gets_no_expired_answer(
    tmp_path: Path, said: dict[str, Any]
) -> None:
    cached = house(tmp_path)
    await cached.ask(["a"])
    cached.clock.now += TTL
    down(cached)
    error, _ = await cached.tell(["a"], cache=said)
    assert isinstance(error, UpstreamRefused)


async def test_only_if_cached_asks_nobody_and_so_nobody_has_failed(tmp_path: Path) -> None:
    cached = house(tmp_path)
    await cached.ask(["a"])
    cached.clock.now += TTL
    asked = cached.engine.understand(Endpoint.EMBEDDINGS, {"model": MODEL, "input": ["a"]}, "only-if-cached")
    with pytest.raises(NotCached):
        await cached.engine.answer(asked, Story("id", "embeddings", Account("me"), 0.0))


@pytest.mark.parametrize("status", [400, 401, 404, 422])
async def test_a_refusal_of_the_request_is_not_hidden(tmp_path: Path, status: int) -> None:
    cached = house(tmp_path)
    await cached.ask(["a"])
    cached.clock.now += TTL
    down(cached, status=status)
    error, _ = await cached.tell(["a"])
    assert isinstance(error, UpstreamRefused)
    assert error.status == status


async def test_it_is_off_unless_the_operator_turns_it_on(tmp_path: Path) -> None:
    cached = house(tmp_path, stale_if_error=0)
    await cached.ask(["a"])
    cached.clock.now += TTL
    down(cached)
    error, _ = await cached.tell(["a"])
    assert isinstance(error, UpstreamRefused)


async def test_a_lack_of_room_within_our_own_limits_counts_as_failure_too(tmp_path: Path) -> None:
    entry = {"model_name": MODEL, "litellm_params": {"model": f"jina_ai/{MODEL}", "rpm": 1}}
    cached = house(tmp_path, {"model_list": [entry]})
    fresh, _ = await cached.ask(["a"])
    cached.clock.now += TTL
    stale, story = await cached.ask(["a"])
    assert vectors(stale) == vectors(fresh)
    assert story.cache_status.startswith('cache-proxy; fwd=stale; detail="')
    error, _ = await cached.tell(["new"])
    assert isinstance(error, UpstreamBusy)
