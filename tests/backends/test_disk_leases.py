"""The second contract on the disk store, and what is its own there."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cache_proxy.backends import disk_leases
from cache_proxy.backends.base import Backend, Turn, Want
from cache_proxy.backends.contract import A, B, C
from cache_proxy.backends.counter_contract import CountersContract
from cache_proxy.backends.disk import DiskBackend
from cache_proxy.backends.disk_leases import AT_ONCE, DiskLeases
from cache_proxy.backends.disk_lock import FolderLock
from cache_proxy.backends.lease_contract import LONG, MINE, NOBODY, OURS, THEIRS, LeasesContract, is_mine, take, until
from cache_proxy.errors import StoreError
from tests.backends.fakes import shorter_words
from tests.backends.test_disk import opened, run_python, seeded, sqlite
from tests.mounts import NOT_PERMITTED, can_mount, fill, remount, tmpfs

pytestmark = pytest.mark.anyio

needs_mounts = pytest.mark.skipif(not can_mount(), reason=NOT_PERMITTED)

HOUR, DAY = 3600.0, 86_400.0

TABLES = ("Lease", "Word", "Bucket", "Inside")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    with tmpfs(tmp_path / "disk", "8m") as mounted:
        yield mounted


class OnOneFolder:
    """Two stores, as two workers of a host have them."""

    @pytest.fixture
    async def store(self, folder: Path) -> AsyncIterator[Backend]:
        async with opened(folder) as store:
            yield store

    @pytest.fixture
    async def beside(self, folder: Path) -> AsyncIterator[Backend]:
        async with opened(folder) as beside:
            yield beside


class TestLeases(OnOneFolder, LeasesContract):
    @pytest.fixture
    def word_seconds(self, monkeypatch: pytest.MonkeyPatch) -> float:
        return shorter_words(monkeypatch, disk_leases)


class TestCounters(OnOneFolder, CountersContract):
    pass


class Clock:
    """The time of a host, in the hand of the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.asynccontextmanager
async def clocked(folder: Path, clock: Clock) -> AsyncIterator[DiskBackend]:
    store = DiskBackend(folder, tidy_every=3600, clock=clock)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


def rows(folder: Path) -> dict[str, int]:
    with sqlite(folder) as connection:
        return {table: len(connection.execute(f"SELECT 1 FROM {table}").fetchall()) for table in TABLES}  # noqa: S608


def without_tables(folder: Path) -> None:
    """Make the file one of a version that knew no leases."""
    with sqlite(folder) as connection:
        for table in TABLES:
            connection.execute(f"DROP TABLE {table}")


# Processes -----------------------------------------------------------------------------------------------------------

RACER = """
import asyncio, json, random, sys
from cache_proxy.backends.disk import DiskBackend
async def main():
    store = DiskBackend(sys.argv[1])
    await store.open()
    keys = [number.to_bytes(32, "big") for number in range(400)]
    owners = [f"{sys.argv[2]}/{claim}".encode() for claim in range(20)]
    print("ready", flush=True)
    sys.stdin.readline()
    claims = [store.leases.acquire(dict.fromkeys(random.sample(keys, 60), b""), owner, 60.0) for owner in owners]
    told = await asyncio.gather(*claims)
    print(json.dumps([
        [key.hex(), (owner if turn.mine else turn.owner).decode()]
        for owner, turns in zip(owners, told) for key, turn in turns.items()
    ]))
    await store.close()
asyncio.run(main())
"""


async def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return await asyncio.to_thread(process.stdout.readline)


async def test_however_many_processes_race_each_key_has_one_owner(folder: Path) -> None:
    await seeded(folder)
    racers = [run_python(RACER, str(folder), name) for name in ("one", "two", "three", "four")]
    assert [await line_of(each) for each in racers] == ["ready\n"] * 4
    said = await asyncio.gather(*(asyncio.to_thread(each.communicate, "\n") for each in racers))
    owners: dict[str, set[str]] = {}
    for out, _ in said:
        for key, owner in json.loads(out):
            owners.setdefault(key, set()).add(owner)
    assert len(owners) > 390
    assert {len(each) for each in owners.values()} == {1}


HOLDER = """
import asyncio, sys
from cache_proxy.backends.disk import DiskBackend
async def main():
    store = DiskBackend(sys.argv[1])
    await store.open()
    assert (await store.leases.acquire({b"key": b""}, b"theirs", 1.0))[b"key"].mine
    print("held", flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""


async def test_the_lease_of_a_killed_process_ends_with_its_time(folder: Path) -> None:
    async with opened(folder) as store:
        holder = run_python(HOLDER, str(folder))
        assert await line_of(holder) == "held\n"
        held_at = time.monotonic()
        holder.send_signal(signal.SIGKILL)
        await asyncio.to_thread(holder.communicate)
        await until(lambda: is_mine(store.leases, b"key", OURS), "the end of a lease")
        assert 0.5 < time.monotonic() - held_at < 10.0


# The lock ------------------------------------------------------------------------------------------------------------


async def test_leases_that_wait_for_the_lock_leave_the_thread_to_look_ups(folder: Path) -> None:
    async with opened(folder) as store:
        await store.set_many({A: b"1"})
        with FolderLock(folder).held(0):
            waiting = [asyncio.create_task(take(store.leases, bytes([at]), OURS)) for at in range(50)]
            for _ in range(20):
                assert await asyncio.wait_for(store.get_many([A]), 0.5) == {A: b"1"}
            assert not any(each.done() for each in waiting)
        assert await asyncio.gather(*waiting) == [MINE] * 50


async def test_who_polls_for_anothers_lease_needs_no_lock(folder: Path) -> None:
    async with opened(folder, patience=0.0) as store:
        await take(store.leases, A, OURS)
        with FolderLock(folder).held(0):
            told = await store.leases.acquire({A: OURS}, THEIRS, LONG)
            assert told == {A: Turn(mine=False, owner=OURS)}
            with pytest.raises(StoreError) as busy:
                await store.leases.acquire({A: OURS, B: OURS}, THEIRS, LONG)
            assert not busy.value.refused


async def test_what_a_part_of_a_large_batch_was_answered_is_told_though_the_rest_found_no_turn(folder: Path) -> None:
    keys = [number.to_bytes(32, "big") for number in range(2 * AT_ONCE)]
    theirs = keys[:AT_ONCE]
    async with opened(folder, patience=0.0) as store, opened(folder) as others:
        await others.leases.acquire(dict.fromkeys(theirs, NOBODY), THEIRS, LONG)
        leases = store.leases
        assert isinstance(leases, DiskLeases)
        looked, look = [], leases._look

        async def then_locked(*args: Any, **kwargs: Any) -> Any:
            looked.append(await look(*args, **kwargs))
            lock.enter_context(FolderLock(folder).held(1.0))
            return looked[-1]

        with contextlib.ExitStack() as lock, pytest.MonkeyPatch.context() as patched:
            patched.setattr(leases, "_look", then_locked)
            # Who has waited looks first: that takes no lock. The first part is another's, the second could be had.
            turns = await leases.acquire(dict.fromkeys(keys, THEIRS), OURS, LONG)
            assert turns == dict.fromkeys(theirs, Turn(mine=False, owner=THEIRS))
        assert len(looked) == 2


async def test_a_renewal_of_many_tells_of_those_that_were_reached(folder: Path) -> None:
    keys = [number.to_bytes(32, "big") for number in range(3 * AT_ONCE)]
    async with opened(folder, patience=0.0) as store:
        await store.leases.acquire(dict.fromkeys(keys, NOBODY), OURS, LONG)
        leases = store.leases
        assert isinstance(leases, DiskLeases)
        write, lock = leases._write, contextlib.ExitStack()

        async def then_locked(*args: Any, **kwargs: Any) -> Any:
            said = await write(*args, **kwargs)
            lock.enter_context(FolderLock(folder).held(1.0))
            return said

        with lock, pytest.MonkeyPatch.context() as patched:
            patched.setattr(leases, "_write", then_locked)
            assert await store.leases.renew(dict.fromkeys(keys, OURS), LONG) == set(keys[:AT_ONCE])
            with pytest.raises(StoreError):
                await store.leases.renew(dict.fromkeys(keys, OURS), LONG)


async def test_a_lock_that_is_held_for_ever_costs_a_batch_its_patience_once(folder: Path) -> None:
    async with opened(folder, patience=1.5) as store:
        with FolderLock(folder).held(0):
            began_at = time.monotonic()
            with pytest.raises(StoreError) as busy:
                await store.leases.acquire({os.urandom(32): NOBODY for _ in range(3 * AT_ONCE)}, OURS, LONG)
            assert not busy.value.refused
            assert 1.0 < time.monotonic() - began_at < 1.5 + 1.0


# The file ------------------------------------------------------------------------------------------------------------


async def test_an_older_file_gets_the_tables_and_keeps_its_values(folder: Path) -> None:
    await seeded(folder)
    without_tables(folder)
    async with opened(folder) as store:
        assert await store.get_many([A]) == {A: b"1"}
        assert await take(store.leases, A, OURS) == Turn(mine=True, stored=True)
        assert await store.counters.enter(b"n", b"1", 1, LONG)
        await store.tidy()


COLUMNS = "key BLOB, owner BLOB, word BLOB, from_time REAL, seconds REAL"
PLANTS = {
    "other columns": "DROP TABLE Lease; CREATE TABLE Lease (key TEXT, pickle BLOB)",
    "no index": f"DROP TABLE Lease; CREATE TABLE Lease ({COLUMNS})",
    "view": "DROP TABLE Lease; CREATE VIEW Lease AS SELECT x'00' AS key, 1 AS owner, 2 AS word, 0 AS from_time",
    "trigger": "CREATE TRIGGER t BEFORE INSERT ON Lease BEGIN SELECT RAISE(ABORT, 'no'); END",
}


@pytest.mark.parametrize("plant", PLANTS)
async def test_nothing_planted_in_place_of_a_table_keeps_leases_from_being_given(folder: Path, plant: str) -> None:
    await seeded(folder)
    with sqlite(folder) as connection:
        connection.executescript(PLANTS[plant])
    async with opened(folder) as store:
        assert (await take(store.leases, A, OURS)).mine
        assert await take(store.leases, A, THEIRS) == Turn(mine=False, owner=OURS)
        await store.tidy()


@pytest.mark.parametrize("plant", PLANTS)
async def test_nothing_planted_in_place_of_a_table_keeps_a_purge_from_being_done(folder: Path, plant: str) -> None:
    await seeded(folder)
    with sqlite(folder) as connection:
        connection.executescript(PLANTS[plant])
    async with opened(folder) as store:
        await store.clear()
        assert await store.get_many([A, B]) == {}
        assert await take(store.leases, A, OURS) == MINE


@pytest.mark.parametrize(
    "nonsense",
    [
        "owner = 'text'",
        "owner = CAST(x'ff' AS TEXT)",
        "owner = 7",
        "from_time = 'soon'",
        "from_time = NULL",
        "from_time = 1e300",
        "seconds = NULL",
        "seconds = -1",
    ],
)
async def test_a_row_that_makes_no_sense_is_no_lease_and_goes(folder: Path, nonsense: str) -> None:
    async with opened(folder) as store:
        await store.leases.acquire({A: NOBODY, B: NOBODY}, OURS, LONG)
        with sqlite(folder) as connection:
            connection.execute(f"UPDATE Lease SET {nonsense}")  # noqa: S608
        assert await store.leases.acquire({A: OURS}, THEIRS, LONG) == {A: MINE}
        assert await take(store.leases, B, THEIRS) == MINE
        assert await take(store.leases, B, OURS, waited_for=b"") == Turn(mine=False, owner=THEIRS)


@pytest.mark.parametrize("nonsense", ["word = 'text'", "word = NULL", "owner = 'text'", "from_time = 'soon'"])
async def test_a_row_that_makes_no_sense_is_no_word(folder: Path, nonsense: str) -> None:
    async with opened(folder) as store:
        await take(store.leases, A, OURS)
        await store.leases.release({A: OURS}, b"429")
        with sqlite(folder) as connection:
            connection.execute(f"UPDATE Word SET {nonsense}")  # noqa: S608
        assert await take(store.leases, A, THEIRS, waited_for=OURS) == MINE


@pytest.mark.parametrize("seconds", ["1e300", "9e999", "'text'"])
async def test_a_row_that_was_made_to_last_for_ever_lasts_an_hour(folder: Path, seconds: str) -> None:
    clock = Clock()
    async with clocked(folder, clock) as store:
        await take(store.leases, A, OURS)
        await store.counters.take(b"n", [Want(1, 1)], 0.0)
        with sqlite(folder) as connection:
            for table in TABLES:
                connection.execute(f"UPDATE {table} SET seconds = {seconds}")  # noqa: S608
        clock.now += HOUR + 1
        assert await take(store.leases, A, THEIRS) == MINE
        assert await store.counters.take(b"n", [Want(1, 1)], 0.0) == 0.0


async def test_who_has_leases_in_a_file_that_is_damaged_is_told_that_they_are_lost(folder: Path) -> None:
    async with opened(folder) as store:
        await take(store.leases, A, OURS)
    (folder / "cache.db").write_bytes(b"x" * 50_000)
    async with opened(folder) as store:
        assert await store.leases.renew({A: OURS}, LONG) == set()
        assert await take(store.leases, A, THEIRS) == MINE


async def test_leases_outlive_purges_by_one_process_after_the_other(folder: Path) -> None:
    async with opened(folder) as one, opened(folder) as other:
        await take(one.leases, A, OURS)
        await one.clear()
        await other.clear()
        await one.clear()
        assert await other.leases.renew({A: OURS}, LONG) == {A}


# Disks that take nothing ----------------------------------------------------------------------------------------------


async def failing_to_acquire(store: DiskBackend) -> StoreError:
    """Acquire until it fails."""
    try:
        for _ in range(500):
            await store.leases.acquire({os.urandom(32): NOBODY for _ in range(500)}, OURS, LONG)
    except StoreError as error:
        return error
    pytest.fail("it never failed")


@needs_mounts
async def test_on_a_full_disk_leases_are_refused_at_once_and_hits_go_on(small: Path) -> None:
    async with opened(small / "store", patience=60.0) as store:
        await store.set_many({A: b"1"})
        filler = fill(small)
        assert (await asyncio.wait_for(failing_to_acquire(store), 30.0)).refused
        assert await store.get_many([A]) == {A: b"1"}
        filler.unlink()
        assert (await take(store.leases, C, OURS)).mine


@needs_mounts
async def test_an_older_file_on_a_full_disk_gives_its_hits_and_gets_the_tables_later(small: Path) -> None:
    folder = small / "store"
    await seeded(folder)
    with sqlite(folder) as reader:
        # Whoever reads in the log keeps it from beginning anew, which would need no room.
        reader.execute("BEGIN").execute("SELECT COUNT(*) FROM Cache").fetchall()
        without_tables(folder)
        filler = fill(small)
        async with opened(folder, patience=60.0) as store:
            for call in calls(store):
                assert await store.get_many([A]) == {A: b"1"}
                with pytest.raises(StoreError) as full:
                    await asyncio.wait_for(call(), 10.0)
                assert full.value.refused
            filler.unlink()
            for call in calls(store):
                await call()
            assert await store.get_many([A]) == {A: b"1"}


def calls(store: DiskBackend) -> list[Callable[[], Awaitable[object]]]:
    leases, counters = store.leases, store.counters
    return [
        lambda: leases.acquire({A: NOBODY}, OURS, LONG),
        lambda: leases.acquire({A: THEIRS}, OURS, LONG),
        lambda: leases.renew({A: OURS}, LONG),
        lambda: leases.release({A: OURS}),
        lambda: leases.release({A: OURS}, b"429"),
        lambda: counters.take(b"n", [Want(1, 1)], 0.0),
        lambda: counters.enter(b"n", b"1", 1, LONG),
        lambda: counters.leave(b"n", b"1"),
    ]


@needs_mounts
async def test_on_a_read_only_disk_leases_are_refused_at_once(small: Path) -> None:
    await seeded(small / "store")
    remount(small, "ro")
    store = DiskBackend(small / "store", write_patience=60.0)
    with pytest.raises(StoreError):
        await store.open()
    with pytest.raises(StoreError) as refused:
        await asyncio.wait_for(take(store.leases, A, OURS), 10.0)
    assert refused.value.refused
    remount(small, "rw")
    assert (await take(store.leases, A, OURS)).mine
    await store.close()


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-DAY, DAY])
async def test_a_calendar_that_jumps_makes_no_difference(
    folder: Path, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(folder) as store:
        await take(store.leases, A, OURS)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + jump)
        assert await take(store.leases, A, THEIRS) == Turn(mine=False, owner=OURS)
        await store.tidy()
        assert await store.leases.renew({A: OURS}, LONG) == {A}


async def test_what_is_left_from_before_the_host_was_started_anew_counts_no_more(folder: Path) -> None:
    clock = Clock()
    async with clocked(folder, clock) as store:
        await take(store.leases, A, OURS)
        await take(store.leases, B, OURS)
        await store.leases.release({B: OURS}, b"429")
        await store.counters.take(b"n", [Want(6, 6)], 0.0)
        await store.counters.enter(b"n", b"1", 1, LONG)
        clock.now = 1.0
        assert await store.leases.renew({A: OURS}, LONG) == set()
        assert await store.leases.acquire({A: NOBODY, B: OURS}, THEIRS, LONG) == {A: MINE, B: MINE}
        assert await store.counters.take(b"n", [Want(6, 6)], 0.0) == 0.0
        assert await store.counters.enter(b"n", b"2", 1, LONG)


async def test_a_lease_holds_until_its_time_is_over_and_no_longer(folder: Path) -> None:
    clock = Clock()
    async with clocked(folder, clock) as store:
        await take(store.leases, A, OURS, 10.0)
        clock.now += 9.9
        assert await take(store.leases, A, THEIRS) == Turn(mine=False, owner=OURS)
        assert await store.leases.renew({A: OURS}, 10.0) == {A}
        clock.now += 9.9
        assert await take(store.leases, A, THEIRS) == Turn(mine=False, owner=OURS)
        clock.now += 0.1
        await store.leases.release({A: OURS}, b"too late")
        assert await store.leases.renew({A: OURS}, 10.0) == set()
        assert await take(store.leases, A, THEIRS, waited_for=OURS) == MINE


async def test_a_bucket_fills_up_with_the_time(folder: Path) -> None:
    clock = Clock()
    async with clocked(folder, clock) as store:
        for at_most, wait in ((0.0, 0.0), (0.0, 60.0), (60.0, 60.0), (60.0, 120.0)):
            assert await store.counters.take(b"n", [Want(600, 600)], at_most) == wait
        clock.now += 119.0
        assert await store.counters.take(b"n", [Want(600, 600)], 0.5) == 1.0
        clock.now += HOUR
        for wait in (0.0, 60.0):
            assert await store.counters.take(b"n", [Want(600, 600)], 0.0) == wait


async def test_units_taken_one_by_one_are_all_there_are(folder: Path) -> None:
    async with clocked(folder, Clock()) as store:
        waits = [await store.counters.take(b"n", [Want(1, 70)], 0.0) for _ in range(71)]
        assert waits == [0.0] * 70 + [pytest.approx(60 / 70, abs=1e-5)]


async def test_what_counts_no_more_is_tidied_away_in_steps(folder: Path) -> None:
    clock = Clock()
    async with clocked(folder, clock) as store:
        assert await store.leases.acquire({os.urandom(32): NOBODY for _ in range(700)}, OURS, 10.0)
        assert await store.leases.acquire({A: NOBODY, B: NOBODY}, OURS, LONG)
        await store.leases.release({B: OURS}, b"429")
        for name in (b"a", b"b"):
            await store.counters.take(name, [Want(1, 6), Want(6, 6)], 0.0)
            await store.counters.enter(name, b"1", 1, 10.0)
        await store.counters.enter(b"a", b"2", 2, LONG)
        await store.tidy()
        assert rows(folder) == {"Lease": 701, "Word": 1, "Bucket": 4, "Inside": 3}
        clock.now += 30.0
        await store.tidy()
        assert rows(folder) == {"Lease": 1, "Word": 0, "Bucket": 2, "Inside": 1}
        assert await store.leases.renew({A: OURS}, LONG) == {A}
        assert (await store.size())[0] == 0
