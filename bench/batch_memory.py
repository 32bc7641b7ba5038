"""A warm batch, hot in memory: one worker, 512 texts of 1024 dimensions."""

import argparse
from collections.abc import Iterator
from functools import partial
from statistics import median

from bench import bodies, servers
from bench.load import put
from bench.table import Row, at_least
from bench.turns import in_turns, ratio

ITEMS = 512
CONNECTIONS = 2
REACH = {"float": 1.6, "base64": 1.4}


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """The proxy beside the bare app, which formats the numbers each time."""
    texts = bodies.texts(ITEMS, "batch")
    with servers.folder() as home, servers.standin() as upstream:
        with servers.proxy(upstream, home) as proxy, servers.bare(upstream) as bare:
            for encoding, limit in REACH.items():
                file = bodies.file_of(home, [bodies.body(texts, encoding=encoding)])
                sides = {
                    name: partial(put, url, file, connections=CONNECTIONS, seconds=options.seconds)
                    for name, url in (("proxy", proxy), ("bare", bare))
                }
                for url in (proxy, bare):
                    put(url, file)
                rates = {name: [each.rate for each in found] for name, found in in_turns(options.rounds, sides).items()}
                told = f"{median(rates['proxy']):,.0f} : {median(rates['bare']):,.0f} requests a second"
                what = f"warm batch of {ITEMS} in memory, {encoding}, against the bare app"
                yield at_least(what, ratio(rates["proxy"], rates["bare"]), limit, told)
