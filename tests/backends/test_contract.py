"""One suite, every store."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
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
    contract,
    counter_contract,
    lease_contract,
)
from cache_proxy.backends.contract import A, StoreContract
from cache_proxy.backends.counter_contract import CountersContract
from cache_proxy.backends.lease_contract import LeasesContract
from cache_proxy.backends.redis import leases as redis_leases
from tests.backends.fakes import shorter_words


def memory() -> MemoryBackend:
    return MemoryBackend(2**24)


def guarded(inner: Backend) -> GuardedBackend:
    return GuardedBackend(inner, read_deadline=60.0, write_deadline=60.0)


def fake(server: fakeredis.FakeServer) -> RedisBackend:
    return RedisBackend(lambda: fakeredis.FakeAsyncRedis(server=server), "ns")


STORES: dict[str, Callable[[Path, fakeredis.FakeServer], Backend]] = {
    "memory": lambda _, __: memory(),
    "disk": lambda folder, _: DiskBackend(folder),
    "redis": lambda _, server: fake(server),
    "memory before disk": lambda folder, _: TieredBackend(memory(), DiskBackend(folder)),
    "memory before guarded redis": lambda _, server: TieredBackend(memory(), guarded(fake(server))),
    "guarded disk": lambda folder, _: guarded(DiskBackend(folder)),
}

FOREIGN = {"other": b"1", "ns:deeper:00ff": b"2", "nsx:00": b"3", f"other:{A.hex()}": b"4", "x" + A.hex(): b"5"}


class TestEveryStore(StoreContract):
    @pytest.fixture(params=STORES)
    async def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
        self.folder, self.server = tmp_path / "store", fakeredis.FakeServer()
        made = STORES[request.param](self.folder, self.server)
        await made.open()
        yield made
        await made.close()

    async def plant(self) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "notes.txt").write_text("theirs")
        async with fakeredis.FakeAsyncRedis(server=self.server) as client:
            await client.mset(FOREIGN)

    async def is_intact(self) -> bool:
        async with fakeredis.FakeAsyncRedis(server=self.server) as client:
            held = dict(zip(FOREIGN, await client.mget(FOREIGN), strict=True))
        return held == FOREIGN and (self.folder / "notes.txt").read_text() == "theirs"


class Shared:
    """Two stores at one place."""

    @pytest.fixture(params=["redis", "memory before guarded redis"])
    async def pair(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Backend, Backend]]:
        server = fakeredis.FakeServer()
        async with AsyncExitStack() as closing:
            first, second = (STORES[request.param](tmp_path / "store", server) for _ in range(2))
            for each in (first, second):
                await each.open()
                closing.push_async_callback(each.close)
            yield first, second

    @pytest.fixture
    def store(self, pair: tuple[Backend, Backend]) -> Backend:
        return pair[0]

    @pytest.fixture
    def beside(self, pair: tuple[Backend, Backend]) -> Backend:
        return pair[1]


class TestLeases(Shared, LeasesContract):
    @pytest.fixture
    def word_seconds(self, monkeypatch: pytest.MonkeyPatch) -> float:
        return shorter_words(monkeypatch, redis_leases)


class TestCounters(Shared, CountersContract):
    pass


def test_nothing_imports_the_suite_at_run_time() -> None:
    package = Path(contract.__file__).parent.parent
    own = {Path(str(suite.__file__)) for suite in (contract, counter_contract, lease_contract)}
    naming = re.compile(r"import.*contract\b|backends\.\w*contract|\bpytest\b")
    assert [path.name for path in package.rglob("*.py") if path not in own and naming.search(path.read_text())] == []


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
