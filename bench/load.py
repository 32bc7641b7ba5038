"""The load: a process of its own that asks as fast as it is answered, the same one on every machine.

    python -m bench.load URL CONNECTIONS SECONDS FILE

asks for the bodies in ``FILE`` (one a line, in turn) until the time is up (0: until each was asked for once), and
writes its figures as JSON. It speaks just enough HTTP: keep-alive, ``Content-Length``, and every status counts.
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import cast
from urllib.parse import urlsplit

import orjson
import uvloop

PATH = "/v1/embeddings"

_HEAD = (
    b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer jina_bench\r\n"
)


@dataclass(frozen=True)
class Figures:
    """What a load saw. ``busy`` is the share of its time that the load itself was at work: near 1, it was the limit."""

    answered: int
    failed: int
    rate: float
    p50: float
    p99: float
    busy: float


def put(url: str, file: Path, *, connections: int = 1, seconds: float = 0.0) -> Figures:
    """Put a load on a server, from another process. Raises ``RuntimeError`` if any answer was not a 200."""
    command = [sys.executable, "-m", "bench.load", url, str(connections), str(seconds), str(file)]
    figures = Figures(**orjson.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    if figures.failed or not figures.answered:
        raise RuntimeError(f"{url}: {figures.failed} answers were no 200, {figures.answered} were")
    return figures


class _Asking(asyncio.Protocol):
    """One connection: asks, reads, asks again."""

    def __init__(self, bodies: Iterator[bytes], ends_at: float) -> None:
        self.taken: list[float] = []
        self.failed = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bodies = bodies
        self._ends_at = ends_at
        self._left = 0
        self._head = b""
        self._asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._ask()

    def _ask(self) -> None:
        self._asked_at = time.perf_counter()
        request = None if self._asked_at > self._ends_at else next(self._bodies, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._read(data)
        except Exception as error:
            self.ended.set_exception(error)
            self._transport.abort()

    def _read(self, data: bytes) -> None:
        if self._left:
            self._left -= len(data)
        else:
            self._head += data
            if not self._read_head():
                return
        if self._left == 0:
            self.taken.append(time.perf_counter() - self._asked_at)
            self._ask()

    def _read_head(self) -> bool:
        end = self._head.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self._head[:end].lower()
        at = head.index(b"content-length:") + 15
        size = int(head[at : (head.find(b"\r\n", at) + 1 or end + 1) - 1])
        self._left = end + 4 + size - len(self._head)
        self.failed += not head.startswith(b"http/1.1 200")
        self._head = b""
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None or self._left:
            self.failed += 1
        if not self.ended.done():
            self.ended.set_result(None)


def _itself(protocol: _Asking) -> _Asking:
    return protocol


async def _run(url: str, connections: int, seconds: float, bodies: list[bytes]) -> Figures:
    parts = urlsplit(url)
    head = _HEAD % parts.netloc.encode()
    requests = [b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body) for body in bodies]
    feed = cycle(requests) if seconds else iter(requests)
    began, worked = time.perf_counter(), time.process_time()
    ends_at = began + (seconds or 3600)
    loop = asyncio.get_running_loop()
    asking = [_Asking(feed, ends_at) for _ in range(connections)]
    for each in asking:
        await loop.create_connection(partial(_itself, each), parts.hostname or "", parts.port or 80)
    await asyncio.gather(*(each.ended for each in asking))
    elapsed, busy = time.perf_counter() - began, time.process_time() - worked
    taken = sorted(second for each in asking for second in each.taken)
    failed = sum(each.failed for each in asking)
    p50, p99 = (median(taken), taken[len(taken) * 99 // 100]) if taken else (0.0, 0.0)
    return Figures(len(taken), failed, len(taken) / elapsed, p50, p99, busy / elapsed)


def main() -> None:
    """Run the load that the command line asks for."""
    url, connections, seconds, file = sys.argv[1:]
    bodies = Path(file).read_bytes().split(b"\n")
    figures = uvloop.run(_run(url, int(connections), float(seconds), bodies))
    sys.stdout.buffer.write(orjson.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
