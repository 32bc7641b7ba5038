"""``/metrics`` of a server with several workers, and purges from the command line beside a server that runs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from cache_proxy.reporting import seats
from cache_proxy.serving import hosted
from cache_proxy.standin import StandIn
from cache_proxy.wiring.readings import SOON
from tests.exposition import Scrape, check_form
from tests.faults.servers import is_worker
from tests.integration.redis_servers import RedisServer
from tests.integration.test_drain import Door
from tests.integration.test_server import EMBED, KEY, ROOT, Server, is_hit, over_redis, serving, until

MODEL = "jina-embeddings-v3"


@pytest.fixture
def standin() -> StandIn:
    return StandIn()


@pytest.fixture
def upstream(standin: StandIn) -> Iterator[str]:
    with hosted(standin) as url:
        yield url


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the servers of a test make their folder, where there is no memory to put it in."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    return place


def workers_of(server: Server) -> list[int]:
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if is_worker(child)]


def scrape(server: Server) -> Scrape:
    """From a worker that takes a new connection, whichever that is."""
    answer = server.client.get("/metrics", headers={**KEY, "connection": "close"})
    assert answer.status_code == 200
    return Scrape(answer.text)


def ask(server: Server, *texts: str) -> None:
    # So many that each worker gets some.
    for text in texts:
        assert server.post("/embeddings", {**EMBED, "input": [text]}).status_code == 200


def folder_of(worker: int) -> Path | None:
    """The folder that this process was told of."""
    environ = dict(entry.partition("=")[::2] for entry in Path(f"/proc/{worker}/environ").read_text().split("\0"))
    return Path(environ[seats.VARIABLE]) if seats.VARIABLE in environ else None


def test_every_scrape_tells_the_sum_of_all_workers_and_what_a_killed_one_counted(
    tmp_path: Path, standin: StandIn, upstream: str
) -> None:
    with serving(tmp_path, upstream, workers=2) as server:
        ask(server, *(f"text {n % 10}" for n in range(40)))
        time.sleep(4 * SOON)  # the promise is in seconds of the workers' own clocks
        for _ in range(8):
            found = scrape(server)
            check_form(found)
            assert found.total("requests_total", status="200", endpoint="embeddings", model=MODEL) == 40
            assert found.total("items_total", result="hit") == 30
            assert found.total("tokens_billed_total") == standin.billed_tokens
            assert found.total("request_duration_seconds_count") == 40
            assert found.total("workers") == 2
        asked = 40
        while (
            scrape(server).total("memory_entries") <= 10
        ):  # each is to have some of its own, and which answers is chance
            for n in range(10):
                httpx.post(f"{server.url}/embeddings", json={**EMBED, "input": [f"text {n}"]}, headers=KEY)
            asked += 10
            time.sleep(4 * SOON)
        killed = workers_of(server)[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in workers_of(server) and len(workers_of(server)) == 2)
        until(lambda: scrape(server).total("workers") == 2)
        ask(server, *(f"text {n % 10}" for n in range(20)))
        time.sleep(4 * SOON)
        for _ in range(8):
            found = scrape(server)
            assert found.total("requests_total", status="200") == asked + 20
            assert found.total("request_duration_seconds_count") == asked + 20
            assert found.total("tokens_billed_total") == standin.billed_tokens
            assert found.total("requests_in_flight") == 0
        folder = folder_of(workers_of(server)[0])
        assert folder is not None
        assert len(list(folder.glob("counter_*.db"))) == 2, "the new worker counts on in the old one's seat"
        assert folder.stat().st_mode & 0o077 == 0
        server.process.terminate()
        assert server.process.wait(20) == 0
    assert not folder.exists()
    assert "Traceback" not in server.told()


@pytest.fixture
def door(standin: StandIn) -> Door:
    return Door(standin)


@pytest.fixture
def behind_a_door(door: Door) -> Iterator[str]:
    """The upstream of those who wait until the test opens it."""
    with hosted(door) as url:
        try:
            yield url
        finally:
            door.open.set()


def test_what_was_under_way_in_a_killed_worker_is_under_way_no_more(
    tmp_path: Path, door: Door, behind_a_door: str
) -> None:
    with serving(tmp_path, behind_a_door, workers=2) as server:
        with httpx.Client(base_url=server.url, headers=KEY, timeout=0.5) as client:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/embeddings", json=EMBED)
            assert scrape(server).total("requests_in_flight") == 1
        for worker in workers_of(server):
            os.kill(worker, signal.SIGKILL)
        until(lambda: len(workers_of(server)) == 2, 20)
        until(lambda: answers(server), 20)
        until(lambda: scrape(server).total("workers") == 2)
        assert scrape(server).total("requests_in_flight") == 0
        assert scrape(server).total("requests_total") == 0, "it was never answered"


def answers(server: Server) -> bool:
    try:
        return server.client.get("/health/liveliness", headers={"connection": "close"}).status_code == 200
    except httpx.TransportError:
        return False


def test_one_worker_keeps_its_numbers_to_itself_whatever_the_environment_says(
    tmp_path: Path, upstream: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(seats.VARIABLE, str(place))
    with serving(tmp_path, upstream) as server:
        ask(server, "a", "b")
        assert scrape(server).total("requests_total") == 2
    assert list(place.iterdir()) == []


def run(server_folder: Path, *command: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "CACHE_PROXY_DIR": str(server_folder / "store")}
    config = ["--config", str(server_folder / "config.yaml")]
    return subprocess.run(
        [sys.executable, "-m", "cache_proxy", "cache", *command, *config],
        input=given, env=environ, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["disk", "redis"])
def test_a_purge_from_the_command_line_is_obeyed_by_every_worker_within_a_second(
    tmp_path: Path, standin: StandIn, upstream: str, kind: str, request: pytest.FixtureRequest
) -> None:
    sections = over_redis(request.getfixturevalue("own_redis")) if kind == "redis" else {}
    other = {**EMBED, "input": ["another"]}
    with serving(tmp_path, upstream, sections, workers=2) as server:
        ask(server, *["hello world"] * 15, *["another"] * 15)  # in the memory of both workers
        key = server.post("/embeddings", EMBED).headers["x-litellm-cache-key"]
        assert run(tmp_path, "delete", key).stdout == b"forgotten: 1 of 1\n"
        assert_forgotten(server, EMBED)
        assert is_kept(server, other)
        assert run(tmp_path, "delete", "--request", "-", given=orjson.dumps(other)).stdout == b"forgotten: 1 of 1\n"
        assert_forgotten(server, other)
        ask(server, *["hello world"] * 15)
        asked = run(tmp_path, "clear")
        assert (asked.returncode, b"[y/N]" in asked.stderr) == (1, True), "nothing is purged that nobody confirmed"
        assert is_hit(server)
        ended = run(tmp_path, "clear", "--yes")
        assert (ended.returncode, ended.stdout) == (0, b"forgotten: everything\n")
        assert_forgotten(server, EMBED)


def assert_forgotten(server: Server, body: dict[str, Any]) -> None:
    time.sleep(1.0)  # the promise is in seconds of the workers' own clocks
    # Such a request stores nothing, so each worker shows what it still holds.
    assert not any(is_kept(server, body) for _ in range(20))


def is_kept(server: Server, body: dict[str, Any]) -> bool:
    return server.post("/embeddings", body, **{"cache-control": "only-if-cached"}).status_code == 200


def test_the_stats_of_a_store_that_is_down_are_one_line_and_exit_code_1(
    tmp_path: Path, own_redis: RedisServer, standin: StandIn, upstream: str
) -> None:
    with serving(tmp_path, upstream, over_redis(own_redis)) as server:
        ask(server, "a")
    up = run(tmp_path, "stats", "--format", "json")
    assert orjson.loads(up.stdout) | {"store": ""} == {"store": "", "entries": None, "bytes": None, "limit_bytes": None}
    own_redis.kill()
    for command in (["stats"], ["clear", "--yes"], ["delete", "00" * 32]):
        down = run(tmp_path, *command)
        assert down.returncode == 1
        (line,) = down.stderr.decode().strip().splitlines()
        assert line.startswith("Error: ")
