"""What a worker knows of keys, by a clock that stands still and a database that can be made to fail or to hang."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from cache_proxy.access import AccessKey
from cache_proxy.errors import LedgerError
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.keys import KeyTable
from cache_proxy.wiring import keyring as module
from cache_proxy.wiring.keyring import Keyring
from tests.backends.fakes import Clock

pytestmark = pytest.mark.anyio

T = TypeVar("T")
KEY = AccessKey(hash="a" * 64)


class Wayward(KeyTable):
    """The keys in a database that can be made to fail or to hang; counts what is asked of it."""

    failing = False

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.answering = threading.Event()
        self.answering.set()
        self.looks = self.finds = 0

    def changes(self) -> int:
        self.looks += 1
        return self._or_fail(super().changes)

    def find(self, hash_: str) -> tuple[int, AccessKey | None]:
        self.finds += 1
        return self._or_fail(lambda: super(Wayward, self).find(hash_))

    def _or_fail(self, ask: Callable[[], T]) -> T:
        self.answering.wait()
        if self.failing:
            raise LedgerError("the database is away")
        return ask()


@pytest.fixture
def table(tmp_path: Path) -> Wayward:
    made = Wayward(Database.in_folder(tmp_path))
    made.add(KEY)
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def ring(table: Wayward, clock: Clock) -> AsyncIterator[Keyring]:
    made = Keyring(table, 300, clock)
    yield made
    table.answering.set()
    await made.close()


async def looked(ring: Keyring) -> None:
    while ring._looking is not None:
        await asyncio.sleep(0.001)


async def test_what_is_known_is_not_asked_again(ring: Keyring, table: Wayward) -> None:
    for _ in range(5):
        assert await ring.find(KEY.hash) == KEY
        assert await ring.find("b" * 64) is None
    assert (table.looks, table.finds) == (1, 2)


async def test_one_look_in_half_a_second_serves_all(ring: Keyring, table: Wayward, clock: Clock) -> None:
    await ring.find(KEY.hash)
    clock.now += 0.6
    await asyncio.gather(*(ring.find(KEY.hash) for _ in range(50)))
    await looked(ring)
    assert (table.looks, table.finds) == (2, 1)


async def test_who_comes_after_a_second_waits_for_the_look_and_hears_of_the_change(
    ring: Keyring, table: Wayward, clock: Clock
) -> None:
    assert await ring.find(KEY.hash) == KEY
    table.change(KEY.hash, lambda key: replace(key, blocked=True))
    clock.now += 0.95
    assert (await ring.find(KEY.hash) or KEY).blocked


async def test_what_was_read_before_a_change_is_not_kept(ring: Keyring, table: Wayward, clock: Clock) -> None:
    await ring.find("b" * 64)
    table.remove([KEY.hash])
    # Looked up after the change, and before anybody here has heard of it.
    assert await ring.find(KEY.hash) is None
    table.add(KEY)
    assert await ring.find(KEY.hash) == KEY
    assert KEY.hash not in ring._known


async def test_while_it_is_away_known_keys_let_in_for_a_bounded_time(
    ring: Keyring, table: Wayward, clock: Clock
) -> None:
    await ring.find(KEY.hash)
    await ring.find("b" * 64)
    table.failing = True
    clock.now += 1.0
    assert await ring.find(KEY.hash) == KEY
    for unknown in ("b" * 64, "c" * 64):
        with pytest.raises(LedgerError):
            await ring.find(unknown)
    clock.now += 298.0
    assert await ring.find(KEY.hash) == KEY
    clock.now += 2.0
    with pytest.raises(LedgerError):
        await ring.find(KEY.hash)


async def test_when_it_is_back_it_is_asked_again(ring: Keyring, table: Wayward, clock: Clock) -> None:
    await ring.find(KEY.hash)
    table.failing = True
    clock.now += 1.0
    await ring.find(KEY.hash)
    table.failing = False
    table.remove([KEY.hash])
    clock.now += 0.6
    assert await ring.find(KEY.hash) == KEY, "the look is under way"
    await looked(ring)
    assert await ring.find(KEY.hash) is None


async def test_one_that_hangs_is_waited_for_once_and_not_by_everybody(
    ring: Keyring, table: Wayward, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ring.find(KEY.hash)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    table.answering.clear()
    clock.now += 1.0
    assert await ring.find(KEY.hash) == KEY
    async with asyncio.timeout(0.04):
        assert await ring.find(KEY.hash) == KEY
        with pytest.raises(LedgerError):
            await ring.find("c" * 64)


async def test_a_look_up_that_hangs_is_given_up(ring: Keyring, table: Wayward, monkeypatch: pytest.MonkeyPatch) -> None:
    await ring.find(KEY.hash)
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    table.answering.clear()
    with pytest.raises(LedgerError):
        await ring.find("c" * 64)


async def test_only_so_many_are_remembered(ring: Keyring, table: Wayward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    for number in range(10):
        table.add(replace(KEY, hash=f"{number:064x}"))
    for number in range(10):
        assert await ring.find(f"{number:064x}") is not None
    assert len(ring._known) == 3


async def test_keys_that_are_made_up_push_no_good_one_out(
    ring: Keyring, table: Wayward, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST", 3)
    monkeypatch.setattr(module, "MOST_UNKNOWN", 2)
    assert await ring.find(KEY.hash) == KEY
    for number in range(10):
        assert await ring.find(f"{number:064x}") is None
    assert len(ring._unknown) == 2
    table.failing = True
    clock.now += 1.0
    assert await ring.find(KEY.hash) == KEY
