"""Servers are killed under load, again and again: no billed token is missing from the ledger, and none is invented."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cache_proxy.ledger.database import Database
from cache_proxy.serving import hosted
from cache_proxy.standin import Delays, StandIn
from tests.ledger.audit import audit
from tests.ledger.fleet import Fleet
from tests.postgres import Postgres

CALLERS = 6
SERVERS = 2

PARTS = 4
"""Many kills are several tests, so that they may run beside each other."""

WORDS = [f"word{number}" for number in range(400)]


@pytest.fixture
def standin() -> StandIn:
    return StandIn(delay=Delays(0.01, 0.15), keep=1_000_000)


@pytest.fixture
def upstream(standin: StandIn) -> Iterator[str]:
    with hosted(standin) as url:
        yield url


class Callers:
    """Ask whoever lives, until they are told to stop."""

    def __init__(self, fleet: Fleet) -> None:
        self.answers: dict[int, int] = {}
        self._fleet = fleet
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CALLERS)]

    def __enter__(self) -> "Callers":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        chance = random.Random(number)
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._ending.is_set():
                ports = list(self._fleet.servers)
                if not ports:
                    time.sleep(0.01)
                    continue
                path, body = question(chance)
                try:
                    answer = client.post(f"http://127.0.0.1:{chance.choice(ports)}{path}", json=body)
                except httpx.TransportError:
                    continue
                self.answers[answer.status_code] = self.answers.get(answer.status_code, 0) + 1


def question(chance: random.Random) -> tuple[str, dict[str, object]]:
    """A path and a body. Hardly ever the same twice, so that nearly every one costs something."""
    texts = [" ".join(chance.choices(WORDS, k=chance.randint(1, 30))) for _ in range(chance.randint(1, 12))]
    if chance.random() < 0.3:
        return "/rerank", {"model": "jina-reranker-v2-base-multilingual", "query": texts[0], "documents": texts}
    return "/embeddings", {"model": "jina-embeddings-v3", "input": texts, "user": f"user{chance.randint(1, 3)}"}


def kill_often(
    folder: Path,
    standin: StandIn,
    upstream: str,
    database: Database,
    environ: dict[str, str],
    kills: int,
    part: int = 0,
) -> None:
    fleet = Fleet(folder, upstream, {"lease_seconds": 0.5}, environ)
    chance = random.Random(kills + part)
    for _ in range(SERVERS):
        fleet.start()
    with Callers(fleet) as callers:
        for _ in range(kills):
            time.sleep(chance.uniform(0.02, 0.25))
            fleet.kill(chance.choice(list(fleet.servers)))
            fleet.start()
    fleet.end()
    found = audit(database, standin.calls)
    print(f"{kills} kills, {callers.answers}: {found}")
    assert set(callers.answers) == {200}
    assert (found.missing, found.invented) == (0, 0), found
    assert found.billed <= found.settled + found.unsettled
    assert found.open < kills * CALLERS, "most calls are settled"
    assert found.open > 0, "some of the kills met a call"
    assert "Traceback" not in fleet.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_hundred_kills_lose_no_billed_token(tmp_path: Path, standin: StandIn, upstream: str, part: int) -> None:
    database = Database.in_folder(tmp_path / "store")
    kill_often(tmp_path, standin, upstream, database, {}, 200 // PARTS, part)
    with database.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    database.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nor_do_they_where_it_is_in_postgresql(
    tmp_path: Path, standin: StandIn, upstream: str, server: Postgres
) -> None:
    url = server.database()
    database = Database.of_postgres(url)
    kill_often(tmp_path, standin, upstream, database, {"DATABASE_URL": url}, 40)
    database.close()


def test_a_few_kills_lose_none_either(tmp_path: Path, standin: StandIn, upstream: str) -> None:
    kill_often(tmp_path, standin, upstream, Database.in_folder(tmp_path / "store"), {}, 8)
