"""Which server of a Cluster holds which bucket. Learned from the servers, and again when they disagree or fail."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from redis.exceptions import AskError

from cache_proxy import lasting
from cache_proxy.backends.redis.access import Access, client
from cache_proxy.backends.redis.buckets import BUCKETS, Bucket
from cache_proxy.backends.redis.nodes import Address, Node, Words
from cache_proxy.backends.redis.translated import late
from cache_proxy.errors import StoreError

T = TypeVar("T")

REFRESH_EVERY = 0.5
"""Seconds at least between two questions for the map, however much fails."""


class Routes:
    """The map of the Cluster and the way to each server. Used between :meth:`open` and :meth:`close`.

    ``seeds`` are asked for the map first, and whenever no server on it answers. ``probe`` is the command that
    tells whether a server that was left alone answers again, for one of its buckets.
    """

    def __init__(
        self, seeds: Sequence[Address], access: Access, probe: Callable[[Bucket], Words], clock: Callable[[], float]
    ) -> None:
        self._seeds = seeds
        self._access = access
        self._probe_words = probe
        self._clock = clock
        self._options: Mapping[str, Any] | None = None
        self._owners: list[Node | None] = [None] * BUCKETS
        self._nodes: dict[Address, Node] = {}
        self._retired: list[Node] = []
        self._asked_at = float("-inf")
        self._turn = 0
        self._refreshing: asyncio.Task[None] | None = None
        self._failure = StoreError("redis: no server of the Cluster was asked yet")
        self._tasks: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Get ready; nothing is reached yet. Raises ``ConfigError``."""
        if self._options is None:
            self._options = self._access.options()

    async def close(self) -> None:
        """End what is under way and close every connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        nodes = [*self._nodes.values(), *self._retired]
        self._options, self._nodes, self._retired, self._owners = None, {}, [], [None] * BUCKETS
        self._asked_at = float("-inf")
        await asyncio.gather(*(node.close() for node in nodes), return_exceptions=True)

    async def known(self) -> None:
        """Wait until there is a map. Raises ``StoreError`` if none can be had."""
        if self._options is None:
            raise StoreError("the redis store is not open")
        if not any(self._owners):
            await self.refresh()
        if not any(self._owners):
            raise StoreError(str(self._failure), refused=self._failure.refused)

    def owner(self, bucket: Bucket) -> Node | None:
        """The server of this bucket; ``None`` where the Cluster has none for its slot."""
        return self._owners[bucket]

    def primaries(self) -> dict[Node, Bucket]:
        """Every server that holds a bucket, with one that it holds. Raises ``StoreError`` if a bucket has none."""
        if None in self._owners:
            raise StoreError("redis: part of the Cluster's slots have no server")
        return {node: bucket for bucket, node in enumerate(self._owners) if node is not None}

    @property
    def ailing(self) -> bool:
        """Whether part of the buckets have no server, or one that is left alone."""
        missing = any(node is None or node.breaker.state != "closed" for node in self._owners)
        return missing and any(self._owners)

    def named(self, said: AskError, by: Node) -> Node:
        """The server that ``by`` names in a ``MOVED`` or ``ASK``."""
        return self._node(Address(said.host or by.address.host, said.port))

    def moved(self, bucket: Bucket, node: Node) -> None:
        """Believe that this bucket is at ``node`` now; the whole map is asked for soon."""
        self._owners[bucket] = node
        self.refresh_soon()

    async def refresh(self) -> None:
        """Ask for the map, unless that was done just now."""
        self.refresh_soon()
        if self._refreshing is not None:
            await asyncio.wait({self._refreshing})

    def refresh_soon(self) -> None:
        """Ask for the map in the background, unless that was done just now."""
        under_way = self._refreshing is not None and not self._refreshing.done()
        if not under_way and self._clock() - self._asked_at >= REFRESH_EVERY:
            self._refreshing = self.start(self._refresh())

    async def _refresh(self) -> None:
        try:
            for node in self._witnesses():
                try:
                    async with asyncio.timeout(self._access.connect_timeout):
                        owners = await node.owners()
                except (StoreError, TimeoutError) as error:
                    self._failure = error if isinstance(error, StoreError) else late()
                    continue
                if any(owners):
                    self._take(owners)
                    return
                self._failure = StoreError("redis: this Cluster holds no slots yet")
        finally:
            self._asked_at = self._clock()

    def _witnesses(self) -> Iterator[Node]:
        """Whom to ask: servers in use first and each time another, at last the configured ones."""
        self._turn += 1
        known = list(self._nodes.values())
        turned = known[self._turn % len(known) :] + known[: self._turn % len(known)] if known else []
        yield from sorted(turned, key=lambda node: node.breaker.state != "closed")
        for address in self._seeds:
            if address not in self._nodes:
                yield self._node(address)

    def _take(self, owners: Sequence[Address | None]) -> None:
        self._owners = [None if address is None else self._node(address) for address in owners]
        gone = [self._nodes.pop(address) for address in self._nodes.keys() - set(owners)]
        self._retired = [node for node in (*self._retired, *gone) if not node.closed]
        for node in gone:
            self.start(node.retire())

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            if self._options is None:
                raise StoreError("the redis store is not open")
            node = self._nodes[address] = Node(address, client(self._options, *address), self._clock)
        return node

    def look_after(self, node: Node) -> None:
        """See in the background whether a server that is left alone has been replaced, or answers again."""
        self.refresh_soon()
        if node.breaker.may_probe():
            self.start(self._probe(node))

    async def _probe(self, node: Node) -> None:
        try:
            bucket = self._owners.index(node) if node in self._owners else 0
            async with asyncio.timeout(self._access.connect_timeout):
                (reply,) = await node.run([self._probe_words(bucket)])
            if not isinstance(reply, Exception):
                node.breaker.succeeded()
        except (StoreError, TimeoutError):
            pass
        finally:
            node.breaker.probe_failed()  # does nothing once it has succeeded

    def start(self, work: "Coroutine[Any, Any, T]") -> "asyncio.Task[T]":
        """Run ``work`` as a task that ends with the store at the latest, and not with the loop: it may be a write."""
        task = lasting.start(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Looked at, so that a failure nobody waits for any more is not reported as forgotten.
            task.exception()
