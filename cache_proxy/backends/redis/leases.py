"""Leases in Redis: beside each value's name there is one for its lease, ``<name of the value>:lease``.

So it is in the value's slot of a Cluster, in the namespace, and no name of a value: a purge passes it by.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import TryAgainError

from cache_proxy.backends.base import WORD_SECONDS, Key, Leases, Owner, Turn
from cache_proxy.backends.redis.buckets import Bucket
from cache_proxy.backends.redis.delivery import Order
from cache_proxy.backends.redis.names import milliseconds
from cache_proxy.backends.redis.nodes import Words
from cache_proxy.backends.redis.scripts import ACQUIRE, RELEASE, RENEW, Argument, Place, script
from cache_proxy.backends.redis.translated import failure, foreign
from cache_proxy.errors import StoreError

KEYS_A_SCRIPT = 100
"""Keys that one script looks at: it takes some half a millisecond, in which the server does nothing else."""

Batch = Sequence[Key]
"""Keys in one bucket."""


@dataclass(frozen=True, slots=True)
class _Told:
    """What the servers said about each key, the keys that can only be asked for alone, and what went wrong."""

    said: dict[Key, Any] = field(default_factory=dict)
    torn: list[Key] = field(default_factory=list)
    failures: list[StoreError] = field(default_factory=list)

    def add(self, keys: Batch, reply: Any) -> None:
        if isinstance(reply, TryAgainError):
            # Its slot is on the way to another server, and both answer for one name at a time.
            self.torn.extend(keys)
        elif isinstance(reply, Exception):
            self.failures.append(failure(reply))
        elif isinstance(reply, list) and len(reply) == len(keys):
            self.said.update(zip(keys, reply, strict=True))
        else:
            self.failures.append(foreign())

    def raise_if_silent(self) -> None:
        if self.failures and not self.said:
            raise self.failures[0]


class RedisLeases(Leases):
    """Leases at ``place``: one trip to each server, in scripts of some keys each."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        def claim(leases: Batch, values: Batch) -> Words:
            names = [*map(self._lease, leases), *map(self._place.name, values)]
            return script(ACQUIRE, names, [owner, milliseconds(ttl), *(wanted[key] for key in leases)])

        told = await self._ask(self._batches(wanted), lambda keys: claim(keys, keys))
        turns = _turns(told)
        if told.torn:
            alone = await self._ask(_singly(told.torn), lambda keys: claim(keys, ()))
            turns |= await self._with_values(_turns(alone))
            told.failures.extend(alone.failures)
        told.raise_if_silent()
        return turns

    async def _with_values(self, turns: Mapping[Key, Turn]) -> dict[Key, Turn]:
        """The same, with whether a value is held: asked after the lease was taken, which is what matters."""
        orders = [Order(self._place.bucket(key), ("EXISTS", self._place.name(key))) for key in turns]
        replies = zip(turns.items(), await self._place.run(orders, reading=True), strict=True)
        return {key: turn._replace(stored=held == 1) for (key, turn), held in replies if isinstance(held, int)}

    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        told = await self._ask_owned(RENEW, held, [milliseconds(ttl)], reading=True)
        told.raise_if_silent()
        return {key for key, reply in told.said.items() if reply == 1}

    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        last: list[Argument] = [0, b""] if word is None else [milliseconds(WORD_SECONDS), word]
        told = await self._ask_owned(RELEASE, held, last, reading=False)
        for failed in told.failures:
            raise failed

    async def _ask_owned(
        self, text: str, held: Mapping[Key, Owner], arguments: Sequence[Argument], *, reading: bool
    ) -> _Told:
        """What is said to this script about each of these owners' leases."""

        def words(keys: Batch) -> Words:
            return script(text, [*map(self._lease, keys)], [*arguments, *(held[key] for key in keys)])

        told = await self._ask(self._batches(held), words, reading=reading)
        if told.torn:
            alone = await self._ask(_singly(told.torn), words, reading=reading)
            told.failures.extend(alone.failures)
            told.said.update(alone.said)
        return told

    async def _ask(self, batches: Sequence[Batch], words: Callable[[Batch], Words], *, reading: bool = True) -> _Told:
        told = _Told()
        if batches:
            orders = [Order(self._place.bucket(keys[0]), words(keys)) for keys in batches]
            for keys, reply in zip(batches, await self._place.run(orders, reading=reading), strict=True):
                told.add(keys, reply)
        return told

    def _lease(self, key: Key) -> bytes:
        return self._place.name(key) + b":lease"

    def _batches(self, keys: Iterable[Key]) -> list[Batch]:
        buckets: dict[Bucket, list[Key]] = defaultdict(list)
        for key in keys:
            buckets[self._place.bucket(key)].append(key)
        return [
            each[start : start + KEYS_A_SCRIPT]
            for each in buckets.values()
            for start in range(0, len(each), KEYS_A_SCRIPT)
        ]


def _singly(keys: Iterable[Key]) -> list[Batch]:
    return [[key] for key in keys]


def _turns(told: _Told) -> dict[Key, Turn]:
    return {key: _turn(reply) for key, reply in told.said.items()}


def _turn(reply: Any) -> Turn:
    """What ``ACQUIRE`` says of one lease."""
    if not isinstance(reply, bytes) or reply[:1] not in (b"0", b"1"):
        raise foreign()
    stored, kind, rest = reply[:1] == b"1", reply[1:2], reply[2:]
    if kind == b"=":
        return Turn(mine=True, stored=stored)
    if kind == b"+":
        return Turn(mine=False, stored=stored, owner=rest)
    if kind == b"-":
        return Turn(mine=False, stored=stored, word=rest)
    raise foreign()
