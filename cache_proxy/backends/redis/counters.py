"""Counters in Redis: what is counted under a name is in one place, ``<namespace>:<hash of the name>:<what>``."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

from cache_proxy.backends.base import Counters, Want
from cache_proxy.backends.redis.delivery import Order
from cache_proxy.backends.redis.names import milliseconds
from cache_proxy.backends.redis.scripts import ENTER, LEAVE, TAKE, Argument, Place, script
from cache_proxy.backends.redis.translated import failure, foreign


class RedisCounters(Counters):
    """Counters at ``place``, each in one bucket by its name."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        seconds = [want.units * 60 / want.per_minute for want in wants]
        wait = await self._ask(TAKE, name, b"units", [at_most, *seconds])
        if not isinstance(wait, bytes):
            raise foreign()
        return float(wait)

    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        return bool(await self._ask(ENTER, name, b"inside", [ticket, limit, milliseconds(ttl)]))

    async def leave(self, name: bytes, ticket: bytes) -> None:
        await self._ask(LEAVE, name, b"inside", [ticket], reading=False)

    async def _ask(
        self, text: str, name: bytes, what: bytes, arguments: Sequence[Argument], *, reading: bool = True
    ) -> Any:
        # A hash spreads names, which may well begin alike, over the servers.
        key = blake2b(name, digest_size=16).digest()
        words = script(text, [self._place.name(key) + b":" + what], arguments)
        (reply,) = await self._place.run([Order(self._place.bucket(key), words)], reading=reading)
        if isinstance(reply, Exception):
            raise failure(reply)
        return reply
