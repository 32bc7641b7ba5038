"""One Redis, or the primary that Sentinels name: all keys are at one server.

One ``MGET`` a look-up, pipelined ``SET`` for writes, ``UNLINK`` to forget. Only commands that an ACL of
``MGET SET UNLINK SCAN`` (and ``AUTH``, ``SELECT``) allows; never ``FLUSHDB``, ``FLUSHALL`` or ``KEYS``.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from cache_proxy.backends.base import Backend, Key, Value
from cache_proxy.backends.redis.access import Access, read_url
from cache_proxy.backends.redis.advice import advice
from cache_proxy.backends.redis.counters import RedisCounters
from cache_proxy.backends.redis.delivery import Order
from cache_proxy.backends.redis.leases import RedisLeases
from cache_proxy.backends.redis.names import KEYS_A_TRIP, Names, by_count, by_weight, milliseconds
from cache_proxy.backends.redis.refusals import Refusals
from cache_proxy.backends.redis.scripts import Place
from cache_proxy.backends.redis.translated import answer, translated
from cache_proxy.errors import ConfigError, StoreError

PING: Key = b"ping"
"""The reserved key that ``ping`` writes for a second, to learn whether a value would be taken."""

NAMESPACE = "cache-proxy"


class RedisBackend(Backend):
    """Values in Redis under ``<namespace>:<key in hexadecimal>``.

    ``client_factory`` makes the client when the store is opened; :meth:`from_url`, :meth:`from_parts` and
    ``Sentinels.primary`` are the usual ways to get one. A client that decodes replies is refused with
    ``ConfigError``. ``expiring`` says that entries are usually given a ttl; it matters to :meth:`advice` alone.

    ``clear`` removes the keys of exactly this form and nothing else of the database. Errors of the client and
    the network become ``StoreError``; no message holds a password, a key or a value.
    """

    name = "redis"

    def __init__(
        self, client_factory: Callable[[], Redis], namespace: str = NAMESPACE, *, expiring: bool = False
    ) -> None:
        self.namespace = namespace
        self._name = Names(namespace)
        self._expiring = expiring
        self._refusals = Refusals()
        self._make_client = client_factory
        self._client: Redis | None = None
        place = Place(self._name, lambda _: 0, self._run_scripts)
        self._leases, self._counters = RedisLeases(place), RedisCounters(place)

    @classmethod
    def from_url(
        cls, url: str, *, namespace: str = NAMESPACE, access: Access | None = None, expiring: bool = False
    ) -> "RedisBackend":
        """A store at ``redis://``, ``rediss://`` (TLS), ``unix://``, ``valkey://`` or ``valkeys://``; ``access``
        says what the URL does not. Raises ``ConfigError`` for another URL.
        """
        access, place = read_url(url, access or Access())
        if access.tls is not None:
            # Read now, for files that can not be read are a mistake, and the moment to hear of it is the start.
            access.tls.context()
        if "path" in place:
            return cls.from_parts(unix_socket_path=place["path"], namespace=namespace, access=access, expiring=expiring)
        return cls.from_parts(**place, namespace=namespace, access=access, expiring=expiring)

    @classmethod
    def from_parts(
        cls,
        host: str = "127.0.0.1",
        port: int = 6379,
        *,
        unix_socket_path: str | None = None,
        namespace: str = NAMESPACE,
        access: Access | None = None,
        expiring: bool = False,
    ) -> "RedisBackend":
        """A store at ``host`` and ``port``, or at ``unix_socket_path``."""
        how = access or Access()
        if unix_socket_path is not None:
            return cls(lambda: how.client_on_socket(unix_socket_path), namespace, expiring=expiring)
        return cls(lambda: how.client(host, port), namespace, expiring=expiring)

    def __repr__(self) -> str:
        return f"RedisBackend(namespace={self.namespace!r})"

    async def open(self) -> None:
        if self._client is None:
            client = self._make_client()
            if client.connection_pool.connection_kwargs.get("decode_responses"):
                raise ConfigError("the Redis client must not decode replies; leave decode_responses out")
            self._client = client

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        if not keys:
            return {}
        with translated():
            values = await self._ready.mget([self._name(key) for key in keys])
        return {key: value for key, value in zip(keys, answer(values, len(keys)), strict=True) if value is not None}

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        px = None if ttl is None else milliseconds(ttl)
        for trip in by_weight(entries.items()):
            await self._set(trip, px)
        return True

    async def _set(self, trip: Iterable[tuple[Key, Value]], px: int | None) -> None:
        with translated():
            async with self._ready.pipeline(transaction=False) as pipeline:
                for key, value in trip:
                    pipeline.set(self._name(key), value, px=px)
                # Not raised by the pipeline: it would write the command, key and value, into the message.
                replies = await pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception):
                    self._refusals.met(reply)
                    raise reply
        self._refusals.passed()

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await self._unlink([self._name(key) for key in dict.fromkeys(keys)])

    async def clear(self) -> None:
        batch: list[bytes] = []
        async for name in self._scan():
            batch.append(name)
            if len(batch) >= KEYS_A_TRIP:
                await self._unlink(batch)
                batch = []
        await self._unlink(batch)

    async def _scan(self) -> AsyncIterator[bytes]:
        with translated():
            async for name in self._ready.scan_iter(match=self._name.pattern, count=KEYS_A_TRIP):
                if self._name.holds(name):
                    yield name

    async def _unlink(self, names: Sequence[bytes]) -> int:
        gone = 0
        for trip in by_count(names):
            with translated():
                gone += await self._ready.unlink(*trip)
        return gone

    async def ping(self) -> None:
        # PING alone is answered by a full or read-only server as well.
        with translated():
            await self._ready.set(self._name(PING), b"", px=1000)

    async def advice(self) -> Sequence[str]:
        """Asks ``INFO``, which an ACL may well forbid."""
        with translated():
            return advice(await self._ready.info(), expiring=self._expiring)

    @property
    def leases(self) -> RedisLeases:
        return self._leases

    @property
    def counters(self) -> RedisCounters:
        return self._counters

    async def _run_scripts(self, orders: Sequence[Order], *, reading: bool) -> list[Any]:  # noqa: ARG002
        with translated():
            async with self._ready.pipeline(transaction=False) as pipeline:
                for order in orders:
                    pipeline.execute_command(*order.words)
                replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with translated():
                await client.aclose(close_connection_pool=True)

    @property
    def _ready(self) -> Redis:
        if self._client is None:
            raise StoreError("the redis store is not open")
        return self._client
