"""Faults of the disk store. Each scenario gives a row, and asserts what is its own to assert."""

import asyncio
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from cache_proxy.backends import DiskBackend
from cache_proxy.core.codec import seal
from cache_proxy.models import Entry, Form, Numbers
from tests.faults import disk_damage
from tests.faults.course import Ground, restarted, trial
from tests.faults.load import Client, Load, post
from tests.faults.questions import warm
from tests.faults.servers import Server, until
from tests.faults.table import Row
from tests.mounts import FILLER, bounded_by_permissions, fill, remount, tmpfs

FILLED_AT_ONCE = 1000


def shared(ground: Ground) -> Row:
    """Nothing is wrong: what one of eight workers has paid for, all of them have."""
    with ground.servers(hosts=ground.hosts) as servers:
        client = Client(servers[0].url)
        for question in warm():
            client.ask(question)
        client.close()
        paid: list[int] = []
        none = f"none: {ground.hosts} servers of {ground.workers} workers on one folder"
        load = Load([server.url for server in servers], fresh=0.0)

        def count_paid() -> None:
            paid.append(ground.standin.call_count)

        row = trial(ground, servers, fault=none, load=load, strike=count_paid, mend=count_paid)
    assert paid[0] == paid[1], "what was in the store was paid for again"
    return row


def killed_workers(ground: Ground) -> Row:
    """Workers killed one after the other, in two servers on one folder."""
    with ground.servers(hosts=ground.hosts) as servers:

        def strike() -> None:
            # Half of them: a new one takes a while until it answers.
            for server in servers * (ground.workers // 2):
                _kill_one(server, ground.workers)

        return trial(ground, servers, fault="`kill -9` of one worker after the other, in mid-write", strike=strike)


def _kill_one(server: Server, workers: int) -> None:
    victim = server.workers[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in server.workers and len(server.workers) == workers)


def killed_servers(ground: Ground) -> Row:
    """A second server on the folder is killed whole, under a load of new texts, again and again."""
    with ground.servers() as servers:

        def strike() -> None:
            for number in range(ground.hosts):
                with ground.servers(name=f"victim-{number}") as (victim,):
                    with Load([victim.url], fresh=1.0, width=1024) as load:
                        load.last(ground.seconds / 2)
                        victim.signal(signal.SIGKILL)
                assert not any(note.is_wrong for note in load.notes)

        return trial(ground, servers, fault="`kill -9` of a whole server beside it, in mid-write", strike=strike)


def damaged_running(ground: Ground, how: str) -> Row:
    """The file is damaged while eight workers use it."""
    with ground.servers(hosts=ground.hosts) as servers:
        damage = partial(disk_damage.DAMAGE[how], ground.store)
        row = trial(ground, servers, fault=f"the file {how} in use", strike=damage)
    assert len(list(ground.store.glob("cache.db.damaged-*Z"))) <= 1
    return row


def damaged_stopped(ground: Ground, how: str) -> Row:
    """The file is damaged while nobody uses it."""
    damage = partial(disk_damage.DAMAGE[how], ground.store)
    return restarted(ground, fault=f"the file {how} between two runs", change=damage)


def other_version(ground: Ground) -> Row:
    """Every entry is of another version of the codec."""
    row = restarted(ground, fault="entries of another version", change=partial(disk_damage.age, ground.store))
    assert row.told > 0, "an operator should hear why his cache is cold"
    return row


def other_program(ground: Ground) -> Row:
    """The folder is one that another program has used, with pickles."""
    row = restarted(
        ground, fault="a folder of another program",
        change=partial(disk_damage.make_foreign, ground.store),
    )  # fmt: skip
    assert not (ground.store / "exploded").exists()
    return row


def planted(ground: Ground) -> Row:
    """Somebody who could write there has planted pickles, paths and settings."""
    row = restarted(
        ground, fault="planted pickles, paths and settings",
        change=partial(disk_damage.plant, ground.store),
    )  # fmt: skip
    disk_damage.check_unharmed(ground.store)
    return row


def full(ground: Ground) -> Row:
    """Others fill the disk; then there is room again."""
    with tmpfs(ground.folder / "disk", "48m") as disk, ground.on(disk).servers(hosts=ground.hosts) as servers:
        load = Load([server.url for server in servers], width=1024)
        row = trial(
            ground, servers, fault="the disk filled by others", load=load,
            strike=partial(fill, disk), mend=(disk / FILLER).unlink,
        )  # fmt: skip
    assert row.during.hits > 0, "what is held is answered from a full disk"
    return row


def full_at_start(ground: Ground) -> Row:
    """A server starts on a full disk, beside one that runs; then there is room again."""
    with tmpfs(ground.folder / "disk", "48m") as disk:
        here = ground.on(disk)
        return restarted(
            here, fault="a start on a full disk",
            change=partial(fill, disk), mend=(disk / FILLER).unlink,
        )  # fmt: skip


def too_small(ground: Ground) -> Row:
    """The bound is larger than the disk, and new texts go on and on."""
    with tmpfs(ground.folder / "disk", "16m") as disk, ground.on(disk).servers(hosts=ground.hosts) as servers:
        load = Load([server.url for server in servers], fresh=0.7, width=1024, pause=0.0)
        return trial(ground, servers, fault="a disk smaller than the bound", load=load, strike=lambda: None)


def read_only_at_start(ground: Ground) -> Row:
    """The disk is read-only when the server starts, and can be written later."""
    with tmpfs(ground.folder / "disk", "48m") as disk:
        here = ground.on(disk)
        row = restarted(
            here, fault="a start on a read-only disk",
            change=partial(remount, disk, "ro"), mend=partial(remount, disk, "rw"),
        )  # fmt: skip
    assert row.told > 0, "an operator should hear why everything is paid for"
    return row


def permission_lost(ground: Ground) -> Row:
    """Somebody takes the permission on the folder away, and gives it back."""
    with ground.servers(hosts=ground.hosts, prefix=bounded_by_permissions()) as servers:
        return trial(
            ground, servers, fault="the permission on the folder lost in use",
            strike=lambda: ground.store.chmod(0), mend=lambda: ground.store.chmod(0o700),
        )  # fmt: skip


def locked(ground: Ground) -> Row:
    """Another process has SQLite's write lock and does not move."""
    with ground.servers(hosts=ground.hosts) as servers:
        with closing(sqlite3.connect(ground.store / "cache.db", isolation_level=None, timeout=10)) as hung:
            row = trial(
                ground, servers, fault="the write lock held by a hung process",
                strike=lambda: hung.execute("BEGIN IMMEDIATE"), mend=lambda: hung.execute("ROLLBACK"),
            )  # fmt: skip
    assert row.during.hits > 0, "look-ups need no lock"
    return row


def removed(ground: Ground) -> Row:
    """Somebody removes the folder."""
    # A worker may make files again in the middle of it.
    strike = partial(shutil.rmtree, ground.store, ignore_errors=True)
    with ground.servers(hosts=ground.hosts) as servers:
        return trial(ground, servers, fault="the folder removed in use", strike=strike)


async def fill_store(folder: Path, entries: int) -> None:
    """Put so many entries of 64 numbers into the store, sealed as the engine seals them."""
    store = DiskBackend(folder, 10 * 2**30)
    await store.open()
    vectors = np.random.default_rng(1).standard_normal((FILLED_AT_ONCE, 64)).astype("<f4")
    values = [Entry(Numbers(vector, Form.FLOAT32), 10, 0.0) for vector in vectors]
    for begin in range(0, entries, FILLED_AT_ONCE):
        keys = [number.to_bytes(32, "big") for number in range(begin, min(begin + FILLED_AT_ONCE, entries))]
        await store.set_many({key: seal(key, value) for key, value in zip(keys, values, strict=False)})
    await store.close()


def purged(ground: Ground) -> Row:
    """A large store is purged in mid-load."""
    asyncio.run(fill_store(ground.store, ground.entries))
    with ground.servers(hosts=ground.hosts) as servers:
        return trial(
            ground, servers, fault=f"a store of {ground.entries:,} entries purged",
            strike=partial(post, servers[0].url, "/cache/flushall"),
        )  # fmt: skip


SCENARIOS: Mapping[str, Callable[[Ground], Row]] = {
    "disk_shared": shared,
    "disk_killed_workers": killed_workers,
    "disk_killed_servers": killed_servers,
    **{f"disk_{how}_running": partial(damaged_running, how=how) for how in disk_damage.DAMAGE},
    **{f"disk_{how}_stopped": partial(damaged_stopped, how=how) for how in disk_damage.DAMAGE},
    "disk_other_version": other_version,
    "disk_other_program": other_program,
    "disk_planted": planted,
    "disk_full": full,
    "disk_full_at_start": full_at_start,
    "disk_too_small": too_small,
    "disk_read_only_at_start": read_only_at_start,
    "disk_permission_lost": permission_lost,
    "disk_locked": locked,
    "disk_removed": removed,
    "disk_purged": purged,
}

MOUNTING = {"disk_full", "disk_full_at_start", "disk_too_small", "disk_read_only_at_start"}
"""Those that need a disk of their own."""

LOST = {"disk_killed_workers": 24}
"""How many requests may lose their connection: those in a process that is killed."""
