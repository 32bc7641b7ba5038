"""A key of the upstream's own that a caller brings along: what it pays for, and how it is proved to be good.

A hit costs the upstream nothing, so that nobody would notice a key that is made up. Before such a caller is given
anything, the upstream must have accepted the key within the last minutes. The proof is a call with the shortest item of
the request. That it went well is kept like any answer: under a key of its own, in the store that all share, for as long
as it counts.
"""

from dataclasses import replace

from cache_proxy.core import keys
from cache_proxy.core.asked import Asked
from cache_proxy.core.names import Target
from cache_proxy.core.reach import proving, with_key
from cache_proxy.core.spend import bound
from cache_proxy.models import Controls, Deployment

WINDOW = 300.0
"""Seconds for which a key counts as good that the upstream has accepted."""


def takes_keys(target: Target) -> bool:
    """Whether the target can be paid for with a caller's key."""
    return any(deployment.takes_keys for deployment in target.deployments)


def paid_with(asked: Asked, secret: str) -> Asked:
    """The same request, paid for with this key. Its target must take keys."""
    places: dict[str, Deployment] = {}
    for deployment in asked.target.deployments:
        if deployment.takes_keys:
            # A second account at the same place is of no use to who brings his own.
            places.setdefault(deployment.base_url, with_key(deployment, secret))
    return asked._replace(target=replace(asked.target, deployments=tuple(places.values())))


def proof(asked: Asked, key_hash: str) -> Asked:
    """What is to be asked in order to know that the key with this hash, which pays for this request, is good."""
    # What the request says about its answer is not about the proof.
    controls = Controls(ttl=WINDOW, only_if_cached=asked.controls.only_if_cached)
    places = sorted(deployment.base_url for deployment in asked.target.deployments)
    ask = asked.ask._replace(items=(asked.ask.items[shortest(asked)],))
    target = replace(asked.target, deployments=tuple(map(proving, asked.target.deployments)))
    return asked._replace(ask=ask, controls=controls, seats=(keys.proof(places, key_hash),), target=target)


def shortest(asked: Asked) -> int:
    """The place of the item that costs least. One that is only pointed at may have gone."""

    def cost(at: int) -> tuple[bool, int]:
        item = asked.ask.items[at]
        return item.remote, bound(item)

    return min(range(len(asked.ask.items)), key=cost)
