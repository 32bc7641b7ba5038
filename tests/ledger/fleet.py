"""Servers that can be killed often: forked with everything loaded, so that a new one is there in a moment."""

import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import yaml

PRELOADED = [
    "cache_proxy.cli",
    "cache_proxy.serving",
    "cache_proxy.asgi.standalone",
    "cache_proxy.ledger.books",
    "tests.ledger.fleet",
]


def _serve(config: str, port: int, environ: Mapping[str, str]) -> None:
    from cache_proxy.cli import main

    os.environ.update(environ)
    with Path(os.environ["SERVER_LOG"]).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    main(["serve", "--config", config, "--port", str(port)])


class Fleet:
    """Servers of one process each, with one configuration, one store and one ledger."""

    def __init__(self, folder: Path, upstream: str, own: Mapping[str, Any], environ: Mapping[str, str]) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.config.write_text(yaml.safe_dump({"cache_proxy_settings": {"log_format": "off", **own}}))
        self.log = folder / "log"
        self._environ = {
            "CACHE_PROXY_DIR": str(folder / "store"),
            "JINA_AI_API_KEY": "jina_fleet",
            "JINA_AI_API_BASE": f"{upstream}/v1",
            "SERVER_LOG": str(self.log),
            **environ,
        }
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self.servers: dict[int, BaseProcess] = {}

    def start(self) -> int:
        """One more; its port, once it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        process = self._context.Process(target=_serve, args=(str(self.config), port, self._environ), daemon=True)
        process.start()
        give_up_at = time.monotonic() + 30
        while not _answers(port):
            if time.monotonic() > give_up_at or not process.is_alive():
                raise RuntimeError(self.log.read_text())
            time.sleep(0.01)
        self.servers[port] = process
        return port

    def kill(self, port: int) -> None:
        """``SIGKILL``."""
        process = self.servers.pop(port)
        process.kill()
        process.join()

    def end(self) -> None:
        """The orderly end of all."""
        for process in self.servers.values():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGTERM)
        for process in self.servers.values():
            process.join(30)
            assert process.exitcode == 0, self.log.read_text()
        self.servers = {}


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health/liveliness", timeout=2, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
