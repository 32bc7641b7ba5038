"""``python -m bench.economy``: measure each topology, as shipped and without coalescing, and print one number."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import orjson

from bench import servers
from bench.economy import table
from bench.economy.measure import Load, measure
from bench.economy.options import load_of, with_load
from bench.economy.table import Row
from bench.economy.topologies import TOPOLOGIES


def main() -> int:
    """Print the table; 1 if an answer was wrong or missing, or the headers told something else than the bill."""
    options = _options()
    load, rows = load_of(options), []
    if not options.json:
        print("\n".join(table.HEAD), flush=True)
    for row in _rows(options.names or list(TOPOLOGIES), load):
        rows.append(row)
        if not options.json:
            print(table.line(row), flush=True)
    if options.json:
        sys.stdout.buffer.write(orjson.dumps(table.as_json(rows), option=orjson.OPT_INDENT_2) + b"\n")
    elif rows:
        print(f"\n{table.verdict(rows)}")
    flaws = [flaw for row in rows for flaw in table.flaws(row)]
    for flaw in flaws:
        print(flaw, file=sys.stderr)
    return 1 if flaws else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.economy", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(TOPOLOGIES)}; all by default")
    parser.add_argument("--json", action="store_true", help="everything that was measured, instead of the table")
    options = with_load(parser).parse_args()
    unknown = set(options.names) - set(TOPOLOGIES)
    if unknown:
        parser.error(f"no topology is called {', '.join(sorted(unknown))}; there are {', '.join(TOPOLOGIES)}")
    return options


def _rows(names: Sequence[str], load: Load) -> Iterator[Row]:
    for name in names:
        topology = TOPOLOGIES[name]
        if topology.redis and not servers.has_redis():
            print(f"{topology.told}: not measured, there is no redis-server on PATH", file=sys.stderr)
            continue
        shipped = measure(load, partial(topology.serving, own={}))
        yield Row(topology.told, shipped, measure(load, partial(topology.serving, own={"coalesce": "none"})))


if __name__ == "__main__":
    sys.exit(main())
