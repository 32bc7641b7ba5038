"""Servers killed in mid-flight: what must hold, in little, on real stores; and an audit that finds what does not."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from subprocess import Popen
from typing import Any, cast

import anyio
import pytest

from bench.economy.asks import Ask, Embedding, Rerank
from bench.economy.books import audit, billed_items
from bench.economy.items import Item
from bench.economy.kills.course import LONGEST, Plan, run
from bench.economy.kills.fleet import STORES, Server
from bench.economy.kills.losses import Loss, cut_off, strike
from bench.economy.kills.table import COLUMNS, HEAD, MACHINE, Tally, flaws, line, tally
from bench.economy.kills.upstream import Sale, Upstream
from bench.economy.load import LISTWISE, PAIRWISE, PROFILES
from bench.economy.spellings import spell
from cache_proxy.standin import Call, Delays, StandIn
from tests.bench.direct import bought
from tests.standin.conftest import client_of

KILLS, LEASE, CALLERS = 10, 2.0, 8
TEXTS = Embedding(PROFILES[0], ("one", "one two", "one two three"))  # 3, 4 and 5 tokens
PAIRS = Rerank(PAIRWISE, "what is it now", ("one", "one two"))  # 6 for the query, 3 and 4
DEAD_AT = 10.0


def of(ask: Ask, *places: int) -> Ask:
    """The same with only these of its items."""
    if isinstance(ask, Embedding):
        return replace(ask, texts=tuple(ask.texts[place] for place in places))
    return replace(ask, documents=tuple(ask.documents[place] for place in places))


# The whole, with real servers -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", STORES)
def test_a_server_killed_in_mid_flight_costs_one_lease_and_what_it_had_not_stored(
    name: str, request: pytest.FixtureRequest
) -> None:
    store, plan = STORES[name], Plan(KILLS, LEASE, callers=CALLERS)
    if store.redis:
        request.getfixturevalue("redis_program")
    found = tally(store, plan, run(plan, store))
    assert list(flaws(found)) == [], found
    assert found.audit.billed == found.audit.ideal
    assert found.kills == KILLS
    assert found.cut_off > 0
    assert found.longest > LEASE / 2, "nobody waited for the dead"


@pytest.mark.slow
def test_the_audit_finds_servers_that_do_not_agree_on_who_pays() -> None:
    plan = Plan(1, LEASE, own={"coalesce": "process"})
    found = tally(STORES["disk"], plan, run(plan, STORES["disk"]))
    assert any("paid twice without a kill's excuse" in flaw for flaw in flaws(found)), found


# The books ------------------------------------------------------------------------------------------------------------


async def sold(*asks: Ask) -> Sequence[Call]:
    """The stand-in's own record of these calls."""
    standin = StandIn()
    await bought(standin, *(spell(ask, "list of strings") for ask in asks))
    return standin.calls


def sales_at(*times: float) -> list[Sale]:
    return [Sale(number, "a key", at) for number, at in enumerate(times)]


def lost(calls: Sequence[Call], number: int, since: float = DEAD_AT) -> Loss:
    return Loss(number, frozenset(billed_items(calls[number])), since)


def items_of(calls: Sequence[Call]) -> list[tuple[Item, ...]]:
    return [billed_items(call) for call in calls]


@pytest.mark.anyio
async def test_what_died_with_its_buyer_and_was_bought_again_is_struck_from_the_books() -> None:
    calls = await sold(TEXTS, of(TEXTS, 1))
    struck = strike(calls, sales_at(9.9, 12.0), [lost(calls, 0)])
    assert items_of(struck) == [of(TEXTS, 0, 2).items, of(TEXTS, 1).items]
    found = audit([TEXTS], [TEXTS], struck)
    assert (found.billed, found.ideal) == (12, 12)


@pytest.mark.anyio
async def test_what_was_bought_again_before_its_buyer_was_dead_is_not_excused() -> None:
    calls = await sold(TEXTS, TEXTS)
    struck = strike(calls, sales_at(9.8, 9.9), [lost(calls, 0)])
    assert struck == calls
    assert audit([TEXTS], [TEXTS], struck).billed == 24


@pytest.mark.anyio
async def test_what_the_dead_had_stored_is_not_excused() -> None:
    calls = await sold(TEXTS, TEXTS)
    stored = replace(lost(calls, 0), items=frozenset(of(TEXTS, 2).items))
    struck = strike(calls, sales_at(9.9, 12.0), [stored])
    assert audit([TEXTS], [TEXTS], struck).billed == 24 - 5


@pytest.mark.anyio
async def test_what_was_lost_and_never_bought_again_was_paid_once() -> None:
    calls = await sold(TEXTS)
    assert strike(calls, sales_at(9.9), [lost(calls, 0)]) == calls


@pytest.mark.anyio
async def test_each_kill_excuses_one_purchase_of_an_item() -> None:
    calls = await sold(TEXTS, TEXTS, TEXTS, TEXTS)
    struck = strike(calls, sales_at(9.9, 12.0, 20.0, 21.0), [lost(calls, 0), lost(calls, 1, since=13.0)])
    assert [call.tokens for call in struck] == [0, 0, 12, 12]


@pytest.mark.anyio
async def test_an_item_twice_in_a_call_that_was_lost_is_excused_once() -> None:
    twice = of(TEXTS, 0, 0)
    calls = await sold(twice, of(TEXTS, 0))
    assert [call.tokens for call in strike(calls, sales_at(9.9, 12.0), [lost(calls, 0)])] == [3, 3]


@pytest.mark.anyio
async def test_a_query_is_lost_with_its_call_only_if_nothing_else_of_the_call_stays() -> None:
    calls = await sold(PAIRS, PAIRS)
    assert [call.tokens for call in strike(calls, sales_at(9.9, 12.0), [lost(calls, 0)])] == [0, 13]
    calls = await sold(PAIRS, of(PAIRS, 0))
    assert [call.tokens for call in strike(calls, sales_at(9.9, 12.0), [lost(calls, 0)])] == [6 + 4, 6 + 3]


@pytest.mark.anyio
async def test_a_ranking_is_lost_as_a_whole() -> None:
    ranking = replace(PAIRS, model=LISTWISE)
    calls = await sold(ranking, ranking)
    assert [call.tokens for call in strike(calls, sales_at(9.9, 12.0), [lost(calls, 0)])] == [0, 13]


def dead(key: str) -> Server:
    return Server(key, "", cast("Popen[bytes]", None), ExitStack(), killed_at=DEAD_AT - 0.1, dead_at=DEAD_AT)


@pytest.mark.anyio
async def test_a_call_is_cut_off_if_its_answer_had_not_begun_when_its_server_was_dead() -> None:
    calls = await sold(TEXTS, TEXTS, TEXTS, TEXTS)
    sales = [
        Sale(0, "dead", 9.9, answered_at=9.99),
        Sale(1, "dead", 9.9, answered_at=10.1),
        Sale(2, "alive", 9.9, answered_at=10.1),
        Sale(3, "dead", 9.9),
    ]
    assert [loss.number for loss in cut_off([dead("dead")], sales, calls)] == [1, 3]


@pytest.mark.anyio
async def test_the_upstream_knows_whose_each_call_is_and_which_are_under_way() -> None:
    upstream = Upstream(Delays(0.2, 0.2))
    async with client_of(upstream) as client, anyio.create_task_group() as group:

        async def ask(key: str, text: str) -> None:
            body: dict[str, Any] = {"model": PROFILES[0].model, "input": [text]}
            await client.post("/v1/embeddings", json=body, headers={"authorization": f"Bearer {key}"})

        for number in range(3):
            group.start_soon(ask, f"key {number}", f"text {number}")
        with anyio.fail_after(5):
            while len(upstream.working_for(["key 0", "key 1", "key 2"])) < 3:
                await anyio.lowlevel.checkpoint()
        assert upstream.working_for(["key 1", "another"]) == {"key 1"}
    assert upstream.working_for(["key 0", "key 1", "key 2"]) == set()
    told = [(sale.key, upstream.calls[sale.number].body["input"]) for sale in upstream.sales]
    assert sorted(told) == [(f"key {number}", [f"text {number}"]) for number in range(3)]


# The table ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def good() -> Tally:
    found = audit([TEXTS], [TEXTS], await sold(TEXTS))
    return Tally("Redis", 1, 1, 10, 2, 0, 0, 0, longest=5.1, lease=5.0, audit=found, billed=15)


@pytest.mark.anyio
async def test_a_row_tells_both_ratios_and_what_could_not_be_helped(good: Tally) -> None:
    assert list(flaws(good)) == []
    assert [row.count("|") for row in (*HEAD, line(good))] == [len(COLUMNS) + 1] * 3
    assert line(good).endswith("| 8 | 0 | 0 | 5.10 | 5 | 12 | 15 | 3 | 1.250 | 1.000 |")


@pytest.mark.anyio
async def test_whatever_must_not_be_is_told(good: Tally) -> None:
    bad = replace(good, wrong=1, not_200=2, lost=3, longest=5.0 + LONGEST + MACHINE + 0.01)
    bad = replace(bad, audit=replace(good.audit, billed=13, unpaid=4, unasked=5))
    assert [flaw.split()[1] for flaw in flaws(bad)] == ["1", "2", "3", "1", "4", "5", "somebody"]
