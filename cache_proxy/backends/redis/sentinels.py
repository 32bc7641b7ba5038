"""Sentinels: who is the primary is asked of them, each time a connection is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff

from cache_proxy.backends.redis.access import Access, Pool, TlsConnection, client


@dataclass(frozen=True, slots=True)
class Sentinels:
    """Where the Sentinels are, and which primary is meant. They are reached over TLS if the primary is."""

    nodes: Sequence[tuple[str, int]]
    service: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def primary(self, access: Access) -> Redis:
        """A client of whichever server is the primary. Raises ``ConfigError``."""
        options = access.options()
        options["connection_class"] = _OverTls if access.tls is not None else SentinelManagedConnection
        watch = _Watch([])  # type: ignore[no-untyped-call]
        watch.sentinels = [client(self._asked(access, options), host, port) for host, port in self.nodes]
        return Redis.from_pool(_PrimaryPool(service_name=self.service, sentinel_manager=watch, **options))

    def _asked(self, access: Access, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options of a connection to a Sentinel: they are asked in turn, so a hung one must not take long."""
        asked = {**options, "username": self.username, "password": self.password, "db": 0, "client_name": None}
        asked |= {"socket_timeout": access.connect_timeout, "retry": Retry(NoBackoff(), 0)}
        del asked["connection_class"]
        return asked if access.tls is None else asked | {"connection_class": TlsConnection}


class _Watch(Sentinel):
    """redis-py's, for several who ask at a time: its own puts whoever answered to the front of a list that others are
    going through, which doubles one Sentinel and forgets another for good, its connections included.
    """

    async def discover_master(self, service_name: str) -> Any:
        asked = Sentinel([])  # type: ignore[no-untyped-call]
        asked.sentinels = list(self.sentinels)
        found = await asked.discover_master(service_name)
        self.sentinels.sort(key=lambda sentinel: sentinel is not asked.sentinels[0])
        return found


class _OverTls(SentinelManagedConnection, TlsConnection):
    pass


class _PrimaryPool(Pool, SentinelConnectionPool):
    """redis-py's pool of the primary's connections, in which a caller waits for a free one; its own raises."""

    async def release(self, connection: Any) -> None:
        # One that was in use while another server took over leads to the old one, which may not know of it yet.
        if (connection.host, connection.port) != self.master_address:
            await connection.disconnect()
        await super().release(connection)

    async def aclose(self) -> None:
        try:
            await super().aclose()
        finally:
            await self.sentinel_manager.aclose()
