"""The course that every fault takes: a load before it, during it and after it; and what every row must show."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from cache_proxy.serving import hosted
from cache_proxy.standin import StandIn
from tests.faults.load import Client, Load
from tests.faults.questions import embed
from tests.faults.servers import Server, serving, until
from tests.faults.table import Row, row

READ_TIMEOUT = 0.5
"""``store_read_timeout`` of every server under a fault, in seconds."""

SLACK = 3.0
"""Seconds that a slow machine may add to any answer. The rows show what it really is."""

OWN = {"memory_mib": 0, "store_read_timeout": READ_TIMEOUT, "log_format": "off", "lease_seconds": 1.0}
"""The memory tier is off, so that every look-up meets the store. A server that is killed costs those who wait for it a
lease, which has its own table (docs/economy.md): here it is short, so that what the store costs is seen.
"""

_numbers = count()


@dataclass(frozen=True)
class Ground:
    """Where a scenario takes place: its ``folder``, the stand-in and its URL. ``seconds`` is how long each phase
    lasts, ``hosts`` how many servers share a store, ``workers`` how many each has, ``entries`` how many a large store
    has, ``store`` the folder of the disk store.
    """

    folder: Path
    seconds: float
    hosts: int
    workers: int
    entries: int
    standin: StandIn
    upstream: str
    store: Path

    def on(self, disk: Path) -> "Ground":
        """The same with the store on another disk."""
        return replace(self, store=disk / "store")

    @contextmanager
    def servers(
        self,
        document: Mapping[str, Any] | None = None,
        *,
        hosts: int = 1,
        name: str = "host",
        environ: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> Iterator[list[Server]]:
        """``hosts`` servers with one configuration: ``OWN``, and ``document`` merged in, section by section. The store
        is the one on disk unless it says otherwise. See :func:`tests.faults.servers.serving` for the rest.
        """
        # The ledger is on a sound disk: without it nothing is spent, whatever the store does.
        own = {**OWN, "ledger_dir": str(self.folder / "ledger")}
        sections = _merged({"cache_proxy_settings": own}, document or {})
        around = {"CACHE_PROXY_DIR": str(self.store), **(environ or {})}
        homes = [self.folder / f"{name}-{number}" for number in range(hosts)]
        with ExitStack() as stack:
            start = stack.enter_context
            servers = [
                start(serving(home, self.upstream, sections, workers=self.workers, environ=around, prefix=prefix))
                for home in homes
            ]
            for server in servers:
                _wake(server, self.workers)
            yield servers


@contextmanager
def ground(folder: Path, *, seconds: float, workers: int, entries: int, hosts: int = 1) -> Iterator[Ground]:
    """A stand-in upstream, and this folder, for one scenario."""
    standin = StandIn(keep=0)
    with hosted(standin) as upstream:
        yield Ground(folder, seconds, hosts, workers, entries, standin, upstream, folder / "store")


def trial(
    ground: Ground,
    servers: Sequence[Server],
    *,
    fault: str,
    strike: Callable[[], object],
    mend: Callable[[], object] = lambda: None,
    load: Load | None = None,
    store: str = "disk",
) -> Row:
    """Put a load on running servers, ``strike``, wait, ``mend``, and see what the clients saw.

    ``strike`` may take its time: the fault lasts from its begin to the end of ``mend``.
    """
    with load or _load(servers) as running:
        warm = _warmed_up(ground, running)
        told = _told(servers)
        began = time.monotonic()
        strike()
        running.last(ground.seconds)
        mend()
        ended, back = _after(ground, servers, running)
        told = _told(servers) - told
    return row(fault, store, running.notes, warm=warm, began=began, ended=ended, back=back, told=told)


def restarted(
    ground: Ground,
    *,
    fault: str,
    change: Callable[[], object],
    mend: Callable[[], object] = lambda: None,
    document: Mapping[str, Any] | None = None,
    store: str = "disk",
) -> Row:
    """Put a load on a server, stop it, ``change`` what it finds, start it and go on; ``mend`` in mid-load.

    What a sound start logs is not counted as told.
    """
    with ground.servers(document) as servers:
        with _load(servers) as first:
            warm = _warmed_up(ground, first)
        usual = _told(servers)
    change()
    told = _told(servers)
    began = time.monotonic()
    with ground.servers(document) as servers:
        with _load(servers) as second:
            second.last(ground.seconds)
            mend()
            ended, back = _after(ground, servers, second)
        told = max(0, _told(servers) - told - usual)
    notes = first.notes + second.notes
    return row(fault, store, notes, warm=warm, began=began, ended=ended, back=back, told=told)


def _wake(server: Server, workers: int) -> None:
    """Let every worker answer once, most likely: a first answer takes longer, and that is no fault."""
    for _ in range(workers * 8):
        client = Client(server.url)
        client.ask(embed("wake up"))
        client.close()


def keeps(server: Server) -> bool:
    """Whether this server stores a new value and finds it again."""
    question = embed(f"kept {next(_numbers)} {time.monotonic_ns()}")
    client = Client(server.url)
    try:
        return client.ask(question).status == 200 and client.ask(question).hit
    finally:
        client.close()


def check(row: Row, *, lost: int = 0, deadlines: int = 2) -> None:
    """What no fault may do: a wrong number, an error, a wait beyond the guard's ``deadlines`` for one request.

    ``lost`` bounds the requests whose connection may break: those in a process that was killed.
    """
    assert (row.wrong, row.not_200) == (0, 0), row
    assert row.lost <= lost, row
    assert row.added <= deadlines * READ_TIMEOUT + SLACK, row


def _load(servers: Sequence[Server]) -> Load:
    return Load([server.url for server in servers])


def _warmed_up(ground: Ground, load: Load) -> float:
    """The time from which the load was warm; it has gone on for a phase since."""
    load.last(ground.seconds / 2)
    warm = time.monotonic()
    load.last(ground.seconds)
    return warm


def _after(ground: Ground, servers: Sequence[Server], load: Load) -> tuple[float, float]:
    """When the fault ended, and how many seconds later every server stored again; the load goes on for a while."""
    ended = time.monotonic()
    back = until(lambda: all(keeps(server) for server in servers))
    load.last(ground.seconds / 2)
    for server in servers:
        assert "Traceback" not in server.told(), server.told()
    return ended, back


def _told(servers: Sequence[Server]) -> int:
    return sum(len(server.lines()) for server in servers)


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {**one.get(name, {}), **other.get(name, {})} for name in {**one, **other}}
