"""The OpenAPI document of the routes, built from the same tables that read the requests."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from cache_proxy import __version__
from cache_proxy.asgi import openapi_keys, openapi_spend, openapi_stats
from cache_proxy.core.catalog import MODELS, Param
from cache_proxy.core.numbers import ENCODINGS
from cache_proxy.core.wire import controls, embeddings, rerank
from cache_proxy.core.wire.fields import OURS

Schema = dict[str, Any]

_FAILURES = {
    "400": "The body is not a JSON object; or a key was sent twice.",
    "401": "The key is missing or wrong.",
    "403": "No right to this; without a master_key, a caller that is not this machine; or the upstream's refusal.",
    "404": "No deployment answers to this model; no key by this name.",
    "413": "The body is too large.",
    "415": "Compressed; or, without a master_key, not JSON.",
    "422": "A field is missing, of the wrong type or out of range.",
    "429": "The upstream's limits, ours for the model, or those of the key.",
    "500": "A fault of ours; the log has it under the request's id.",
    "502": "The upstream could not be reached, or its answer makes no sense.",
    "503": "The store or the ledger's database can not be reached, or what is asked about is not there.",
    "504": "The upstream took too long; or only-if-cached was asked and something is missing.",
}
_GATE = ("400", "401", "403", "500", "503")
_BODY = ("413", "415", "422")
_INFERENCE = (*_GATE, "404", *_BODY, "429", "502", "504")

_SCHEMES: Schema = {"bearer": {"type": "http", "scheme": "bearer"}} | {
    name: {"type": "apiKey", "in": "header", "name": name} for name in ("x-litellm-api-key", "x-api-key", "api-key")
}


@cache
def document(prefix: str = "", beside: str = "") -> Schema:
    """The document. ``prefix`` is what stands before every route where they are mounted, ``beside`` what then stands
    before those that are about the proxy itself.
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": "cache_proxy", "version": __version__, "summary": "A cache before Jina's API."},
        "servers": [{"url": prefix or "/"}],
        # Any one of them; the last is none, for a server without a master_key.
        "security": [*({name: []} for name in _SCHEMES), {}],
        "paths": _inference() | {beside + path: described for path, described in _operations().items()},
        "components": {
            "securitySchemes": _SCHEMES,
            "schemas": {
                "EmbeddingsRequest": _embeddings_request(),
                "Embeddings": _EMBEDDINGS,
                "RerankRequest": _rerank_request(),
                "Ranking": _RANKING,
                "Models": _MODELS,
                "DeleteRequest": _DELETE,
                "Ping": _PING,
                **openapi_spend.SCHEMAS,
                **openapi_stats.SCHEMAS,
                "Error": _ERROR,
                **openapi_keys.SCHEMAS,
            },
        },
    }


def _inference() -> Schema:
    embed = _post("Embeddings of texts, images and more, each item paid for once.", "Embeddings", _INFERENCE)
    rank = _post("Documents ranked by a query, each pair paid for once.", "Ranking", _INFERENCE)
    return {
        **dict.fromkeys(("/embeddings", "/v1/embeddings"), _passing(_taking(embed, "EmbeddingsRequest"))),
        **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), _passing(_taking(rank, "RerankRequest"))),
    }


def _operations() -> Schema:
    purge = _post("Forget entries.", _object(status=_TEXT, deleted=_COUNT), (*_GATE, "404", *_BODY))
    # It reads no body, but without a master_key what comes must say that it is JSON: a web page can not.
    flush = _post("Forget everything of ours.", _object(status=_TEXT), (*_GATE, "415"))
    models = {"get": _operation("The names of models that work.", "Models", _GATE)}
    alive = {"get": _probe("Alive.", _TEXT)}
    return {
        **dict.fromkeys(("/models", "/v1/models"), models),
        **dict.fromkeys(("/health/liveliness", "/health/liveness"), alive),
        "/health/readiness": {"get": _probe("Ready for requests.", {"type": "object"})},
        "/health": {"get": _operation("The state of store and deployments.", {"type": "object"}, _GATE)},
        "/cache/ping": {"get": _ping()},
        "/cache/stats": {"get": _operation("What the store holds, and what this worker made of it.", "Stats", _GATE)},
        "/metrics": {"get": _metrics()},
        "/cache/delete": _taking(purge, "DeleteRequest"),
        "/cache/flushall": flush,
        **_spend(),
        "/key/generate": _taking(_post("Make a key.", "Key", (*_GATE, *_BODY)), "GenerateKey"),
        "/key/update": _taking(_post("Change a key.", "Key", (*_GATE, "404", *_BODY)), "UpdateKey"),
        "/key/delete": _taking(_post("Take keys back.", "DeletedKeys", (*_GATE, "404", *_BODY)), "DeleteKeys"),
        "/key/info": {"get": _operation("What a key may do.", "KeyInfo", (*_GATE, "404", "422"))},
        "/key/list": {"get": _operation("The keys there are.", "KeyList", (*_GATE, "422"))},
        "/openapi.json": {"get": _operation("This document.", {"type": "object"}, _GATE)},
    }


def _spend() -> Schema:
    """The ledger's routes, which take a query."""
    told = {}
    for path, (summary, good, fields) in openapi_spend.ROUTES.items():
        described = _operation(summary, good, _GATE)
        described["responses"] |= {
            status: _response(words, "Error") for status, words in openapi_spend.FAILURES.items()
        }
        told[path] = {"get": {**described, "parameters": openapi_spend.parameters(fields)}}
    return told


def _operation(summary: str, good: str | Schema, failures: Sequence[str]) -> Schema:
    failed = {status: _response(_FAILURES[status], "Error") for status in sorted(failures)}
    return {"summary": summary, "responses": {"200": _response(summary, good)} | failed}


def _post(summary: str, good: str | Schema, failures: Sequence[str]) -> Schema:
    return {"post": _operation(summary, good, failures)}


def _probe(summary: str, good: Schema) -> Schema:
    return {**_operation(summary, good, ["500"]), "security": []}


def _ping() -> Schema:
    ping = _operation("Whether the store takes and gives.", "Ping", _GATE)
    ping["responses"]["503"] = _response(_FAILURES["503"], "Ping")
    return ping


def _metrics() -> Schema:
    metrics = _operation("Everything that is counted, for Prometheus.", _TEXT, (*_GATE, "503"))
    metrics["responses"]["200"]["content"] = {"text/plain": {"schema": _TEXT}}
    return metrics


def _taking(path: Schema, name: str) -> Schema:
    """The same with a body of this schema."""
    content = {"application/json": {"schema": _reference(name)}}
    return {"post": {**path["post"], "requestBody": {"required": True, "content": content}}}


def _passing(path: Schema) -> Schema:
    """The same with what the upstream says no with, whatever its status."""
    told = {"description": "The upstream's refusal, with its own status and body.", "content": {"*/*": {}}}
    path["post"]["responses"]["default"] = told
    return path


def _response(description: str, schema: str | Schema) -> Schema:
    schema = _reference(schema) if isinstance(schema, str) else schema
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(optional: Schema | None = None, /, **required: Schema) -> Schema:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_NUMBERS = _list({"type": "number"})
_TYPES = {bool: "boolean", int: "integer", str: "string"}
_ITEM = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "minProperties": 1,
            "description": 'Such as {"text": …}, {"image": …}, {"pdf": …}, {"content": […]}.',
        },
        {**_list({"type": "integer"}), "minItems": 1, "description": "Token ids, for a server that takes them."},
    ]
}
_ITEMS = {**_list(_ITEM), "minItems": 1}

_EMBEDDINGS: Schema = _object(
    model=_TEXT,
    object={"const": "list"},
    usage=_object(total_tokens=_COUNT, prompt_tokens=_COUNT),
    data=_list(
        _object(
            {
                "object": _TEXT,
                "embedding": {
                    "anyOf": [_NUMBERS, _TEXT, {"type": "object"}],
                    "description": "Numbers; base64 of float32 where that was asked; scores of tokens if sparse.",
                },
                "embeddings": {"type": "array", "description": "In place of it: a vector for each token."},
                "tokenized_input": {"description": "The tokens, where they were asked for."},
            },
            index=_COUNT,
        )
    ),
)
_RANKING: Schema = _object(
    model=_TEXT,
    object={"const": "list"},
    usage=_object(total_tokens=_COUNT),
    results=_list(
        _object(
            {
                "document": {"description": "The document, unless return_documents is false."},
                "embedding": {"description": "Its embedding, where return_embeddings is true."},
            },
            index=_COUNT,
            relevance_score={"type": "number"},
        )
    ),
    id=_TEXT,
    meta=_object(billed_units=_object(total_tokens=_COUNT), tokens=_object(input_tokens=_COUNT)),
)
_MODELS: Schema = _object(
    data=_list(_object(id=_TEXT, object={"const": "model"}, created=_COUNT, owned_by=_TEXT)),
    object={"const": "list"},
)
_PING: Schema = _object(
    {"detail": {**_TEXT, "description": "What is wrong."}},
    cache_type=_TEXT,
    status={"enum": ["healthy", "unhealthy"]},
    ping_response={"type": "boolean"},
)
_ERROR: Schema = {
    "description": "Our own errors. An upstream's come in the upstream's shape.",
    **_object(
        error=_object(
            {
                "spend": {"type": "number", "description": "Of a budget: USD spent, in its window."},
                "reserved": {"type": "number", "description": "Of a budget: USD that calls under way can cost."},
                "max_budget": {"type": "number", "description": "Of a budget: USD that may be spent."},
                "budget_reset_at": {"type": ["string", "null"], "description": "Of a budget: when it is spent anew."},
            },
            message=_TEXT,
            type=_TEXT,
            param={"type": ["string", "null"]},
            code=_TEXT,
        ),
        detail=_TEXT,
    ),
}
_DELETE: Schema = {
    "type": "object",
    "properties": {
        "keys": {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"}},
        "request": {"type": "object", "description": "The body of a request whose entries are to go."},
        "namespace": {"type": ["string", "null"], "description": "The key's, in whose room they are."},
    },
    "anyOf": [{"required": ["keys"]}, {"required": ["request"]}],
}


def _control(name: str) -> Schema:
    if name == "namespace":
        return {"type": ["string", "null"]}
    if name in ("no-cache", "no-store", "use-cache"):
        return {"type": ["boolean", "null"]}
    return {"type": ["number", "null"], "minimum": 0, "description": "Seconds."}


_CONTROLS: Schema = {
    "type": ["object", "null"],
    "description": "What to do about the cache.",
    "properties": {name: _control(name) for name in controls.KNOWN},
    "additionalProperties": False,
}


def _embeddings_request() -> Schema:
    fields = {name: param for model in MODELS.values() for name, param in model.embedding.items()}
    own = {
        "input": {"anyOf": [*_ITEM["anyOf"], _ITEMS]},
        "embedding_type": {
            "type": ["string", "array", "null"],
            "description": f"How numbers are written: {', '.join(sorted(ENCODINGS))}.",
        },
    }
    request = _request(own, fields, embeddings.SPELLINGS, ["model"])
    return {**request, "anyOf": [{"required": [name]} for name in embeddings.INPUT]}


def _rerank_request() -> Schema:
    fields = {name: param for model in MODELS.values() for name, param in model.rerank.items()}
    ignored = {name: {"description": "Cohere's; Jina has nothing for it."} for name in sorted(rerank.IGNORED)}
    own = {
        "query": _ITEM,
        "documents": _ITEMS,
        "top_n": {"type": ["integer", "null"], "minimum": 1},
        "return_documents": {"type": ["boolean", "null"], "default": True},
    }
    return _request(own | ignored, fields, rerank.SPELLINGS, ["model", "query", "documents"])


def _request(own: Schema, fields: dict[str, Param], spellings: Sequence[Sequence[str]], required: list[str]) -> Schema:
    params = {name: {"type": [_TYPES[param.type], "null"]} for name, param in fields.items()}
    ours: Schema = {name: {} for name in sorted(OURS)} | {"model": {**_TEXT, "minLength": 1}, "cache": _CONTROLS}
    properties = ours | own | params
    for first, *others in spellings:
        told = f"Another name of `{first}`, which wins where both are sent."
        properties |= {name: {**properties[first], "description": told} for name in others}
    return {
        "type": "object",
        "description": "Further fields are passed on to the upstream, and are part of the key.",
        "properties": properties,
        "required": required,
    }
