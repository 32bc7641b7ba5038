"""Several event loops, one after the other or at once, loops that end without a word, forks, the interpreter's end."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from weakref import ref

import pytest

from cache_proxy.backends import GuardedBackend
from cache_proxy.backends.base import Key, Value
from cache_proxy.errors import ConfigError
from cache_proxy.standin import StandIn
from cache_proxy.wiring.loops import PerLoop
from tests.hosts.alone import app_of, embed, leave
from tests.hosts.shelf import Shelf
from tests.support import connect_to

ROOT = Path(__file__).resolve().parent.parent.parent


HIT, MISS = "hit", "fwd=miss"


def test_it_works_on_a_second_loop_after_the_first_has_ended(tmp_path: Path) -> None:
    app = app_of(tmp_path, StandIn())
    assert asyncio.run(embed(app)) == MISS
    assert asyncio.run(embed(app)) == HIT
    assert asyncio.run(embed(app, input="b")) == MISS


def test_it_works_after_a_loop_that_was_closed_without_an_end(tmp_path: Path) -> None:
    app = app_of(tmp_path, StandIn(), store=Shelf())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(embed(app))
    loop.close()
    assert asyncio.run(embed(app)) == HIT


def test_two_loops_at_once_are_served_each_on_its_own(tmp_path: Path) -> None:
    app, standin = app_of(tmp_path, StandIn()), StandIn()
    app.wired._connect = connect_to(standin)
    both = threading.Barrier(2)

    async def use(found: list[str]) -> None:
        for text in "abcd":
            both.wait(10)
            found.append(await embed(app, input=text, cache={"no-cache": True}))
            both.wait(10)
            found.append(await embed(app, input=text))

    found: tuple[list[str], list[str]] = ([], [])
    threads = [threading.Thread(target=lambda one=one: asyncio.run(use(one))) for one in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert [len(one) for one in found] == [8, 8]
    assert {one[1::2] == [HIT] * 4 for one in found} == {True}


class SlowShelf(Shelf):
    """Takes its time to write."""

    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        await asyncio.sleep(0.4)
        return await super().set_many(entries, ttl)


@pytest.mark.parametrize(
    ("standin", "shelf"),
    [(StandIn(delay=0.2), Shelf()), (StandIn(), SlowShelf())],
    ids=["the call is under way", "the write is under way"],
)
def test_what_is_paid_for_when_the_loop_ends_is_kept(tmp_path: Path, standin: StandIn, shelf: Shelf) -> None:
    app = app_of(tmp_path, standin, store=lambda _: GuardedBackend(shelf))
    asyncio.run(leave(standin, app))
    assert shelf.told == ["opened", "closed"]
    assert asyncio.run(embed(app)) == HIT
    assert standin.call_count == 1


class Thing:
    """Something of a request's."""


def test_what_is_open_does_not_hold_on_to_the_request_that_came_first(tmp_path: Path) -> None:
    of_the_request: ContextVar[Thing] = ContextVar("of_the_request")
    app = app_of(tmp_path, StandIn(), store=Shelf())

    async def first() -> ref[Thing]:
        thing = Thing()
        of_the_request.set(thing)
        await embed(app)
        return ref(thing)

    async def use() -> None:
        found = await asyncio.create_task(first())
        async with asyncio.timeout(10):
            while found() is not None:
                gc.collect()
                await asyncio.sleep(0)

    asyncio.run(use())


def test_an_app_that_is_dropped_lets_go_of_its_store(tmp_path: Path) -> None:
    shelf = Shelf()

    async def use() -> None:
        app = app_of(tmp_path, StandIn(), store=shelf)
        await embed(app)
        del app
        gc.collect()
        async with asyncio.timeout(10):
            while shelf.is_open:
                await asyncio.sleep(0)

    asyncio.run(use())


def test_many_who_come_first_share_one_opening_and_one_who_leaves_does_not_end_it() -> None:
    began, ended = [], []
    gate = asyncio.Event()

    async def begin() -> object:
        began.append(True)
        await gate.wait()
        return object()

    async def end(thing: object) -> None:
        ended.append(thing)

    async def use() -> None:
        per_loop = PerLoop(begin, end)
        first, *others = (asyncio.create_task(per_loop.open()) for _ in range(5))
        await asyncio.sleep(0)
        first.cancel()
        closing = asyncio.create_task(per_loop.close())
        await asyncio.sleep(0)
        gate.set()
        things = set(await asyncio.gather(*others))
        await closing
        assert (len(began), set(ended)) == (1, things)
        assert per_loop.here is None

    asyncio.run(use())


def test_who_cancels_all_tasks_of_a_loop_that_goes_on_ends_nothing_for_good(tmp_path: Path) -> None:
    shelf = Shelf()
    app = app_of(tmp_path, StandIn(), store=shelf)

    async def use() -> None:
        await embed(app)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        # While the first is ending, the next is already there.
        assert await embed(app) == HIT
        await asyncio.gather(*others, return_exceptions=True)
        assert await embed(app) == HIT

    asyncio.run(use())
    assert sorted(shelf.told) == ["closed", "closed", "opened", "opened"]


def test_what_is_being_opened_when_its_loop_ends_is_opened_and_ended() -> None:
    told: list[str] = []

    async def begin() -> str:
        told.append("begin")
        await asyncio.sleep(0.05)
        told.append("opened")
        return "thing"

    async def end(thing: str) -> None:
        told.append(f"end {thing}")

    per_loop = PerLoop(begin, end)

    async def leave_early() -> None:
        asyncio.get_running_loop().create_task(per_loop.open())
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(leave_early())
    assert told == ["begin", "opened", "end thing"]


def test_loops_that_are_closed_without_an_end_in_many_threads_are_forgotten_in_peace() -> None:
    async def begin() -> int:
        return 1

    async def end(_thing: int) -> None:
        pass

    per_loop, failed = PerLoop(begin, end), list[BaseException]()

    def come_and_go() -> None:
        try:
            for _ in range(50):
                loop = asyncio.new_event_loop()
                loop.run_until_complete(per_loop.open())
                for task in asyncio.all_tasks(loop):
                    task.cancel()
                loop.close()
        except BaseException as error:
            failed.append(error)

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=come_and_go) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(usual)
    assert failed == []


def test_an_opening_that_fails_is_told_to_all_and_tried_anew_by_the_next() -> None:
    faults = [ConfigError("no"), None]

    async def begin() -> str:
        await asyncio.sleep(0)
        fault = faults.pop(0)
        if fault is not None:
            raise fault
        return "open"

    async def end(_: str) -> None:
        pass

    async def use() -> None:
        per_loop = PerLoop(begin, end)
        told = await asyncio.gather(*(per_loop.open() for _ in range(3)), return_exceptions=True)
        assert [str(one) for one in told] == ["no"] * 3
        assert await per_loop.open() == "open"

    asyncio.run(use())


PROGRAM = """
from tests.hosts.alone import *

warnings.simplefilter("ignore", DeprecationWarning)  # of forks where there are threads
_, app = made("shared")
loop = asyncio.new_event_loop()
print("parent", loop.run_until_complete(embed(app, input="a")), flush=True)
loop.run_until_complete(app.wired.drain())
child = os.fork()
if child == 0:
    print("child", loop.run_until_complete(is_open(app)), flush=True)
    print("child", asyncio.run(embed(app, input="a")), flush=True)
    print("child", asyncio.run(embed(app, input="b")), flush=True)
    sys.exit()
assert os.waitpid(child, 0)[1] == 0
print("parent", loop.run_until_complete(embed(app, input="b")), flush=True)
loop.run_until_complete(app.wired.close())

warnings.simplefilter("ignore", ResourceWarning)  # of loops that are left open
standin, app = made("stopped")
loop.run_until_complete(leave(standin, app))
standin, other = made("running")
running = asyncio.new_event_loop()
threading.Thread(target=running.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(leave(standin, other), running).result()
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The program's folder, and what it printed."""
    folder = tmp_path_factory.mktemp("alone")
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    return folder, ended.stdout.splitlines()


def test_a_forked_child_opens_its_own_and_its_parent_goes_on(alone: tuple[Path, list[str]]) -> None:
    _, printed = alone
    assert printed == [f"parent {MISS}", "child False", f"child {HIT}", f"child {MISS}", f"parent {HIT}"]


@pytest.mark.parametrize("loop", ["stopped", "running"])
def test_what_is_paid_for_when_the_interpreter_ends_is_kept(alone: tuple[Path, list[str]], loop: str) -> None:
    folder, _ = alone
    assert asyncio.run(embed(app_of(folder / loop, StandIn()))) == HIT
