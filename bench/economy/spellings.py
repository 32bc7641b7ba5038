"""The many ways to say one thing. Each asks for the same items; only the request or its answer is written otherwise."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from bench.economy.asks import Ask, Body, Embedding, Rerank


@dataclass(frozen=True)
class Request:
    """An ask, as it goes over the wire."""

    ask: Ask
    spelling: str
    path: str
    body: bytes


@dataclass(frozen=True)
class Spelling:
    """``write`` gives the body; ``lone``: it has no room for a second text."""

    write: Callable[[Body], Body]
    path: str
    lone: bool = False


def _as_it_is(body: Body) -> Body:
    return body


def _with(**fields: object) -> Callable[[Body], Body]:
    return lambda body: {**body, **fields}


def _renamed(names: Mapping[str, str]) -> Callable[[Body], Body]:
    return lambda body: {names.get(name, name): value for name, value in body.items()}


def _prefixed(body: Body) -> Body:
    return {**body, "model": f"jina_ai/{body['model']}"}


def _objects(field: str) -> Callable[[Body], Body]:
    return lambda body: {**body, field: [{"text": text} for text in body[field]]}


def _bare(body: Body) -> Body:
    return {**body, "input": body["input"][0]}


def _lone_object(body: Body) -> Body:
    return {**body, "input": {"text": body["input"][0]}}


def _backwards(body: Body) -> Body:
    return dict(reversed(body.items()))


IMPLIED = "explicit defaults"
"""The only spelling that depends on the profile: it says what the model would have taken anyway."""

_SENT = "/v1/embeddings"
EMBEDDINGS: Mapping[str, Spelling] = {
    "list of strings": Spelling(_as_it_is, _SENT),
    "string": Spelling(_bare, _SENT, lone=True),
    "object": Spelling(_lone_object, _SENT, lone=True),
    "list of objects": Spelling(_objects("input"), _SENT),
    "jina_ai/ prefix": Spelling(_prefixed, _SENT),
    IMPLIED: Spelling(_as_it_is, _SENT),
    "null fields": Spelling(_with(truncate=None, late_chunking=None, encoding_format=None, user=None), _SENT),
    "aliases": Spelling(_renamed({"input": "texts", "task": "task_type", "dimensions": "output_dimension"}), _SENT),
    "embedding_type float": Spelling(_with(embedding_type="float"), _SENT),
    "embedding_type base64": Spelling(_with(embedding_type="base64"), _SENT),
    "encoding_format base64": Spelling(_with(encoding_format="base64", user="somebody"), _SENT),
    "fields backwards": Spelling(_backwards, _SENT),
    "/embeddings": Spelling(_as_it_is, "/embeddings"),
}

_RANKED = "/v1/rerank"
RERANKS: Mapping[str, Spelling] = {
    "list of strings": Spelling(_as_it_is, _RANKED),
    "list of objects": Spelling(_objects("documents"), _RANKED),
    "jina_ai/ prefix": Spelling(_prefixed, _RANKED),
    IMPLIED: Spelling(_with(return_documents=True), _RANKED),
    "null fields": Spelling(_with(top_n=None, return_documents=None, truncation=None, user=None), _RANKED),
    "top_n": Spelling(_with(top_n=3), _RANKED),
    "top_k, no documents": Spelling(_with(top_k=5, return_documents=False), _RANKED),
    "fields backwards": Spelling(_backwards, _RANKED),
    "/rerank": Spelling(_as_it_is, "/rerank"),
    "/v2/rerank": Spelling(_with(return_documents=False), "/v2/rerank"),
}


def names_for(ask: Ask) -> list[str]:
    """The spellings in which this can be asked."""
    if isinstance(ask, Rerank):
        return list(RERANKS)
    return [name for name, spelling in EMBEDDINGS.items() if len(ask.texts) == 1 or not spelling.lone]


def spell(ask: Ask, name: str) -> Request:
    """The request in this spelling."""
    spelling = (EMBEDDINGS if isinstance(ask, Embedding) else RERANKS)[name]
    body = spelling.write(ask.body)
    if name == IMPLIED and isinstance(ask, Embedding):
        body = {**body, **ask.profile.implied}
    return Request(ask, name, spelling.path, orjson.dumps(body))
