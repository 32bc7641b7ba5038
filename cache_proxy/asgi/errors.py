"""Errors to statuses and bodies: one table, one shape.

Our own errors carry OpenAI's ``error`` object and Jina's ``detail`` side by side, for clients of both read them. An
upstream's refusal is passed on as it came where this caller may see it.
"""

import logging
import math
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson

from cache_proxy.core.spend import usd
from cache_proxy.core.wire.access import date, dollars
from cache_proxy.errors import (
    BudgetExceeded,
    BudgetUnknown,
    CacheProxyError,
    LedgerError,
    LedgerUnavailable,
    ModelNotFound,
    NoSuchKey,
    NotCached,
    PriceUnknown,
    RequestError,
    StoreError,
    UpstreamBusy,
    UpstreamError,
    UpstreamLost,
    UpstreamNonsense,
    UpstreamRefused,
)

log = logging.getLogger("cache_proxy")

Headers = list[tuple[bytes, bytes]]

_JSON = b"application/json"


class HTTPError(CacheProxyError):
    """A refusal that only makes sense over HTTP: who may come in, how large, which method."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str,
        code: str,
        param: str | None = None,
        headers: Headers | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = headers or []


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """What a caller gets instead of an answer; ``word`` is for the log."""

    status: int
    body: bytes
    word: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    content_type: bytes = _JSON


def reply_to(error: CacheProxyError) -> ErrorReply:
    """The reply for an error of ours."""
    match error:
        case HTTPError():
            return _ours(error.status, str(error), error.kind, error.code, error.param, tuple(error.headers))
        case ModelNotFound() | NoSuchKey():
            return _ours(404, error.message, "invalid_request_error", error.code, error.param)
        case RequestError():
            status = 400 if error.malformed else 422
            return _ours(status, error.message, "invalid_request_error", error.code, error.param)
        case NotCached():
            return _ours(504, str(error), "cache_error", "not_cached")
        case StoreError():
            return _ours(503, _sentence(error), "cache_error", "store_unavailable")
        case LedgerError():
            return _ours(503, _sentence(error), "ledger_error", "ledger_unavailable")
        case UpstreamError():
            return _no_answer(error)
    return _internal()


def _no_answer(error: UpstreamError) -> ErrorReply:
    """The reply where the trip to the upstream brought nothing."""
    match error:
        case UpstreamRefused():
            return _refused(error)
        case UpstreamBusy():
            return _ours(429, str(error), "rate_limit_error", "upstream_busy", None, _retry_after(error.retry_after))
        case UpstreamLost():
            status, code = (504, "upstream_timeout") if error.timed_out else (502, "upstream_unreachable")
            return _ours(status, _sentence(error), "upstream_error", code)
        case UpstreamNonsense():
            return _ours(502, _sentence(error), "upstream_error", "upstream_invalid_answer")
        case BudgetExceeded():
            return _over_budget(error)
        case PriceUnknown():
            return _ours(403, _sentence(error), "budget_exceeded", "price_unknown", "model")
        case LedgerUnavailable() | BudgetUnknown():
            return _ours(503, _sentence(error), "ledger_error", "ledger_unavailable", None, _retry_after(1.0))
    return _internal()


def unexpected(error: Exception, request_id: str) -> ErrorReply:
    """The reply for a fault of ours, which says nothing about the inside; the log gets its kind and where it was.

    Never its message: that may hold a text or a key.
    """
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error("unexpected %s in request %s\n%s", type(error).__name__, request_id, places)
    return _internal()


def _internal() -> ErrorReply:
    return _ours(500, "Internal error. The server's log has it under this request's id.", "internal_error", "internal")


def _refused(error: UpstreamRefused) -> ErrorReply:
    headers = _retry_after(error.retry_after) if error.retry_after is not None else ()
    if not error.body:
        told = "The upstream refused the call and said nothing, or nothing that is this caller's to read."
        return _ours(error.status, told, "upstream_error", f"upstream_{error.status}", None, headers)
    content_type = error.content_type.encode("latin-1", "replace")
    return ErrorReply(error.status, error.body, f"upstream_{error.status}", headers, content_type)


def _over_budget(error: BudgetExceeded) -> ErrorReply:
    """Told to the only one whom it is about: all of a call that comes this far is one caller's."""
    (short,) = list(error.short.values())[:1]
    fits_alone, resets = short.spent + short.asked <= short.limit, date(short.resets_at)
    message = (
        f"The budget of this key is used up: {usd(short.spent)} USD of {usd(short.limit)} are spent and "
        f"{usd(short.reserved)} reserved, and this can cost {usd(short.asked)}. "
        + (f"It resets at {resets}. " if resets else "")
        + "What is cached is answered all the same."
    )
    wait = 1.0 if fits_alone else None if short.resets_at is None else short.resets_at - time.time()
    more: dict[str, Any] = {
        "spend": dollars(short.spent), "reserved": dollars(short.reserved), "max_budget": dollars(short.limit),
        "budget_reset_at": resets,
    }  # fmt: skip
    headers = () if wait is None else _retry_after(wait)
    return _ours(429, message, "budget_exceeded", "budget_exceeded", None, headers, more)


def _sentence(error: CacheProxyError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _retry_after(seconds: float) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", b"%d" % max(1, math.ceil(seconds))),)


def _ours(
    status: int,
    message: str,
    kind: str,
    code: str,
    param: str | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    more: Mapping[str, Any] = MappingProxyType({}),
) -> ErrorReply:
    error = {"message": message, "type": kind, "param": param, "code": code, **more}
    return ErrorReply(status, orjson.dumps({"error": error, "detail": message}), code, headers)
