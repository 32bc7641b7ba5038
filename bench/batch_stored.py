"""A warm batch from the store, memory tier off: 512 texts of 1024 dimensions, from Redis and from disk.

The floor reads the same rows in the simplest way (one ``MGET``, one SQLite query) and writes the same reply with one
``orjson.dumps``. Both run in one process without sockets, in turns.
"""

import argparse
import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from statistics import median

import numpy as np
import orjson
import redis
from starlette.types import ASGIApp

from bench import bodies, servers
from bench.bare import written
from bench.inprocess import NO_MEMORY, ask, opened
from bench.table import Row, at_most, not_here
from bench.turns import ratio, timed_in_turns
from cache_proxy.core.codec import open_frame, seal
from cache_proxy.models import Key, Numbers

ITEMS = 512
REDIS, DISK = 1.5, 2.0
ENCODINGS = ("float", "base64")
WIDTH = 1024

Read = Callable[[Sequence[Key]], list[bytes]]
"""Reads the values under these keys, in their order."""


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Both stores, both ways to write, and both ways in which Jina's models write numbers."""
    with servers.folder() as home, servers.standin() as upstream:
        if servers.has_redis():
            with servers.redis_server(home) as url, redis.Redis.from_url(url) as client:
                document = {**NO_MEMORY, "litellm_settings": {"cache_params": {"type": "redis", "url": url}}}
                yield from asyncio.run(_measured(options, upstream, home, document, _mget(client), REDIS))
        else:
            yield not_here(f"warm batch of {ITEMS} from redis", "no redis-server on PATH")
        with closing(sqlite3.connect(home / "cache.db", check_same_thread=False)) as connection:
            yield from asyncio.run(_measured(options, upstream, home, NO_MEMORY, _select(connection), DISK))


def _mget(client: redis.Redis) -> Read:
    def read(keys: Sequence[Key]) -> list[bytes]:
        values = client.mget([b"cache-proxy:" + key.hex().encode() for key in keys])
        return list(values)  # type: ignore[arg-type]  # the client is not asynchronous

    return read


def _select(connection: sqlite3.Connection) -> Read:
    def read(keys: Sequence[Key]) -> list[bytes]:
        marks = ",".join("?" * len(keys))
        query = f"SELECT key, value FROM Cache WHERE raw = 1 AND key IN ({marks})"  # noqa: S608 - only marks
        found = dict(connection.execute(query, list(keys)))
        return [found[key] for key in keys]

    return read


async def _measured(
    options: argparse.Namespace, upstream: str, home: Path, document: dict[str, object], read: Read, limit: float
) -> list[Row]:
    async with opened(upstream, home, document) as (app, wired):
        engine = await wired.open()
        return [
            await _compared(options, app, engine.keys_of, read, (engine.means.store.name, model, encoding), limit)
            for model in (bodies.MODEL, bodies.WIDENED)
            for encoding in ENCODINGS
        ]


async def _compared(
    options: argparse.Namespace,
    app: ASGIApp,
    keys_of: Callable[[dict[str, object]], tuple[Key, ...]],
    read: Read,
    case: tuple[str, str, str],
    limit: float,
) -> Row:
    store, model, encoding = case
    body = bodies.body(bodies.texts(ITEMS, "stored"), model, encoding)
    keys = keys_of(orjson.loads(body))
    await ask(app, body)
    floor = _floor(keys, read, model, encoding)
    _check_same(await ask(app, body), await floor())
    taken = await timed_in_turns(options.rounds * 4, {"proxy": lambda: ask(app, body), "floor": floor})
    told = f"{median(taken['proxy']) * 1000:.1f} : {median(taken['floor']) * 1000:.1f} ms"
    what = f"warm batch of {ITEMS} from {store}, memory off, {model}, {encoding}, against its floor"
    return at_most(what, ratio(taken["proxy"], taken["floor"]), limit, told=told)


def _floor(keys: Sequence[Key], read: Read, model: str, encoding: str) -> Callable[[], Awaitable[bytes]]:
    at = _numbers_at(keys[0], read(keys[:1])[0])
    dtype = "<f8" if model == bodies.WIDENED and encoding == "float" else "<f4"

    async def floor() -> bytes:
        vectors = [np.frombuffer(frame, "<f4", WIDTH, at).astype(dtype, copy=False) for frame in read(keys)]
        return written(model, vectors, encoding)

    return floor


def _numbers_at(key: Key, frame: bytes) -> int:
    """Where the numbers begin in a frame."""
    entry = open_frame(key, frame)
    assert entry is not None
    assert isinstance(entry.value, Numbers)
    assert seal(key, entry) == frame
    return frame.index(entry.value.array.tobytes())


def _check_same(reply: bytes, floor: bytes) -> None:
    """Both sides must say the same, or the comparison is worth nothing."""
    if orjson.loads(reply)["data"] != orjson.loads(floor)["data"]:
        raise RuntimeError("the proxy and the floor gave different answers")
