"""The audit, on loads whose ideal is known by hand."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bench.economy.asks import Ask, Embedding, Rerank
from bench.economy.books import Audit, audit
from bench.economy.load import LISTWISE, PAIRWISE, PROFILES
from bench.economy.spellings import spell
from cache_proxy.standin import Call, StandIn
from tests.bench.direct import bought

pytestmark = pytest.mark.anyio

ONE = "one"  # 3 tokens: the word and two that every text has
TWO = "one two"  # 4
THREE = "one two three"  # 5
QUERY = "what is it now"  # 6


def texts(*of: str, profile: int = 0) -> Embedding:
    return Embedding(PROFILES[profile], of)


def pairs(*documents: str, query: str = QUERY) -> Rerank:
    return Rerank(PAIRWISE, query, documents)


def ranking(*documents: str) -> Rerank:
    return Rerank(LISTWISE, QUERY, documents)


async def calls_for(*asks: Ask) -> Sequence[Call]:
    """The stand-in's own record of having sold exactly this."""
    standin = StandIn()
    answers = await bought(standin, *(spell(ask, "list of strings") for ask in asks))
    assert {answer.status_code for answer in answers} == {200}
    return standin.calls


async def audited(asked: Sequence[Ask], sold: Sequence[Ask]) -> Audit:
    """All were asked for and answered, and only these calls were made for it."""
    return audit(asked, asked, await calls_for(*sold))


async def test_what_is_bought_once_is_the_ideal_however_often_it_is_asked_for() -> None:
    found = await audited([texts(ONE, TWO, ONE), texts(TWO), texts(THREE, ONE)], [texts(ONE, TWO), texts(THREE)])
    assert found == Audit(distinct=3, calls=2, ideal=12, billed=12, unpaid=0, unasked=0)
    assert found.ratio == 1


async def test_a_duplicate_inside_a_call_is_paid_twice() -> None:
    found = await audited([texts(ONE, ONE, TWO)], [texts(ONE, ONE, TWO)])
    assert (found.ideal, found.billed) == (7, 10)
    assert found.ratio == pytest.approx(10 / 7)


async def test_an_item_in_two_calls_is_paid_twice() -> None:
    found = await audited([texts(ONE, TWO), texts(TWO, THREE)], [texts(ONE, TWO), texts(TWO, THREE)])
    assert (found.ideal, found.billed) == (12, 16)


async def test_the_same_text_under_another_task_or_model_is_another_item() -> None:
    asked = [texts(ONE, profile=number) for number in range(len(PROFILES))]
    assert await audited(asked, asked) == Audit(distinct=3, calls=3, ideal=9, billed=9, unpaid=0, unasked=0)


async def test_a_pair_costs_its_document_and_each_needed_call_its_query() -> None:
    found = await audited([pairs(ONE, TWO), pairs(TWO, THREE)], [pairs(ONE, TWO), pairs(THREE)])
    assert found == Audit(distinct=3, calls=2, ideal=3 + 4 + 5 + 2 * 6, billed=24, unpaid=0, unasked=0)


async def test_a_pair_bought_again_beside_a_new_one_is_paid_twice_but_its_query_is_not() -> None:
    found = await audited([pairs(ONE, TWO), pairs(TWO, THREE)], [pairs(ONE, TWO), pairs(TWO, THREE)])
    assert (found.ideal, found.billed) == (24, 28)


async def test_a_call_that_brings_nothing_new_was_not_needed_and_neither_was_its_query() -> None:
    found = await audited([pairs(ONE), pairs(ONE)], [pairs(ONE), pairs(ONE)])
    assert (found.ideal, found.billed) == (9, 18)


async def test_a_request_cut_into_more_calls_than_it_needs_pays_the_query_too_often() -> None:
    found = await audited([pairs(ONE, TWO, THREE)], [pairs(ONE), pairs(TWO), pairs(THREE)])
    assert (found.ideal, found.billed) == (12 + 6, 12 + 18)


async def test_a_request_of_more_documents_than_a_call_takes_needs_the_query_more_than_once() -> None:
    documents = tuple(f"document {number}" for number in range(600))
    asked = pairs(*documents)
    found = await audited([asked], [pairs(*documents[:512]), pairs(*documents[512:])])
    assert found.ratio == 1


async def test_the_same_document_under_another_query_is_another_pair() -> None:
    asked = [pairs(ONE), pairs(ONE, query="other")]
    assert await audited(asked, asked) == Audit(distinct=2, calls=2, ideal=9 + 6, billed=15, unpaid=0, unasked=0)


async def test_a_listwise_ranking_is_one_item_of_its_whole_call() -> None:
    asked = [ranking(ONE, TWO), ranking(ONE, TWO), ranking(TWO, ONE)]
    found = await audited(asked, [ranking(ONE, TWO), ranking(TWO, ONE)])
    assert found == Audit(distinct=2, calls=2, ideal=2 * (6 + 3 + 4), billed=26, unpaid=0, unasked=0)
    assert (await audited(asked, asked)).ratio == 1.5


async def test_what_failed_and_was_never_bought_is_no_part_of_the_ideal() -> None:
    calls = await calls_for(texts(ONE))
    found = audit([texts(ONE), texts(TWO)], [texts(ONE)], calls)
    assert (found.distinct, found.ideal, found.unpaid) == (1, 3, 0)


async def test_what_was_bought_for_a_request_that_failed_is_part_of_it() -> None:
    found = audit([texts(ONE), texts(TWO)], [texts(ONE)], await calls_for(texts(ONE), texts(TWO)))
    assert (found.ideal, found.billed) == (7, 7)


async def test_an_answer_that_nobody_paid_for_and_a_purchase_that_nobody_wanted_are_told() -> None:
    found = await audited([texts(ONE), texts(TWO)], [texts(ONE), texts(THREE)])
    assert (found.unpaid, found.unasked) == (1, 1)
    assert (found.ideal, found.billed) == (7, 8)


async def test_a_call_that_was_not_billed_buys_nothing() -> None:
    (call,) = await calls_for(texts(ONE))
    found = audit([texts(ONE)], [], [replace(call, tokens=0, status=500)])
    assert (found.calls, found.distinct, found.billed) == (0, 0, 0)


async def test_books_that_do_not_add_up_are_refused() -> None:
    (call,) = await calls_for(pairs(ONE))
    with pytest.raises(ValueError, match="billed 8 tokens"):
        audit([pairs(ONE)], [pairs(ONE)], [replace(call, tokens=call.tokens - 1)])
