"""Requests understood as the engine understands them, and entries in a form that can be compared."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from cache_proxy.core.answer import write
from cache_proxy.core.asked import WIRES, Asked, endpoint_of, understand
from cache_proxy.core.catalog import Model, look_up
from cache_proxy.core.names import Names, Target
from cache_proxy.core.plan import entries, items_of, usage
from cache_proxy.core.renderings import Renderings
from cache_proxy.models import Deployment, Entry, Group, Json, Key, Numbers, Policy, Ranking, Text, Value

JINA = "https://api.jina.ai/v1"
V2_RERANKER = "jina-reranker-v2-base-multilingual"


def ask(
    body: Mapping[str, Json],
    *,
    identity: str = JINA,
    own_server: bool = False,
    spec: Model | None = None,
    defaults: Mapping[str, Json] | None = None,
    policy: Policy | None = None,
    cache_control: str | None = None,
) -> Asked:
    """The request in ``body``, of whatever endpoint it is meant for. ``jina_ai/NAME`` is an alias of ``NAME``."""

    def find(name: str) -> Target:
        model = name.removeprefix("jina_ai/")
        found = spec or look_up(model, own_server=own_server)
        return Target(model, found, identity, (Deployment("one", identity),), defaults or {})

    return understand(endpoint_of(body), body, cache_control, Names(find), policy or Policy())


def embed(given: Json = "x", model: str = "jina-embeddings-v3", **fields: Json) -> Asked:
    """An embeddings request."""
    return ask({"model": model, "input": given, **fields})


def rank(documents: Json, model: str = V2_RERANKER, query: Json = "q", **fields: Json) -> Asked:
    """A rerank request."""
    return ask({"model": model, "query": query, "documents": documents, **fields})


def key(asked: Asked) -> Key:
    """The key of a request that has one."""
    (found,) = asked.seats
    return found


def sent(asked: Asked) -> dict[str, Json]:
    """What the upstream is sent where nothing is in the store."""
    body: dict[str, Json] = WIRES[asked.ask.endpoint].upstream_body(asked.ask, asked.ask.items)
    return body


def paid(asked: Asked, reply: Json | bytes, now: float = 0.0) -> list[Entry]:
    """The entry of each seat, after the upstream answered ``reply``."""
    raw = reply if isinstance(reply, bytes) else orjson.dumps(reply)
    keyed = items_of(asked.ask, asked.seats)
    items = [item for members in keyed.values() for item in members]
    read = WIRES[asked.ask.endpoint].read_reply(raw, asked.ask, items)
    fresh = dict(zip(keyed, entries(read, asked.ask, items, now, None), strict=True))
    return [fresh[seat] for seat in asked.seats]


def answered(asked: Asked, found: Sequence[Entry], renderings: Renderings | None = None) -> dict[str, Any]:
    """The answer written from these entries, parsed."""
    parsed: dict[str, Any] = orjson.loads(write(asked, found, usage(found), "id-1", renderings or Renderings(0)))
    return parsed


def floats(*vectors: Sequence[float], tokens: int = 7, model: str = "jina-embeddings-v3") -> dict[str, Json]:
    """An embeddings reply in the shape of Jina's."""
    data = [{"object": "embedding", "index": place, "embedding": list(row)} for place, row in enumerate(vectors)]
    return {
        "model": model,
        "object": "list",
        "usage": {"total_tokens": tokens, "prompt_tokens": tokens},
        "data": data,
    }


def scores(*pairs: tuple[int, float], tokens: int = 7, model: str = V2_RERANKER) -> dict[str, Json]:
    """A rerank reply in the shape of Jina's: pairs of index and score."""
    results = [{"index": index, "relevance_score": score} for index, score in pairs]
    return {"model": model, "object": "list", "usage": {"total_tokens": tokens}, "results": results}


def plain(value: Value | None) -> object:
    """All that a value holds, as something that compares."""
    match value:
        case Numbers():
            array = value.array
            held = (array.shape, array.dtype.str, array.tobytes())
            return ("numbers", *held, value.form, value.spelling, value.tokenized)
        case Text():
            return ("text", value.json)
        case Ranking():
            return ("ranking", value.order.tolist(), plain(value.scores), plain(value.embeddings))
        case Group():
            return ("group", tuple(map(plain, value.members)))
        case None:
            return None


def plain_entry(entry: Entry) -> object:
    """All that an entry holds, as something that compares."""
    facts = (entry.tokens, entry.created_at, entry.model, entry.query_tokens, entry.expires_at, entry.estimated)
    return (plain(entry.value), *facts)
