"""Understanding a request: whose model, which items, what about the cache, and under which keys."""

from collections.abc import Mapping
from typing import NamedTuple

from cache_proxy.core import keys
from cache_proxy.core.names import Names, Target
from cache_proxy.core.wire import controls as wire_controls
from cache_proxy.core.wire import embeddings, fields, rerank
from cache_proxy.errors import RequestError
from cache_proxy.models import Ask, Controls, Endpoint, Item, Json, Key, Policy, View

WIRES = {Endpoint.EMBEDDINGS: embeddings, Endpoint.RERANK: rerank}


class Asked(NamedTuple):
    """A request that has been understood. ``seats`` is the key of each position, or one key for all of them."""

    name: str
    """The model, as the caller calls it."""
    ask: Ask
    view: View
    target: Target
    controls: Controls
    seats: tuple[Key, ...]
    scope: bytes
    """What all its items share: requests of one scope ask the same of their items."""


def understand(
    endpoint: Endpoint,
    body: Mapping[str, Json],
    cache_control: str | None,
    names: Names,
    policy: Policy,
    room: str = "",
) -> Asked:
    """What this request asks for. ``room`` is the namespace of the caller's key; the one that a request names is within
    that. Raises ``RequestError``.
    """
    fields.refuse_secrets(body)
    name = fields.model_name(body)
    controls = wire_controls.read(body, cache_control, default_off=policy.default_off)
    target = names.resolve(name)
    if target.dropped:
        body = {field: value for field, value in body.items() if field not in target.dropped}
    if target.defaults:
        body = fields.filled(body, target.defaults, WIRES[endpoint].SPELLINGS)
    ask, view = WIRES[endpoint].read(body, target.model, target.spec)
    if len(ask.items) > policy.max_items:
        field = "input" if endpoint is Endpoint.EMBEDDINGS else "documents"
        raise RequestError(f"`{field}` may hold at most {policy.max_items} items.", param=field, code="too_many_items")
    if endpoint not in policy.endpoints:
        controls = Controls(read=False, store=False, only_if_cached=controls.only_if_cached)
    # A key without a room has none in the scope, not an empty one: it shares what was cached before there were keys.
    rooms = (policy.namespace, room, controls.namespace) if room else (policy.namespace, controls.namespace)
    scope = keys.scope(ask, target.identity, rooms)
    return Asked(name, ask, view, target, controls, keys.seats(ask, scope), scope)


def endpoint_of(body: Mapping[str, Json]) -> Endpoint:
    """Which endpoint a request body is meant for."""
    return Endpoint.RERANK if "documents" in body else Endpoint.EMBEDDINGS


def keeping(asked: Asked, policy: Policy, *, remote: bool) -> float | None:
    """For how many seconds an answer may be kept: 0 is not at all, ``None`` is for good.

    ``remote`` items only point at their content (a URL), so theirs is kept only if the operator asked for it.
    """
    if not asked.controls.store:
        return 0.0
    ttl = policy.ttl if asked.controls.ttl is None else asked.controls.ttl
    if not remote:
        return ttl
    url_ttl = policy.url_ttl or 0.0
    return url_ttl if ttl is None else min(ttl, url_ttl)


def store_ttl(kept: float | None, policy: Policy) -> float | None:
    """After how many seconds a store may forget an answer that may be kept for so many; ``None``: whenever it likes.

    The entry itself expires earlier: in between it may stand in for an upstream that fails.
    """
    return kept + policy.stale_if_error if kept else kept


def is_remote(asked: Asked, items: tuple[Item, ...]) -> bool:
    """Whether the answer for these items rests on content behind a URL."""
    query = asked.ask.query
    return (query is not None and query.remote) or any(item.remote for item in items)
