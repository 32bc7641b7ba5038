"""``python -m bench.economy.kills``: kill servers in mid-flight, a hundred times a store, and print what it cost."""

import argparse
import sys
from collections.abc import Iterator, Sequence

from bench import servers
from bench.economy.kills import table
from bench.economy.kills.course import Plan, run
from bench.economy.kills.fleet import STORES
from bench.economy.kills.table import Tally


def main() -> int:
    """Print the table; 1 if anything in it must not be."""
    options = _options()
    plan = Plan(options.kills, options.lease, seed=options.seed)
    print("\n".join(table.HEAD), flush=True)
    rows = []
    for row in _rows(options.names or list(STORES), plan):
        rows.append(row)
        print(table.line(row), flush=True)
    flaws = [flaw for row in rows for flaw in table.flaws(row)]
    for flaw in flaws:
        print(flaw, file=sys.stderr)
    if options.write:
        table.write(plan, map(table.line, rows))
    return 1 if flaws else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.economy.kills", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="STORE", help=f"some of {', '.join(STORES)}; all by default")
    parser.add_argument("--kills", type=int, default=100, help="how many a store")
    parser.add_argument("--lease", type=float, default=5.0, help="lease_seconds; the default is that of the settings")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another load and other delays")
    parser.add_argument("--write", action="store_true", help=f"put the table into {table.PAGE.name}; needs all stores")
    options = parser.parse_args()
    unknown = set(options.names) - set(STORES)
    if unknown:
        parser.error(f"no store is called {', '.join(sorted(unknown))}; there are {', '.join(STORES)}")
    if options.write and (options.names or not servers.has_redis()):
        parser.error("--write writes the whole table: leave the names out, and have a redis-server on PATH")
    return options


def _rows(names: Sequence[str], plan: Plan) -> Iterator[Tally]:
    for name in names:
        store = STORES[name]
        if store.redis and not servers.has_redis():
            print(f"{store.told}: not measured, there is no redis-server on PATH", file=sys.stderr)
            continue
        yield table.tally(store, plan, run(plan, store))


if __name__ == "__main__":
    sys.exit(main())
