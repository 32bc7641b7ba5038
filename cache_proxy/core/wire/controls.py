"""What a caller says about the cache: the body's ``cache`` object (LiteLLM's words), ``Cache-Control`` (RFC 9111).

Where both speak, the more careful wins: either may forbid reading or storing.
"""

import math

from cache_proxy.access import CONTROLS
from cache_proxy.core.wire.fields import Body, check_type
from cache_proxy.errors import RequestError
from cache_proxy.models import Controls, Json

_FLAGS = ("no-cache", "no-store", "use-cache")
_SECONDS = ("ttl", "s-maxage", "s-max-age")
KNOWN = (*_FLAGS, *_SECONDS, "namespace")

_ALSO = {"s-max-age": "s-maxage", "max-age": "s-maxage"}

CENTURY = 100 * 365 * 24 * 3600.0
"""The longest ttl there is: no store can count to some that JSON can say."""

_PLAIN = Controls()
_OFF = Controls(read=False, store=False)


def read(body: Body, header: str | None, *, default_off: bool = False) -> Controls:
    """The controls of one request. Raises ``RequestError`` naming the word at fault.

    ``default_off`` is LiteLLM's ``mode: default_off``: only a request that says ``use-cache`` uses the cache.
    """
    said = body.get("cache")
    if said is None and not header:
        return _OFF if default_off else _PLAIN
    words = _body_words(said)
    directives = _directives(header)
    said_in_header = {name for name, _ in directives}
    if default_off and not words.get("use-cache"):
        return _OFF._replace(only_if_cached="only-if-cached" in said_in_header)
    ages = [age for age in (words.get("s-maxage"), words.get("s-max-age"), *_ages(directives)) if age is not None]
    return Controls(
        read=not (words.get("no-cache") or "no-cache" in said_in_header),
        store=not (words.get("no-store") or "no-store" in said_in_header),
        ttl=None if words.get("ttl") is None else min(words["ttl"], CENTURY),
        max_age=min(ages, default=None),
        only_if_cached="only-if-cached" in said_in_header,
        namespace=words.get("namespace") or "",
    )


def named(body: Body, header: str | None) -> frozenset[str]:
    """Which of the controls that a key may be held to a request names, in its body or, by their other names, in its
    ``Cache-Control``. It must have been read without a complaint.
    """
    said = body.get("cache")
    if said is None and not header:
        return frozenset()
    words = {_ALSO.get(name, name) for name, value in (said or {}).items() if value is not None and value is not False}
    words |= {_ALSO.get(name, name) for name, _ in _directives(header)}
    return frozenset(words & set(CONTROLS))


def _body_words(said: Json) -> dict[str, Json]:
    if said is None:
        return {}
    if type(said) is not dict:
        raise RequestError('`cache` must be an object such as {"no-cache": true}.', param="cache", code="wrong_type")
    for name, value in said.items():
        _check_word(name, value)
    return said


def _check_word(name: str, value: Json) -> None:
    field = f"cache.{name}"
    if name not in KNOWN:
        raise RequestError(f"`cache` knows {', '.join(KNOWN)}.", param="cache", code="unknown_cache_control")
    if value is None:
        return
    if name in _FLAGS:
        check_type(field, value, bool)
    elif name == "namespace":
        check_type(field, value, str)
    elif type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise RequestError(f"`{field}` must be a number of seconds.", param=field, code="wrong_type")


def _directives(header: str | None) -> list[tuple[str, str]]:
    pairs = (word.strip().partition("=") for word in (header or "").split(","))
    return [(name.strip().lower(), value.strip().strip('"')) for name, _, value in pairs if name.strip()]


def _ages(directives: list[tuple[str, str]]) -> list[float]:
    """Every ``max-age``; of several the smallest counts."""
    values = [value for name, value in directives if name == "max-age"]
    if not all(value.isascii() and value.isdigit() for value in values):
        raise RequestError("Cache-Control: max-age must be a whole number of seconds.", param="Cache-Control")
    return [float(value) for value in values]
