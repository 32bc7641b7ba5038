"""``python -m bench.ledger``: how long a call waits until its intent, or its end, is on the disk."""

import argparse
import asyncio
import os
import platform
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.page import put
from cache_proxy.calls import Account, Call, Payer, Settlement, Share
from cache_proxy.ledger.books import SqlLedger
from cache_proxy.ledger.database import Database
from cache_proxy.models import Endpoint

PAGE = Path(__file__).resolve().parent.parent / "docs" / "ledger.md"
BEGIN = "<!-- ledger: written by `make bench-ledger ARGS=--write` -->"
END = "<!-- ledger end -->"

WAITING = (1, 16, 64, 256)
CALLS = 4_000
WARM = 50

HEAD = ("| calls under way at a time | p50 ms | p99 ms | notes a second |", "|---:|---:|---:|---:|")


def _call(number: int) -> Call:
    payer = Payer(f"request-{number}", Account("team", "a" * 64, "search"), "reader", ("nightly",), "embed")
    return Call(
        f"{number:032x}",
        "one",
        "jina-embeddings-v3",
        Endpoint.EMBEDDINGS,
        8,
        time.time(),
        (Share(payer, 4_000),),
        50_000,
    )


async def _measured(database: Database, waiting: int, first: int) -> tuple[list[float], float]:
    """How long each note took to be durable, and all of them together."""
    ledger = SqlLedger(database)
    ledger.open()
    for number in range(first, first + WARM):
        await ledger.intend(_call(number))
    taken: list[float] = []

    async def one(start: int) -> None:
        for number in range(start, start + CALLS // waiting // 2):
            call = _call(number)
            began = time.perf_counter()
            await ledger.intend(call)
            between = time.perf_counter()
            await ledger.settle(call, Settlement((1_000,), 200))
            taken.extend((between - began, time.perf_counter() - between))

    began = time.perf_counter()
    await asyncio.gather(*(one(first + WARM + at * CALLS) for at in range(waiting)))
    whole = time.perf_counter() - began
    await ledger.close(10)
    return sorted(taken), whole


def _line(waiting: int, taken: Sequence[float], whole: float) -> str:
    middle, late = taken[len(taken) // 2], taken[int(len(taken) * 0.99)]
    return f"| {waiting} | {middle * 1000:.2f} | {late * 1000:.2f} | {len(taken) / whole:,.0f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ledger", description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    options = parser.parse_args()
    print("\n".join(HEAD), flush=True)
    lines = []
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        for at, waiting in enumerate(WAITING):
            database = Database.in_folder(Path(folder) / str(waiting))
            lines.append(_line(waiting, *asyncio.run(_measured(database, waiting, at * 10**9))))
            print(lines[-1], flush=True)
    if options.write:
        machine = f"Python {platform.python_version()}, {os.cpu_count()} processors"
        put(PAGE, BEGIN, END, ["", *HEAD, *lines, "", f"(SQLite, `synchronous=FULL`; {machine}.)"])


if __name__ == "__main__":
    main()
