"""What errands are run with."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from cache_proxy.backends.base import Backend
from cache_proxy.errand.calls import Calls, Parcel
from cache_proxy.errand.claims import Claims
from cache_proxy.errand.shelf import Opener, Shelf
from cache_proxy.models import Key, Policy
from cache_proxy.upstream.baskets import Baskets
from cache_proxy.upstream.flights import Flights
from cache_proxy.upstream.lanes import Lanes

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Sharing:
    """How requests share what they pay for. Times are seconds."""

    joining: bool = True
    """Whether a request may wait for what another of this process has under way."""
    leases: bool = True
    """Whether it may wait for what another process has, where the store has leases."""
    lease: float = 5.0
    """How long a lease holds unless it is renewed: what a holder that dies costs those who wait for it."""
    window: float = 0.005
    """How long misses may wait for others of their lane, while a call of it is under way."""


@dataclass(frozen=True, slots=True)
class Means:
    """Everything that an engine's errands share. ``clock`` is for what is kept (seconds since the epoch), ``now`` and
    ``sleep`` for what is waited for.
    """

    store: Backend
    lanes: Lanes
    flights: Flights
    shelf: Shelf
    claims: Claims
    calls: Calls
    baskets: Baskets[Parcel]
    policy: Policy
    sharing: Sharing
    clock: Callable[[], float]
    now: Callable[[], float]
    sleep: Sleep

    @classmethod
    def over(
        cls,
        store: Backend,
        lanes: Lanes,
        opener: Opener,
        policy: Policy,
        *,
        sharing: Sharing | None = None,
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> "Means":
        """The means of an engine that keeps its entries in ``store`` and asks upstream through ``lanes``."""
        how = sharing or Sharing()
        flights, shelf = Flights(), Shelf(store, opener, sleep)
        claims = Claims(store.leases if how.joining and how.leases else None, how.lease, sleep)
        calls = Calls(shelf, lanes, flights, claims, policy, clock, sleep)
        baskets: Baskets[Parcel] = Baskets(how.window, flights.start, sleep)
        return cls(store, lanes, flights, shelf, claims, calls, baskets, policy, how, clock, now, sleep)

    async def purge(self, keys: Sequence[Key] | None) -> int:
        """Forget these keys (``None``: everything of ours) here and in the store; how many were held, where known.

        What this process has under way is not kept, and what it is just writing is waited for, so that nothing comes
        back after this returns. Raises ``StoreError``.
        """
        self.flights.purge(keys)
        return await self.shelf.purge(keys)

    async def close(self, patience: float) -> None:
        """Bring home what is under way (up to ``patience`` seconds), then let go of everything."""
        await self.flights.close(patience)
        await self.shelf.close()
        await self.claims.close()
        await self.lanes.close()
        await self.store.close()
