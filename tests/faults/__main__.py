"""``python -m tests.faults [NAME...]``: bring the faults upon real servers and print what they cost."""

import argparse
import os
import platform
import tempfile
from pathlib import Path

from tests.faults.course import ground
from tests.faults.disk_scenarios import MOUNTING
from tests.faults.registry import SCENARIOS
from tests.faults.servers import ROOT
from tests.faults.table import HEAD, Row, write
from tests.mounts import NOT_PERMITTED, can_mount

PAGE = ROOT / "docs" / "operations.md"


def main() -> None:
    """Run what was named, or everything."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each phase of a scenario lasts")
    parser.add_argument("--hosts", type=int, default=2, help="servers that share one disk store")
    parser.add_argument("--workers", type=int, default=4, help="of each server")
    parser.add_argument("--entries", type=int, default=1_000_000, help="of a large store")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}; needs all scenarios")
    options = parser.parse_args()
    unknown = set(options.names) - set(SCENARIOS)
    if unknown:
        parser.error(f"no scenario is called {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    if options.write and options.names:
        parser.error("--write writes the whole table, so it runs every scenario: leave the names out")
    if options.write and not can_mount():
        parser.error(f"--write writes the whole table, and {NOT_PERMITTED}")
    machine = f"Python {platform.python_version()} on {os.cpu_count()} processors, which also ran the load"
    extent = (
        f"{options.hosts} servers on a disk store, {options.workers} workers a server, {options.seconds:g} s a phase"
    )
    lines = [f"Measured with {machine}: {extent}.", "", HEAD]
    print("\n".join(lines))
    for name in options.names or SCENARIOS:
        if name in MOUNTING and not can_mount():
            print(f"{name}: {NOT_PERMITTED}")
            continue
        lines.append(run(name, options).line(name))
        print(lines[-1], flush=True)
    if options.write:
        write(PAGE, lines)


def run(name: str, options: argparse.Namespace) -> Row:
    """The row of one scenario, run in a folder of its own."""
    extent = {name: getattr(options, name) for name in ("seconds", "hosts", "workers", "entries")}
    with tempfile.TemporaryDirectory(prefix="cp-faults-") as folder, ground(Path(folder), **extent) as here:
        return SCENARIOS[name](here)


if __name__ == "__main__":
    main()
