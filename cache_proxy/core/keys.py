"""Keys: a 256-bit hash of everything that can change an answer.

    scope = SHA-256( VERSION ‖ enc(upstream identity, namespaces, endpoint, model, query, params) )
    key   = SHA-256( scope ‖ shape ‖ kind ‖ content )              for one item or pair
    key   = SHA-256( scope ‖ shape ‖ enc([kind, content], …) )     for items that belong together

``enc`` is injective: every value carries a type tag and its length, so no two requests run together
(``("ab", "c")`` is not ``("a", "bc")``; ``1``, ``1.0``, ``true`` and ``"1"`` are four). ``scope`` has a fixed width,
and shape and kind are one byte each: the second step needs no lengths. JSON key order is irrelevant; text is taken
as it is, byte for byte: never trimmed, lower-cased or Unicode-normalised.

``tests/golden/keys.json`` pins keys. Changing one makes every user's cache cold: bump ``VERSION`` and say so.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Any

from cache_proxy.errors import RequestError
from cache_proxy.models import Ask, Item, Json, Key, Shape

VERSION = b"cache-proxy key 1\n"
PROOF_VERSION = b"cache-proxy proof 1\n"
DEPTH_LIMIT = 32
"""How deep JSON may be nested in a request. Nothing that Jina takes comes near."""

_SHAPES = {Shape.EACH: b"e", Shape.WHOLE: b"w", Shape.VERBATIM: b"v"}


def encode(value: Json) -> bytes:
    """The injective encoding of a JSON value. Raises ``RequestError`` for one nested deeper than ``DEPTH_LIMIT``."""
    return b"".join(_parts(value, DEPTH_LIMIT))


def _parts(value: Json, depth: int) -> Iterable[bytes]:
    if isinstance(value, dict | list | tuple):
        if depth == 0:
            raise RequestError(f"JSON is nested deeper than {DEPTH_LIMIT} levels.", code="nested_too_deep")
        return _object(value, depth - 1) if isinstance(value, dict) else _list(value, depth - 1)
    return _SCALARS[type(value)](value)


def _object(value: Mapping[str, Json], depth: int) -> Iterator[bytes]:
    yield b"m%d:" % len(value)
    for name in sorted(value):
        yield from _sized(b"s", name.encode())
        yield from _parts(value[name], depth)


def _list(value: Sequence[Json], depth: int) -> Iterator[bytes]:
    yield b"l%d:" % len(value)
    for member in value:
        yield from _parts(member, depth)


def _sized(tag: bytes, content: bytes) -> tuple[bytes, bytes]:
    return tag + b"%d:" % len(content), content


_SCALARS: Mapping[type, Callable[[Any], Iterable[bytes]]] = {
    type(None): lambda _: (b"n",),
    bool: lambda value: (b"t" if value else b"f",),
    int: lambda value: _sized(b"i", b"%d" % value),
    float: lambda value: (b"d" + struct.pack(">d", value),),
    str: lambda value: _sized(b"s", value.encode()),
    bytes: lambda value: _sized(b"b", value),
}


def scope(ask: Ask, identity: str, namespaces: Sequence[str]) -> bytes:
    """What all items of a request share. ``namespaces`` are nested, the operator's outermost."""
    query = None if ask.query is None else (ask.query.kind.value, ask.query.content)
    if not ask.params and query is None:
        return _plain_scope(identity, tuple(namespaces), ask.endpoint.value, ask.model)
    return _digest(identity, namespaces, ask.endpoint.value, ask.model, query, dict(ask.params))


@lru_cache(maxsize=256)
def _plain_scope(identity: str, namespaces: tuple[str, ...], endpoint: str, model: str) -> bytes:
    return _digest(identity, namespaces, endpoint, model, None, {})


def _digest(*parts: Json) -> bytes:
    return sha256(VERSION + encode(list(parts))).digest()


def seats(ask: Ask, scope: bytes) -> tuple[Key, ...]:
    """The key of each position, in order; a request that must be kept whole has one seat only."""
    prefix = scope + _SHAPES[ask.shape]
    if ask.shape is Shape.EACH:
        return tuple([sha256(prefix + item.kind + item.content).digest() for item in ask.items])
    return (sha256(prefix + _all(ask.items, alone=ask.alone)).digest(),)


def _all(items: Sequence[Item], *, alone: bool) -> bytes:
    return encode([alone, [(item.kind.value, item.content) for item in items]])


def proof(places: Sequence[str], key_hash: str) -> Key:
    """Under which it is kept that these upstreams have accepted the API key with this hash."""
    return sha256(PROOF_VERSION + encode([list(places), key_hash])).digest()
