"""The audit: what the stand-in's own books say was billed, beside what the load could not do without."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.economy.asks import Ask, Rerank
from bench.economy.items import Item, Pair, Ranking, Text
from bench.economy.load import LARGEST
from cache_proxy.standin import Call
from cache_proxy.standin.embedding_ask import read_embedding
from cache_proxy.standin.fields import Manners
from cache_proxy.standin.models import EMBEDDERS, RERANKERS
from cache_proxy.standin.ranking import read_rank
from cache_proxy.standin.tokens import text_tokens

_LISTS = {"embeddings": "input", "rerank": "documents"}
"""Where a call's items are in its body."""


@dataclass(frozen=True)
class Audit:
    """``ideal`` is what the load would have cost with each item bought once, ``billed`` what it did cost, in tokens.

    ``unpaid`` items were answered though nobody ever bought them, ``unasked`` ones bought though nobody wanted them:
    both are 0 unless answers were made up or requests were changed on the way.
    """

    distinct: int
    calls: int
    ideal: int
    billed: int
    unpaid: int
    unasked: int

    @property
    def ratio(self) -> float:
        """Paid / ideal."""
        return self.billed / self.ideal


def audit(asked: Iterable[Ask], answered: Iterable[Ask], calls: Sequence[Call]) -> Audit:
    """Hold the calls against what was asked, and against what of it was answered rightly.

    What failed and was never bought is no part of the ideal. Raises ``ValueError`` if a call was billed otherwise than
    its items say, for then this is no audit.
    """
    asked = list(asked)
    wanted, owed = _distinct(asked), _distinct(answered)
    bought = Counter(item for call in calls for item in billed_items(call))
    needed = (bought.keys() & wanted) | owed
    return Audit(
        distinct=len(needed),
        calls=sum(call.tokens > 0 for call in calls),
        ideal=sum(item.tokens for item in needed) + sum(_needed_queries(asked, calls)),
        billed=sum(call.tokens for call in calls),
        unpaid=len(owed - bought.keys()),
        unasked=len(bought.keys() - wanted),
    )


def _distinct(asks: Iterable[Ask]) -> set[Item]:
    return {item for ask in asks for item in ask.items}


def _needed_queries(asked: Iterable[Ask], calls: Sequence[Call]) -> Iterable[int]:
    """The query's tokens for each call that had to be made: it bought a pair that no call before it had.

    Cutting a purchase up does not make more calls necessary: a request of n documents needs no more than its share of
    calls of the largest size.
    """
    allowed = _calls_allowed(asked)
    seen: set[Item] = set()
    for call in calls:
        pairs = {item for item in billed_items(call) if isinstance(item, Pair)}
        if pairs - seen:
            (query,) = {(pair.model, pair.query) for pair in pairs}
            if allowed[query] > 0:
                allowed[query] -= 1
                yield text_tokens(query[1])
        seen |= pairs


def _calls_allowed(asked: Iterable[Ask]) -> Counter[tuple[str, str]]:
    allowed: Counter[tuple[str, str]] = Counter()
    for ask in asked:
        if isinstance(ask, Rerank):
            allowed[ask.model, ask.query] += -(-len(set(ask.documents)) // LARGEST)
    return allowed


def billed_items(call: Call) -> tuple[Item, ...]:
    """What this call bought, as often as it was in it; nothing where nothing was billed."""
    if not call.tokens:
        return ()
    items, query = _items_of(call.endpoint, call.body)
    if sum(item.tokens for item in items) + query != call.tokens:
        raise ValueError(f"a call to /{call.endpoint} was billed {call.tokens} tokens, but holds others")
    return items


def part_of(call: Call, places: Sequence[int]) -> Call:
    """The call as it would have been with only these of its items, billed for them alone."""
    if len(places) == len(billed_items(call)):
        return call
    if not places:
        return replace(call, items=0, tokens=0)
    field = _LISTS[call.endpoint]
    body = {**call.body, field: [call.body[field][place] for place in places]}
    items, query = _items_of(call.endpoint, body)
    return replace(call, body=body, items=len(items), tokens=query + sum(item.tokens for item in items))


def _items_of(endpoint: str, body: Mapping[str, Any]) -> tuple[tuple[Item, ...], int]:
    """The items in a call, and the tokens of its query that are no item's."""
    model, manners = body["model"], Manners()
    if endpoint == "embeddings":
        ask = read_embedding(EMBEDDERS[model], body, manners)
        return tuple(Text(model, ask.mode, ask.width, item.content) for item in ask.items), 0
    rank = read_rank(RERANKERS[model], body, manners)
    query, documents = rank.query.content, tuple(document.content for document in rank.documents)
    if rank.model.listwise:
        return (Ranking(model, query, documents),), 0
    return tuple(Pair(model, query, document) for document in documents), text_tokens(query)
