"""Commands to a Cluster: each to the server of its bucket, all servers at a time, and after those that moved."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from redis.exceptions import AskError, ClusterDownError, MovedError

from cache_proxy.backends.redis.buckets import Bucket
from cache_proxy.backends.redis.names import BYTES_A_TRIP, KEYS_A_TRIP
from cache_proxy.backends.redis.nodes import Node, Words
from cache_proxy.backends.redis.routes import Routes
from cache_proxy.backends.redis.translated import late
from cache_proxy.errors import StoreError

HOPS = 3
"""How often one command is sent on to another server."""


class Order(NamedTuple):
    """One command, all of whose keys are in one bucket. ``weight`` is how many bytes of values it carries."""

    bucket: Bucket
    words: Words
    weight: int = 0


class Delivery:
    """One run of commands. What a server says stands in ``replies`` at the order's place: a value, an error of the
    server, or a ``StoreError`` where there is none.

    ``reading`` runs leave servers alone that keep failing, and decide which those are; others always try.
    """

    def __init__(self, routes: Routes, orders: Sequence[Order], clock: Callable[[], float], *, reading: bool) -> None:
        self._routes = routes
        self._orders = orders
        self._clock = clock
        self._reading = reading
        self._replies: dict[int, Any] = {}
        self._asked_last: dict[asyncio.Task[Any] | None, Node] = {}

    async def replies(self, patience: float | None = None) -> list[Any]:
        """A reply for each order. What is not there after ``patience`` seconds is a ``StoreError``; it is not
        cancelled, for that would cost connections.
        """
        began_at = self._clock()
        parcels = self._parcels(range(len(self._orders)))
        tasks = {self._routes.start(self._carry(node, places)): node for node, places in parcels.items()}
        try:
            done, pending = await asyncio.wait(tasks, timeout=patience)
        except asyncio.CancelledError:
            # A write that goes on could undo a later one.
            for task in tasks:
                task.cancel()
            raise
        for task in done:
            # The end of the store cancels them, which is nothing to cancel the caller for.
            if not task.cancelled():
                task.result()
        for task in pending:
            # It may have been sent on: who lets us wait is not always who was asked first.
            self._asked_last.get(task, tasks[task]).breaker.failed(refused=False, began_at=began_at)
        return [self._replies[place] if place in self._replies else late() for place in range(len(self._orders))]

    def _parcels(self, places: Iterable[int]) -> "dict[Node, list[int]]":
        """What goes to whom. An order whose bucket no server holds is answered at once."""
        parcels: dict[Node, list[int]] = defaultdict(list)
        for place in places:
            node = self._routes.owner(self._orders[place].bucket)
            if node is None:
                self._replies[place] = StoreError("redis: the Cluster has no server for this slot")
                self._routes.refresh_soon()
            else:
                parcels[node].append(place)
        return parcels

    async def _carry(self, node: Node, places: Sequence[int]) -> None:
        for trip in self._trips(places):
            await self._hand(node, trip, HOPS)

    def _trips(self, places: Sequence[int]) -> Iterator[list[int]]:
        trip: list[int] = []
        weight = 0
        for place in places:
            trip.append(place)
            weight += self._orders[place].weight
            if weight >= BYTES_A_TRIP or len(trip) >= KEYS_A_TRIP:
                yield trip
                trip, weight = [], 0
        if trip:
            yield trip

    async def _hand(self, node: Node, places: Sequence[int], hops: int, *, asking: bool = False) -> None:
        if self._reading and node.breaker.state != "closed":
            self._routes.look_after(node)
            self._answer(places, StoreError(f"redis: {node.address} is being left alone after failures"))
            return
        began_at = self._clock()
        self._asked_last[asyncio.current_task()] = node
        try:
            said = await node.run([self._orders[place].words for place in places], asking=asking)
        except StoreError as error:
            self._answer(places, error)
            self._failed(node, began_at, refused=error.refused)
            await self._after_a_move(node, places, hops, refused=error.refused)
            return
        if any(isinstance(reply, ClusterDownError) for reply in said):
            self._failed(node, began_at, refused=True)
            self._routes.refresh_soon()
        elif self._reading:
            node.breaker.succeeded()
        else:
            node.breaker.heard_of()
        await self._sort(node, dict(zip(places, said, strict=True)), hops)

    def _answer(self, places: Iterable[int], reply: StoreError) -> None:
        self._replies.update(dict.fromkeys(places, reply))

    def _failed(self, node: Node, began_at: float, *, refused: bool) -> None:
        if self._reading:
            node.breaker.failed(refused=refused, began_at=began_at)

    async def _after_a_move(self, node: Node, places: Sequence[int], hops: int, *, refused: bool) -> None:
        """Where ``node`` was lost: hand its part to whoever has taken its place, if anybody has."""
        if not refused or not hops:
            # A time-out has used up what time there was.
            self._routes.refresh_soon()
            return
        await self._routes.refresh()
        moved = [place for place in places if self._routes.owner(self._orders[place].bucket) not in (node, None)]
        parcels = self._parcels(moved).items()
        await self._at_once(self._hand(owner, parcel, hops - 1) for owner, parcel in parcels)

    async def _sort(self, node: Node, said: Mapping[int, Any], hops: int) -> None:
        """Keep what is an answer, and go where the rest points to."""
        again: dict[tuple[Node, bool], list[int]] = defaultdict(list)
        for place, reply in said.items():
            if not isinstance(reply, AskError):  # MOVED is one too
                self._replies[place] = reply
            elif hops:
                target, moved = self._routes.named(reply, node), isinstance(reply, MovedError)
                if moved:
                    self._routes.moved(self._orders[place].bucket, target)
                again[target, not moved].append(place)
            else:
                self._replies[place] = StoreError("redis: the servers of the Cluster point at each other")
        await self._at_once(self._hand(target, at, hops - 1, asking=ask) for (target, ask), at in again.items())

    async def _at_once(self, hands: Iterable[Coroutine[Any, Any, None]]) -> None:
        await asyncio.gather(*(self._routes.start(hand) for hand in hands))
