"""A Redis Cluster: keys in buckets, buckets at servers, all servers asked at a time.

One ``MGET`` a bucket for look-ups, ``SET`` for writes, ``UNLINK`` a bucket to forget, each server's in one trip. Only
commands that an ACL of ``MGET SET UNLINK SCAN CLUSTER|SLOTS ASKING`` (and ``AUTH``) allows.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from redis.exceptions import TryAgainError

from cache_proxy.backends.base import Backend, Key, Value
from cache_proxy.backends.guarded import PROBE
from cache_proxy.backends.redis.access import Access
from cache_proxy.backends.redis.advice import advice
from cache_proxy.backends.redis.buckets import Bucket, BucketNames, bucket_of
from cache_proxy.backends.redis.counters import RedisCounters
from cache_proxy.backends.redis.delivery import Delivery, Order
from cache_proxy.backends.redis.leases import RedisLeases
from cache_proxy.backends.redis.names import KEYS_A_TRIP, milliseconds
from cache_proxy.backends.redis.nodes import Address, Node, Words
from cache_proxy.backends.redis.refusals import Refusals
from cache_proxy.backends.redis.routes import Routes
from cache_proxy.backends.redis.scripts import Place
from cache_proxy.backends.redis.store import NAMESPACE, PING
from cache_proxy.backends.redis.translated import answer, failure, late
from cache_proxy.errors import ConfigError, PartialAnswer, StoreError

Batch = tuple[Bucket, Sequence[bytes]]
"""Names of keys in one bucket."""


class RedisClusterBackend(Backend):
    """Values in a Redis Cluster under ``<namespace>:{<bucket>}:<key in hexadecimal>``.

    ``seeds`` are servers to learn the others from. A look-up, and to take leases, takes ``patience`` seconds at most:
    what the servers that answer hold comes with ``PartialAnswer`` where others do not. Each server is left alone by
    itself after failures in a row, and tried again in the background. A write, and a purge, succeeds only as a whole.

    Failovers and moved slots are followed. The rest is as with ``RedisBackend``; Cluster has database 0 only.
    """

    name = "redis"

    def __init__(
        self,
        seeds: Iterable[tuple[str, int]],
        namespace: str = NAMESPACE,
        *,
        access: Access | None = None,
        patience: float = 0.75,
        expiring: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.namespace = namespace
        self._name = BucketNames(namespace)
        self._patience = patience
        self._expiring = expiring
        self._clock = clock
        self._refusals = Refusals(clock)
        how = access or Access()
        if how.db:
            raise ConfigError("a Redis Cluster has database 0 only; take db out")
        self._routes = Routes([Address(*seed) for seed in seeds], how, self._probe, clock)
        place = Place(self._name, bucket_of, self._run_scripts)
        self._leases, self._counters = RedisLeases(place), RedisCounters(place)

    def __repr__(self) -> str:
        return f"RedisClusterBackend(namespace={self.namespace!r})"

    async def open(self) -> None:
        self._routes.open()

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        if not keys:
            return {}
        keys_of = {self._name(key): key for key in keys}
        found: dict[Key, Value] = {}
        failures: list[StoreError] = []
        for (_, names), reply in await self._each("MGET", _grouped(keys_of), reading=True):
            try:
                _raise_first([reply])
                values = zip(names, answer(reply, len(names)), strict=True)
            except StoreError as failure:
                failures.append(failure)
            else:
                found.update((keys_of[name], value) for name, value in values if value is not None)
        if failures:
            refused = all(failure.refused for failure in failures)
            raise PartialAnswer(str(failures[0]), found, refused=refused)
        return found

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        expiry: Words = () if ttl is None else ("PX", milliseconds(ttl))
        orders = [
            Order(bucket_of(key), ("SET", self._name(key), value, *expiry), len(value))
            for key, value in entries.items()
        ]
        replies = await self._deliver(orders)
        for reply in replies:
            if isinstance(reply, Exception):
                self._refusals.met(reply)
        _raise_first(replies)
        self._refusals.passed()
        return True

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await self._unlink(_grouped({self._name(key): key for key in keys}))

    async def clear(self) -> None:
        await self._routes.known()
        clearings = (self._clear_at(node) for node in self._routes.primaries())
        # All of them, whatever becomes of one: what is left is what could not be reached.
        _raise_first(await asyncio.gather(*clearings, return_exceptions=True))

    async def _clear_at(self, node: Node) -> None:
        cursor = None
        while cursor != 0:
            (said,) = await node.run([("SCAN", cursor or 0, "MATCH", self._name.pattern, "COUNT", KEYS_A_TRIP)])
            if isinstance(said, Exception):
                raise failure(said)
            cursor, names = said
            await self._unlink(self._ours(names))

    def _ours(self, names: Iterable[bytes]) -> list[Batch]:
        batches: dict[Bucket, list[bytes]] = defaultdict(list)
        for name in names:
            bucket = self._name.bucket(name)
            if bucket is not None:
                batches[bucket].append(name)
        return list(batches.items())

    async def _unlink(self, batches: Iterable[Batch]) -> int:
        replies = [reply for _, reply in await self._each("UNLINK", batches, reading=False)]
        _raise_first(replies)
        return sum(replies)

    async def ping(self) -> None:
        # PING alone is answered by a full server as well.
        await self._routes.known()
        servers = self._routes.primaries().items()
        orders = [Order(bucket, ("SET", self._name(PING, bucket), b"", "PX", 1000)) for _, bucket in servers]
        _raise_first(await self._deliver(orders))

    async def advice(self) -> Sequence[str]:
        """Asks each server for ``INFO``, which an ACL may well forbid."""
        await self._routes.known()
        told = await asyncio.gather(*(node.run([("INFO",)]) for node in self._routes.primaries()))
        infos = [info for (info,) in told]
        _raise_first(infos)
        lines = (line for info in infos for line in advice(info, clustered=True, expiring=self._expiring))
        return list(dict.fromkeys(lines))

    @property
    def ailing(self) -> bool:
        return self._routes.ailing

    @property
    def leases(self) -> RedisLeases:
        return self._leases

    @property
    def counters(self) -> RedisCounters:
        return self._counters

    async def _run_scripts(self, orders: Sequence[Order], *, reading: bool) -> list[Any]:
        return await self._deliver(orders, reading=reading, patience=self._patience if reading else None)

    async def close(self) -> None:
        await self._routes.close()

    async def _each(self, verb: str, batches: Iterable[Batch], *, reading: bool) -> list[tuple[Batch, Any]]:
        """The reply to this command for each batch of names."""
        asked = list(batches)
        orders = [Order(bucket, (verb, *names)) for bucket, names in asked]
        replies = await self._deliver(orders, reading=reading, patience=self._patience if reading else None)
        told, torn = [], []
        for (bucket, names), reply in zip(asked, replies, strict=True):
            if isinstance(reply, TryAgainError) and len(names) > 1:
                # Its slot is on the way to another server, and both answer for one key at a time.
                torn += [(bucket, [name]) for name in names]
            else:
                told.append(((bucket, names), reply))
        return told + await self._each(verb, torn, reading=reading) if torn else told

    async def _deliver(
        self, orders: Sequence[Order], *, reading: bool = False, patience: float | None = None
    ) -> list[Any]:
        try:
            async with asyncio.timeout(patience):
                await self._routes.known()
        except TimeoutError:
            raise late() from None
        if not orders:
            return []
        return await Delivery(self._routes, orders, self._clock, reading=reading).replies(patience)

    def _probe(self, bucket: Bucket) -> Words:
        return "MGET", self._name(PROBE, bucket)


def _grouped(keys_of: Mapping[bytes, Key]) -> list[Batch]:
    batches: dict[Bucket, list[bytes]] = defaultdict(list)
    for name, key in keys_of.items():
        batches[bucket_of(key)].append(name)
    return list(batches.items())


def _raise_first(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise failure(reply)
