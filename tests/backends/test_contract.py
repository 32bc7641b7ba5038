"""One suite, every store."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import fakeredis
import pytest

from cache_proxy.backends import (
    Backend,
    DiskBackend,
    GuardedBackend,
    MemoryBackend,
    RedisBackend,
    TieredBackend,
)
from tests.backends.contract import StoreContract


def memory() -> MemoryBackend:
    return MemoryBackend(2**24)


def fake() -> RedisBackend:
    server = fakeredis.FakeServer()
    return RedisBackend(lambda: fakeredis.FakeAsyncRedis(server=server), "ns")


STORES: dict[str, Callable[[Path], Backend]] = {
    "memory": lambda _: memory(),
    "disk": lambda path: DiskBackend(path / "store"),
    "redis": lambda _: fake(),
    "memory before disk": lambda path: TieredBackend(memory(), DiskBackend(path / "store")),
    "memory before guarded redis": lambda _: TieredBackend(memory(), GuardedBackend(fake())),
    "guarded disk": lambda path: GuardedBackend(DiskBackend(path / "store")),
}


@pytest.fixture(params=STORES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    made = STORES[request.param](tmp_path)
    await made.open()
    yield made
    await made.close()


class TestEveryStore(StoreContract):
    pass


def test_every_error_of_the_redis_client_is_one_the_store_translates() -> None:
    from redis import exceptions

    grown = {
        name
        for name, kind in vars(exceptions).items()
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, exceptions.RedisError)
    }
    # These come from the cluster client, from forks and from wrong calls, none of which the store makes.
    assert grown <= {
        "ChildDeadlockedError",
        "RedisClusterException",
        "SlotNotCoveredError",
        "CrossSlotTransactionError",
        "InvalidPipelineStack",
        "IncorrectPolicyType",
    }
