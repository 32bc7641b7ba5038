"""One server of a Cluster: what it is sent, and how it is doing."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from cache_proxy.backends.breaker import Breaker
from cache_proxy.backends.redis.buckets import SLOTS
from cache_proxy.backends.redis.translated import translated
from cache_proxy.errors import StoreError

Words = tuple[bytes | str | int, ...]
"""One command."""


_NO_CLUSTER = "redis: {} is no server of a Cluster; take redis_startup_nodes out, and give host and port"


class Address(NamedTuple):
    """Where a server says it is."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Node:
    """A server and the connections to it. It is left alone after failures of its own, whatever the others do."""

    def __init__(self, address: Address, client: Redis, clock: Callable[[], float]) -> None:
        self.address = address
        self.client = client
        self.breaker = Breaker(
            f"redis[{address}]", refusals=2, timeouts=2, probe_after=1.0, probe_at_most=10.0, clock=clock
        )
        self.closed = False
        self._calls = 0
        self._retired = False

    async def run(self, commands: Sequence[Words], *, asking: bool = False) -> list[Any]:
        """The replies, in one trip; what the server refused is an exception among them. ``asking`` says that it was
        named by an ``ASK``. Raises ``StoreError`` where there is no reply.
        """
        self._calls += 1
        try:
            with translated():
                if not asking:
                    return await self._asked(commands)
                replies = await self._asked([each for words in commands for each in (("ASKING",), words)])
                return replies[1::2]
        finally:
            self._calls -= 1
            if self._retired:
                await self.retire()

    async def _asked(self, commands: Sequence[Words]) -> list[Any]:
        async with self.client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        return replies

    async def owners(self) -> "list[Address | None]":
        """Who holds each bucket, as this server sees it."""
        with translated():
            (told,) = await self._asked([("CLUSTER", "SLOTS")])
            if isinstance(told, Exception):
                raise StoreError(_NO_CLUSTER.format(self.address)) if type(told) is ResponseError else told
        try:
            return _owners(told, self.address)
        except (ValueError, TypeError, LookupError, AttributeError):
            raise StoreError(f"redis: {self.address} gave a map of the Cluster that can not be read") from None

    async def retire(self) -> None:
        """Close every connection, once nothing is under way on them."""
        self._retired = True
        if not self._calls:
            with suppress(StoreError):
                await self.close()

    async def close(self) -> None:
        """Close every connection now."""
        with translated():
            await self.client.aclose(close_connection_pool=True)
        self.closed = True


def _owners(told: Sequence[Any], asked: Address) -> "list[Address | None]":
    """The primary of each bucket's slot, from ``[[first, last, [host, port, …], replicas…], …]``."""
    runs = sorted((int(run[0]), int(run[1]), _address(run[2], asked)) for run in told)
    firsts = [first for first, _, _ in runs]
    found: list[Address | None] = []
    for slot in SLOTS:
        at = bisect_right(firsts, slot) - 1
        found.append(runs[at][2] if at >= 0 and slot <= runs[at][1] else None)
    return found


def _address(server: Sequence[Any], asked: Address) -> Address:
    # A server that does not know by what name it is reached says nothing or "?": by the one that was used.
    host = (server[0] or b"").decode()
    return Address(host if host not in ("", "?") else asked.host, int(server[1]))
