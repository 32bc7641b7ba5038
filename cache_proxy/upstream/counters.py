"""Limits that hold for all processes that share a store: what its counters are asked, and under which names."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Protocol

from cache_proxy.models import Deployment, Want


class Counters(Protocol):
    """What the lanes need of a store's counters; ``backends.base.Counters`` is the contract, and fits.

    Every method is one trip and may raise ``StoreError``: the limits of this process hold then.
    """

    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        """Use all these units or none; the seconds to wait first. More than ``at_most``: nothing was used."""

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        """Be one of at most ``limit`` inside, for ``ttl`` seconds or until the ticket enters again."""

    async def leave(self, name: bytes, ticket: bytes) -> None:
        """Be inside no more."""


def counter_name(deployment: Deployment, *what: str) -> bytes:
    """The name under which a deployment's ``what`` is counted: the same in every process of one configuration.

    A deployment's account (its id, unless several share one) is the only one of its configuration; its URL tells it
    from one of the same id in another configuration that shares the store. ``what`` is part of the name, so that a
    limit that is set later does not find the count of another in its place. 58 bytes at most.
    """
    account = (deployment.account or deployment.id).encode()
    digest = sha256(b"%d:%s%s" % (len(account), account, deployment.base_url.encode()))
    return ":".join((digest.hexdigest()[:40], *what)).encode()
