"""The most that items and calls can cost."""

from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.core.catalog import MODELS
from cache_proxy.core.spend import CONTEXT, bound, call_bound, estimate
from cache_proxy.models import Item, Json, Kind
from cache_proxy.standin.tokens import COLBERT_QUERY, media_tokens, pages, text_tokens
from tests.core.asking import ask, embed, rank

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
    assert bound(one({"content": [{"text": "a"}, {"image": "aGVsbG8="}]})) == CONTEXT
    pdf = one({"pdf": "aGVsbG8="}, model="jina-embeddings-v4")
    assert bound(pdf) == 100 * CONTEXT > pages("aGVsbG8=") * media_tokens("aGVsbG8=")


def test_what_has_a_form_nobody_knows_is_bounded_by_all_it_may_hold() -> None:
    item = one({"odd": "x" * 100_000})
    assert item.kind is Kind.OTHER
    assert bound(item) > 100_000 + CONTEXT


def test_a_call_costs_no_more_than_its_items_and_its_query_once() -> None:
    asked = rank(["one", "three"], query="query").ask
    assert call_bound(asked.items, asked.query) == (3 + 32) + (5 + 32) + (5 + 32)
    assert call_bound(embed(["one"]).ask.items) == 3 + 32
