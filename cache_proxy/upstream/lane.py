"""A lane: one deployment, its connection, its limits, its luck so far."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Protocol

from cache_proxy.errors import NotPaid, UpstreamBusy, UpstreamError, UpstreamRefused
from cache_proxy.models import Deployment, Endpoint, Failure, Json
from cache_proxy.upstream.counters import Counters
from cache_proxy.upstream.failures import FREE, KEY_REFUSED, kind_of
from cache_proxy.upstream.rates import Rates
from cache_proxy.upstream.slots import Sleep, Slots


class Connection(Protocol):
    """What a lane sends through; :class:`cache_proxy.upstream.client.Client` is the real one."""

    async def post(self, endpoint: Endpoint, body: Mapping[str, Json]) -> bytes:
        """The body of a 200, or an ``UpstreamError``."""

    async def close(self) -> None:
        """Let go of the connections."""


class Limits:
    """What one account may do at one place. The deployments that share an account share them."""

    def __init__(
        self, deployment: Deployment, clock: Callable[[], float], sleep: Sleep, counters: Counters | None = None
    ) -> None:
        self.rates = Rates.of(deployment, clock, counters)
        self.slots = Slots(deployment, clock, sleep, counters)


class Lane:
    """One deployment: its connection, its limits, its luck so far."""

    def __init__(
        self,
        deployment: Deployment,
        connection: Connection,
        limits: Limits,
        clock: Callable[[], float],
        sleep: Sleep,
    ) -> None:
        self.deployment = deployment
        self.connection = connection
        self.users = 0
        self.in_flight = 0
        self.calls = 0
        self.failures = 0
        self.rests_until = 0.0
        self._clock = clock
        self._sleep = sleep
        self._limits = limits

    @contextmanager
    def held(self) -> Iterator[None]:
        """Used by somebody for the time of the block, waits between tries included: not to be closed."""
        self.users += 1
        try:
            yield
        finally:
            self.users -= 1

    @asynccontextmanager
    async def room(self, tokens: int, max_wait: float) -> AsyncIterator[None]:
        """Room for one call. Raises ``UpstreamBusy`` if there is none within ``max_wait`` seconds."""
        self.in_flight += 1
        self.calls += 1
        until = self._clock() + max_wait
        try:
            await self._wait_for_pace(tokens, max_wait)
            async with self._limits.slots.one(until):
                yield
        finally:
            self.in_flight -= 1

    async def _wait_for_pace(self, tokens: int, max_wait: float) -> None:
        wait = await self._limits.rates.take(tokens, max_wait)
        if wait > max_wait:
            raise UpstreamBusy("the rpm or tpm limit of this model is used up", retry_after=wait)
        if wait > 0:
            await self._sleep(wait)

    def wait(self, tokens: int) -> float:
        """Seconds until a call of so many tokens is within ``rpm`` and ``tpm``, as far as is known here."""
        return self._limits.rates.wait(tokens)

    async def close(self) -> None:
        """Close the connection, and leave all slots."""
        await self.connection.close()
        await self._limits.slots.close()

    def load(self) -> tuple[float, float]:
        """What is under way, then what has been done so far, both for its weight."""
        weight = self.deployment.weight
        return self.in_flight / weight, self.calls / weight

    def went_well(self) -> None:
        """Forget earlier failures."""
        self.failures = 0

    def failed(self, error: UpstreamError) -> None:
        """Rest after too many failures in a row, at once where the upstream refuses the key or says when to return.

        What the operator allows of this kind of failure is obeyed in any case.
        """
        cooldown = self.deployment.cooldown
        if isinstance(error, UpstreamBusy | NotPaid) or cooldown is None:
            return
        if isinstance(error, UpstreamRefused) and error.status not in FREE | KEY_REFUSED and error.status < 500:
            return
        self.failures += 1
        rest = error.retry_after if isinstance(error, UpstreamRefused) else None
        if self.failures > self._allowed(error, asked_to_rest=rest is not None):
            self.rests_until = self._clock() + max(rest or 0.0, cooldown)
            self.failures = 0

    def _allowed(self, error: UpstreamError, *, asked_to_rest: bool) -> int:
        """How many failures in a row are put up with, seen from this one."""
        kind = kind_of(error)
        if kind in self.deployment.allowed_fails_of:
            return self.deployment.allowed_fails_of[kind]
        return 0 if asked_to_rest or kind is Failure.AUTHENTICATION else self.deployment.allowed_fails
