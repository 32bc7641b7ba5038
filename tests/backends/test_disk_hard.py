"""The disk store on disks that are full, read-only or damaged, and beside processes that do not move."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import diskcache
import pytest

from cache_proxy.backends import disk
from cache_proxy.backends.contract import A, B, random_entries
from cache_proxy.backends.disk import DiskBackend
from cache_proxy.backends.disk_bounds import PAGE
from cache_proxy.backends.disk_lock import FolderLock
from cache_proxy.errors import StoreError
from tests.backends.test_disk import BOUND, opened, seeded, sqlite
from tests.mounts import NOT_PERMITTED, can_mount, fill, remount, tmpfs

pytestmark = pytest.mark.anyio

needs_mounts = pytest.mark.skipif(not can_mount(), reason=NOT_PERMITTED)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    with tmpfs(tmp_path / "disk", "8m") as mounted:
        yield mounted


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


async def failing_to_write(store: DiskBackend) -> StoreError:
    """Write until it fails."""
    try:
        for _ in range(200):
            await store.set_many(random_entries(20, 4000))
    except StoreError as error:
        return error
    pytest.fail("it never failed")


@needs_mounts
async def test_on_a_disk_smaller_than_the_bound_the_disk_is_the_bound(small: Path) -> None:
    async with opened(small / "store") as store:
        for _ in range(20):
            entries = random_entries(100, 4000)
            await store.set_many(entries)
        held = await store.get_many(list(entries))
        assert len(held) == 100, "the newest are held"
        assert held == entries


@needs_mounts
async def test_a_disk_that_others_have_filled_gives_its_hits_and_forgets_nothing(small: Path) -> None:
    entries = random_entries(100, 4000)
    async with opened(small / "store", patience=0.0) as store:
        await store.set_many(entries)
        filler = fill(small)
        assert isinstance(await failing_to_write(store), StoreError)
        assert len(await store.get_many(list(entries))) > 0
        filler.unlink()
        await store.set_many({A: b"1"})
        assert await store.get_many([A]) == {A: b"1"}


@needs_mounts
async def test_a_store_on_a_full_disk_is_opened_without_a_write(small: Path) -> None:
    async with opened(small / "store") as first:
        await first.set_many({A: b"1"})
        filler = fill(small)
        async with opened(small / "store") as second:
            assert await second.get_many([A]) == {A: b"1"}
            filler.unlink()
            await second.set_many({B: b"2"})
        assert await first.get_many([A, B]) == {A: b"1", B: b"2"}


@needs_mounts
async def test_a_full_disk_can_be_purged(small: Path) -> None:
    async with opened(small / "store") as store:
        await store.set_many(random_entries(500, 4000))
        fill(small)
        await store.clear()
        await store.set_many({A: b"1"})
        assert await store.get_many([A]) == {A: b"1"}


@needs_mounts
async def test_a_full_disk_is_told_once_with_its_reason(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(small / "store", patience=0.0) as store:
        fill(small)
        for _ in range(3):
            with pytest.raises(StoreError) as full:
                await store.set_many(random_entries(400, 4000))
            assert full.value.refused
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert str(small) in told[0]
    assert "FULL" in told[0]


@needs_mounts
async def test_a_read_only_disk_is_refused_and_opened_once_it_can_be_written(small: Path) -> None:
    await seeded(small / "store")
    remount(small, "ro")
    store = DiskBackend(small / "store")
    with pytest.raises(StoreError, match="Read-only") as refused:
        await store.open()
    assert refused.value.refused
    remount(small, "rw")
    assert await store.get_many([A]) == {A: b"1"}
    await store.close()


async def test_the_log_ends_somewhere_however_long_somebody_reads_in_it(folder: Path) -> None:
    async with opened(folder, BOUND, patience=0.0) as store:
        await store.set_many({A: b"1"})
        with sqlite(folder) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM Cache").fetchall()
            assert not (await failing_to_write(store)).refused
            assert await store.get_many([A]) == {A: b"1"}
            most = store._file.bounds.log_most
            assert most <= (folder / "cache.db-wal").stat().st_size <= most * 1.5
        await store.set_many(random_entries(20, 4000))
        assert (folder / "cache.db-wal").stat().st_size <= most


async def test_a_new_file_has_pages_that_vectors_fit_into_and_that_can_be_given_back(folder: Path) -> None:
    await seeded(folder)
    with sqlite(folder) as connection:
        told = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_size", "auto_vacuum")]
    assert told == [PAGE, 2]


async def test_every_write_makes_its_own_room_when_housekeeping_is_behind(folder: Path) -> None:
    async with opened(folder, BOUND) as store:
        for _ in range(150):
            await store._write(store._set, random_entries(8, 4000), None)
        entries, size = await store.size()
        assert size <= store._file.bounds.goal
        assert entries > 350


async def test_uses_that_can_not_be_written_down_do_not_pile_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_TOUCHED_MOST", 10)
    async with opened(folder, patience=0.0) as store:
        entries = random_entries(100)
        await store.set_many(entries)
        with FolderLock(folder).held(0):
            for key in entries:
                await store.get_many([key])
            assert len(store._touched) == 10


async def test_a_bound_that_was_lowered_is_reached_step_by_step_and_the_file_shrinks(folder: Path) -> None:
    async with opened(folder, BOUND * 4) as store:
        await store.set_many(random_entries(1500, 4000))
    assert bytes_in(folder) > BOUND * 2
    async with opened(folder, BOUND) as store:
        await store.tidy()
        assert (await store.size())[1] <= BOUND
    assert bytes_in(folder) <= BOUND * 1.1


async def test_a_cleared_store_gives_its_bytes_back_although_others_have_the_file_open(folder: Path) -> None:
    entries = random_entries(500, 4000)
    async with opened(folder) as one, opened(folder) as other:
        await one.set_many(entries)
        assert len(await other.get_many(list(entries))) == 500
        before = bytes_in(folder)
        handle = os.open(folder / "cache.db", os.O_RDONLY)
        await one.clear()
        assert os.fstat(handle).st_size == 0, "an idle process must not keep them"
        os.close(handle)
        assert bytes_in(folder) < before / 4
        assert await other.get_many(list(entries)) == {}
        await other.set_many({A: b"1"})
        assert await one.get_many([A]) == {A: b"1"}


async def test_clearing_never_follows_a_planted_link(folder: Path) -> None:
    victim = folder.parent / "victim"
    victim.write_bytes(b"precious")
    async with opened(folder) as store:
        (folder / "cache.db").unlink()
        (folder / "cache.db").symlink_to(victim)
        await store.clear()
        await store.set_many({A: b"1"})
        assert await store.get_many([A]) == {A: b"1"}
    assert victim.read_bytes() == b"precious"


@pytest.mark.parametrize("left", ["cache.db.cleared", "cache.db-wal", "cache.db-shm"])
async def test_what_a_killed_process_left_of_an_old_file_is_not_mixed_up(folder: Path, left: str) -> None:
    await seeded(folder)
    (folder / "cache.db").rename(folder / "cache.db.cleared")
    (folder / left).write_bytes(os.urandom(50_000))
    async with opened(folder) as store:
        assert await store.get_many([A, B]) == {}
        await store.set_many({A: b"3"})
        assert await store.get_many([A]) == {A: b"3"}
    assert {path.name for path in folder.iterdir()} == {"cache.db", "cache.lock"}


def break_file(folder: Path) -> None:
    (folder / "cache.db").write_bytes(b"x" * 50_000)


async def test_one_damaged_file_at_most_is_kept_and_only_as_long_as_there_is_room(folder: Path) -> None:
    await seeded(folder)
    (folder / "cache.db.damaged-20260101T000000.000000Z").write_bytes(bytes(BOUND // 2))
    break_file(folder)
    async with opened(folder, BOUND) as store:
        (kept,) = folder.glob("cache.db.damaged-*")
        assert kept.stat().st_size == 50_000
        for _ in range(10):
            await store.set_many(random_entries(100, 4000))
            assert bytes_in(folder) <= BOUND * 1.3  # a tenth holds from 16 MiB on
    assert not kept.exists()


async def test_a_file_damaged_again_at_once_is_left_alone_for_a_while(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await seeded(folder)
    break_file(folder)
    async with opened(folder) as store:
        break_file(folder)
        for _ in range(5):
            with pytest.raises(StoreError, match="again"):
                await store.get_many([A])
    assert len([record for record in caplog.records if record.levelno >= logging.ERROR]) == 1


async def test_a_log_cut_off_while_it_is_in_use_is_damage(folder: Path) -> None:
    entries = random_entries(300, 4000)
    async with opened(folder) as writer, opened(folder) as reader:
        await writer.set_many(entries)
        os.truncate(folder / "cache.db-wal", 100)
        held = await reader.get_many(list(entries))
        assert all(entries[key] == value for key, value in held.items())
        await reader.set_many({A: b"1"})
        assert await writer.get_many([A]) == {A: b"1"}


NEIGHBOUR = """
import asyncio, sys
from cache_proxy.backends.disk import DiskBackend
async def main():
    store = DiskBackend(sys.argv[1])
    await store.open()
    await store.set_many({b"old": b"1"})
    print("ready", flush=True)
    sys.stdin.readline()
    print(await store.get_many([b"old", b"new"]), flush=True)
asyncio.run(main())
"""


async def test_a_purge_cut_off_in_the_middle_leaves_nothing_shared_between_the_old_file_and_the_new(
    folder: Path,
) -> None:
    command = [sys.executable, "-c", NEIGHBOUR, str(folder)]
    neighbour = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert neighbour.stdout is not None
    assert await asyncio.to_thread(neighbour.stdout.readline) == "ready\n"
    with (folder / "cache.db-shm").open("rb", buffering=0) as index:
        before = index.read()
        (folder / "cache.db").rename(folder / "cache.db.cleared")
        async with opened(folder) as store:
            await store.set_many({b"new": b"2"})
        index.seek(0)
        assert index.read() == before, "the new file's log was written into the old one's index"
    async with opened(folder) as store:
        told, _ = await asyncio.to_thread(neighbour.communicate, "\n")
        assert told == "{b'new': b'2'}\n"


PLANTS = {
    "trigger": "CREATE TRIGGER t BEFORE INSERT ON Cache BEGIN SELECT RAISE(ABORT, 'no'); END",
    "view": "ALTER TABLE Cache RENAME TO C; CREATE VIEW Cache AS SELECT * FROM C",
    "index": "DROP INDEX Cache_key_raw; CREATE INDEX Cache_key_raw ON Cache (key)",
    "column": "ALTER TABLE Cache DROP COLUMN tag",
    "setting": "INSERT INTO Settings VALUES (CAST(x'ff' AS TEXT), CAST(x'ff' AS TEXT))",
}


@pytest.mark.parametrize("plant", PLANTS)
async def test_nothing_planted_among_the_tables_keeps_values_out(folder: Path, plant: str) -> None:
    await seeded(folder)
    with sqlite(folder) as connection:
        connection.executescript(PLANTS[plant])
    async with opened(folder) as store:
        await store.set_many({A: b"3"})
        assert await store.get_many([A]) == {A: b"3"}


async def test_a_folder_of_another_program_is_not_read_and_told_of_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with diskcache.Cache(str(folder), eviction_policy="least-recently-used", size_limit=2**20) as theirs:
        theirs[A] = {"a": "pickle"}
        theirs["text"] = "theirs"
        theirs[B] = os.urandom(100_000)
    for _ in range(2):
        async with opened(folder) as store:
            assert await store.get_many([A, B, b"text"]) == {}
    async with opened(folder) as store:
        await store.set_many({A: b"1"})
        assert await store.get_many([A, B]) == {A: b"1"}
    assert [record.getMessage() for record in caplog.records] == [
        f"directory={folder} was written by another program or version: what is not ours is not read"
    ]


HOLDER = """
import sys
from pathlib import Path
from cache_proxy.backends.disk_bounds import PAGE
from cache_proxy.backends.disk_lock import FolderLock
with FolderLock(Path(sys.argv[1])).held(5):
    print("held", flush=True)
    sys.stdin.readline()
"""


async def test_a_process_that_stops_in_mid_write_holds_up_writes_alone_and_its_death_frees_them(folder: Path) -> None:
    async with opened(folder, patience=0.0) as store:
        await store.set_many({A: b"1"})
        command = [sys.executable, "-c", HOLDER, str(folder)]
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        assert await asyncio.to_thread(holder.stdout.readline) == "held\n"
        assert await store.get_many([A]) == {A: b"1"}
        with pytest.raises(StoreError) as busy:
            await store.set_many({B: b"2"})
        assert not busy.value.refused
        holder.kill()
        await asyncio.to_thread(holder.communicate)
        await store.set_many({B: b"2"})
        assert await store.get_many([A, B]) == {A: b"1", B: b"2"}


async def test_many_writes_that_wait_for_the_lock_do_not_hold_up_look_ups(folder: Path) -> None:
    async with opened(folder, patience=1.0) as store:
        await store.set_many({A: b"1"})
        with sqlite(folder) as hung:
            hung.execute("BEGIN IMMEDIATE")
            waiting = [asyncio.create_task(store.set_many({bytes([number]): b"1"})) for number in range(100)]
            for _ in range(5):
                await asyncio.wait_for(store.get_many([A]), 0.5)
            assert not any(write.done() for write in waiting)
            hung.execute("ROLLBACK")
        assert await asyncio.gather(*waiting) == [True] * 100


async def test_checkpoints_and_writes_never_meet(folder: Path) -> None:
    """SQLite before 3.51.3 can damage the file where they do; so both wait for the one lock."""
    async with opened(folder, patience=0.0) as store:
        await store.set_many({A: b"1"})
        with FolderLock(folder).held(0):
            for write in (store.set_many({B: b"2"}), store.delete_many([A]), store.clear(), store.ping()):
                with pytest.raises(StoreError, match="another process is writing"):
                    await write


async def test_many_uses_are_noted_in_steps_that_the_log_can_take(folder: Path) -> None:
    entries = random_entries(300, 4000)
    async with opened(folder, BOUND) as store:
        await store.set_many(entries)
        await store.get_many(list(entries))
        await store.tidy()
        assert (folder / "cache.db-wal").stat().st_size <= store._file.bounds.log_most


async def test_a_row_whose_text_makes_no_sense_is_a_miss_and_can_be_written_over(folder: Path) -> None:
    await seeded(folder)
    with sqlite(folder) as connection:
        nonsense = "UPDATE Cache SET tag = CAST(x'ff' AS TEXT), filename = CAST(x'ff' AS TEXT) WHERE key = ?"
        connection.execute(nonsense, (A,))
    async with opened(folder) as store:
        assert await store.get_many([A, B]) == {B: b"2"}
        await store.set_many({A: b"3"})
        assert await store.get_many([A, B]) == {A: b"3", B: b"2"}
        assert await store.delete_many([A, B]) == 2
