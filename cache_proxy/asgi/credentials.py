"""The keys that a request shows: one of ours, and where callers may pay for themselves, one of the upstream's."""

import re
from hashlib import sha256
from typing import Final

from cache_proxy.access import OwnKey
from cache_proxy.asgi.errors import HTTPError
from cache_proxy.asgi.exchange import Exchange

AUTHORIZATION: Final = b"authorization"
OURS = (b"x-litellm-api-key", b"x-api-key", b"api-key")
"""What nobody but us reads."""

# Where callers bring no keys of their own.
_ANY = (OURS[0], AUTHORIZATION, *OURS[1:])
_BEARER = "bearer "
_TOKEN = re.compile(r"[A-Za-z0-9_.\-]{1,512}")


def any_key(exchange: Exchange) -> bytes | None:
    """The key that was sent, in whichever header: the first that is there counts. Raises ``HTTPError`` 400."""
    return _first(exchange, _ANY)


def our_key(exchange: Exchange) -> bytes | None:
    """The same of those headers that are for us only."""
    return _first(exchange, OURS)


def bearer(exchange: Exchange) -> bytes | None:
    """The key in ``Authorization: Bearer``."""
    value = _value(exchange, AUTHORIZATION) if AUTHORIZATION in exchange.headers else ""
    return value[len(_BEARER) :].strip().encode("latin-1") or None if value.lower().startswith(_BEARER) else None


def own_key(key: bytes) -> OwnKey:
    """A key that is meant for the upstream. Raises ``HTTPError`` 401 for what can not be one: quotes and the like come
    from a slip of the pen, and what is between them may be a key of ours.
    """
    text = key.decode("latin-1")
    if not _TOKEN.fullmatch(text):
        raise unauthorized()
    return OwnKey(text, sha256(key).hexdigest())


def _first(exchange: Exchange, names: tuple[bytes, ...]) -> bytes | None:
    for name in names:
        if name in exchange.headers:
            value = _value(exchange, name)
            key = value[len(_BEARER) :].strip() if value.lower().startswith(_BEARER) else value
            if key:
                return key.encode("latin-1")
    return None


def _value(exchange: Exchange, name: bytes) -> str:
    if len(exchange.all_values(name)) > 1:
        raise bad_header(f"{name.decode()} was sent more than once.")
    return exchange.headers[name].decode("latin-1").strip()


def unauthorized() -> HTTPError:
    """Nobody whom we know."""
    return HTTPError(
        401,
        "The API key is missing or wrong. Send it as Authorization: Bearer.",
        kind="authentication_error",
        code="invalid_api_key",
        headers=[(b"www-authenticate", b"Bearer")],
    )


def bad_header(message: str) -> HTTPError:
    """A header that says nothing certain."""
    return HTTPError(400, message, kind="invalid_request_error", code="invalid_header")
