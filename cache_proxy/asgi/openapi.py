"""The OpenAPI document of the routes, built from the same catalog that reads the requests."""

from functools import cache
from typing import Any

from cache_proxy import __version__
from cache_proxy.core.catalog import MODELS, Param
from cache_proxy.core.numbers import ENCODINGS
from cache_proxy.core.wire import controls

Schema = dict[str, Any]

_TYPES = {bool: "boolean", int: "integer", str: "string"}
_TEXT = {"type": "string"}
_ITEM = {
    "anyOf": [
        _TEXT,
        {"type": "object", "description": 'Such as {"text": …}, {"image": …}, {"pdf": …}, {"content": […]}.'},
    ]
}
_FAILURES = {
    "400": "The body is not a JSON object.",
    "401": "The key is missing or wrong.",
    "403": "The upstream's refusal; or, without a master_key, a caller that is not this machine.",
    "404": "No deployment answers to this model.",
    "413": "The body is too large.",
    "415": "Not JSON, or compressed.",
    "422": "A field is missing, of the wrong type or out of range.",
    "429": "The upstream's limits, or ours for the model.",
    "502": "The upstream could not be reached, or its answer makes no sense.",
    "504": "The upstream took too long; or only-if-cached was asked and something is missing.",
}


@cache
def document() -> Schema:
    """The document."""
    embeddings = _inference("Embeddings of texts, images and more, each item paid for once.", "EmbeddingsRequest")
    rerank = _inference("Documents ranked by a query, each pair paid for once.", "RerankRequest")
    return {
        "openapi": "3.1.0",
        "info": {"title": "cache_proxy", "version": __version__, "summary": "A cache before Jina's API."},
        "security": [{"bearer": []}],
        "paths": {
            **{path: {"post": embeddings} for path in ("/embeddings", "/v1/embeddings")},
            **{path: {"post": rerank} for path in ("/rerank", "/v1/rerank", "/v2/rerank")},
            **{path: {"get": _get("The names of models that work.")} for path in ("/models", "/v1/models")},
            **{path: {"get": _probe("Alive.")} for path in ("/health/liveliness", "/health/liveness")},
            "/health/readiness": {"get": _probe("Ready for requests.")},
            "/health": {"get": _get("The state of store and deployments.")},
            "/cache/ping": {"get": _get("Whether the store takes and gives.", "503")},
            "/cache/delete": {"post": _post("Forget entries.", _DELETE, "DeleteRequest")},
            "/cache/flushall": {"post": _post("Forget everything of ours.", {}, None)},
            "/openapi.json": {"get": _get("This document.")},
        },
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "EmbeddingsRequest": _embeddings_request(),
                "RerankRequest": _rerank_request(),
                "DeleteRequest": _DELETE,
                "Error": _ERROR,
            },
        },
    }


_ERROR: Schema = {
    "type": "object",
    "description": "Our own errors. An upstream's come in the upstream's shape.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": _TEXT,
            },
        },
        "detail": {},
    },
}
_DELETE: Schema = {
    "type": "object",
    "properties": {
        "keys": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[0-9a-f]{64}$"}},
        "request": {"type": "object", "description": "The body of a request whose entries are to go."},
    },
}
_CONTROLS: Schema = {
    "type": ["object", "null"],
    "description": "What to do about the cache.",
    "properties": {
        name: {"type": "boolean"} if name in ("no-cache", "no-store", "use-cache") else {} for name in controls.KNOWN
    },
    "additionalProperties": False,
}


def _embeddings_request() -> Schema:
    fields = {name: param for model in MODELS.values() for name, param in model.embedding.items()}
    return _request(
        {
            "input": {"anyOf": [*_ITEM["anyOf"], {"type": "array", "minItems": 1, "items": _ITEM}]},
            "embedding_type": {"description": f"How numbers are written: {', '.join(sorted(ENCODINGS))}."},
            "encoding_format": {"description": "OpenAI's name for embedding_type."},
        },
        fields,
        ["model", "input"],
    )


def _rerank_request() -> Schema:
    fields = {name: param for model in MODELS.values() for name, param in model.rerank.items()}
    return _request(
        {
            "query": _ITEM,
            "documents": {"type": "array", "minItems": 1, "items": _ITEM},
            "top_n": {"type": ["integer", "null"], "minimum": 1},
            "return_documents": {"type": ["boolean", "null"], "default": True},
        },
        fields,
        ["model", "query", "documents"],
    )


def _request(own: Schema, fields: dict[str, Param], required: list[str]) -> Schema:
    params = {name: {"type": [_TYPES[param.type], "null"]} for name, param in fields.items()}
    shared = {"model": {"type": "string", "minLength": 1}, "user": {}, "metadata": {}, "cache": _CONTROLS}
    return {
        "type": "object",
        "description": "Further fields are passed on to the upstream, and are part of the key.",
        "properties": shared | own | params,
        "required": required,
    }


def _inference(summary: str, schema: str) -> Schema:
    return _post(summary, {}, schema, *_FAILURES)


def _get(summary: str, *failures: str) -> Schema:
    return {"summary": summary, "responses": _responses(summary, "401", "403", *failures)}


def _probe(summary: str) -> Schema:
    return {"summary": summary, "security": [], "responses": _responses(summary)}


def _post(summary: str, _schema: Schema, name: str | None, *failures: str) -> Schema:
    operation: Schema = {"summary": summary, "responses": _responses(summary, *(failures or tuple(_FAILURES)), "503")}
    if name is not None:
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(summary: str, *failures: str) -> Schema:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    told = _FAILURES | {"503": "The store can not be reached, so nothing was purged."}
    good = {"description": summary, "content": {"application/json": {"schema": {}}}}
    return {"200": good} | {status: {"description": told[status], "content": error} for status in failures}
