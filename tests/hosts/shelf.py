"""A store that tells of its life."""

from collections.abc import Mapping

from cache_proxy.backends import MemoryBackend
from cache_proxy.backends.base import Key, Value
from cache_proxy.settings import Settings


class Shelf(MemoryBackend):
    """Keeps its values when it is closed, so that a test can see what was stored before."""

    def __init__(self) -> None:
        super().__init__(2**20)
        self.told: list[str] = []
        self.refusing: Exception | None = None
        self.failing: Exception | None = None

    def __call__(self, _settings: Settings) -> "Shelf":
        """The store of every engine."""
        return self

    @property
    def is_open(self) -> bool:
        return self.told[-1:] == ["opened"]

    async def open(self) -> None:
        if self.refusing is not None:
            raise self.refusing
        self.told.append("opened")

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        assert self.is_open
        return await super().set_many(entries, ttl)

    async def close(self) -> None:
        self.told.append("closed")
        if self.failing is not None:
            raise self.failing
