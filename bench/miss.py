"""What the proxy adds to a miss: one text, one connection, an upstream that does not wait."""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from bench import bodies, servers
from bench.load import Figures, put
from bench.table import Row, at_most
from bench.turns import in_turns

REACH_MS = 1.5
TEXTS = 150


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Fresh texts through the proxy, and others straight to the upstream."""
    with servers.folder() as home, servers.standin() as upstream, servers.proxy(upstream, home) as proxy:
        for url in (proxy, upstream):
            _fresh(url, home)()
        sides = {"proxy": _fresh(proxy, home), "direct": _fresh(upstream, home)}
        figures = in_turns(options.rounds, sides)
    p50 = {name: median(each.p50 for each in found) * 1000 for name, found in figures.items()}
    told = f"{p50['proxy']:.2f} - {p50['direct']:.2f} ms"
    yield at_most("added to a miss, p50", p50["proxy"] - p50["direct"], REACH_MS, "ms", told)


def _fresh(url: str, home: Path) -> Callable[[], Figures]:
    def run() -> Figures:
        texts = bodies.texts(TEXTS, bodies.fresh_topic())
        return put(url, bodies.file_of(home, bodies.singles(texts)))

    return run
