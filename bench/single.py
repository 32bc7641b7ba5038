"""One warm hit: one worker, one text of 1024 dimensions, 32 connections."""

import argparse
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from statistics import median

from bench import bodies, nginx, servers
from bench.load import Figures, put
from bench.table import Row, at_least, not_here
from bench.turns import in_turns, ratio

CONNECTIONS = 32
TEXTS = 64
BARE, NGINX = 0.7, 0.4


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """The proxy beside the bare app, and beside nginx where there is one."""
    with ExitStack() as stack:
        home = stack.enter_context(servers.folder())
        upstream = stack.enter_context(servers.standin())
        urls = {
            "proxy": stack.enter_context(servers.proxy(upstream, home)),
            "bare": stack.enter_context(servers.bare(upstream)),
        }
        if shutil.which("nginx"):
            urls["nginx"] = stack.enter_context(nginx.caching(upstream, home))
        file = bodies.file_of(home, bodies.singles(bodies.texts(TEXTS, "single")))
        for url in urls.values():
            put(url, file)
        sides = {
            name: partial(put, url, file, connections=CONNECTIONS, seconds=options.seconds)
            for name, url in urls.items()
        }
        yield from _told(in_turns(options.rounds, sides))


def _told(figures: dict[str, list[Figures]]) -> Iterator[Row]:
    rates = {name: [each.rate for each in found] for name, found in figures.items()}
    busy = {name: median(each.busy for each in found) for name, found in figures.items()}
    what = "one warm hit, 32 connections, requests a second, against "
    for name, limit in (("bare", BARE), ("nginx", NGINX)):
        if name in rates:
            told = f"{median(rates['proxy']):,.0f} : {median(rates[name]):,.0f}; load busy {busy[name]:.0%}"
            yield at_least(what + name, ratio(rates["proxy"], rates[name]), limit, told)
        else:
            yield not_here(what + name, "no nginx on PATH")
