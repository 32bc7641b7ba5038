"""The servers that are measured, each a process of its own on a free loopback port."""

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import redis

HOST = "127.0.0.1"
KEY = "jina_bench"
PATIENCE = 30.0
LIVENESS = "/health/liveness"

_OTHERS = ("CACHE_PROXY", "DATABASE", "JINA", "LITELLM", "REDIS")
"""How the variables begin that would say something to a server besides what the measurement says."""


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
def slow_standin(shortest: float, longest: float, seed: int) -> Iterator[str]:
    """The stand-in, taking from ``shortest`` to ``longest`` seconds for each answer. Yields its URL."""
    port = free_port()
    command = [sys.executable, "-m", "cache_proxy", "standin", "--port", str(port)]
    with running([*command, "--delay", str(shortest), str(longest), "--seed", str(seed)], {}):
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def bare(upstream: str) -> Iterator[str]:
    """The bare app, see ``bench.bare``. Yields its URL."""
    with uvicorn_of("bench.bare:Bare", {"BENCH_UPSTREAM": upstream}) as url:
        yield url


@contextmanager
def uvicorn_of(factory: str, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """An app on uvicorn, set up as ``cache-proxy serve`` sets it up. Yields its URL."""
    port = free_port()
    with running([sys.executable, "-m", "bench.hosting", factory, str(port)], environ or {}):
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
    port: int,
    upstream: str,
    home: Path,
    document: Mapping[str, Any] | None = None,
    *,
    host: str = HOST,
    workers: int = 1,
    key: str = KEY,
) -> Iterator["subprocess.Popen[bytes]"]:
    """The process of ``cache-proxy serve``, just started. ``key`` is what it shows the upstream."""
    config = home / "config.yaml"
    config.write_bytes(orjson.dumps(document or {}))  # JSON is YAML
    command = [sys.executable, "-m", "cache_proxy", "serve", "--config", str(config), "--port", str(port)]
    command += ["--host", host, "--workers", str(workers)]
    with running(command, environment(upstream, home, key)) as process:
        yield process


def environment(upstream: str, home: Path, key: str = KEY) -> dict[str, str]:
    """What the environment says to a proxy before this upstream."""
    return {"JINA_AI_API_KEY": key, "JINA_AI_API_BASE": f"{upstream}/v1", "CACHE_PROXY_DIR": str(home)}


def has_redis() -> bool:
    """Whether there is a ``redis-server`` to start."""
    return shutil.which("redis-server") is not None


@contextmanager
def redis_server(home: Path) -> Iterator[str]:
    """A Redis of our own, without persistence. Yields its URL."""
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(home)]
    with running(["redis-server", *options], {}):
        wait_for_port(port)
        url = f"redis://127.0.0.1:{port}/0"
        with redis.Redis.from_url(url) as client:
            client.ping()
        yield url


def wait_until_alive(port: int, host: str = HOST, path: str = LIVENESS, patience: float = PATIENCE) -> None:
    """Return at the first 200 of the liveness probe. Raises ``RuntimeError`` after ``patience`` seconds."""

    def alive() -> bool:
        connection = http.client.HTTPConnection(host, port, timeout=1)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        finally:
            connection.close()

    _wait(alive, patience)


def wait_for_port(port: int) -> None:
    """Return once something listens there."""

    def listens() -> bool:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True

    _wait(listens)


def _wait(ready: Any, patience: float = PATIENCE) -> None:
    give_up_at = time.monotonic() + patience
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
def running(command: Sequence[str], environ: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """A process with this environment besides ours; ended, with all that it started, at the end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    process = subprocess.Popen(
        command,
        env={**clean, **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a group of its own, so that no worker outlives it
    )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
