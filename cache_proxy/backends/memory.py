"""A store in this process: least recently used goes first, bounded in bytes."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence

from cache_proxy.backends.base import Backend, Key, Occupancy, Value

ENTRY_OVERHEAD = 180
"""Bytes an entry costs beside its key and value: two object heads, the slot and the link (measured on CPython
3.11).
"""


class MemoryBackend(Backend):
    """Values in a dictionary; what was set is what comes back, the same object.

    ``max_bytes`` bounds keys, values and their overhead together. A value that is bigger than the bound alone
    is not held. A ttl is not needed here (the entry carries its expiry), so there is no clock.

    ``held``, ``hold``, ``drop`` and ``drop_all`` are the same four verbs without ``async``, for the tier.
    """

    name = "memory"

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._evicted = 0
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        self._bytes = 0

    def held(self, keys: Iterable[Key]) -> dict[Key, Value]:
        """The values held under these keys; each becomes the most recently used."""
        entries = self._entries
        found = {}
        for key in keys:
            value = entries.get(key)
            if value is not None:
                entries.move_to_end(key)
                found[key] = value
        return found

    def hold(self, entries: Mapping[Key, Value]) -> None:
        """Hold these values, and let the least recently used go until all fits."""
        for key, value in entries.items():
            self._remove(key)
            cost = _cost(key, value)
            if cost <= self.max_bytes:
                self._entries[key] = value
                self._bytes += cost
        while self._bytes > self.max_bytes:
            key, value = self._entries.popitem(last=False)
            self._bytes -= _cost(key, value)
            self._evicted += 1

    def hold_absent(self, entries: Mapping[Key, Value]) -> None:
        """Hold those of these values whose keys hold nothing yet."""
        self.hold({key: value for key, value in entries.items() if key not in self._entries})

    def drop(self, keys: Iterable[Key]) -> int:
        """Forget these keys. Returns how many of them were held."""
        return sum(self._remove(key) for key in keys)

    def drop_all(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._bytes = 0

    def _remove(self, key: Key) -> bool:
        value = self._entries.pop(key, None)
        if value is None:
            return False
        self._bytes -= _cost(key, value)
        return True

    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        return self.held(keys)

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:  # noqa: ARG002
        self.hold(entries)
        return True

    async def delete_many(self, keys: Sequence[Key]) -> int:
        return self.drop(keys)

    async def clear(self) -> None:
        self.drop_all()

    async def ping(self) -> None:
        return None

    @property
    def occupied(self) -> Occupancy:
        """What is held, their overhead included; :meth:`occupancy` without ``async``."""
        return Occupancy(len(self._entries), self._bytes, self.max_bytes)

    async def occupancy(self) -> Occupancy:
        return self.occupied

    @property
    def evicted(self) -> int:
        return self._evicted

    async def size(self) -> tuple[int, int]:
        """How many entries are held, and their bytes with all overhead."""
        return len(self._entries), self._bytes

    async def close(self) -> None:
        self.drop_all()


def _cost(key: Key, value: Value) -> int:
    return len(key) + len(value) + ENTRY_OVERHEAD
