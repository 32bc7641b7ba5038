"""The load is the same for the same seed, and such that a cache without coalescing must pay twice."""

from collections import Counter
from collections.abc import Iterator, Sequence

import orjson
import pytest

from bench.economy.answers import is_right
from bench.economy.asks import Embedding, Rerank
from bench.economy.books import billed_items
from bench.economy.items import Item, Ranking
from bench.economy.litellm import kind_of, probes
from bench.economy.load import LARGEST, PAIRWISE, PROFILES, requests, text_of
from bench.economy.spellings import EMBEDDINGS, RERANKS, Request, spell
from cache_proxy.standin import StandIn
from tests.bench.direct import bought

TOGETHER = 64
"""Callers at a time, as in a run."""


def in_flight(asked: Sequence[Request]) -> Iterator[Sequence[Request]]:
    """The requests by those that are on the way together."""
    return (asked[start : start + TOGETHER] for start in range(0, len(asked), TOGETHER))


@pytest.fixture(scope="module")
def asked() -> Sequence[Request]:
    return requests(seed=1, count=1000)


def test_the_same_seed_asks_the_same_and_another_one_something_else(asked: Sequence[Request]) -> None:
    assert requests(seed=1, count=1000) == asked
    assert requests(seed=2, count=1000)[2:] != asked[2:]
    assert len(asked) == 1000


def test_a_longer_load_begins_with_the_shorter_one(asked: Sequence[Request]) -> None:
    assert requests(seed=1, count=300) == asked[:300]


def test_batches_go_from_one_to_the_largest_and_hold_duplicates(asked: Sequence[Request]) -> None:
    for kind in (Embedding, Rerank):
        sizes = [len(request.ask.items) for request in asked if isinstance(request.ask, kind)]
        assert min(sizes) == 1
        assert max(sizes) > LARGEST / 2
    assert {1, LARGEST} <= {len(request.ask.items) for request in asked}
    with_duplicates = [request for request in asked if len(set(request.ask.items)) < len(request.ask.items)]
    assert len(with_duplicates) > len(asked) / 4


def test_every_profile_and_every_spelling_is_asked_for(asked: Sequence[Request]) -> None:
    profiles = [request.ask.profile for request in asked if isinstance(request.ask, Embedding)]
    assert all(profiles.count(profile) > 30 for profile in PROFILES)
    spelled = Counter((type(request.ask), request.spelling) for request in asked)
    assert {name for kind, name in spelled if kind is Embedding} == set(EMBEDDINGS)
    assert {name for kind, name in spelled if kind is Rerank} == set(RERANKS)


def new_and_shared(asked: Sequence[Request], kind: type) -> int:
    """How many items are asked for by several of the requests in flight together, and by nobody before these."""
    seen: set[Item] = set()
    found = 0
    for together in in_flight(asked):
        askers = Counter(
            item for request in together if isinstance(request.ask, kind) for item in set(request.ask.items)
        )
        found += sum(count > 1 and item not in seen for item, count in askers.items())
        seen |= askers.keys()
    return found


@pytest.mark.parametrize(("kind", "share"), [(Embedding, 0.1), (Rerank, 0.1)])
def test_items_that_nobody_has_bought_yet_are_asked_for_by_several_at_once(
    asked: Sequence[Request], kind: type, share: float
) -> None:
    distinct = {item for request in asked if isinstance(request.ask, kind) for item in request.ask.items}
    assert new_and_shared(asked, kind) > share * len(distinct)


def test_the_same_listwise_ranking_is_asked_for_by_several_at_once_in_several_ways(asked: Sequence[Request]) -> None:
    together = [{r.body for r in few if isinstance(r.ask.items[0], Ranking)} for few in in_flight(asked)]
    assert all(len(bodies) > 1 for bodies in together)
    rankings = Counter(r.ask.items[0] for r in asked if isinstance(r.ask.items[0], Ranking))
    assert min(rankings.values()) >= 1
    assert sum(count > 1 for count in rankings.values()) > len(rankings) / 2


def test_pairs_overlap_under_few_queries(asked: Sequence[Request]) -> None:
    pairs = [r.ask for r in asked if isinstance(r.ask, Rerank) and r.ask.model == PAIRWISE]
    assert len({ask.query for ask in pairs}) < len(pairs) / 5
    assert len({item for ask in pairs for item in ask.items}) < sum(len(ask.items) for ask in pairs) / 2


def test_no_two_texts_are_the_same() -> None:
    assert len({text_of(number) for number in range(3000)}) == 3000


def test_whoever_is_asked_what_he_can_serve_is_asked_for_every_kind_of_the_load_and_never_for_one_thing_twice(
    asked: Sequence[Request],
) -> None:
    asked_before = list(probes())
    assert {kind_of(request) for request in asked} <= {kind_of(probe) for probe in asked_before}
    items = [item for probe in asked_before for item in probe.ask.items]
    assert len(set(items)) == len(items)
    assert not set(items) & {item for request in asked for item in request.ask.items}


SPELLED = [spell(Embedding(profile, ("a text",)), name) for profile in PROFILES for name in EMBEDDINGS]
SPELLED += [spell(Rerank(PAIRWISE, "a query", ("a", "a text", "b")), name) for name in RERANKS]


@pytest.mark.parametrize("request_", SPELLED, ids=lambda request: f"{request.path} {request.spelling}")
@pytest.mark.anyio
async def test_every_spelling_is_bought_as_the_items_it_stands_for(request_: Request) -> None:
    """Asked of the stand-in itself, in its own names and under its own paths."""
    standin = StandIn()
    body = orjson.loads(request_.body)
    body["model"] = body["model"].removeprefix("jina_ai/")
    path = "/v1/embeddings" if isinstance(request_.ask, Embedding) else "/v1/rerank"
    (answer,) = await bought(standin, Request(request_.ask, request_.spelling, path, orjson.dumps(body)))
    assert answer.status_code == 200
    assert is_right(request_, answer.content)
    (call,) = standin.calls
    assert billed_items(call) == request_.ask.items
