"""A network between a server and its store that can be told to misbehave."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

Fault = Callable[[bytes], AsyncIterator[bytes]]
"""What becomes of a piece of a reply: what is passed on of it, and when. May raise :class:`Cut`."""

HOST = "127.0.0.1"
_PIECE = 2**16
_PARTNER = 0.02  # seconds in which another reply must come to be swapped with


class Cut(Exception):
    """The connection breaks here."""


async def whole(piece: bytes) -> AsyncIterator[bytes]:
    """Nothing is wrong."""
    yield piece


async def cut(piece: bytes) -> AsyncIterator[bytes]:
    """The connection breaks in mid-reply, at any byte."""
    yield piece[: random.randrange(len(piece))]
    raise Cut


async def stall(piece: bytes) -> AsyncIterator[bytes]:
    """Half a reply comes, and then nothing on this connection any more."""
    yield piece[: len(piece) // 2]
    await asyncio.Event().wait()


async def trickle(piece: bytes, seconds: float) -> AsyncIterator[bytes]:
    """A reply comes in crumbs, over so many seconds at most."""
    size = len(piece) // random.randint(1, 8) + 1
    crumbs = [piece[at : at + size] for at in range(0, len(piece), size)]
    for crumb in crumbs:
        await asyncio.sleep(random.random() * seconds / len(crumbs))
        yield crumb


class Swap:
    """Two replies that come at about the same time go each to the other one's connection: ``share`` of all, at most."""

    def __init__(self, share: float) -> None:
        self.count = 0
        self._share = share
        self._first: tuple[bytes, asyncio.Future[bytes]] | None = None

    async def __call__(self, piece: bytes) -> AsyncIterator[bytes]:
        if self._first is None:
            yield await self._partner(piece) if random.random() < self._share else piece
            return
        other, waiting = self._first
        self._first = None
        waiting.set_result(piece)
        self.count += 1
        yield other

    async def _partner(self, piece: bytes) -> bytes:
        waiting = asyncio.get_running_loop().create_future()
        self._first = mine = (piece, waiting)
        try:
            return await asyncio.wait_for(waiting, _PARTNER)
        except TimeoutError:
            return piece
        finally:
            self._first = None if self._first is mine else self._first


def now_and_then(fault: Fault, chance: float) -> Fault:
    """This fault for some of the pieces."""
    return lambda piece: fault(piece) if random.random() < chance else whole(piece)


class Network:
    """A way to ``target`` by another ``port`` of the loopback interface. ``fault`` may be changed at any time."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.fault: Fault = whole
        self.port = 0
        self._target = target
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    async def open(self) -> asyncio.Server:
        """Begin to listen."""
        server = await asyncio.start_server(self._connected, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def close(self, server: asyncio.Server) -> None:
        """Break every connection."""
        server.close()
        connections = set(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _connected(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        connection = asyncio.get_running_loop().create_task(self._carry(client, back))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _carry(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with closing(back.transport), suppress(OSError):  # nobody may be there
            server, forth = await asyncio.open_connection(*self._target)
            with closing(forth.transport):
                await _first_of(_ask(client, forth), self._answer(server, back))

    async def _answer(self, server: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while piece := await server.read(_PIECE):
            async for part in self.fault(piece):
                back.write(part)
                await back.drain()


async def _ask(client: asyncio.StreamReader, forth: asyncio.StreamWriter) -> None:
    while piece := await client.read(_PIECE):
        forth.write(piece)
        await forth.drain()


async def _first_of(*ways: Coroutine[Any, Any, None]) -> None:
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextmanager
def between(target: tuple[str, int]) -> Iterator[Network]:
    """A network in a thread of its own."""
    network = Network(target)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = asyncio.run_coroutine_threadsafe(network.open(), loop).result()
    try:
        yield network
    finally:
        asyncio.run_coroutine_threadsafe(network.close(server), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
