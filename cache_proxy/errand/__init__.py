"""Paying for what is missing: one trip for each item, whoever asks, in this process and in those that share its store.

``errand`` is a request's side of it, ``trip`` the work that it sets going, ``claims`` the part that processes agree on
among themselves, ``calls`` the upstream calls, ``shelf`` the store seen as entries. The protocol and what it promises
are in ``docs/decisions/0015-leases-and-flights.md``.
"""

from cache_proxy.errand.calls import Proof
from cache_proxy.errand.errand import Errand, Price
from cache_proxy.errand.means import Means, Sharing

__all__ = ["Errand", "Means", "Price", "Proof", "Sharing"]
