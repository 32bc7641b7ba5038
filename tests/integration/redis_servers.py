"""Redis in all its kinds, started by the tests themselves in folders of their own.

Another server of the same protocol is tried by naming its program: ``REDIS_SERVER=valkey-server``.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import pytest
import redis
import trustme
from redis.crc import key_slot

PASSWORD = "correct horse"
PROGRAM = os.environ.get("REDIS_SERVER", "redis-server")
PRIMARY = "primary-of-the-tests"
HOST = "127.0.0.1"

_PORTS = range(20_000, 32_000)
"""Below those that the system gives to outgoing connections."""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = random.choice(_PORTS)
            probe = held.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind((HOST, port))
                found.append(port)
    return found


def until(condition: Callable[[], Any], what: str, seconds: float = 15.0) -> None:
    """Wait for a server to come to something."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            pytest.fail(f"{what} did not come about")
        time.sleep(0.01)


@dataclass
class Certificates:
    """Files of an authority of our own, of a server at 127.0.0.1, and of a client."""

    folder: Path
    ca: str
    server: str
    client: str
    client_key: str

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
        client = authority.issue_cert("client.test")
        client.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
        client.private_key_pem.write_to_path(str(folder / "client.key"))
        names = ("ca.pem", "server.pem", "client.pem", "client.key")
        return cls(folder, *(str(folder / name) for name in names))

    @property
    def options(self) -> dict[str, str]:
        """Of a server that shows its certificate, wants to see the other's, and talks to its like in the same way."""
        files = {"tls-cert-file": self.server, "tls-key-file": self.server, "tls-ca-cert-file": self.ca}
        return {**files, "tls-auth-clients": "yes", "tls-replication": "yes", "tls-cluster": "yes"}

    @property
    def params(self) -> dict[str, str | bool]:
        """``cache_params`` of one who is let in."""
        return {
            "ssl": True, "ssl_ca_certs": self.ca, "ssl_certfile": self.client, "ssl_keyfile": self.client_key,
        }  # fmt: skip


@dataclass
class RedisServer:
    """One server of our own: on a Unix socket, and on ``port`` unless that is 0. With ``tls`` the port speaks TLS."""

    folder: Path
    options: Mapping[str, str]
    port: int = 0
    password: str | None = PASSWORD
    tls: Certificates | None = None
    process: "subprocess.Popen[bytes]" = field(init=False)

    @classmethod
    def start(
        cls,
        folder: Path,
        options: Mapping[str, str] = MappingProxyType({}),
        *,
        port: int = 0,
        password: str | None = PASSWORD,
        tls: Certificates | None = None,
    ) -> "RedisServer":
        """A server that accepts connections."""
        server = cls(folder, options, port, password, tls)
        server.restart()
        return server

    @property
    def socket(self) -> str:
        return str(self.folder / "redis.sock")

    @property
    def address(self) -> tuple[str, int]:
        return HOST, self.port

    def restart(self) -> None:
        """Start it (again), empty, at the same place."""
        log = self.folder / "redis.log"
        with log.open("wb") as stream:
            self.process = subprocess.Popen([PROGRAM, *self.arguments()], stdout=stream, stderr=stream)
        until(lambda: self._is_up(log), f"the start of {PROGRAM}")

    def arguments(self) -> list[str]:
        """The command line, without the program."""
        port = {"port": "0", "tls-port": str(self.port), **self.tls.options} if self.tls else {"port": str(self.port)}
        options = {"unixsocket": self.socket, "requirepass": self.password or "", "bind": HOST, **port, **self.options}
        lasting_nothing = {"save": "", "appendonly": "no", "dir": str(self.folder)}
        return [word for name, value in {**lasting_nothing, **options}.items() for word in (f"--{name}", value)]

    def _is_up(self, log: Path) -> bool:
        if self.process.poll() is not None:
            pytest.fail(f"{PROGRAM} did not start: {log.read_text()}")
        return b"eady to accept connections" in log.read_bytes() or b"Sentinel ID is" in log.read_bytes()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def pause(self) -> None:
        """Hang it: it accepts, and never answers."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.signal(signal.SIGCONT)

    def is_running(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        if self.is_running():
            self.resume()
            self.process.kill()
        self.process.wait()

    def admin(self) -> "redis.Redis":
        """A client that may do everything."""
        return redis.Redis(unix_socket_path=self.socket, password=self.password, socket_timeout=5)

    def ask(self, *command: str | bytes | int) -> Any:
        """What it says to this command."""
        with self.admin() as client:
            return client.execute_command(*command)

    def info(self, section: str = "default") -> dict[str, Any]:
        """What it says about itself."""
        with self.admin() as client:
            return cast("dict[str, Any]", client.info(section))


@contextmanager
def running(
    options: Mapping[str, str] = MappingProxyType({}), *, port: int = 0, tls: Certificates | None = None
) -> Iterator[RedisServer]:
    """A server on a Unix socket, and on a port if one is given."""
    # A Unix socket's path has to be short, which pytest's own folders are not everywhere.
    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        server = RedisServer.start(Path(folder), options, port=port, tls=tls)
        try:
            yield server
        finally:
            server.kill()


@contextmanager
def certified() -> Iterator[Certificates]:
    """Certificates in a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="cp-") as folder:
        yield Certificates.make(Path(folder))


@contextmanager
def _together(servers: Sequence[RedisServer]) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.kill()


# Sentinel ------------------------------------------------------------------------------------------------------------


@dataclass
class Watched:
    """A primary with a replica, and three Sentinels of which two decide."""

    servers: list[RedisServer]
    sentinels: list[RedisServer]

    def primary(self) -> RedisServer:
        """Whom the Sentinels that run name as the primary."""
        found = None
        for sentinel in self.sentinels:
            with suppress(redis.RedisError):
                _, port = sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", PRIMARY)
                found = next(server for server in self.servers if server.port == int(port))
                break
        assert found is not None, "no Sentinel answers"
        return found

    def replica(self) -> RedisServer:
        """The other one."""
        primary = self.primary()
        return next(server for server in self.servers if server is not primary)

    def fail_over(self) -> None:
        """Make the replica the primary, and wait until the Sentinels say so."""
        before = self.primary()
        self.sentinels[0].ask("SENTINEL", "FAILOVER", PRIMARY)
        until(lambda: self.primary() is not before, "the failover")

    def is_settled(self) -> bool:
        """Whether the replica follows, and every Sentinel knows it and the other Sentinels."""
        for sentinel in self.sentinels:
            with sentinel.admin() as client:
                told = cast("dict[str, Any]", client.sentinel_master(PRIMARY))
            if (told["num-slaves"], told["num-other-sentinels"]) != (1, 2):
                return False
        return self.replica().info().get("master_link_status") == "up"


@contextmanager
def watched(down_after: int = 500, *, tls: Certificates | None = None) -> Iterator[Watched]:
    """Servers under Sentinels that find one dead after ``down_after`` milliseconds."""
    with tempfile.TemporaryDirectory(prefix="cp-") as name:
        folder = Path(name)
        ports = free_ports(5)
        servers: list[RedisServer] = []
        sentinels: list[RedisServer] = []
        with _together(sentinels), _together(servers):
            for port in ports[:2]:
                of = {"replicaof": f"{HOST} {ports[0]}"} if servers else {}
                options = {"masterauth": PASSWORD, "repl-diskless-sync-delay": "0", **of}
                servers.append(RedisServer.start(_made(folder / str(port)), options, port=port, tls=tls))
            for port in ports[2:]:
                sentinel = Sentinel(_made(folder / str(port)), {}, port=port, tls=tls)
                sentinel.write_config(ports, down_after)
                sentinel.restart()
                sentinels.append(sentinel)
            found = Watched(servers, sentinels)
            until(found.is_settled, "Sentinels that know everybody")
            yield found


class Sentinel(RedisServer):
    """One Sentinel, told of the others at once: to find each other takes them seconds."""

    def write_config(self, ports: Sequence[int], down_after: int) -> None:
        """``ports`` are the primary's, the replica's, and those of all Sentinels."""
        ids = {each: f"{each:040x}" for each in ports[2:]}
        sentinel = [
            f"myid {ids[self.port]}", f"monitor {PRIMARY} {HOST} {ports[0]} 2", f'auth-pass {PRIMARY} "{PASSWORD}"',
            f'sentinel-pass "{PASSWORD}"', f"down-after-milliseconds {PRIMARY} {down_after}",
            f"failover-timeout {PRIMARY} 4000", f"known-replica {PRIMARY} {HOST} {ports[1]}",
            *(f"known-sentinel {PRIMARY} {HOST} {each} {ids[each]}" for each in ids if each != self.port),
        ]  # fmt: skip
        # It writes what it learns into this file.
        (self.folder / "sentinel.conf").write_text("".join(f"sentinel {line}\n" for line in sentinel))

    def arguments(self) -> list[str]:
        return [str(self.folder / "sentinel.conf"), "--sentinel", *super().arguments()]


# Cluster -------------------------------------------------------------------------------------------------------------

SLOTS = 16_384


@dataclass
class Cluster:
    """Servers that share the slots; ``replicas`` follows ``primaries`` in order. No password."""

    primaries: list[RedisServer]
    replicas: list[RedisServer]
    bus: dict[int, int]

    @property
    def servers(self) -> list[RedisServer]:
        return [*self.primaries, *self.replicas]

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """What ``redis_startup_nodes`` wants."""
        return [{"host": HOST, "port": server.port} for server in self.primaries]

    def owner(self, name: bytes) -> RedisServer:
        """The server that holds this name now."""
        return self.holder(key_slot(name))

    def holder(self, slot: int) -> RedisServer:
        """The server that holds this slot now."""
        for start, end, (_, port, *_), *_ in self.first().ask("CLUSTER", "SLOTS"):
            if start <= slot <= end:
                return self.at(int(port))
        pytest.fail("no server has this slot")

    def at(self, port: int) -> RedisServer:
        return next(server for server in self.servers if server.port == port)

    def first(self) -> RedisServer:
        """A server that runs."""
        return next(server for server in self.servers if server.is_running())

    def ask_all(self, *command: str | int) -> list[Any]:
        return [server.ask(*command) for server in self.servers]

    def ask_all_that_run(self, *command: str | int) -> list[Any]:
        return [server.ask(*command) for server in self.servers if server.is_running()]

    def is_ok(self) -> bool:
        """Whether every server that runs knows all others, and finds the Cluster whole."""
        states = [_parsed(told) for told in self.ask_all_that_run("CLUSTER", "INFO")]
        knows = {(state["cluster_state"], state["cluster_known_nodes"]) for state in states}
        return knows == {("ok", str(len(self.servers)))}

    def fail_over(self, replica: RedisServer) -> None:
        """Make this replica a primary, with the consent of its own."""
        replica.ask("CLUSTER", "FAILOVER")
        until(lambda: replica.info()["role"] == "master", "the failover")

    def begin_to_move(self, slot: int, target: RedisServer) -> None:
        """From now on keys of this slot that its server does not hold are at ``target``."""
        source = self.holder(slot)
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", self.name(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", self.name(target))

    def stay(self, slot: int) -> None:
        """Call off a move that was begun."""
        for server in self.primaries:
            server.ask("CLUSTER", "SETSLOT", slot, "STABLE")

    def move(self, slot: int, target: RedisServer) -> None:
        """Hand over a slot, as soon as it holds no keys: those of a ping are there for a second."""
        holder = self.holder(slot)
        until(lambda: holder.ask("CLUSTER", "COUNTKEYSINSLOT", slot) == 0, f"an empty slot {slot}")
        for server in (target, *self.primaries):
            server.ask("CLUSTER", "SETSLOT", slot, "NODE", self.name(target))

    def name(self, server: RedisServer) -> str:
        """What the others call it."""
        return str(server.ask("CLUSTER", "MYID").decode())


def _parsed(info: Any) -> dict[str, str]:
    if isinstance(info, dict):
        return info
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)


def mend(cluster: Cluster) -> None:
    """Start what was killed, wake what was hung, and wait until all is well."""
    for server in cluster.servers:
        if server.is_running():
            server.resume()
        else:
            server.restart()
    until(cluster.is_ok, "a Cluster that is well again")


@contextmanager
def clustered(
    options: Mapping[str, str] = MappingProxyType({}),
    *,
    primaries: int = 3,
    replicas: bool = False,
    node_timeout: int = 1000,
    tls: Certificates | None = None,
) -> Iterator[Cluster]:
    """A Cluster that is up; it takes two seconds, for which Redis itself waits. ``node_timeout`` in milliseconds."""
    count = primaries * (2 if replicas else 1)
    ports = free_ports(2 * count)
    bus = dict(zip(ports[:count], ports[count:], strict=True))
    servers: list[RedisServer] = []
    usual = {"cluster-enabled": "yes", "cluster-node-timeout": str(node_timeout), "repl-diskless-sync-delay": "0"}
    with tempfile.TemporaryDirectory(prefix="cp-") as folder, _together(servers):
        for port in ports[:count]:
            own = {**usual, "cluster-port": str(bus[port]), **options}
            servers.append(RedisServer.start(_made(Path(folder) / str(port)), own, port=port, password=None, tls=tls))
        cluster = Cluster(servers[:primaries], servers[primaries:], bus)
        _join(cluster)
        yield cluster


def _join(cluster: Cluster) -> None:
    first, *others = cluster.servers
    share = SLOTS // len(cluster.primaries)
    for at, server in enumerate(cluster.primaries):
        last = SLOTS - 1 if at == len(cluster.primaries) - 1 else (at + 1) * share - 1
        server.ask("CLUSTER", "ADDSLOTSRANGE", at * share, last)
        server.ask("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
    for server in others:
        first.ask("CLUSTER", "MEET", HOST, server.port, cluster.bus[server.port])
    until(lambda: all(_knows_all(cluster, server) for server in cluster.servers), "a Cluster whose servers know it")
    for primary, replica in zip(cluster.primaries, cluster.replicas, strict=False):
        replica.ask("CLUSTER", "REPLICATE", primary.ask("CLUSTER", "MYID").decode())
    until(cluster.is_ok, "a Cluster that is whole")
    until(lambda: all(each.info()["master_link_status"] == "up" for each in cluster.replicas), "replicas that follow")


def _knows_all(cluster: Cluster, server: RedisServer) -> bool:
    return int(_parsed(server.ask("CLUSTER", "INFO"))["cluster_known_nodes"]) == len(cluster.servers)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


# Fixtures ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def redis_program() -> str:
    found = shutil.which(PROGRAM)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{PROGRAM} is not on PATH, and in CI the tests against a real Redis must run")
    if found is None:
        pytest.skip(f"{PROGRAM} is not on PATH: the tests against a real Redis are skipped")
    return found


@pytest.fixture
def redis_folder() -> Iterator[Path]:
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
    """A server for all tests of this process, on a Unix socket and a port. Leave it running, and clean up."""
    with running(port=free_ports(1)[0]) as server:
        yield server


@pytest.fixture(scope="session")
def certificates() -> Iterator[Certificates]:
    """Certificates for all tests of this process."""
    with certified() as made:
        yield made


@pytest.fixture(scope="session")
def shared_tls(redis_program: str, certificates: Certificates) -> Iterator[RedisServer]:
    """A server for all tests of this process whose port speaks TLS, with certificates on both sides."""
    with running(port=free_ports(1)[0], tls=certificates) as server:
        yield server


@pytest.fixture(scope="session")
def shared_sentinels(redis_program: str) -> Iterator[Watched]:
    """Primary, replica and Sentinels for all tests of this process. Leave them as they are."""
    with watched() as found:
        yield found


@pytest.fixture(scope="session")
def only_cluster(redis_program: str) -> Iterator[Cluster]:
    """A Cluster of three for all tests of this process."""
    with clustered() as cluster:
        yield cluster


@pytest.fixture
def shared_cluster(only_cluster: Cluster) -> Cluster:
    """The same, with nothing in it: a slot is handed over when it holds no keys. Leave its slots where they are."""
    only_cluster.ask_all("FLUSHALL")
    return only_cluster
