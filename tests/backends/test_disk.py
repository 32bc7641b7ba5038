import asyncio
import contextlib
import logging
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cache_proxy.backends.contract import A, B, C, random_entries
from cache_proxy.backends.disk import DiskBackend
from cache_proxy.errors import StoreError

pytestmark = pytest.mark.anyio

BOUND = 2**21


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextlib.asynccontextmanager
async def opened(folder: Path, max_bytes: int = 2**30, patience: float = 4.0) -> AsyncIterator[DiskBackend]:
    store = DiskBackend(folder, max_bytes, write_patience=patience, tidy_every=3600)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@contextlib.contextmanager
def sqlite(folder: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(folder / "cache.db", isolation_level=None)) as connection:
        yield connection


async def seeded(folder: Path) -> None:
    async with opened(folder) as store:
        await store.set_many({A: b"1", B: b"2"})


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


async def test_nobody_else_may_read_the_folder_or_its_files(folder: Path) -> None:
    async with opened(folder) as store:
        await store.set_many({A: b"1"})
        assert mode(folder) == 0o700
        assert {mode(path) for path in folder.iterdir()} == {0o600}


async def test_values_live_in_rows_and_outlive_the_process(folder: Path) -> None:
    big = {A: os.urandom(300_000)}
    async with opened(folder) as store:
        await store.set_many(big)
    assert {path.name for path in folder.iterdir()} == {"cache.db", "cache.lock"}
    async with opened(folder) as store:
        assert await store.get_many([A]) == big


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("exploded",)


async def test_a_planted_pickle_is_a_miss_and_never_runs(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await seeded(folder)
    with sqlite(folder) as connection:
        connection.execute("UPDATE Cache SET mode = 4, value = ? WHERE key = ?", (pickle.dumps(Bomb()), A))
    async with opened(folder) as store:
        assert await store.get_many([A, B]) == {B: b"2"}
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("planted_mode", [1, 2, 3, 4])
async def test_a_planted_file_name_is_never_opened_or_removed(folder: Path, planted_mode: int) -> None:
    await seeded(folder)
    victim = folder.parent / "victim"
    victim.write_bytes(b"precious")
    with sqlite(folder) as connection:
        plant = "UPDATE Cache SET mode = ?, filename = '../victim', value = NULL WHERE key = ?"
        connection.executemany(plant, [(planted_mode, A), (planted_mode, B)])
    async with opened(folder) as store:
        assert await store.get_many([A, B]) == {}
        await store.set_many({A: b"3"})
        await store.delete_many([B])
        assert await store.get_many([A, B]) == {A: b"3"}
        await store.clear()
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("value", ["text", 7, 1.5])
async def test_a_planted_row_that_is_not_bytes_is_a_miss(folder: Path, value: object) -> None:
    await seeded(folder)
    with sqlite(folder) as connection:
        connection.execute("UPDATE Cache SET value = ? WHERE key = ?", (value, A))
    async with opened(folder) as store:
        assert await store.get_many([A, B]) == {B: b"2"}


async def test_planted_settings_do_not_win(folder: Path) -> None:
    await seeded(folder)
    planted = {
        "size_limit": 1,
        "cull_limit": 10,
        "eviction_policy": "least-recently-used",
        "statistics": 1,
        "sqlite_mmap_size": 2**26,
        "sqlite_user_version": 99,
        "disk_min_file_size": 0,
        "disk_folder": "/",
        "_directory": "/",
        "get": "nonsense",
    }
    with sqlite(folder) as connection:
        connection.executemany("INSERT OR REPLACE INTO Settings VALUES (?, ?)", planted.items())
    entries = random_entries(50)
    async with opened(folder) as store:
        await store.set_many(entries)
        assert await store.get_many([A, B, *entries]) == {A: b"1", B: b"2"} | entries
    with sqlite(folder) as connection:
        settings = dict(connection.execute("SELECT key, value FROM Settings"))
        assert connection.execute("PRAGMA user_version").fetchall() == [(0,)]
    assert settings["eviction_policy"] == "none"
    assert not {"_directory", "get", "disk_folder", "sqlite_user_version"} & set(settings)
    assert {path.name for path in folder.iterdir()} == {"cache.db", "cache.lock"}


def damage(folder: Path, how: str) -> None:
    path = folder / "cache.db"
    content = path.read_bytes()
    path.write_bytes({"not a database": b"x" * 5000, "truncated": content[:20_000]}[how])


@pytest.mark.parametrize("how", ["not a database", "truncated"])
async def test_a_damaged_file_is_put_aside_with_one_line(
    folder: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    await seeded(folder)
    damage(folder, how)
    async with opened(folder) as store:
        assert await store.get_many([A]) == {}
        await store.set_many({A: b"3"})
        assert await store.get_many([A]) == {A: b"3"}
    assert len(list(folder.glob("cache.db.damaged-*Z"))) == 1
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_damage_met_at_run_time_empties_the_store_for_all_who_share_it(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(folder) as one, opened(folder) as other:
        await one.set_many(random_entries(500, 4000))
        await other.ping()
        with sqlite(folder) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        with (folder / "cache.db").open("r+b") as file:
            file.write(b"garbage!" * 40_000)
        answers = await asyncio.gather(one.set_many({A: b"1"}), other.get_many([A]))
        assert answers[0] is True
        assert await other.get_many([A]) == {A: b"1"}
        assert await one.get_many([A]) == {A: b"1"}
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1
    assert len(list(folder.glob("cache.db.damaged-*Z"))) == 1


OPENER = """
import asyncio, logging, sys
from cache_proxy.backends.disk import DiskBackend
logging.basicConfig(level=logging.ERROR, stream=sys.stdout)
async def main():
    store = DiskBackend(sys.argv[1])
    sys.stdin.readline()
    await store.open()
    await store.set_many({sys.argv[2].encode(): b"1"})
    await store.close()
asyncio.run(main())
"""


def run_python(code: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def test_of_several_processes_one_alone_puts_the_damaged_file_aside(folder: Path) -> None:
    await seeded(folder)
    damage(folder, "not a database")
    processes = [run_python(OPENER, str(folder), name) for name in ("one", "two", "three")]
    said = await asyncio.gather(*(asyncio.to_thread(process.communicate, "\n") for process in processes))
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert sum(out.count("damaged") > 0 for out, _ in said) == 1
    assert len(list(folder.glob("cache.db.damaged-*Z"))) == 1
    async with opened(folder) as store:
        assert len(await store.get_many([b"one", b"two", b"three"])) == 3


WRITER = """
import asyncio, os, sys
from cache_proxy.backends.disk import DiskBackend
async def main():
    store = DiskBackend(sys.argv[1])
    await store.open()
    for number in range(10**6):
        key = number.to_bytes(32, "big")
        await store.set_many({key: key * 100})
        print(number, flush=True)
asyncio.run(main())
"""


async def test_a_writer_killed_in_the_middle_loses_nothing_it_had_confirmed(folder: Path) -> None:
    for _ in range(3):
        writer = run_python(WRITER, str(folder))
        assert writer.stdout is not None
        for _ in range(50):
            confirmed = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        await asyncio.to_thread(writer.communicate)
        keys = [number.to_bytes(32, "big") for number in range(confirmed + 1)]
        async with opened(folder) as store:
            assert await store.get_many(keys) == {key: key * 100 for key in keys}
            await store.clear()


async def test_two_processes_on_one_folder_see_each_other(folder: Path) -> None:
    async with opened(folder) as store:
        await store.set_many({A: b"1"})
        other = run_python(OPENER, str(folder), "theirs")
        await asyncio.to_thread(other.communicate, "\n")
        assert await store.get_many([A, b"theirs"]) == {A: b"1", b"theirs": b"1"}


async def test_reads_work_while_another_process_holds_the_write_lock(folder: Path) -> None:
    async with opened(folder, patience=0.0) as store:
        await store.set_many({A: b"1"})
        with sqlite(folder) as connection:
            connection.execute("BEGIN IMMEDIATE")
            assert await store.get_many([A]) == {A: b"1"}
            with pytest.raises(StoreError) as busy:
                await store.set_many({B: b"2"})
            assert not busy.value.refused


async def test_a_write_waits_for_the_lock_and_lets_reads_through(folder: Path) -> None:
    async with opened(folder) as store:
        await store.set_many({A: b"1"})
        with sqlite(folder) as connection:
            connection.execute("BEGIN IMMEDIATE")
            writing = asyncio.create_task(store.set_many({B: b"2"}))
            for _ in range(3):
                assert await store.get_many([A]) == {A: b"1"}
            assert not writing.done()
            connection.execute("COMMIT")
        assert await writing is True
        assert await store.get_many([B]) == {B: b"2"}


async def test_the_size_is_bounded_and_the_least_recently_used_go_first(folder: Path) -> None:
    async with opened(folder, BOUND) as store:
        old, hot = random_entries(100, 4000), random_entries(100, 4000)
        await store.set_many(hot)
        await store.set_many(old)
        await store.get_many(list(hot))
        await store.tidy()
        await store.set_many(random_entries(240, 4000))
        await store.tidy()
        assert (await store.size())[1] <= BOUND
        assert await store.get_many(list(hot)) == hot
        assert len(await store.get_many(list(old))) < 100


async def test_writers_do_not_outrun_the_bound(folder: Path) -> None:
    async with opened(folder, BOUND) as store:
        for _ in range(20):
            await store.set_many(random_entries(100, 4000))
            assert (await store.size())[1] <= BOUND
        await store.tidy()
        entries, size = await store.size()
        assert size <= BOUND
        assert entries > 250, "evicting stops when a tenth is free"


async def test_a_value_bigger_than_the_bound_is_not_held(folder: Path) -> None:
    async with opened(folder, BOUND) as store:
        await store.set_many({A: b"1", B: bytes(BOUND + 1)})
        assert await store.get_many([A, B]) == {A: b"1"}


async def test_expired_entries_are_forgotten(folder: Path) -> None:
    async with opened(folder) as store:
        await store.set_many({A: b"1"}, ttl=-1.0)
        await store.set_many({B: b"2"}, ttl=3600.0)
        assert await store.get_many([A, B]) == {B: b"2"}
        await store.tidy()
        assert (await store.size())[0] == 1


async def test_a_folder_removed_under_a_running_store_is_made_anew(folder: Path) -> None:
    async with opened(folder) as store:
        await store.set_many({A: b"1"})
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
        assert await store.get_many([A]) == {}
        await store.set_many({C: b"3"})
        assert await store.get_many([C]) == {C: b"3"}


async def test_a_folder_that_cannot_be_made_is_refused_and_opened_later(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = DiskBackend(tmp_path / "file" / "store")
    with pytest.raises(StoreError) as refused:
        await store.open()
    assert refused.value.refused
    (tmp_path / "file").unlink()
    await store.open()
    await store.set_many({A: b"1"})
    assert await store.get_many([A]) == {A: b"1"}
    await store.close()


async def test_a_symbolic_link_in_place_of_the_file_is_refused(folder: Path) -> None:
    folder.mkdir()
    (folder / "cache.db").symlink_to(folder.parent / "elsewhere")
    store = DiskBackend(folder)
    with pytest.raises(StoreError):
        await store.open()
    await store.close()
    assert not (folder.parent / "elsewhere").exists()
