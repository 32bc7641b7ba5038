import logging
from pathlib import Path

import pytest

from cache_proxy.backends import DiskBackend
from cache_proxy.standin import StandIn
from cache_proxy.unreadable import Unreadable
from tests.support import proxy

pytestmark = pytest.mark.anyio

BODY = {"model": "jina-embeddings-v3", "input": [f"text {number}" for number in range(12)], "dimensions": 32}


async def spoil(folder: Path) -> None:
    """Replace the last byte of every entry."""
    store = DiskBackend(folder)
    await store.open()
    keys = await store._hop(store._file.call, lambda cache: [key for (key,) in cache._sql("SELECT key FROM Cache")])
    frames = await store.get_many(keys)
    await store.set_many({key: frame[:-1] + bytes([frame[-1] ^ 1]) for key, frame in frames.items()})
    await store.close()


async def test_entries_that_can_not_be_read_are_paid_for_again_and_told_of_in_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    standin = StandIn()
    quiet = {"cache_proxy_settings": {"memory_mib": 0}}
    async with proxy(standin, tmp_path, quiet) as client:
        first = await client.post("/v1/embeddings", json=BODY)
    await spoil(tmp_path)
    async with proxy(standin, tmp_path, quiet) as client:
        second = await client.post("/v1/embeddings", json=BODY)
        third = await client.post("/v1/embeddings", json=BODY)
    assert first.json()["data"] == second.json()["data"] == third.json()["data"]
    assert standin.call_count == 2
    told = [record.getMessage() for record in caplog.records if "unreadable" in record.getMessage()]
    assert told == ["store=disk unreadable=12: entries damaged or of another version, paid for again"]


def test_a_store_full_of_them_is_told_of_at_the_first_the_tenth_and_the_hundredth(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    unreadable = Unreadable("redis")
    for _ in range(150):
        unreadable.add(1)
    unreadable.add(5000)
    assert [vars(record)["unreadable"] for record in caplog.records] == [1, 10, 100, 5150]
