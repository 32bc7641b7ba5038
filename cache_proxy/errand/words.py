"""What a failed trip leaves for those who wait for it in other processes: status and code, never a body or a text."""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import orjson

from cache_proxy.errors import NotPaid, UpstreamBusy, UpstreamError, UpstreamLost, UpstreamNonsense, UpstreamRefused
from cache_proxy.models import Deployment

UNKEPT = orjson.dumps({"kind": "unkept"})
"""It was brought and the store did not take it: whoever waits pays at once, rather than one after the other."""

_LONGEST = 200


def write(error: Exception, via: Sequence[Deployment]) -> bytes | None:
    """This failure of a trip to these deployments, in at most 200 bytes; ``None`` if nobody else is to be told: a
    refusal of the caller in person, and that it could not be paid here, say nothing about those who wait, who then try
    for themselves.
    """
    if isinstance(error, NotPaid) or (isinstance(error, UpstreamRefused) and error.personal):
        return None
    return orjson.dumps({"via": _named(via), **_said(error)})


def read(word: bytes, via: Sequence[Deployment]) -> UpstreamError | None:
    """The failure, if it is one of a trip to these very deployments and makes sense. It was counted where it was made,
    so it says nothing about money.
    """
    try:
        told = orjson.loads(word) if len(word) <= _LONGEST else None
        if isinstance(told, dict) and told.get("via") == _named(via):
            return _KINDS[told["kind"]](told)
    except (ValueError, KeyError, TypeError):
        pass
    return None


def _named(via: Sequence[Deployment]) -> str:
    """These deployments with these credentials: another account's refusal says nothing about ours."""
    told = [(one.id, one.base_url, one.api_key, sorted(one.headers.items())) for one in via]
    return sha256(orjson.dumps(told)).hexdigest()[:16]


def _said(error: Exception) -> dict[str, Any]:
    if isinstance(error, UpstreamRefused):
        return {"kind": "refused", "status": error.status, "retry_after": error.retry_after}
    if isinstance(error, UpstreamBusy):
        return {"kind": "busy", "retry_after": error.retry_after}
    if isinstance(error, UpstreamNonsense):
        return {"kind": "nonsense"}
    return {"kind": "lost", "timed_out": isinstance(error, UpstreamLost) and error.timed_out}


def _refused(told: dict[str, Any]) -> UpstreamError:
    status, wait = int(told["status"]), told["retry_after"]
    if not 400 <= status < 600:
        raise ValueError
    return UpstreamRefused(status, b"", retry_after=None if wait is None else float(wait))


_KINDS: Mapping[str, Callable[[dict[str, Any]], UpstreamError]] = {
    "refused": _refused,
    "busy": lambda told: UpstreamBusy("this model's limits are used up", retry_after=float(told["retry_after"])),
    "nonsense": lambda _: UpstreamNonsense("the upstream's answer to another worker made no sense"),
    "lost": lambda told: UpstreamLost(
        "the upstream did not answer another worker", outcome_unknown=False, timed_out=bool(told["timed_out"])
    ),
}
