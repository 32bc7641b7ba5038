"""Real ``cache-proxy`` servers, in processes that may be killed, frozen and starved."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

ROOT = Path(__file__).resolve().parent.parent.parent
_OURS = re.compile(r"^\S+ \S+ (?:INFO|WARNING|ERROR|CRITICAL) cache_proxy\b.*$", re.MULTILINE)
_PATIENCE = 30.0


def until(condition: Callable[[], Any], seconds: float = _PATIENCE) -> float:
    """Wait until it comes to pass; how many seconds that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + seconds, "it did not come to pass in time"
        time.sleep(0.01)
    return time.monotonic() - began


@dataclass(frozen=True)
class Server:
    """``cache-proxy serve`` in a process group of its own, and what it logs."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path

    @property
    def workers(self) -> list[int]:
        """The processes that answer: the children of the supervisor, or the one process where there is none."""
        pid = self.process.pid
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            return []
        return [int(child) for child in children if is_worker(child)] or [pid]

    def signal(self, number: signal.Signals) -> None:
        """Send it to every process of this server."""
        os.killpg(self.process.pid, number)

    def is_ready(self) -> bool:
        """Whether a worker takes requests."""
        return self.get("/health/readiness") == 200

    def get(self, path: str) -> int:
        """The status of a GET; 0 if nobody answers."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    def told(self) -> str:
        """All it has logged."""
        return self.log.read_text(errors="replace")

    def lines(self) -> list[str]:
        """The lines of ours among it."""
        return _OURS.findall(self.told())


def is_worker(pid: str) -> bool:
    """Whether this child of a server answers: multiprocessing's resource tracker is one too."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            return b"spawn_main" in file.read()
    except (FileNotFoundError, ProcessLookupError):
        # It has died since it was listed: its file is gone, or nothing can be read from it any more.
        return False


@contextmanager
def serving(
    folder: Path,
    upstream: str,
    document: Mapping[str, Any],
    *,
    workers: int = 1,
    environ: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Server]:
    """A server with this configuration, ready. ``folder`` gets its config and log; ``prefix`` is a command that
    starts it in a narrower world. The store on disk is in ``folder / "store"`` unless ``environ`` says otherwise.
    """
    with started(folder, upstream, document, workers=workers, environ=environ, prefix=prefix) as server:
        until(lambda: _ready_or_dead(server))
        yield server


@contextmanager
def started(
    folder: Path,
    upstream: str,
    document: Mapping[str, Any],
    *,
    workers: int = 1,
    environ: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
) -> Iterator[Server]:
    """As :func:`serving`, but not waited for: it may refuse to start."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yaml"
    config.write_bytes(orjson.dumps(document))  # JSON is YAML
    port = _free_port()
    command = [*prefix, sys.executable, "-m", "cache_proxy", "--config", str(config), "--port", str(port)]
    command += ["--workers", str(workers)]
    log = folder / "server.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, cwd=folder, start_new_session=True,
            env=_environment(upstream, folder) | dict(environ or {}),
        )  # fmt: skip
    try:
        yield Server(process, f"http://127.0.0.1:{port}", log)
    finally:
        _end(process)


def _environment(upstream: str, folder: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("JINA", "REDIS", "CACHE_PROXY"))}
    own = {"JINA_AI_API_KEY": "jina_faults", "JINA_AI_API_BASE": f"{upstream}/v1"}
    return {**clean, **own, "CACHE_PROXY_DIR": str(folder / "store"), "PYTHONPATH": str(ROOT)}


def _ready_or_dead(server: Server) -> bool:
    assert server.process.poll() is None, server.told()
    return server.is_ready()


def _end(process: "subprocess.Popen[bytes]") -> None:
    """The orderly end, and after a while the other one, for every process of the group."""
    for number in (signal.SIGCONT, signal.SIGTERM):
        _signal_group(process.pid, number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(15)
    _signal_group(process.pid, signal.SIGKILL)
    process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _free_port() -> int:
    with socket.socket() as asking:
        asking.bind(("127.0.0.1", 0))
        return int(asking.getsockname()[1])
