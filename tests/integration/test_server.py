"""The server as it is started, in processes of its own, before a stand-in and on real stores."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import yaml

from cache_proxy.serving import hosted
from cache_proxy.standin import Fault, StandIn
from tests.integration.conftest import PASSWORD, RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = {"Authorization": "Bearer sk-1234"}
DOCUMENTS = ["Carson City is in Nevada.", "Saipan is an island.", "Washington, D.C. is the capital.", "Kansas is flat."]

EMBED = {"input": ["hello world"], "model": "embedding-model"}
PROVIDER = {
    "input": ["good morning"],
    "model": "jina_ai/jina-embeddings-v3",
    "dimensions": 512,
    "my_custom_param": "my_custom_value",
}
RANK = {"model": "rerank-model", "query": "What is the capital?", "documents": DOCUMENTS, "top_n": 3}


@dataclass
class Server:
    """A running ``cache-proxy``, and a client with its key."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path
    client: httpx.Client

    def post(self, path: str, body: Mapping[str, Any], **headers: str) -> httpx.Response:
        # A connection of its own, so that any worker may get it.
        return self.client.post(path, json=body, headers={**KEY, **headers, "connection": "close"})

    def told(self) -> str:
        return self.log.read_text()


def cache_status(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return response.headers["cache-status"].removeprefix("cache-proxy; ").partition("; detail")[0]


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come to pass in time"
        time.sleep(0.02)


@contextmanager
def serving(
    folder: Path, upstream: str, sections: Mapping[str, Any] | None = None, workers: int = 1
) -> Iterator[Server]:
    """A server that is ready."""
    with starting(folder, upstream, sections, workers) as server:
        until(lambda: is_ready(server), 30)
        yield server


@contextmanager
def starting(
    folder: Path, upstream: str, sections: Mapping[str, Any] | None = None, workers: int = 1
) -> Iterator[Server]:
    """LiteLLM's own sample, served: its file, an ``api_base`` for each model, and these sections."""
    document = yaml.safe_load((ROOT / "config" / "litellm.yaml").read_text())
    for entry in document["model_list"]:
        entry["litellm_params"]["api_base"] = f"{upstream}/v1"
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({**document, **(sections or {})}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CACHE_PROXY_", "REDIS_"))}
    environ = {
        **kept, "PYTHONPATH": str(ROOT), "JINA_AI_API_KEY": "jina_server", "CACHE_PROXY_DIR": str(folder / "store"),
    }  # fmt: skip
    command = [sys.executable, "-m", "cache_proxy", "--config", str(config), "--port", str(port)]
    log = folder / "server.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)], stdout=stream, stderr=stream, env=environ, cwd=folder
        )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
    server = Server(process, f"http://127.0.0.1:{port}", log, client)
    try:
        yield server
    finally:
        client.close()
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()


def is_ready(server: Server) -> bool:
    assert server.process.poll() is None, server.told()
    try:
        return server.client.get("/health/readiness").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def standin() -> StandIn:
    return StandIn()


@pytest.fixture
def upstream(standin: StandIn) -> Iterator[str]:
    with hosted(standin) as url:
        yield url


def over_redis(server: RedisServer, **more: Any) -> dict[str, Any]:
    where = f"unix://:{PASSWORD.replace(' ', '%20')}@{server.socket}"
    return {"litellm_settings": {"cache": True, "cache_params": {"type": "redis", "url": where}}, **more}


def check_samples(server: Server, standin: StandIn) -> None:
    """Every sample of LiteLLM's page, twice: paid first, from the cache then, and the same both times."""
    for path, body in (("/embeddings", EMBED), ("/embeddings", PROVIDER), ("/rerank", RANK)):
        first = server.post(path, body)
        paid = standin.call_count
        assert cache_status(first) == "fwd=miss; stored"
        assert int(first.headers["x-tokens-billed"]) > 0
        second = server.post(path, body)
        assert cache_status(second) == "hit"
        assert second.headers["x-tokens-billed"] == "0"
        assert standin.call_count == paid
        same = "results" if path == "/rerank" else "data"
        assert second.json()[same] == first.json()[same]
    assert len(first.json()["results"]) == 3
    assert len(server.post("/embeddings", PROVIDER).json()["data"][0]["embedding"]) == 512
    assert next(call.body for call in standin.calls if "my_custom_param" in call.body) == {
        **PROVIDER, "model": "jina-embeddings-v3",
    }  # fmt: skip


def test_litellms_samples_answer_from_the_disk_store_with_a_log_line_each(
    tmp_path: Path, standin: StandIn, upstream: str
) -> None:
    with serving(tmp_path, upstream) as server:
        check_samples(server, standin)
        assert server.client.post("/embeddings", json=EMBED).status_code == 401
        server.process.terminate()
        assert server.process.wait(10) == 0
    lines = [orjson.loads(line) for line in server.told().splitlines() if line.startswith("{")]
    first, second = [line for line in lines if line.get("event") == "request"][:2]
    assert (first["who"], first["model"], first["misses"]) == ("master", "embedding-model", 1)
    assert (second["hits"], second["tokens_billed"], second["cache"]) == (1, 0, "hit")
    assert second["tokens_saved"] == first["tokens_billed"]
    assert "store: disk in" in server.told()
    for secret in ("Traceback", "jina_server", "sk-1234", "hello world"):
        assert secret not in server.told()


@pytest.mark.parametrize("kind", ["disk", "redis"])
def test_two_workers_share_the_store_and_obey_a_flush_within_a_second(
    tmp_path: Path, standin: StandIn, upstream: str, kind: str, request: pytest.FixtureRequest
) -> None:
    sections = over_redis(request.getfixturevalue("own_redis")) if kind == "redis" else {}
    with serving(tmp_path, upstream, sections, workers=2) as server:
        check_samples(server, standin)
        paid = standin.call_count
        # Enough connections that both workers have it in memory.
        assert [cache_status(server.post("/embeddings", EMBED)) for _ in range(30)] == ["hit"] * 30
        assert standin.call_count == paid
        assert server.post("/cache/flushall", {}).status_code == 200
        time.sleep(1.0)  # the promise is in seconds of the workers' own clocks
        # Such a request stores nothing, so each worker shows what it still holds.
        told = [server.post("/embeddings", EMBED, **{"cache-control": "only-if-cached"}) for _ in range(30)]
        assert [response.status_code for response in told] == [504] * 30
        assert standin.call_count == paid
        assert cache_status(server.post("/embeddings", EMBED)) == "fwd=miss; stored"
    for secret in ("Traceback", PASSWORD):
        assert secret not in server.told()


def test_what_was_paid_for_is_there_after_a_restart(tmp_path: Path, standin: StandIn, upstream: str) -> None:
    with serving(tmp_path, upstream) as server:
        first = server.post("/embeddings", EMBED)
    with serving(tmp_path, upstream) as server:
        again = server.post("/embeddings", EMBED)
    assert cache_status(again) == "hit"
    assert again.json()["data"] == first.json()["data"]


def test_a_request_in_flight_is_finished_before_the_end(tmp_path: Path, standin: StandIn, upstream: str) -> None:
    standin.fail_next(Fault("delay", seconds=1.0))
    quiet = {"cache_proxy_settings": {"log_level": "error"}}
    with serving(tmp_path, upstream, quiet) as server, ThreadPoolExecutor(1) as thread:
        answering = thread.submit(server.post, "/embeddings", EMBED)
        until(lambda: standin.in_flight == 1)
        server.process.send_signal(signal.SIGTERM)
        assert cache_status(answering.result(10)) == "fwd=miss; stored"
        assert server.process.wait(10) in (0, -signal.SIGTERM)
    assert "Traceback" not in server.told()
    assert "store: " not in server.told()


class Load:
    """Clients that ask without a pause and note every status, and whether it was a hit."""

    def __init__(self, server: Server, clients: int = 6) -> None:
        self.statuses: list[int] = []
        self.slowest = 0.0
        self._server = server
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def more(self, count: int) -> None:
        """Wait until so many more have been answered."""
        goal = len(self.statuses) + count
        until(lambda: len(self.statuses) >= goal)

    def _ask(self, number: int) -> None:
        with httpx.Client(base_url=self._server.url, headers=KEY, timeout=30) as client:
            turn = 0
            while not self._ending.is_set():
                turn += 1
                body = {**EMBED, "input": [f"text {turn % 20}", f"text {number} {turn % 7}"], "dimensions": 32}
                began = time.monotonic()
                try:
                    status = client.post("/embeddings", json=body).status_code
                except httpx.TransportError:
                    status = 0
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.statuses.append(status)


def is_hit(server: Server) -> bool:
    return cache_status(server.post("/embeddings", EMBED)) == "hit"


def test_killing_redis_under_load_costs_no_answer(
    tmp_path: Path, standin: StandIn, upstream: str, own_redis: RedisServer
) -> None:
    # Without the memory tier every look-up meets the store.
    sections = over_redis(own_redis, cache_proxy_settings={"memory_mib": 0})
    with serving(tmp_path, upstream, sections) as server:
        with Load(server) as load:
            load.more(100)
            own_redis.kill()
            load.more(100)
            paid = standin.call_count
            load.more(20)
            assert standin.call_count > paid, "without a store every request is paid"
            again = RedisServer.start(own_redis.folder)
            try:
                until(lambda: is_hit(server))
                load.more(50)
            finally:
                again.kill()
        assert set(load.statuses) == {200}
    assert "Traceback" not in server.told()


def test_a_frozen_redis_under_load_costs_no_answer(
    tmp_path: Path, standin: StandIn, upstream: str, own_redis: RedisServer
) -> None:
    own = {"memory_mib": 0, "store_read_timeout": 0.2}
    with serving(tmp_path, upstream, over_redis(own_redis, cache_proxy_settings=own)) as server:
        with Load(server) as load:
            load.more(100)
            own_redis.signal(signal.SIGSTOP)
            load.more(60)
            own_redis.signal(signal.SIGCONT)
            until(lambda: is_hit(server))
            load.more(50)
        assert set(load.statuses) == {200}
        assert load.slowest < 5
    assert "Traceback" not in server.told()
