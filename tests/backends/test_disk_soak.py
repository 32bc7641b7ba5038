"""The disk store under several writers for a while, and with very many entries."""

import asyncio
import subprocess
import sys
import time
from hashlib import shake_128
from pathlib import Path

import pytest

from cache_proxy.backends.disk import DiskBackend

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MIB = 2**20
PROCESSES = 3

WRITER = """
import asyncio, random, sys
from hashlib import shake_128
from cache_proxy.backends.disk import DiskBackend
folder, bound, volume, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
chance, known, written, wrong = random.Random(seed), [], 0, 0

def value(key, size):
    return shake_128(key).digest(size)

async def read(store):
    global wrong
    while written < volume:
        keys = chance.choices(known, k=32) if known else []
        found = await store.get_many(keys)
        wrong += sum(held != value(key, len(held)) for key, held in found.items())
        await asyncio.sleep(0.001)

async def write(store):
    global written
    while written < volume:
        size = chance.choice([200, 1000, 4145, 4145, 16_000, 60_000])
        keys = [chance.randbytes(32) for _ in range(chance.choice([1, 8, 64, 512]))]
        await store.set_many({key: value(key, size) for key in keys})
        written += len(keys) * size
        known[:] = (known + keys)[-3000:]

async def main():
    store = DiskBackend(folder, bound, write_patience=30, tidy_every=0.5)
    await store.open()
    await asyncio.gather(read(store), read(store), write(store))
    await store.close()
    print(wrong)
asyncio.run(main())
"""


async def test_the_folder_stays_within_the_bound_and_a_tenth_whatever_its_processes_write(tmp_path: Path) -> None:
    folder, bound = tmp_path / "store", 16 * MIB
    command = [sys.executable, "-c", WRITER, str(folder), str(bound), str(bound)]
    pipe = subprocess.PIPE
    writers = [
        subprocess.Popen([*command, str(seed)], stdout=pipe, stderr=pipe, text=True) for seed in range(PROCESSES)
    ]
    most = 0
    while any(writer.poll() is None for writer in writers):
        most = max(most, bytes_in(folder))
        await asyncio.sleep(0.01)
    said = [writer.communicate() for writer in writers]
    assert [errors for _, errors in said] == [""] * PROCESSES
    assert [wrong.strip() for wrong, _ in said] == ["0"] * PROCESSES
    assert bound * 0.5 < most <= bound * 1.1


def bytes_in(folder: Path) -> int:
    total = 0
    for path in folder.glob("*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


MANY = 100_000
AT_ONCE = 1000


def key_of(number: int) -> bytes:
    return shake_128(number.to_bytes(8, "big")).digest(32)


def value_of(number: int) -> bytes:
    return shake_128(number.to_bytes(8, "little")).digest(320)


async def timed_reads(store: DiskBackend, until: asyncio.Event) -> float:
    """The longest that a look-up took until then, in seconds."""
    longest = 0.0
    while not until.is_set():
        began = time.monotonic()
        await store.get_many([key_of(1)])
        longest = max(longest, time.monotonic() - began)
        await asyncio.sleep(0)
    return longest


async def test_very_many_entries_are_found_opened_at_once_and_purged_without_a_pause(tmp_path: Path) -> None:
    store = DiskBackend(tmp_path / "store", 2**33)
    await store.open()
    for begin in range(0, MANY, AT_ONCE):
        await store.set_many({key_of(number): value_of(number) for number in range(begin, begin + AT_ONCE)})
    await store.close()
    began = time.monotonic()
    await store.open()
    assert time.monotonic() - began < 1
    asked = range(0, MANY, 97)
    assert await store.get_many(list(map(key_of, asked))) == {key_of(number): value_of(number) for number in asked}
    assert (await store.size())[0] == MANY
    other = DiskBackend(tmp_path / "store", 2**33)
    await other.open()
    purged = asyncio.Event()
    reading = asyncio.create_task(timed_reads(other, purged))
    began = time.monotonic()
    await store.clear()
    assert time.monotonic() - began < 2
    purged.set()
    assert await reading < 2
    assert await other.get_many(list(map(key_of, asked))) == {}
    assert (await other.size())[0] == 0
    await other.close()
    await store.close()
