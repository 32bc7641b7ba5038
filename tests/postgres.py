"""A real PostgreSQL of the tests' own: made in a folder, on a free port, gone at the end."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest

USER = "postgres"
"""Whom root runs it as: it refuses to be run by root."""

_numbers = count()


def programs() -> Path | None:
    """Where ``initdb`` and ``postgres`` are: on PATH, or where Debian puts the newest."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return debian[-1].parent if debian else None


class Postgres:
    """One server."""

    def __init__(self, folder: Path, bin_: Path) -> None:
        self._folder = folder
        self._bin = bin_
        self._as = _user()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8")
        self._server: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ("fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={self._folder}")
        flags = [part for option in options for part in ("-c", option)]
        command = [str(self._bin / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port), *flags]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(command, stdout=log, stderr=log, user=self._as, cwd=self._folder)
        give_up_at = time.monotonic() + 30
        while not self._answers():
            if time.monotonic() > give_up_at or self._server.poll() is not None:
                raise RuntimeError((self._folder / "log").read_text())
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop it at once, connections and all; what was committed is there when it starts again."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait()
            self._server = None

    def signal(self, number: signal.Signals) -> None:
        """Send this to all of its processes."""
        assert self._server is not None
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children").read_text().split()
        for pid in (*map(int, children), self._server.pid):
            os.kill(pid, number)

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"ledger_{next(_numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._bin / program), *arguments], check=True, capture_output=True, user=self._as, cwd=self._folder
        )


def _user() -> int | None:
    return pwd.getpwnam(USER).pw_uid if os.getuid() == 0 else None


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for the time of the block. Skips the test where there is none to start, but never in CI."""
    bin_ = programs()
    if bin_ is None:
        if os.environ.get("CI"):
            pytest.fail("there is no PostgreSQL to test with")
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    # A Unix socket's path has to be short, which pytest's own folders are not everywhere.
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        owner = _user()
        if owner is not None:
            os.chown(folder, owner, -1)
        server = Postgres(Path(folder), bin_)
        try:
            yield server
        finally:
            server.stop()
