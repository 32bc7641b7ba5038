"""One hit through the server, memory tier off: a large store on disk beside a small one."""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bench import bodies, servers
from bench.inprocess import NO_MEMORY, opened
from bench.load import put
from bench.table import Row, at_most
from bench.turns import in_turns, ratio
from cache_proxy.core.codec import seal
from cache_proxy.engine import Engine
from cache_proxy.models import Entry, Form, Numbers

SMALL = 10_000
ASKED = 1000
CHUNK = 500
WIDTH = 1024
REACH = 1.3
NOWHERE = "http://127.0.0.1:9"
"""No upstream: a miss would be an error, and the load would say so."""


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """The p50 of hits spread over the whole store, with ``--entries`` entries over ten thousand."""
    sizes = {"small": SMALL, "large": options.entries}
    with servers.folder() as home:
        homes = {name: home / name for name in sizes}
        for name, size in sizes.items():
            homes[name].mkdir()
            asyncio.run(_fill(homes[name], size))
        with (
            servers.proxy(NOWHERE, homes["small"], NO_MEMORY) as small,
            servers.proxy(NOWHERE, homes["large"], NO_MEMORY) as large,
        ):
            sides = {
                name: partial(put, url, _spread(homes[name], sizes[name]))
                for name, url in (("small", small), ("large", large))
            }
            in_turns(1, sides)
            figures = in_turns(options.rounds, sides)
    p50 = {name: [each.p50 * 1000 for each in found] for name, found in figures.items()}
    told = f"{min(p50['large']):.2f} : {min(p50['small']):.2f} ms at best"
    what = f"one hit on disk, memory off, {options.entries:,} entries over {SMALL:,}, p50"
    yield at_most(what, ratio(p50["large"], p50["small"]), REACH, told=told)


def _text(place: int) -> str:
    return f"entry {place}"


def _spread(home: Path, size: int) -> Path:
    places = range(0, size, max(1, size // ASKED))
    return bodies.file_of(home, bodies.singles(map(_text, places)))


async def _fill(home: Path, size: int) -> None:
    """Put entries into the store as the engine would have, without an upstream."""
    vectors = np.random.default_rng(1).standard_normal((CHUNK, WIDTH)).astype("<f4")
    async with opened(NOWHERE, home, NO_MEMORY) as (_, wired):
        engine = await wired.open()
        for start in range(0, size, CHUNK):
            await _store(engine, range(start, min(start + CHUNK, size)), vectors)


async def _store(
    engine: Engine, places: Sequence[int], vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
) -> None:
    keys = engine.keys_of({"model": bodies.MODEL, "input": [_text(place) for place in places]})
    frames = {
        key: seal(key, Entry(Numbers(vector, Form.FLOAT32), 10, 0.0))
        for key, vector in zip(keys, vectors, strict=False)
    }
    if not await engine.means.store.set_many(frames):
        raise RuntimeError("the store took too long to fill")
