"""``POST /v1/rerank``: reads the body by Jina's OpenAPI (2026-04) and answers it as measured in 2026-07.

v1, v2, m0 and colbert score one (query, document) pair at a time; v3 and v3.5 read the whole ordered list,
so there every score depends on every document and its place. Scores lean on the words that query and
document share, so that a demonstration looks like one, and are coarse, so that ties occur as they do on
Jina's.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson

from . import checks
from .embeddings import Answer
from .fields import Dialect, Fields, Manners
from .items import Item, fit, read_item
from .models import RANK_EMBEDDING_WIDTH, RERANKERS, Reranker
from .tokens import COLBERT_QUERY
from .vectors import seed, share, vector

DIALECT = Dialect(
    required=frozenset({"query", "documents"}),
    optional=frozenset().union(*(model.fields for model in RERANKERS.values())),
    aliases={
        "top_n": ("top_k",),
        "max_doc_length": ("max_tokens_per_doc",),
        "truncation": ("truncate",),
    },
)

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class RankAsk:
    """A valid request with every default resolved. ``echoes`` is what to give back as ``document``."""

    model: Reranker
    query: Item
    documents: tuple[Item, ...]
    echoes: tuple[Any, ...]
    top_n: int | None
    return_documents: bool
    return_embeddings: bool
    truncation: bool
    max_doc_length: int
    salt: bytes

    @property
    def tokens(self) -> int:
        """The query once and each document; a ColBERT query counts its fixed 32."""
        query = COLBERT_QUERY if self.model.scale == "maxsim" else self.query.tokens
        return query + sum(document.tokens for document in self.documents)


def read_rank(model: Reranker, body: Mapping[str, Any], manners: Manners) -> RankAsk:
    """The request, or the `Refusal` that Jina would answer.

    An absent ``truncation`` is true (on-premises, 2026-08).
    """
    fields = Fields(model.name, model.fields, body, DIALECT)
    query = fields.need("query", lambda given: read_item(given, model.kinds))
    documents = _read_documents(fields, model)
    ask = RankAsk(
        model=model,
        query=query,
        documents=documents,
        echoes=(),
        top_n=fields.take("top_n", checks.whole(1)),
        return_documents=fields.take("return_documents", checks.boolean, default=True),
        return_embeddings=fields.take("return_embeddings", checks.boolean, default=False),
        truncation=fields.take("truncation", checks.boolean, default=True),
        max_doc_length=fields.take("max_doc_length", checks.whole(1, 8192), 2048),
        salt=fields.settle(manners),
    )
    return _fitted(ask, body["documents"])


def _read_documents(fields: Fields, model: Reranker) -> tuple[Item, ...]:
    values = fields.need("documents", _list)
    return fields.each("documents", values or (), lambda each: read_item(each, model.kinds))


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise checks.Bad("Input should be a valid list", "list_type")
    if not value:
        raise checks.Bad("List should have at least 1 item after validation, not 0", "too_short")
    return value


def _fitted(ask: RankAsk, given: list[Any]) -> RankAsk:
    """The texts within the limits. The echo stays the caller's full text."""
    limit = ask.max_doc_length if ask.model.listwise else ask.model.max_tokens
    return replace(
        ask,
        query=fit(ask.query, ask.model.max_tokens, truncate=ask.truncation),
        documents=tuple(fit(document, limit, truncate=ask.truncation) for document in ask.documents),
        echoes=tuple(_echo(ask.model, *pair) for pair in zip(given, ask.documents, strict=True)),
    )


def _echo(model: Reranker, given: Any, item: Item) -> Any:
    """v3 and v3.5 always say ``{"text": …}``; the others give back the caller's type."""
    if isinstance(given, str) and not model.listwise:
        return given
    return {item.kind: item.content}


def answer_rank(ask: RankAsk) -> Answer:
    """Highest score first.

    On a tie the lower index is first, but on v3 and v3.5 the higher (their public code).
    """
    context = _context(ask) if ask.model.listwise else ""
    scores = _listwise_scores(ask, context) if context else [_pair_score(ask, each) for each in ask.documents]
    tie = -1 if ask.model.listwise else 1
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], tie * index))
    tokens = ask.tokens
    body = {
        "model": ask.model.name,
        "object": "list",
        "usage": {"total_tokens": tokens},
        "results": [_result(ask, index, scores[index], context) for index in order[: ask.top_n]],
    }
    return Answer(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), len(scores), tokens)


def _result(ask: RankAsk, index: int, score: float, context: str) -> dict[str, Any]:
    """``document`` and ``embedding`` are left out, not null, where they are not asked for."""
    result: dict[str, Any] = {"index": index, "relevance_score": score}
    if ask.return_documents:
        result["document"] = ask.echoes[index]
    if ask.return_embeddings:
        width = RANK_EMBEDDING_WIDTH
        result["embedding"] = vector(seed("vector", context, index), width, width, normalized=True)
    return result


def _pair_score(ask: RankAsk, document: Item) -> float:
    pair = [ask.model.name, ask.query.identity, document.identity, ask.truncation, ask.salt.decode()]
    likeness, chance = _overlap(ask.query, document), share(seed("pair", pair))
    if ask.model.scale == "maxsim":
        return math.floor((6 + 14 * likeness + 6 * chance) * 16) / 16
    logit = math.floor((-3 + 4 * likeness + 3 * chance) * 64) / 64
    # A float32 sigmoid of a coarse logit (each recorded score of v2 is one), to 8 decimals as in 2026.
    return round(float(np.float32(1 / (1 + math.exp(-logit)))), 8)


def _listwise_scores(ask: RankAsk, context: str) -> list[float]:
    return [_cosine(ask, document, seed("score", context, index)) for index, document in enumerate(ask.documents)]


def _cosine(ask: RankAsk, document: Item, seeded: bytes) -> float:
    cosine = -0.1 + 0.7 * _overlap(ask.query, document) + 0.3 * share(seeded)
    return round(math.floor(cosine * 512) / 512, 8)


def _context(ask: RankAsk) -> str:
    """A digest of all that every listwise score depends on."""
    settings = [ask.model.name, ask.max_doc_length, ask.truncation, ask.salt.decode()]
    everything = [document.identity for document in ask.documents]
    return seed(settings, ask.query.identity, everything).hex()


def _overlap(query: Item, document: Item) -> float:
    """The share of the query's words that the document has."""
    if (query.kind, document.kind) != ("text", "text"):
        return 0.0
    words = set(_WORD.findall(query.content.lower()))
    return len(words & set(_WORD.findall(document.content.lower()))) / len(words) if words else 0.0
