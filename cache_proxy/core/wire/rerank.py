"""``/rerank``: the request in canonical form, the upstream's body, its reply, and ours.

The upstream is asked for the full ranking without documents wherever the model is known; ``top_n`` and
``return_documents`` are cut from it. Sources: Jina's OpenAPI 2026.04.02, its own server's measured document shapes
(2026-07), Cohere's SDK for the fields its clients send and read.
"""

from collections.abc import Sequence

import numpy as np
import orjson

from cache_proxy.core import numbers
from cache_proxy.core.catalog import RERANK_FIELDS, Model, Ranking
from cache_proxy.core.wire import reply as replies
from cache_proxy.core.wire.fields import OURS, Body, check_type, pick, rename, resolve, ties_items
from cache_proxy.core.wire.items import as_it_is, read_item, read_list
from cache_proxy.errors import RequestError, UpstreamNonsense
from cache_proxy.models import (
    Ask,
    Endpoint,
    Item,
    Json,
    Kind,
    Numbers,
    Reply,
    Shape,
    Spelling,
    Text,
    Value,
    View,
)
from cache_proxy.models import Ranking as FullRanking

TOP_N = ("top_n", "top_k")
ALIASES = {
    "truncation": ("truncation", "truncate"),
    "max_doc_length": ("max_doc_length", "max_tokens_per_doc"),
}
IGNORED = frozenset({"rank_fields", "max_chunks_per_doc", "priority"})
"""Cohere's fields that Jina has nothing for."""
SPELLINGS = (TOP_N, *ALIASES.values())

_VIEWS = frozenset(TOP_N) | {"return_documents"}
_NOT_PARAMS = OURS | {"query", "documents"}
_PLAIN = (Kind.TEXT, Kind.IMAGE)

Row = tuple[int, bytes, bytes]
"""A result to be written: the document's index, the text of its score, the text of its embedding (or nothing)."""


def read(body: Body, name: str, model: Model) -> tuple[Ask, View]:
    """The canonical request for the upstream model ``name``. Raises ``RequestError``."""
    if not model.serves(Endpoint.RERANK):
        raise RequestError("This `model` does not rerank. Ask /embeddings for it.", param="model")
    query, documents = _query(body, model), _documents(body)
    items = read_list(documents, "documents", model)
    if model.ranking is Ranking.UNKNOWN or not all(item.kind in _PLAIN for item in items):
        return _as_sent(body, name, model, query, documents), View()
    params = _params(body, model)
    apart = model.ranking is Ranking.PAIRS and not ties_items(params, RERANK_FIELDS, model)
    shape = Shape.EACH if apart else Shape.WHOLE
    ask = Ask(Endpoint.RERANK, name, params, items, query=query, shape=shape)
    return ask, View(top_n=_top_n(body), documents=_echo(body, documents, items, model))


def _query(body: Body, model: Model) -> Item:
    value = body.get("query")
    if value is None:
        raise RequestError("`query` is required.", param="query", code="missing_field")
    return read_item(value, "query", None, model)


def _documents(body: Body) -> list[Json]:
    value = body.get("documents")
    if value is None:
        raise RequestError("`documents` is required.", param="documents", code="missing_field")
    if type(value) is not list:
        raise RequestError("`documents` must be a list.", param="documents", code="wrong_type")
    return value


def _as_sent(body: Body, name: str, model: Model, query: Item, documents: list[Json]) -> Ask:
    """A ranking nobody here can cut: everything the caller said is keyed and sent, in Jina's words to Jina's models."""
    if model.known:
        views = {"top_n": _top_n(body), "return_documents": _return_documents(body)}
        params = _params(body, model) | {field: value for field, value in views.items() if value is not None}
    else:
        params = {field: value for field, value in body.items() if field not in _NOT_PARAMS}
    return Ask(Endpoint.RERANK, name, params, tuple(map(as_it_is, documents)), query=query, shape=Shape.VERBATIM)


def _params(body: Body, model: Model) -> dict[str, Json]:
    given = {name: value for name, value in body.items() if name not in _NOT_PARAMS | _VIEWS}
    if not model.known:
        return given
    given = {name: value for name, value in given.items() if name not in IGNORED}
    if "max_doc_length" not in model.rerank:
        # Cohere's clients always send it; only Jina's listwise models have the thing.
        given.pop("max_tokens_per_doc", None)
    return resolve(rename(given, ALIASES), model.rerank, model)


def _top_n(body: Body) -> int | None:
    name, value = pick(body, TOP_N)
    if value is None:
        return None
    check_type(name, value, int)
    if value < 1:
        raise RequestError(f"`{name}` must be at least 1.", param=name, code="out_of_range")
    return int(value)


def _return_documents(body: Body) -> bool | None:
    wanted = body.get("return_documents")
    if wanted is not None:
        check_type("return_documents", wanted, bool)
    return None if wanted is None else bool(wanted)


def _echo(body: Body, documents: Sequence[Json], items: Sequence[Item], model: Model) -> tuple[Json, ...] | None:
    if _return_documents(body) is False:
        return None
    keep = not model.documents_as_objects
    return tuple(
        given if keep and type(given) is str else _as_object(item) for given, item in zip(documents, items, strict=True)
    )


def _as_object(item: Item) -> Json:
    return {"text": item.wire} if item.kind is Kind.TEXT else item.wire


def upstream_body(ask: Ask, items: Sequence[Item]) -> dict[str, Json]:
    """What is sent. Known models are asked for all scores and no documents."""
    query = None if ask.query is None else ask.query.wire
    body = {"model": ask.model, "query": query, "documents": [item.wire for item in items], **ask.params}
    if ask.shape is not Shape.VERBATIM:
        body["return_documents"] = False
    return body


def read_reply(raw: bytes, ask: Ask, items: Sequence[Item]) -> Reply:
    """The values in an upstream's 200. Raises ``UpstreamNonsense`` if anything about it is doubtful."""
    parsed = replies.parse(raw)
    rows = replies.rows(parsed, "results")
    spelled = numbers.spelling(raw)
    scores = [_score(row, spelled) for row in rows]
    if ask.shape is Shape.VERBATIM:
        _check_cut(rows, ask)
        values: tuple[Value, ...] = (Text(numbers.dump_json(rows, spelled)),)
    elif ask.shape is Shape.WHOLE:
        replies.in_order(rows, len(items))
        values = (_ranking(rows, spelled),)
    else:
        replies.in_order(rows, len(items))
        by_index = {row["index"]: score for row, score in zip(rows, scores, strict=True)}
        values = tuple(by_index[place] for place in range(len(items)))
    tokens, counted = replies.tokens(parsed, (*items, *([ask.query] if ask.query else [])))
    return Reply(values, replies.model_name(parsed, ask.model), tokens, counted)


def check(_reply: Reply, _ask: Ask, _model: Model) -> None:
    """Nothing more than :func:`read_reply` found is known of a ranking."""


def _score(row: dict[str, Json], spelled: Spelling) -> Numbers:
    given = row.get("relevance_score")
    score = numbers.parse([given], spelled) if type(given) in (float, int) else None
    if score is None:
        raise UpstreamNonsense("a result in the upstream's answer has no finite relevance_score")
    return score


def _check_cut(rows: Sequence[dict[str, Json]], ask: Ask) -> None:
    """A ranking as sent may be cut to ``top_n``, but must not be numbered beyond the documents or twice."""
    indexes = {row["index"] for row in rows}
    _, top_n = pick(ask.params, TOP_N)
    lengths = {
        len(ask.items),
        min(top_n, len(ask.items)) if type(top_n) is int and top_n > 0 else len(ask.items),
    }
    if len(indexes) != len(rows) or not indexes <= set(range(len(ask.items))) or len(rows) not in lengths:
        raise UpstreamNonsense("the results in the upstream's answer are misnumbered, too few or too many")


def _ranking(rows: Sequence[dict[str, Json]], spelled: Spelling) -> FullRanking:
    scores = numbers.parse([row["relevance_score"] for row in rows], spelled)
    embeddings = None
    if any(row.get("embedding") is not None for row in rows):
        embeddings = numbers.parse([row.get("embedding") for row in rows], spelled)
        if embeddings is None:
            raise UpstreamNonsense("an embedding in the upstream's ranking is not a list of finite numbers")
    if scores is None:
        raise UpstreamNonsense("the scores in the upstream's ranking are not finite")
    return FullRanking(np.array([row["index"] for row in rows], "<u4"), scores, embeddings)


def rank_pairs(scores: Sequence[Numbers], top_n: int | None) -> list[Row]:
    """The results from one score per document: highest first, and the lower index first where they tie."""
    values = [float(numbers.doubles(score)[0]) for score in scores]
    order = sorted(range(len(values)), key=lambda place: -values[place])[:top_n]
    return [(place, numbers.write_one(values[place], scores[place].spelling), b"") for place in order]


def cut(ranking: FullRanking, top_n: int | None) -> list[Row]:
    """The first results of a full ranking, in its own order."""
    values = numbers.doubles(ranking.scores).tolist()
    order = ranking.order.tolist()[:top_n]
    texts = [numbers.write_one(value, ranking.scores.spelling) for value in values[: len(order)]]
    vectors = [b""] * len(order) if ranking.embeddings is None else _rows(ranking.embeddings, len(order))
    return list(zip(order, texts, vectors, strict=True))


def _rows(matrix: Numbers, count: int) -> list[bytes]:
    return [numbers.write(Numbers(row, matrix.form, matrix.spelling), "float") for row in matrix.array[:count]]


def results(rows: Sequence[Row], documents: Sequence[Json] | None) -> bytes:
    """The ``results`` list: index, score, and the caller's own document and the embedding where asked for."""
    return b"[%b]" % b",".join(_result(row, documents) for row in rows)


def _result(row: Row, documents: Sequence[Json] | None) -> bytes:
    place, score, vector = row
    document = b"" if documents is None else b',"document":%b' % orjson.dumps(documents[place])
    embedding = b',"embedding":%b' % vector if vector else b""
    return b'{"index":%d,"relevance_score":%b%b%b}' % (place, score, document, embedding)


def write(model: str, tokens: int, results: bytes, request_id: str) -> bytes:
    """The reply: Jina's keys in Jina's order, then the ``id`` and ``meta`` that Cohere's and LiteLLM's clients read."""
    return (
        b'{"model":%b,"object":"list","usage":{"total_tokens":%d},"results":%b,"id":%b,'
        b'"meta":{"billed_units":{"total_tokens":%d},"tokens":{"input_tokens":%d}}}'
    ) % (orjson.dumps(model), tokens, results, orjson.dumps(request_id), tokens, tokens)
