"""A real PostgreSQL of the tests' own: made in a folder, on a free port, gone at the end."""

import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO

import psycopg
import pytest

USER = "postgres"
"""Whom root runs it as: it refuses to be run by root."""

_numbers = count()


def programs() -> Path:
    """Where its programs are: on PATH, or where Debian puts the newest. Skips the test where there are none, but never
    in CI.
    """
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if debian:
        return debian[-1].parent
    if os.environ.get("CI"):
        pytest.fail("there is no PostgreSQL to test with")
    pytest.skip("there is no PostgreSQL: apt-get install postgresql")


class Postgres:
    """One server. Who knows its folder may use it, and end it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._bin = programs()
        self._as = _user()

    @classmethod
    def made(cls) -> "Postgres":
        """A new one that answers, in a folder of its own."""
        # A Unix socket's path has to be short, which pytest's own folders are not everywhere, and they let nobody in.
        folder = tempfile.mkdtemp(prefix="pg-")
        owner = _user()
        if owner is not None:
            os.chown(folder, owner, -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = cls(Path(folder), port)
        try:
            server._run("initdb", "-A", "trust", "-U", USER, "--no-sync", "-E", "UTF8")
            server.start()
        except BaseException:
            server.remove()
            raise
        return server

    def start(self) -> None:
        """Start it, and wait until it answers. Its data are not brought to the disk: no test cuts the power."""
        options = ("fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.folder}")
        flags = " ".join(f"-c {option}" for option in options)
        self._run("pg_ctl", "start", "-w", "-t", "30", "-l", str(self.folder / "log"), "-o", f"-p {self.port} {flags}")

    def stop(self) -> None:
        """Stop it at once, connections and all; what was committed is there when it starts again."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def remove(self) -> None:
        """Stop it if it runs, and let nothing be left of it."""
        with suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def signal(self, number: signal.Signals) -> None:
        """Send this to all of its processes."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (*map(int, children), pid):
            os.kill(each, number)

    def url(self, name: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def database(self) -> str:
        """The URL of a new, empty database."""
        name = f"ledger_{os.getpid()}_{next(_numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)

    def _run(self, program: str, *arguments: str) -> None:
        # What it starts keeps its streams, so that there is no end of a pipe to wait for.
        with (self.folder / "told").open("ab") as told:
            subprocess.run(
                [str(self._bin / program), "-D", str(self.folder / "data"), *arguments],
                check=True, stdin=subprocess.DEVNULL, stdout=told, stderr=told, user=self._as, cwd=self.folder,
            )  # fmt: skip


def _user() -> int | None:
    return pwd.getpwnam(USER).pw_uid if os.getuid() == 0 else None


@contextmanager
def running() -> Iterator[Postgres]:
    """A server for the time of the block, which may be stopped and started."""
    server = Postgres.made()
    try:
        yield server
    finally:
        server.remove()


@contextmanager
def shared(place: Path) -> Iterator[Postgres]:
    """The one server of all processes that name this folder: made by the first that comes, removed by the last that
    leaves. Leave it running.
    """
    named = place / "postgres"
    with (place / "postgres.turn").open("a") as turn, (place / "postgres.users").open("a") as users:
        with _held(turn):
            # Of a process that dies it is released as well.
            fcntl.flock(users, fcntl.LOCK_SH)
            if named.exists():
                folder, port = named.read_text().split()
                server = Postgres(Path(folder), int(port))
            else:
                server = Postgres.made()
                named.write_text(f"{server.folder} {server.port}")
        try:
            yield server
        finally:
            with _held(turn), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                named.unlink()
                server.remove()


@contextmanager
def _held(turn: IO[str]) -> Iterator[None]:
    fcntl.flock(turn, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(turn, fcntl.LOCK_UN)


@pytest.fixture(scope="session")
def shared_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server for all tests of a run, whichever process they are in. Leave it running; take a database of your own."""
    own = tmp_path_factory.getbasetemp()
    with shared(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) as server:
        yield server
