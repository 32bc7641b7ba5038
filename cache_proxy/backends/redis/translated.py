"""The one door by which errors of the client enter."""

import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from cache_proxy.errors import StoreError

_VALUES = {bytes, type(None)}
_CODE = re.compile(r"[A-Z]{2,20}\b")


@contextmanager
def translated() -> Iterator[None]:
    """Turns every error of redis-py and of the network into ``StoreError``, whose message holds no secret."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        # Without the cause: messages of the client and the server may repeat keys, values or AUTH's arguments.
        raise store_error(error) from None


def store_error(error: redis.RedisError | OSError) -> StoreError:
    """What this error means for a store. ``refused`` is false where the answer was only too slow."""
    if isinstance(error, redis.TimeoutError | TimeoutError):
        return late()
    return StoreError(f"redis: {_said(error)}", refused=not _is_pool_full(error))


def answer(reply: Any, count: int) -> Sequence[bytes | None]:
    """What an ``MGET`` of ``count`` keys says. Raises ``StoreError`` if that is the answer to something else."""
    if not isinstance(reply, list) or len(reply) != count or not set(map(type, reply)) <= _VALUES:
        raise foreign()
    return reply


def foreign() -> StoreError:
    """A reply that can not be to what was asked."""
    return StoreError("redis: the answer to something else")


def failure(error: Exception) -> StoreError:
    """What to raise for an error that stands in the place of a reply. Raises whatever is not the client's."""
    if isinstance(error, StoreError):
        return StoreError(str(error), refused=error.refused)
    if isinstance(error, redis.RedisError):
        return store_error(error)
    raise error


def late() -> StoreError:
    """No answer in time."""
    return StoreError("redis: no answer in time", refused=False)


def _is_pool_full(error: Exception) -> bool:
    return isinstance(error, redis.MaxConnectionsError) or str(error) == "No connection available."


def _said(error: Exception) -> str:
    if tls := _of_tls(error):
        return f"{type(error).__name__}: TLS: {tls}"
    code = _CODE.match(str(error)) if isinstance(error, redis.ResponseError) else None
    told = f"{type(error).__name__} {code[0]}" if code else type(error).__name__
    if isinstance(error, redis.exceptions.MovedError):
        return f"{told}: this server is part of a Cluster; write it as redis_startup_nodes"
    return told


def _of_tls(error: BaseException | None) -> str:
    """What TLS has against the connection, in OpenSSL's words: they speak of certificates and names of hosts alone."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused ({error.verify_message})"
    return (error.reason or "") if error is not None else ""
