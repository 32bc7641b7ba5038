"""Connections that do as they are told, and a clock that moves only while somebody sleeps."""

import asyncio
from collections.abc import Callable, Mapping

from cache_proxy.errors import UpstreamError, UpstreamLost, UpstreamRefused
from cache_proxy.models import Deployment, Endpoint, Json
from cache_proxy.upstream.books import Load
from cache_proxy.upstream.lane import Connection
from cache_proxy.upstream.lanes import Lanes, Rules, Sent
from tests.backends.fakes import WaywardStore

ANSWER = b"the answer"
UNREACHABLE = UpstreamLost("could not be reached", outcome_unknown=False)
LOST = UpstreamLost("lost", outcome_unknown=True)
TIMED_OUT = UpstreamLost("too late", outcome_unknown=True, timed_out=True)

Step = bytes | UpstreamError | Callable[[], UpstreamError]


def refused(status: int, retry_after: float | None = None) -> UpstreamRefused:
    return UpstreamRefused(status, b"{}", retry_after=retry_after)


class Time:
    """Sleeping is what makes time pass here."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if seconds:
            self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


class Scripted(Connection):
    """Answers with one step of its script after the other, and when that is at its end, with ``usual``."""

    def __init__(self, *script: Step, usual: Step = ANSWER, gate: asyncio.Event | None = None) -> None:
        self.calls = 0
        self.in_flight = 0
        self.peak = 0
        self.closed = False
        self._script = list(script)
        self._usual = usual
        self._gate = gate

    async def post(self, endpoint: Endpoint, body: Mapping[str, Json]) -> bytes:  # noqa: ARG002
        self.calls += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            await (self._gate.wait() if self._gate else asyncio.sleep(0))
        finally:
            self.in_flight -= 1
        step = self._script.pop(0) if self._script else self._usual
        if isinstance(step, bytes):
            return step
        raise step if isinstance(step, UpstreamError) else step()

    async def close(self) -> None:
        self.closed = True


class Road:
    """Lanes over scripted connections, one for each deployment, in a time of their own."""

    def __init__(self, *ways: tuple[Deployment, Scripted], rules: Rules | None = None) -> None:
        by_id = {deployment.id: connection for deployment, connection in ways}
        self.time = Time()
        self.deployments = [deployment for deployment, _ in ways]
        self.lanes = Lanes(lambda found: by_id[found.id], rules or Rules(), self.time, self.time.sleep)

    async def send(self, tokens: int = 10) -> Sent:
        return await self.lanes.send(self.deployments, Load(Endpoint.EMBEDDINGS, {}, tokens, 1))


class SlowToStore(WaywardStore):
    """Reads at once, and holds every write until ``storing`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.storing = asyncio.Event()

    async def set_many(self, entries: Mapping[bytes, bytes], ttl: float | None = None) -> bool:
        await self.storing.wait()
        return await super().set_many(entries, ttl)
