"""The servers that are asked: how many processes, on how many hosts, with which store between them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import servers

_STILL = 0.5
"""Seconds without work after which workers count as started."""


@dataclass(frozen=True)
class Topology:
    """``workers`` processes on each host; ``redis``: one for all of them, else each host has its disk."""

    told: str
    hosts: tuple[str, ...]
    workers: int
    redis: bool

    @contextmanager
    def serving(self, upstream: str, own: Mapping[str, Any]) -> Iterator[list[str]]:
        """These servers with an empty store and ``own`` in ``cache_proxy_settings``. Yields their URLs."""
        document: dict[str, Any] = {"cache_proxy_settings": {"log_format": "off", **own}}
        with ExitStack() as stack:
            if self.redis:
                url = stack.enter_context(servers.redis_server(stack.enter_context(servers.folder())))
                document["litellm_settings"] = {"cache": True, "cache_params": {"type": "redis", "url": url}}
            yield [stack.enter_context(self._host(host, upstream, document)) for host in self.hosts]

    @contextmanager
    def _host(self, host: str, upstream: str, document: Mapping[str, Any]) -> Iterator[str]:
        port = servers.free_port()
        with (
            servers.folder() as home,
            servers.proxy_process(port, upstream, home, document, host=host, workers=self.workers) as process,
        ):
            servers.wait_until_alive(port, host)
            _wait_for_workers(process.pid)
            yield f"http://{host}:{port}"


def _wait_for_workers(pid: int) -> None:
    """Return when the children of this process have come to rest: the first one alive would get all the callers."""
    give_up_at = time.monotonic() + servers.PATIENCE
    before, now = -1, _worked(pid)
    while before != now and time.monotonic() < give_up_at:
        time.sleep(_STILL)
        before, now = now, _worked(pid)


def _worked(pid: int) -> int:
    """Clock ticks of processor time that the children of this process have had; 0 where the system does not tell."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        stats = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split() for child in children]
    except OSError:
        return 0
    return sum(int(fields[11]) + int(fields[12]) for fields in stats)


_ONE, _TWO = ("127.0.0.1",), ("127.0.0.1", "127.0.0.2")

TOPOLOGIES: Mapping[str, Topology] = {
    "process": Topology("1 process, disk", _ONE, 1, redis=False),
    "disk": Topology("8 workers on one host, disk", _ONE, 8, redis=False),
    "redis": Topology("8 workers on one host, Redis", _ONE, 8, redis=True),
    "hosts": Topology("2 hosts of 4 workers each, one Redis", _TWO, 4, redis=True),
}
