"""Deployments as one caller reaches them: with a key, an address or a patience of the caller's own."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson

from cache_proxy.models import Deployment, Failure

PROOFS_AT_ONCE = 8
"""Calls under way at a time, in each worker, that find out about keys."""


def remade(deployment: Deployment, **changes: Any) -> Deployment:
    """The same deployment with these changes, told apart from it by its id. Another key uses up another account's
    limits, and what is known of it is forgotten when it has not been used for long.
    """
    made = replace(deployment, **changes, passing=True)
    told = orjson.dumps([made.base_url, made.api_key, made.timeout, made.retries])
    return replace(made, id=f"{deployment.id}@{sha256(told).hexdigest()}", account=_account(deployment, made.api_key))


def with_key(deployment: Deployment, key: str) -> Deployment:
    """The same deployment, paid for with a caller's key. ``rpm`` and ``tpm`` are the operator's account's; what may be
    under way at a time holds for all such callers together.
    """
    made = remade(
        deployment,
        api_key=key,
        # Any of the operator's may be what a gateway lets in by.
        headers={},
        rpm=None,
        tpm=None,
        # Whose account is used up hears it at once: others may wait for what he leads.
        retries_after={**deployment.retries_after, Failure.RATE_LIMIT: 0},
    )
    return replace(made, account=f"{deployment.account or deployment.id}@own")


def proving(deployment: Deployment) -> Deployment:
    """The same deployment with a key that nobody has vouched for: those have a line of their own, and a short one, so
    that nobody else waits behind them.
    """
    return replace(
        deployment,
        id=f"{deployment.id}?",
        account=f"{deployment.account}?",
        max_parallel=min(deployment.max_parallel, PROOFS_AT_ONCE),
    )


def _account(deployment: Deployment, key: str | None) -> str:
    if not key or key == deployment.api_key:
        return deployment.account or deployment.id
    return f"{deployment.id}@{sha256(key.encode()).hexdigest()}"
