"""What a caller may do who was let in: with a key, only what the key is for."""

import math
from collections.abc import Awaitable, Callable

from cache_proxy.access import AccessKey, Admitted, OwnKey
from cache_proxy.asgi import credentials
from cache_proxy.asgi.errors import HTTPError
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.core.asked import Asked
from cache_proxy.core.names import Target
from cache_proxy.core.own_key import takes_keys
from cache_proxy.core.understood import Understood
from cache_proxy.engine import Allow
from cache_proxy.errand import Price
from cache_proxy.errors import PriceUnknown
from cache_proxy.wiring.limits import KeyLimits

Handler = Callable[[Exchange, Admitted], Awaitable[None]]


def for_members(handler: Handler) -> Handler:
    """The same, but not for guests."""
    return _only(handler, lambda _: True)


def for_holders(handler: Handler) -> Handler:
    """The same, but only for who has a key of ours, where there are any."""
    return _only(handler, lambda admitted: admitted.administers or admitted.key is not None)


def for_master(handler: Handler) -> Handler:
    """The same, but only for the holder of the master key, where there is one."""
    return _only(handler, lambda admitted: admitted.administers)


def _only(handler: Handler, may: Callable[[Admitted], bool]) -> Handler:
    async def handle(exchange: Exchange, admitted: Admitted) -> None:
        if admitted.guest:
            raise credentials.unauthorized()
        if not may(admitted):
            raise forbidden("This route is for the master_key only.", "master_key_required")
        await handler(exchange, admitted)

    return handle


def check(admitted: Admitted, understood: Understood) -> None:
    """Raise ``HTTPError`` 403 for a model or a cache control that is not for this caller."""
    key = admitted.key
    if key is None:
        return
    if not key.may_use(understood.asked.name):
        raise forbidden(
            "This key has no right to this model. GET /v1/models lists those it has.",
            "key_model_access_denied",
            "model",
        )
    refused = sorted(understood.controls - set(key.allowed_cache_controls)) if key.allowed_cache_controls else ()
    if refused:
        raise forbidden(f"This key may not use the cache control {refused[0]}.", "cache_control_not_allowed", "cache")


def own_key(admitted: Admitted, asked: Asked) -> OwnKey | None:
    """What this request is to be paid with, if not with the operator's key. Raises ``HTTPError`` 403 for a guest where
    the model is not Jina's: somebody else's server is not told the key, and the operator does not pay for guests.
    """
    if admitted.own is None or takes_keys(asked.target):
        return admitted.own
    if admitted.guest:
        raise forbidden(
            "This model can not be paid for with a key of your own; send a key of this proxy, too.",
            "own_key_not_taken",
            "model",
        )
    return None


async def count_request(admitted: Admitted, limits: KeyLimits) -> None:
    """Raise ``HTTPError`` 429 beyond the ``rpm_limit`` of the caller's key."""
    if admitted.key is not None:
        wait = await limits.request(admitted.key)
        if wait > 0:
            raise _too_many("rpm_limit", wait)


def spending(admitted: Admitted, limits: KeyLimits | None) -> Allow | None:
    """What must be asked before this caller's misses are paid for; ``None`` where nothing must."""
    key = admitted.key
    if key is None or limits is None or (key.tpm_limit is None and key.max_budget is None):
        return None

    async def allow(asked: Asked, price: Price) -> None:
        if key.max_budget is not None:
            _check_budget(key, _least(asked.target), price.bound, limits)
        wait = await limits.tokens(key, price.estimate)
        if wait > 0:
            raise _too_many("tpm_limit", wait)

    return allow


def _least(target: Target) -> int | None:
    """What a token costs at least, in pico-USD; ``None`` where nobody knows what it costs anywhere."""
    known = [one.price if one.priced else target.spec.price for one in target.deployments]
    return min((price for price in known if price is not None), default=None)


def _check_budget(key: AccessKey, price: int | None, tokens: int, limits: KeyLimits) -> None:
    """What can be said without the ledger, which has the last word. Raises ``BeyondBudget``."""
    if price is None:
        raise PriceUnknown([key.hash])
    used_up = limits.used_up(key, tokens * price)
    if used_up is not None:
        raise used_up


def forbidden(message: str, code: str, param: str | None = None) -> HTTPError:
    """A refusal of what this caller has no right to."""
    return HTTPError(403, message, kind="permission_error", code=code, param=param)


def _too_many(limit: str, wait: float) -> HTTPError:
    retry_after = b"%d" % max(1, math.ceil(wait))
    return HTTPError(
        429,
        f"The {limit} of this key is used up.",
        kind="rate_limit_error",
        code="key_rate_limited",
        headers=[(b"retry-after", retry_after)],
    )
