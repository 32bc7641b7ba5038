"""``python -m bench``: run the scenarios and print their table."""

import argparse
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterable

from bench import batch_memory, batch_stored, cost, entry, miss, scale, single
from bench.table import HEAD, Row, lines

SCENARIOS: dict[str, Callable[[argparse.Namespace], Iterable[Row]]] = {
    "single": single.rows,
    "batch_memory": batch_memory.rows,
    "batch_stored": batch_stored.rows,
    "miss": miss.rows,
    "entry": entry.rows,
    "cost": cost.rows,
    "scale": scale.rows,
}


def main() -> None:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--entries", type=int, default=100_000, help="of the larger store in `scale`")
    parser.add_argument("--seconds", type=float, default=1.0, help="that one turn of a load lasts")
    parser.add_argument("--rounds", type=int, default=5, help="turns that each side gets")
    options = parser.parse_args()
    unknown = set(options.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    logging.disable()  # the proxy's lines would end up in the table
    print(
        f"Python {platform.python_version()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} at the start\n"
    )
    print("\n".join(HEAD))
    for name in options.names or SCENARIOS:
        for line in lines(SCENARIOS[name](options)):
            print(line)
            sys.stdout.flush()


main()
