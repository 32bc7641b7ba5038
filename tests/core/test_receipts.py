"""Receipts and money: told once, integers only, never rounded."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.calls import Account
from cache_proxy.core.catalog import MODELS
from cache_proxy.core.spend import usd
from cache_proxy.models import PICO
from cache_proxy.receipts import Counts, Story


@pytest.mark.parametrize(
    ("pico", "told"),
    [
        (0, "0"),
        (1, "0.000000000001"),
        (50_000, "0.00000005"),
        (PICO, "1"),
        (10 * PICO, "10"),
        (100 * PICO + PICO // 2, "100.5"),
        (123 * PICO + 456, "123.000000000456"),
        (None, "unknown"),
    ],
)
def test_an_amount_is_a_plain_decimal(pico: int | None, told: str) -> None:
    assert usd(pico) == told


@given(st.integers(0, 10**24))
def test_no_amount_is_rounded(pico: int) -> None:
    assert Decimal(usd(pico)) * PICO == pico or len(str(pico)) > 27
    assert "E" not in usd(pico).upper()


def test_a_story_ends_as_a_receipt_that_holds_all_of_it() -> None:
    story = Story("id", "embeddings", Account("who"), 100.0, price=50_000)
    story.model, story.upstream_model, story.cache_status = "alias", "model", "status"
    story.counts, story.tokens_saved = Counts(3, 1, 2), 5
    story.pay(6, 50_000)
    story.pay(4, 20_000)
    story.outcome_unknown, story.tokens_unsettled = 1, 40
    story.key, story.user, story.tags = "ab", "user", ("tag",)
    receipt = story.end(status=200, latency=0.5, bytes_out=99, error="what")
    for name in Story.__slots__:
        if name != "price":
            assert getattr(receipt, name) == getattr(story, name)
    assert (receipt.status, receipt.latency, receipt.bytes_out, receipt.error) == (200, 0.5, 99, "what")
    assert (receipt.tokens_billed, receipt.cost, receipt.saved) == (10, 380_000, 250_000)


def test_what_was_paid_at_a_price_nobody_knows_makes_the_whole_cost_unknown() -> None:
    story = Story("id", "embeddings", Account("who"), 100.0, price=50_000)
    story.pay(0, None)
    assert story.cost == 0
    story.pay(6, 50_000)
    story.add(Story("id", "embeddings", Account("who"), 100.0, tokens_billed=2, cost=None))
    story.pay(6, 50_000)
    assert story.tokens_billed == 14
    assert story.end(status=200, latency=0.5, bytes_out=99).cost is None


def test_what_costs_nothing_is_free_even_where_no_price_is_known() -> None:
    story = Story("id", "embeddings", Account("who"), 100.0, tokens_saved=5)
    receipt = story.end(status=200, latency=0.5, bytes_out=99)
    assert (receipt.cost, receipt.saved) == (0, None)


def test_prices_are_whole_pico_dollars_as_jina_listed_them() -> None:
    prices = {name: usd(model.price and model.price * 1_000_000) for name, model in MODELS.items()}
    nano = {"jina-embeddings-v5-omni-nano": "0.02", "jina-embeddings-v5-text-nano": "0.02"}
    assert prices == {**dict.fromkeys(MODELS, "0.05"), **nano, "elser-v2": "unknown"}
