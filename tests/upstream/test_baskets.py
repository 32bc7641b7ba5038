"""What is bound for the same call travels together, and nobody is delayed where that gains nothing."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from cache_proxy.upstream.baskets import Baskets

pytestmark = pytest.mark.anyio


class Station:
    """Where baskets leave from. Calls come home when they are told to; the window ends when it is told to."""

    def __init__(self, window: float = 1.0) -> None:
        self.left: list[list[int]] = []
        self.home = asyncio.Event()
        self.window_over = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self.baskets: Baskets[int] = Baskets(window, self._start, self._sleep)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def _sleep(self, _: float) -> None:
        await self.window_over.wait()

    async def leave(self, things: Sequence[int]) -> None:
        self.left.append(list(things))
        await self.home.wait()

    def put(self, *things: int, lane: str = "one") -> None:
        self.baskets.put(lane, things, self.leave)

    async def come_home(self) -> None:
        self.window_over.set()
        self.home.set()
        await asyncio.gather(*self.tasks)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def test_a_lone_request_leaves_at_once() -> None:
    station = Station()
    station.put(1, 2)
    await until(lambda: station.left == [[1, 2]])
    await station.come_home()
    station.window_over.clear()
    station.put(3)
    await until(lambda: station.left == [[1, 2], [3]])


async def test_what_comes_while_a_call_is_under_way_gathers_and_leaves_together() -> None:
    station = Station()
    for number in range(5):
        station.put(number)
    await until(lambda: station.left == [[0]])
    station.window_over.set()
    await until(lambda: station.left == [[0], [1, 2, 3, 4]])
    await station.come_home()


async def test_lanes_do_not_mix_nor_wait_for_each_other() -> None:
    station = Station()
    station.put(1)
    station.put(2, lane="two")
    await until(lambda: station.left == [[1], [2]])
    await station.come_home()


async def test_without_a_window_everything_leaves_at_once() -> None:
    station = Station(window=0.0)
    for number in range(3):
        station.put(number)
    await until(lambda: station.left == [[0], [1], [2]])
    await station.come_home()


async def test_nothing_is_remembered_of_a_lane_whose_calls_are_home() -> None:
    station = Station()
    station.put(1)
    station.put(2)
    await station.come_home()
    assert not station.baskets._gathering
    assert not station.baskets._under_way
