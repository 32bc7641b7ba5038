"""Many callers at a time. They note what they were told; it is judged when all is over."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from bench.economy.spellings import Request

LOST = 0
"""The status of a request whose connection broke, or that nobody answered in time."""

_PATIENCE = 60.0
ASKED_PER_CONNECTION = 8
"""Requests after which a connection is made anew, so that another worker may get the caller."""

_HEAD = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    "Authorization: Bearer jina_bench\r\nContent-Length: {size}\r\n\r\n"
)


@dataclass(frozen=True)
class Note:
    """A request and its answer. ``billed`` is what the answer's header says it cost, ``None`` where there is none."""

    request: Request
    seconds: float
    status: int
    billed: int | None
    content: bytes


def ask_all(urls: Sequence[str], requests: Sequence[Request], callers: int) -> list[Note]:
    """Ask for everything, once, in this order as fast as ``callers`` connections to these servers allow."""
    return asyncio.run(_ask_all(urls, requests, callers))


async def _ask_all(urls: Sequence[str], requests: Sequence[Request], callers: int) -> list[Note]:
    waiting = iter(requests)
    asking = [Caller(urls[number % len(urls)]).ask(waiting) for number in range(callers)]
    return [note for notes in await asyncio.gather(*asking) for note in notes]


class Caller:
    """One connection to a server, made anew now and then."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, waiting: Iterator[Request]) -> list[Note]:
        """Ask for what is waiting until nothing is."""
        notes: list[Note] = []
        for request in waiting:
            notes.append(await self.note(request))
            if len(notes) % ASKED_PER_CONNECTION == 0 or notes[-1].status == LOST:
                await self.hang_up()
        await self.hang_up()
        return notes

    async def note(self, request: Request) -> Note:
        """Ask for this; a connection that breaks is noted, not raised."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_PATIENCE):
                status, billed, content = await self._exchange(request)
        except (OSError, EOFError, ValueError):
            status, billed, content = LOST, None, b""
        return Note(request, time.perf_counter() - began, status, billed, content)

    async def _exchange(self, request: Request) -> tuple[int, int | None, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        head = _HEAD.format(path=request.path, host=f"{self._host}:{self._port}", size=len(request.body))
        writer.write(head.encode() + request.body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = await reader.readexactly(int(headers["content-length"]))
        billed = headers.get("x-tokens-billed")
        return int(first.split()[1]), None if billed is None else int(billed), content

    async def hang_up(self) -> None:
        """Let go of the connection; the next request makes another."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
