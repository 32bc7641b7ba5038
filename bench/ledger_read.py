"""How long the ledger's reports take: a database of so many requests over so many days, and every question asked of it.

``python -m bench.ledger_read --requests 2000000 --folder FOLDER``; the folder is filled if it is empty.
"""

import argparse
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from cache_proxy.calls import Account, Call, Payer, Settlement, Share
from cache_proxy.ledger import tables
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import GROUPS, Filters
from cache_proxy.ledger.logs import page
from cache_proxy.ledger.notes import Told
from cache_proxy.ledger.posting import _call, _request, _shares, run
from cache_proxy.ledger.statements import statements
from cache_proxy.ledger.sums import DAY, Sums
from cache_proxy.ledger.usage import usage
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Counts, Receipt

END = 20_000 * DAY
KEYS, TEAMS, TAGS = 200, 20, 50
MODELS = ("jina-embeddings-v3", "jina-embeddings-v4", "jina-reranker-m0", "jina-colbert-v2")
CHUNK = 50_000
MISSES = 0.3


def main() -> None:
    """Fill, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=90, help="a million in nine days are as dense as ten in ninety")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True)
    options = parser.parse_args()
    database = Database.in_folder(options.folder)
    if not database.is_there():
        began = time.perf_counter()
        fill(database, options.requests, options.days, options.users)
        print(f"filled with {options.requests:,} requests in {time.perf_counter() - began:.0f} s")
    size = sum(path.stat().st_size for path in options.folder.iterdir())
    print(f"{size / 2**20:,.0f} MiB")
    for told, ask in questions(database):
        print(f"{told:<50} {best_of(3, ask):8.3f} s")


def best_of(times: int, ask: Callable[[], object]) -> float:
    """The shortest of so many tries, in seconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    return min(taken)


def questions(database: Database) -> Iterator[tuple[str, Callable[[], object]]]:
    """What people ask."""
    noon = END - 7 * DAY - DAY / 2
    for by in (None, *GROUPS):
        yield f"usage by {by}, all of it", partial(usage, database, by)
    for by in (None, *GROUPS):
        yield f"usage by {by}, 7 days, cut at noon", partial(usage, database, by, noon, noon + 7 * DAY)
    yield "usage by key, one day, cut twice", lambda: usage(database, "key", noon + 1, noon + 43199)
    yield "logs, the newest 50, counted", lambda: page(database, Filters(), 0, 50, counted=True)
    mine = Filters(key_hashes=(_account(3).key,))
    yield "logs of a key, counted", lambda: page(database, mine, 0, 50, counted=True)
    yield "logs of a tag, counted", lambda: page(database, Filters(tag="tag 7"), 0, 50, counted=True)
    nobody = Filters(end_user="nobody")
    yield "logs of nobody (every row is read)", lambda: page(database, nobody, 0, 50, counted=True)
    day = Filters(since=noon, until=noon + DAY, end_user="nobody")
    yield "logs of nobody on one day", lambda: page(database, day, 0, 50, counted=True)
    yield "logs, one request id", lambda: page(database, Filters(request_id="id 77"), 0, 50)


def _account(number: int) -> Account:
    return Account(f"key {number}", f"{number:064x}", f"team {number % TEAMS}")


def fill(database: Database, requests: int, days: int, users: int) -> None:
    """Write what the server would have written, a chunk in a transaction, and the sums at the end of each."""
    for start in range(0, requests, CHUNK):
        sums = Sums()
        rows: dict[Any, list[dict[str, Any]]] = {tables.calls: [], tables.shares: [], tables.requests: []}
        for number in range(start, min(start + CHUNK, requests)):
            _add(number, END - days * DAY * (1 - number / requests), users, sums, rows)
        with database.writing() as connection:
            for table, some in rows.items():
                connection.execute(insert(table), some)
            run(connection, statements(connection.dialect.name).add_to_day, sums.rows())


def _add(number: int, at: float, users: int, sums: Sums, rows: dict[Any, list[dict[str, Any]]]) -> None:
    chance = random.Random(number)
    account, model = _account(chance.randrange(KEYS)), chance.choice(MODELS)
    endpoint = Endpoint.RERANK if "reranker" in model else Endpoint.EMBEDDINGS
    tags, user = (f"tag {chance.randrange(TAGS)}",), f"user {chance.randrange(users)}"
    misses = chance.random() < MISSES
    counts = Counts(16, 0 if misses else 16, 16 if misses else 0)
    receipt = Receipt(
        f"id {number}", endpoint.value, account, model, model, 200, "cache-proxy; hit", counts, 800 * misses,
        800 * (not misses), 40_000_000 * misses, 40_000_000 * (not misses), 0.01, 20_000, at, user=user, tags=tags,
    )  # fmt: skip
    rows[tables.requests].append(_request(Told(f"{chance.getrandbits(128):032x}", receipt), sums))
    if misses:
        share = Share(Payer(receipt.request_id, account, user, tags, model), 4000)
        call = Call(f"{number:032x}", "d", model, endpoint, 16, at, (share,), 50_000)
        settlement = Settlement((800,), 200)
        sums.intended(call)
        sums.settled(call, settlement)
        ended = {"settled_at": at + 0.5, "tokens": 800, "status": 200}
        rows[tables.calls].append({**_call(call), **ended})
        rows[tables.shares] += [{**row, "tokens": 800} for row in _shares(call)]


if __name__ == "__main__":
    main()
