"""What keys are called in Redis, and what is sent in one trip."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from cache_proxy.backends.base import Key, Value

T = TypeVar("T")

KEYS_A_TRIP = 1000
BYTES_A_TRIP = 2**20

_GLOB = re.compile(rb"([\\*?\[\]^-])")
_HEX = re.compile(rb"(?:[0-9a-f]{2})+")


class Names:
    """``<namespace>:<key in hexadecimal>``."""

    def __init__(self, namespace: str) -> None:
        self.prefix = namespace.encode() + b":"

    def __call__(self, key: Key) -> bytes:
        """The name of this key."""
        return self.prefix + key.hex().encode()

    @property
    def pattern(self) -> bytes:
        """A glob of all our names, and of some that are not ours: ``a:*`` is also what namespace ``a:b`` holds."""
        return _GLOB.sub(rb"\\\1", self.prefix) + b"*"

    def holds(self, name: bytes) -> bool:
        """Whether this is the name of one of our keys."""
        return _HEX.fullmatch(name, len(self.prefix)) is not None


def by_weight(entries: Iterable[tuple[Key, Value]]) -> Iterator[list[tuple[Key, Value]]]:
    """The entries in trips, none of which is long in keys or bytes."""
    trip: list[tuple[Key, Value]] = []
    weight = 0
    for key, value in entries:
        trip.append((key, value))
        weight += len(value)
        if weight >= BYTES_A_TRIP or len(trip) >= KEYS_A_TRIP:
            yield trip
            trip, weight = [], 0
    if trip:
        yield trip


def by_count(names: Sequence[T]) -> Iterator[Sequence[T]]:
    """The names in trips."""
    for start in range(0, len(names), KEYS_A_TRIP):
        yield names[start : start + KEYS_A_TRIP]


def milliseconds(ttl: float) -> int:
    """Seconds as Redis takes them."""
    return max(1, round(ttl * 1000))
