"""Servers of one process each before one store, so that it is known which of them has what under way."""

import math
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from bench import servers


@dataclass(frozen=True)
class Store:
    """What the servers share; ``told`` is its name in the table."""

    told: str
    redis: bool

    @contextmanager
    def empty(self) -> Iterator[Mapping[str, Any]]:
        """The store, with nothing in it. Yields ``cache_params``."""
        with servers.folder() as home, ExitStack() as stack:
            if self.redis:
                yield {"type": "redis", "url": stack.enter_context(servers.redis_server(home))}
            else:
                yield {"type": "disk", "disk_cache_dir": str(home)}


STORES: Mapping[str, Store] = {"redis": Store("Redis", redis=True), "disk": Store("disk", redis=False)}


@dataclass(eq=False)
class Server:
    """One process, which shows the upstream a ``key`` of its own. Times are monotonic; infinite: it lives."""

    key: str
    url: str
    process: "subprocess.Popen[bytes]"
    ending: ExitStack
    killed_at: float = math.inf
    """When it was told to die; until ``dead_at`` it may still have done something."""
    dead_at: float = math.inf

    @property
    def lives(self) -> bool:
        return self.killed_at == math.inf

    def kill(self) -> None:
        """``SIGKILL``, and wait until it is gone."""
        self.killed_at = time.monotonic()
        self.process.kill()
        self.process.wait()
        self.dead_at = time.monotonic()
        self.ending.close()


@dataclass
class Fleet:
    """The servers, those that live and those that are dead, all with one configuration."""

    upstream: str
    document: Mapping[str, Any]
    living: list[Server] = field(default_factory=list)
    dead: list[Server] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    def start(self) -> None:
        """One more. Returns when it answers."""
        key, port = f"jina_{next(self._numbers)}", servers.free_port()
        with ExitStack() as stack:
            home = stack.enter_context(servers.folder())
            process = stack.enter_context(servers.proxy_process(port, self.upstream, home, self.document, key=key))
            servers.wait_until_alive(port)
            self.living.append(Server(key, f"http://{servers.HOST}:{port}", process, stack.pop_all()))

    def kill(self, server: Server) -> None:
        """Kill this one. From now on nobody asks it."""
        self.living.remove(server)
        server.kill()
        self.dead.append(server)

    def end(self) -> None:
        """The orderly end of all that live."""
        while self.living:
            self.living.pop().ending.close()
