"""Misses of several callers in one call: who pays what, and who hears of whose failure."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cache_proxy.errors import UpstreamRefused
from cache_proxy.receipts import Story
from cache_proxy.standin import Fault
from cache_proxy.standin.tokens import text_tokens
from tests.upstream.test_errand import House, until

pytestmark = pytest.mark.anyio

Ask = asyncio.Task[tuple[Any, Story]]


async def together(house: House, *requests: list[str], **fields: Any) -> Sequence[Any]:
    """These requests in one call: they gather while another call of their lane is under way."""
    house.gate.open.clear()
    first = asyncio.create_task(house.ask(["first of all"], **fields))
    await until(lambda: house.gate.arrived == 1)
    asking = [asyncio.create_task(house.ask(texts, **fields)) for texts in requests]
    await until(lambda: house.gate.arrived == 2)
    house.gate.open.set()
    await first
    outcomes: list[Any] = await asyncio.gather(*asking, return_exceptions=True)
    return outcomes


def bodies(house: House) -> list[list[str]]:
    return [call.body["input"] for call in house.standin.calls]


async def test_what_gathers_while_a_call_is_under_way_is_one_call_and_each_pays_his_share(tmp_path: Path) -> None:
    house = House(tmp_path)
    asked = await together(house, ["a"], ["b", "a longer text than that"], ["c"])
    assert bodies(house) == [["first of all"], ["a", "b", "a longer text than that", "c"]]
    stories = [story for _, story in asked]
    assert sum(story.tokens_billed for story in stories) + text_tokens("first of all") == house.standin.billed_tokens
    assert [story.counts.misses for story in stories] == [1, 2, 1]
    assert stories[1].tokens_billed > stories[0].tokens_billed > 0


async def test_who_is_not_to_be_kept_and_who_is_may_ask_for_the_same_text_in_one_call(tmp_path: Path) -> None:
    house = House(tmp_path)
    kept = [("other", None), ("a", 0), ("a", None)]
    (_, _), (_, not_kept), (_, story) = await each_of_its_own(house, kept)
    assert bodies(house) == [["first of all"], ["other", "a", "a"]]
    assert "stored" in story.cache_status
    assert "stored" not in not_kept.cache_status
    _, again = await house.ask(["a"])
    assert again.counts.hits == 1, "what the second asked for is kept, as long as it asked"


async def each_of_its_own(house: House, requests: Sequence[tuple[str, float | None]]) -> Sequence[Any]:
    """As ``together``: a text each, and for how long it is kept."""
    house.gate.open.clear()
    first = asyncio.create_task(house.ask(["first of all"]))
    await until(lambda: house.gate.arrived == 1)
    asking = [
        asyncio.create_task(house.ask([text], cache=None if ttl is None else {"ttl": ttl})) for text, ttl in requests
    ]
    await until(lambda: house.gate.arrived == 2)
    house.gate.open.set()
    await first
    outcomes: list[Any] = await asyncio.gather(*asking)
    return outcomes


async def test_who_did_not_want_it_kept_is_not_told_that_it_is(tmp_path: Path) -> None:
    (_, kept), (_, not_kept) = await each_of_its_own(House(tmp_path), [("a", None), ("b", 0)])
    assert "stored" in kept.cache_status
    assert "stored" not in not_kept.cache_status


async def test_other_parameters_another_model_and_another_namespace_travel_apart(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.gate.open.clear()
    kinds: list[dict[str, Any]] = [
        {}, {"task": "text-matching"}, {"dimensions": 8}, {"model": "jina-embeddings-v4"},
        {"cache": {"namespace": "mine"}},
    ]  # fmt: skip
    asking = [asyncio.create_task(house.ask(["a"], **kind)) for kind in kinds]
    await until(lambda: house.gate.arrived == len(kinds))
    house.gate.open.set()
    await asyncio.gather(*asking)
    assert bodies(house) == [["a"]] * len(kinds)


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_call_that_one_item_spoils_is_taken_apart_until_each_caller_bears_his_own(
    tmp_path: Path, status: int
) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("status", status, contains="poison", times=None))
    outcomes = await together(house, ["a"], ["b"], ["good", "poison"], ["c"])
    assert [isinstance(outcome, UpstreamRefused) for outcome in outcomes] == [False, False, True, False]
    assert outcomes[2].status == status
    assert outcomes[2].body, "his items alone were in the last call"
    good = {"first of all", "a", "b", "c"}
    assert house.standin.billed_tokens == sum(map(text_tokens, good)), "nothing was paid twice, nor for the refused"
    assert len(bodies(house)) == 6, "the first, all four, two halves, and of the bad half each caller"


async def test_what_may_have_been_billed_before_a_call_was_taken_apart_is_told_once(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.standin.fail_next(Fault("drop", contains="poison"))
    house.standin.fail_next(Fault("status", 422, contains="poison", times=None))
    outcomes = await together(house, ["a"], ["poison"], ["c"])
    stories = [outcome[1] for outcome in outcomes if not isinstance(outcome, Exception)]
    assert sum(story.outcome_unknown for story in stories) == 1
    assert sum(story.tokens_unsettled for story in stories) > 0


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_what_is_nobodys_item_reaches_all_and_is_not_sent_again_in_parts(tmp_path: Path, status: int) -> None:
    house = House(tmp_path, document={"litellm_settings": {"num_retries": 0}})
    house.standin.fail_next(Fault("status", status, contains="spoilt"))
    outcomes = await together(house, ["a"], ["spoilt"], ["c"])
    assert [(outcome.status, outcome.body) for outcome in outcomes] == [(status, b"")] * 3
    assert len(bodies(house)) == 2
    again, story = await house.ask(["a"])
    assert again["data"], "whoever comes later tries afresh"
    assert story.counts.misses == 1


async def test_calls_are_cut_by_estimated_tokens(tmp_path: Path) -> None:
    entry = {"model_name": "mine", "litellm_params": {"model": "jina_ai/jina-embeddings-v3", "api_key": "k"}}
    house = House(tmp_path, document={"model_list": [{**entry, "model_info": {"max_batch_tokens": 60}}]})
    texts = [f"{number} " + "word " * 20 for number in range(4)]
    _, story = await house.ask(texts, model="mine", dimensions=8)
    assert sorted(map(len, bodies(house))) == [2, 2]
    assert story.tokens_billed == house.standin.billed_tokens
    _, story = await house.ask(["word " * 1000], model="mine", dimensions=8)
    assert story.counts.misses == 1, "one that is too large by itself goes alone, for Jina to judge"
