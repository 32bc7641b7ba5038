"""The servers that are measured, each a process of its own on a free loopback port."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import redis

PATIENCE = 30.0
LIVENESS = "/health/liveness"


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="cache-proxy-bench-") as path:
        yield Path(path)


@contextmanager
def standin() -> Iterator[str]:
    """The stand-in for Jina. Yields its URL."""
    with uvicorn_of("cache_proxy.standin:StandIn") as url:
        yield url


@contextmanager
def bare(upstream: str) -> Iterator[str]:
    """The bare app, see ``bench.bare``. Yields its URL."""
    with uvicorn_of("bench.bare:Bare", {"BENCH_UPSTREAM": upstream}) as url:
        yield url


@contextmanager
def uvicorn_of(factory: str, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """An app on uvicorn, set up as ``cache-proxy serve`` sets it up. Yields its URL."""
    port = free_port()
    with _process([sys.executable, "-m", "bench.hosting", factory, str(port)], environ or {}):
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def proxy(upstream: str, home: Path, document: Mapping[str, Any] | None = None) -> Iterator[str]:
    """``cache-proxy serve``, one worker, with a configuration of these sections. Yields its URL."""
    port = free_port()
    with proxy_process(port, upstream, home, document):
        wait_until_alive(port)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def proxy_process(
    port: int, upstream: str, home: Path, document: Mapping[str, Any] | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """The process of ``cache-proxy serve``, just started."""
    config = home / "config.yaml"
    config.write_bytes(orjson.dumps(document or {}))  # JSON is YAML
    command = [sys.executable, "-m", "cache_proxy", "serve", "--config", str(config), "--port", str(port)]
    with _process(command, environment(upstream, home)) as process:
        yield process


def environment(upstream: str, home: Path) -> dict[str, str]:
    """What the environment says to a proxy before this upstream."""
    return {"JINA_AI_API_KEY": "jina_bench", "JINA_AI_API_BASE": f"{upstream}/v1", "CACHE_PROXY_DIR": str(home)}


def has_redis() -> bool:
    """Whether there is a ``redis-server`` to start."""
    return shutil.which("redis-server") is not None


@contextmanager
def redis_server(home: Path) -> Iterator[str]:
    """A Redis of our own, without persistence. Yields its URL."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(home)]
    with _process(["redis-server", *options], {}):
        wait_for_port(port)
        url = f"redis://127.0.0.1:{port}/0"
        with redis.Redis.from_url(url) as client:
            client.ping()
        yield url


def wait_until_alive(port: int) -> None:
    """Return at the first 200 of the liveness probe."""

    def alive() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
        try:
            connection.request("GET", LIVENESS)
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()

    _wait(alive)


def wait_for_port(port: int) -> None:
    """Return once something listens there."""

    def listens() -> bool:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True

    _wait(listens)


def _wait(ready: Any) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while time.monotonic() < give_up_at:
        try:
            if ready():
                return
        except OSError:
            pass
        time.sleep(0.002)
    raise RuntimeError("a server did not start")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])


@contextmanager
def _process(command: Sequence[str], environ: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JINA", "REDIS", "CACHE_PROXY"))}
    process = subprocess.Popen(command, env={**clean, **environ}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
