"""What an entry of 1024 dimensions takes."""

import argparse
import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import redis

from bench import bodies, servers
from bench.inprocess import NO_MEMORY, ask, opened
from bench.table import Row, at_most, not_here
from cache_proxy.models import Key

VALUE, IN_REDIS = 4160, 4500


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """The value itself, and all that Redis keeps for it."""
    del options
    if not servers.has_redis():
        yield not_here("bytes of an entry", "no redis-server on PATH")
        return
    with servers.folder() as home, servers.standin() as upstream, servers.redis_server(home) as url:
        document = {**NO_MEMORY, "litellm_settings": {"cache_params": {"type": "redis", "url": url}}}
        key = asyncio.run(_stored_under(upstream, home, document))
        with redis.Redis.from_url(url) as client:
            name = b"cache-proxy:" + key.hex().encode()
            yield at_most("value of a 1024-d entry", _int(client.strlen(name)), VALUE, "bytes")
            yield at_most("the same in Redis, MEMORY USAGE", _int(client.memory_usage(name)), IN_REDIS, "bytes")


async def _stored_under(upstream: str, home: Path, document: dict[str, Any]) -> Key:
    body = bodies.body(bodies.texts(1, "entry"))
    async with opened(upstream, home, document) as (app, wired):
        await ask(app, body)
        return (await wired.open()).keys_of(orjson.loads(body))[0]


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
