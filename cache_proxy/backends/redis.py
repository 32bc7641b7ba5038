"""A store many hosts share: Redis, through redis-py's asyncio client. The only module that imports ``redis``.

One ``MGET`` a look-up, pipelined ``SET`` for writes, ``UNLINK`` to forget. Only commands that an ACL of
``MGET SET UNLINK SCAN`` (and ``AUTH``, ``SELECT``) allows; never ``FLUSHDB``, ``FLUSHALL`` or ``KEYS``.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import redis
from redis.asyncio import BlockingConnectionPool, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cache_proxy.backends.base import Backend, Key, Value
from cache_proxy.errors import ConfigError, StoreError

PING: Key = b"ping"
"""The reserved key that ``ping`` writes for a second, to learn whether a value would be taken."""

_KEYS_A_TRIP = 1000
_BYTES_A_TRIP = 2**20
_OURS = re.compile(rb"(?:[0-9a-f]{2})+")
_GLOB = re.compile(rb"([\\*?\[\]^-])")
_CODE = re.compile(r"[A-Z]{2,20}\b")


class RedisBackend(Backend):
    """Values in Redis under ``<namespace>:<key in hexadecimal>``.

    ``client_factory`` makes the client when the store is opened; :meth:`from_url` and :meth:`from_parts` are
    the usual ways to get one. A client that decodes replies is refused with ``ConfigError``.

    ``clear`` removes the keys of exactly this form and nothing else of the database. Errors of the client and
    the network become ``StoreError``; no message holds a password, a key or a value.
    """

    name = "redis"

    def __init__(self, client_factory: Callable[[], Redis], namespace: str = "cache-proxy") -> None:
        self.namespace = namespace
        self._prefix = namespace.encode() + b":"
        self._make_client = client_factory
        self._client: Redis | None = None

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        namespace: str = "cache-proxy",
        connect_timeout: float = 1.0,
        timeout: float = 5.0,
        max_connections: int = 64,
    ) -> "RedisBackend":
        """A store at ``redis://``, ``rediss://`` (TLS) or ``unix://``. Raises ``ConfigError`` for another
        URL.

        ``timeout`` seconds bound one reply, and the wait for one of ``max_connections``. It is made for
        writes: a look-up gets its own, shorter deadline from the guard.
        """
        options = _options(connect_timeout, timeout, max_connections)
        try:
            BlockingConnectionPool.from_url(url, **options)
        except (ValueError, TypeError):
            # Nothing of the URL is repeated: it may hold a password.
            raise ConfigError("the Redis URL must be redis://, rediss:// or unix:// and well-formed") from None
        return cls(lambda: Redis.from_pool(BlockingConnectionPool.from_url(url, **options)), namespace)

    @classmethod
    def from_parts(
        cls,
        host: str = "127.0.0.1",
        port: int = 6379,
        *,
        db: int = 0,
        username: str | None = None,
        password: str | None = None,
        ssl: bool = False,
        ssl_ca_certs: str | None = None,
        unix_socket_path: str | None = None,
        namespace: str = "cache-proxy",
        connect_timeout: float = 1.0,
        timeout: float = 5.0,
        max_connections: int = 64,
    ) -> "RedisBackend":
        """A store at ``host`` and ``port``, or at ``unix_socket_path``. With ``ssl`` the certificate is
        checked.

        The other parameters are those of :meth:`from_url`.
        """
        options = _options(connect_timeout, timeout, max_connections)
        options |= {"db": db, "username": username, "password": password}
        if unix_socket_path is not None:
            options |= {"connection_class": UnixDomainSocketConnection, "path": unix_socket_path}
        else:
            options |= {"host": host, "port": port, "socket_keepalive": True}
            if ssl:
                options |= {"connection_class": SSLConnection, "ssl_ca_certs": ssl_ca_certs}
        return cls(lambda: Redis.from_pool(BlockingConnectionPool(**options)), namespace)

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
        with _translated():
            values = await self._ready.mget([self._name(key) for key in keys])
        found = cast("list[bytes | None]", values)  # "str" is for clients that decode
        return {key: value for key, value in zip(keys, found, strict=True) if value is not None}

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        milliseconds = None if ttl is None else max(1, round(ttl * 1000))
        for trip in _by_weight(entries.items()):
            await self._set(trip, milliseconds)
        return True

    async def _set(self, trip: Iterable[tuple[Key, Value]], milliseconds: int | None) -> None:
        with _translated():
            async with self._ready.pipeline(transaction=False) as pipeline:
                for key, value in trip:
                    pipeline.set(self._name(key), value, px=milliseconds)
                # Not raised by the pipeline: it would write the command, key and value, into the message.
                replies = await pipeline.execute(raise_on_error=False)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return await self._unlink([self._name(key) for key in dict.fromkeys(keys)])

    async def clear(self) -> None:
        batch: list[bytes] = []
        async for name in self._scan():
            batch.append(name)
            if len(batch) >= _KEYS_A_TRIP:
                await self._unlink(batch)
                batch = []
        await self._unlink(batch)

    async def _scan(self) -> AsyncIterator[bytes]:
        pattern = _GLOB.sub(rb"\\\1", self._prefix) + b"*"
        with _translated():
            async for name in self._ready.scan_iter(match=pattern, count=_KEYS_A_TRIP):
                # "a:*" also matches what namespace "a:b" holds, which is not ours.
                if _OURS.fullmatch(name, len(self._prefix)):
                    yield name

    async def _unlink(self, names: list[bytes]) -> int:
        gone = 0
        for start in range(0, len(names), _KEYS_A_TRIP):
            with _translated():
                gone += await self._ready.unlink(*names[start : start + _KEYS_A_TRIP])
        return gone

    async def ping(self) -> None:
        # PING alone is answered by a full or read-only server as well.
        with _translated():
            await self._ready.set(self._name(PING), b"", px=1000)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with _translated():
                await client.aclose(close_connection_pool=True)

    @property
    def _ready(self) -> Redis:
        if self._client is None:
            raise StoreError("the redis store is not open")
        return self._client

    def _name(self, key: Key) -> bytes:
        return self._prefix + key.hex().encode()


def _options(connect_timeout: float, timeout: float, max_connections: int) -> dict[str, Any]:
    return {
        "max_connections": max_connections,
        "timeout": timeout,
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
        # Once, for a connection the server closed while it lay idle; a time-out is not worth a second wait.
        "retry": Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        "health_check_interval": 0,
        "decode_responses": False,
        # Nothing here needs RESP3, and without HELLO and SETINFO a connection is up two round trips earlier.
        "protocol": 2,
        "driver_info": None,
    }


def _by_weight(entries: Iterable[tuple[Key, Value]]) -> Iterator[list[tuple[Key, Value]]]:
    trip: list[tuple[Key, Value]] = []
    weight = 0
    for key, value in entries:
        trip.append((key, value))
        weight += len(value)
        if weight >= _BYTES_A_TRIP or len(trip) >= _KEYS_A_TRIP:
            yield trip
            trip, weight = [], 0
    if trip:
        yield trip


@contextmanager
def _translated() -> Iterator[None]:
    """The one door by which errors of the client enter."""
    try:
        yield
    except (redis.TimeoutError, TimeoutError):
        # Without the cause: messages of the client and the server may repeat keys, values or AUTH's
        # arguments.
        raise StoreError("redis: no answer in time", refused=False) from None
    except redis.RedisError as error:
        raise StoreError(f"redis: {_said(error)}", refused=not _is_pool_full(error)) from None
    except OSError as error:
        raise StoreError(f"redis: {type(error).__name__}") from None


def _is_pool_full(error: redis.RedisError) -> bool:
    return isinstance(error, redis.MaxConnectionsError) or str(error) == "No connection available."


def _said(error: redis.RedisError) -> str:
    code = _CODE.match(str(error)) if isinstance(error, redis.ResponseError) else None
    return f"{type(error).__name__} {code[0]}" if code else type(error).__name__
