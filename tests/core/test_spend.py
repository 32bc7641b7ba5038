"""The most that items and calls can cost."""

from hypothesis import example, given
from hypothesis import strategies as st

from cache_proxy.core.catalog import MODELS
from cache_proxy.core.spend import CONTEXT, bound, estimate, split
from cache_proxy.models import Item, Json, Kind
from cache_proxy.standin.tokens import COLBERT_QUERY, media_tokens, pages, text_tokens
from tests.core.asking import ask

OMNI = "jina-embeddings-v5-omni-small"


def one(given: Json, model: str = OMNI, **fields: Json) -> Item:
    (item,) = ask({"model": model, "input": given, **fields}).ask.items
    return item


@given(st.text())
def test_a_text_costs_no_more_than_its_bytes_and_a_little(text: str) -> None:
    most = bound(one(text))
    assert most == len(text.encode()) + 32
    assert most >= max(text_tokens(text), COLBERT_QUERY, estimate(one(text)))


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=50))
def test_tokens_cost_no_more_than_there_are_and_a_little(tokens: list[int]) -> None:
    item = one([tokens], model="unknown")
    assert item.kind is Kind.TOKENS
    assert bound(item) == len(tokens) + 32


def test_a_picture_a_page_a_sound_and_a_film_cost_no_more_than_a_model_reads_at_once() -> None:
    readers = [model.max_tokens for model in MODELS.values() if "image" in model.inputs]
    assert max(tokens or 0 for tokens in readers) == CONTEXT
    for kind in ("image", "audio", "video"):
        assert bound(one({kind: "aGVsbG8="})) == CONTEXT >= media_tokens("aGVsbG8=")
    pdf = one({"pdf": "aGVsbG8="}, model="jina-embeddings-v4")
    assert bound(pdf) == 100 * CONTEXT > pages("aGVsbG8=") * media_tokens("aGVsbG8=")


def test_a_mixture_costs_no_more_than_its_parts() -> None:
    parts = [{"text": "a b"}, {"image": "aGVsbG8="}, {"pdf": "aGVsbG8="}, "bare"]
    assert bound(one({"content": parts})) == (3 + 32) + CONTEXT + 100 * CONTEXT + (CONTEXT + 4)
    assert bound(one({"odd": [{"image": "a"}] * 40})) >= 40 * CONTEXT


def test_what_has_a_form_nobody_knows_is_bounded_by_all_it_may_hold() -> None:
    item = one({"odd": "x" * 100_000})
    assert item.kind is Kind.OTHER
    assert bound(item) > 100_000 + CONTEXT


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 300)), min_size=1, max_size=30), st.integers(0, 10_000))
@example([(1, 0), (1, 1)], 1)
def test_shares_add_up_and_none_is_above_its_bound(items: list[tuple[int, int]], total: int) -> None:
    weights, bounds = [weight for weight, _ in items], [most for _, most in items]
    shares = split(total, weights, bounds)
    assert sum(shares) == total
    assert min(shares) >= 0
    if total <= sum(bounds):
        assert all(share <= most for share, most in zip(shares, bounds, strict=True))
    else:
        assert shares == split(total, weights), "more than all may cost together: nobody knows whose fault it is"


@given(st.lists(st.integers(1, 500), min_size=1, max_size=30), st.integers(0, 10_000))
def test_bounds_that_nobody_reaches_change_nothing(weights: list[int], total: int) -> None:
    assert split(total, weights, [total] * len(weights)) == split(total, weights)


def test_what_is_above_one_items_bound_is_shared_by_the_others_as_before() -> None:
    assert split(100, [1, 1, 8], [100, 100, 20]) == [40, 40, 20]
