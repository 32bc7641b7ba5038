"""Real servers, started by the tests themselves in their own folders."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PASSWORD = "correct horse"


@dataclass
class RedisServer:
    """One ``redis-server`` of our own on a unix socket, without persistence."""

    folder: Path
    process: "subprocess.Popen[bytes]"

    @classmethod
    def start(cls, folder: Path) -> "RedisServer":
        options = ["--port", "0", "--unixsocket", str(folder / "redis.sock"), "--save", "", "--appendonly", "no"]
        options += ["--requirepass", PASSWORD, "--dir", str(folder)]
        with (folder / "redis.log").open("ab") as log:
            process = subprocess.Popen(["redis-server", *options], stdout=log, stderr=log)
        server = cls(folder, process)
        server._wait()
        return server

    @property
    def socket(self) -> str:
        return str(self.folder / "redis.sock")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def _wait(self) -> None:
        give_up_at = time.monotonic() + 10
        log = self.folder / "redis.log"
        while b"eady to accept connections" not in log.read_bytes():
            if self.process.poll() is not None or time.monotonic() > give_up_at:
                pytest.fail(f"redis-server did not start: {log.read_text()}")
            time.sleep(0.01)


@pytest.fixture(scope="session")
def redis_program() -> str:
    found = shutil.which("redis-server")
    if found is None and os.environ.get("CI"):
        pytest.fail("redis-server is not on PATH, and in CI the tests against a real Redis must run")
    if found is None:
        pytest.skip("redis-server is not on PATH: the tests against a real Redis are skipped")
    return found


@pytest.fixture
def redis_folder() -> Iterator[Path]:
    # A unix socket's path has to be short, which pytest's own folders are not everywhere.
    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        yield Path(folder)


@pytest.fixture
def own_redis(redis_program: str, redis_folder: Path) -> Iterator[RedisServer]:
    """A server for one test, which may stop or kill it."""
    server = RedisServer.start(redis_folder)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def shared_redis(redis_program: str) -> Iterator[RedisServer]:
    """A server for all tests of this process. Leave it running and clean up what you put there."""
    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        server = RedisServer.start(Path(folder))
        yield server
        server.kill()
