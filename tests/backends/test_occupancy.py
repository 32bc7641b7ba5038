"""What a store says it holds, what it has let go of, and how long it took."""

from contextlib import closing
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from cache_proxy.backends import DiskBackend, GuardedBackend, MemoryBackend, TieredBackend
from cache_proxy.backends.base import Occupancy
from cache_proxy.backends.contract import A, B, C, random_entries
from cache_proxy.errors import StoreError
from tests.backends.fakes import WaywardStore

pytestmark = pytest.mark.anyio


def rows(folder: Path) -> int:
    with closing(connect(folder / "cache.db")) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM Cache").fetchone()[0])


async def test_the_disk_counts_its_entries_without_looking_at_them(tmp_path: Path) -> None:
    store = DiskBackend(tmp_path, 2**21, tidy_every=3600)
    await store.open()
    await store.set_many({A: b"1", B: b"2"})
    await store.set_many({A: b"3"})
    await store.set_many({C: b"4"}, ttl=0.0)
    await store.delete_many([B, b"never held"])
    await store.tidy()
    assert await store.occupancy() == Occupancy(1, (await store.size())[1], 2**21)
    for _ in range(40):
        await store.set_many(random_entries(20, 4145))
    await store.tidy()
    # What runs by itself when the bound is near would evict between two looks.
    await store.close()
    assert store.evicted == 1 + 800 - rows(tmp_path) > 0
    await store.open()
    assert (await store.occupancy()).entries == rows(tmp_path)
    await store.clear()
    assert (await store.occupancy()).entries == 0
    await store.close()


async def test_another_process_that_opens_the_folder_counts_the_same(tmp_path: Path) -> None:
    for keys in ([A, B], [B, C]):
        store = DiskBackend(tmp_path)
        await store.open()
        await store.set_many(dict.fromkeys(keys, b"1"))
        await store.close()
    await store.open()
    assert (await store.occupancy()).entries == 3
    await store.close()


async def test_the_memory_counts_what_it_lets_go_of() -> None:
    store = MemoryBackend(1000)
    await store.set_many({b"%d" % n: bytes(100) for n in range(10)})
    held = await store.occupancy()
    assert held.entries is not None
    assert held.bytes is not None
    assert held.bytes <= 1000 == held.limit
    assert (held.entries > 0, store.evicted) == (True, 10 - held.entries)
    await store.delete_many([b"9"])
    assert store.evicted == 10 - held.entries, "what was purged was not in the way of anything"


async def test_a_plain_store_need_not_know() -> None:
    store = WaywardStore()
    tier = TieredBackend(MemoryBackend(2**20), GuardedBackend(store))
    assert (await tier.occupancy(), tier.evicted) == (Occupancy(), None)
    await tier.close()


class Boastful(WaywardStore):
    """Somebody else's, with words of its own for these."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    async def occupancy(self) -> Occupancy:
        held: Occupancy = self.answer
        return held

    @property
    def evicted(self) -> int | None:
        count: int | None = self.answer
        return count


@pytest.mark.parametrize("answer", [7, "many", None, (1, 2, 3), Occupancy("secret"), Occupancy(True)])  # type: ignore[arg-type]
async def test_nonsense_about_it_is_a_failure_and_no_more(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    guard = GuardedBackend(Boastful(answer))
    with pytest.raises(StoreError, match="occupancy gave something else"):
        await guard.occupancy()
    assert guard.evicted in (None, 7)
    assert guard.failures["ping_refused"] == 1
    assert "secret" not in caplog.text
    await guard.close()


async def test_the_guard_tells_how_long_each_kind_of_call_took_whether_or_not_it_failed() -> None:
    told: list[tuple[str, float]] = []
    store = WaywardStore()
    guard = GuardedBackend(store, read_deadline=0.02, timed=lambda what, seconds: told.append((what, seconds)))
    assert guard.leases is not None
    assert guard.counters is not None
    await guard.open()
    await guard.set_many({A: b"1"})
    await guard.get_many([A])
    await guard.leases.acquire({A: b""}, b"me", 1.0)
    await guard.leases.release({A: b"me"})
    await guard.counters.take(b"name", [], 1.0)
    await guard.delete_many([A])
    await guard.clear()
    assert [what for what, _ in told] == ["write", "read", "lease", "lease", "counter", "purge", "purge"]
    assert all(0 <= seconds < 1 for _, seconds in told)
    store.answering.clear()
    await guard.get_many([A])
    assert told[-1][0] == "read"
    assert told[-1][1] >= 0.02
    store.answering.set()
    await guard.close()


async def test_what_is_not_asked_takes_no_time() -> None:
    told: list[str] = []
    store = WaywardStore()
    store.refusing = StoreError("no")
    guard = GuardedBackend(store, timed=lambda what, _: told.append(what), pending_bytes=0, probe_after=60)
    for _ in range(5):
        await guard.get_many([A])
    await guard.set_many({A: b"1"})
    assert told == ["read", "read"]
    assert guard.states == {"store": "open"}
    await guard.close()
