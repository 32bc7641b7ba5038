"""Lanes: which deployment a call goes to, how many at once, how fast, and what is tried again.

Retries, by what is known about money:

- before the body was sent, 429 and 503: freely, up to the deployment's retries for that kind of failure; nothing was
  billed;
- 401, 402 and 403: only at another deployment of the group (another key may be good);
- after the body was sent (time-out, lost connection, 500, 502, 504): at most once, counted as *outcome unknown*;
- a 200: never, whatever it holds;
- no room within ``rpm``, ``tpm`` or ``max_parallel``: only at another deployment of the group.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from cache_proxy.errors import UpstreamBusy, UpstreamError, UpstreamLost, UpstreamRefused
from cache_proxy.models import Deployment, Endpoint, Failure, Json
from cache_proxy.upstream.failures import kind_of
from cache_proxy.upstream.pace import Pace

_FREE = frozenset({429, 503})
_KEY_REFUSED = frozenset({401, 402, 403})
Sleep = Callable[[float], Awaitable[None]]

_BACKOFF = wait_exponential_jitter(multiplier=0.25, max=8.0, jitter=0.25)


class Connection(Protocol):
    """What a lane sends through; :class:`cache_proxy.upstream.client.Client` is the real one."""

    async def post(self, endpoint: Endpoint, body: Mapping[str, Json]) -> bytes:
        """The body of a 200, or an ``UpstreamError``."""

    async def close(self) -> None:
        """Let go of the connections."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How patient the lanes are. Times are seconds."""

    max_wait: float = 30.0
    """The longest a call waits for room in a lane or for a ``Retry-After``."""
    retry_after: float = 0.0
    """The least it waits before it is tried again where no other deployment can take it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer's bytes, and how many calls before it may have been billed without one."""

    answer: bytes
    unknown: int = 0


class Lane:
    """One deployment: its connection, its limits, its luck so far."""

    def __init__(
        self, deployment: Deployment, connection: Connection, clock: Callable[[], float], sleep: Sleep
    ) -> None:
        self.deployment = deployment
        self.connection = connection
        self.in_flight = 0
        self.calls = 0
        self.failures = 0
        self.rests_until = 0.0
        self._clock = clock
        self._sleep = sleep
        self._slots = asyncio.Semaphore(deployment.max_parallel)
        self._requests = Pace(deployment.rpm, clock) if deployment.rpm else None
        self._tokens = Pace(deployment.tpm, clock) if deployment.tpm else None

    async def call(self, endpoint: Endpoint, body: Mapping[str, Json], tokens: int, max_wait: float) -> bytes:
        """Send as soon as there is room. Raises ``UpstreamBusy`` if that would take longer than ``max_wait``."""
        self.in_flight += 1
        self.calls += 1
        try:
            await self._wait_for_pace(tokens, max_wait)
            await self._wait_for_slot(max_wait)
            try:
                return await self.connection.post(endpoint, body)
            finally:
                self._slots.release()
        finally:
            self.in_flight -= 1

    async def _wait_for_pace(self, tokens: int, max_wait: float) -> None:
        wait = self.wait(tokens)
        if wait > max_wait:
            raise UpstreamBusy("the rpm or tpm limit of this model is used up", retry_after=wait)
        for pace, units in self._paces(tokens):
            pace.take(units)
        if wait:
            await self._sleep(wait)

    def wait(self, tokens: int) -> float:
        """Seconds until a call of so many tokens is within ``rpm`` and ``tpm``."""
        return max((pace.wait(units) for pace, units in self._paces(tokens)), default=0.0)

    def _paces(self, tokens: int) -> list[tuple[Pace, int]]:
        return [(pace, units) for pace, units in ((self._requests, 1), (self._tokens, tokens)) if pace]

    async def _wait_for_slot(self, max_wait: float) -> None:
        try:
            async with asyncio.timeout(max_wait):
                await self._slots.acquire()
        except TimeoutError:
            raise UpstreamBusy("too many calls to this model are under way", retry_after=1.0) from None

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
        if isinstance(error, UpstreamBusy) or cooldown is None:
            return
        if isinstance(error, UpstreamRefused) and error.status not in _FREE | _KEY_REFUSED and error.status < 500:
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


class Lanes:
    """All deployments of one event loop. A lane is made when it is first needed."""

    def __init__(
        self,
        connect: Callable[[Deployment], Connection],
        rules: Rules,
        clock: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._connect = connect
        self._rules = rules
        self._clock = clock
        self._sleep = sleep
        self._lanes: dict[str, Lane] = {}

    async def send(
        self, deployments: Sequence[Deployment], endpoint: Endpoint, body: Mapping[str, Json], tokens: int
    ) -> Sent:
        """The upstream's answer, tried again as the rules of this file say. Raises ``UpstreamError``."""
        journey = _Journey([self._lane(deployment) for deployment in deployments], self._rules, self._clock)
        retrying = AsyncRetrying(
            retry=retry_if_exception(journey.is_worth_another_try),
            wait=journey.pause,
            sleep=self._sleep,
            reraise=True,
        )
        async for attempt in retrying:
            with attempt:
                return Sent(await journey.attempt(endpoint, body, tokens), journey.unknown)
        raise AssertionError("tenacity ends with a result or an exception")

    def resting(self) -> list[str]:
        """The deployments that are left alone just now."""
        now = self._clock()
        return [lane.deployment.id for lane in self._lanes.values() if lane.rests_until > now]

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(lane.connection.close() for lane in self._lanes.values()))

    def _lane(self, deployment: Deployment) -> Lane:
        lane = self._lanes.get(deployment.id)
        if lane is None:
            lane = self._lanes[deployment.id] = Lane(deployment, self._connect(deployment), self._clock, self._sleep)
        return lane


class _Journey:
    """One call with its retries."""

    def __init__(self, lanes: list[Lane], rules: Rules, clock: Callable[[], float]) -> None:
        self.unknown = 0
        self._lanes = lanes
        self._rules = rules
        self._clock = clock
        self._tried: list[Lane] = []

    async def attempt(self, endpoint: Endpoint, body: Mapping[str, Json], tokens: int) -> bytes:
        lane = self._choose(tokens)
        self._tried.append(lane)
        try:
            answer = await lane.call(endpoint, body, tokens, self._rules.max_wait)
        except UpstreamError as error:
            self.unknown += error.outcome_unknown
            error.unknown_calls = self.unknown
            if len(self._lanes) > 1:
                # The only deployment of a name is never left alone: that would turn a hiccup into an outage.
                lane.failed(error)
            raise
        lane.went_well()
        return answer

    def _choose(self, tokens: int) -> Lane:
        """Of those not resting the one not tried yet, with room, of the lowest order, that did least for its weight."""
        self._level()
        awake = self._awake()
        if not awake:
            return min(self._lanes, key=lambda lane: lane.rests_until)
        return min(
            awake,
            key=lambda lane: (lane in self._tried, lane.wait(tokens), lane.deployment.order, *lane.load()),
        )

    def _level(self) -> None:
        """Who comes back from a rest starts level with the others, rather than making up for all it has missed."""
        woken = [lane for lane in self._lanes if 0 < lane.rests_until <= self._clock()]
        for lane in woken:
            lane.rests_until = 0.0
        if woken:
            for lane in self._lanes:
                lane.calls = 0

    def _awake(self) -> list[Lane]:
        now = self._clock()
        return [lane for lane in self._lanes if lane.rests_until <= now]

    def _has_another(self) -> bool:
        """Whether a deployment that was not tried yet can be."""
        return any(lane not in self._tried for lane in self._awake())

    def is_worth_another_try(self, error: BaseException) -> bool:
        if isinstance(error, UpstreamBusy):
            # Nothing was sent, so it is no retry.
            return self._has_another()
        if not isinstance(error, UpstreamError) or len(self._tried) > self._retries(error):
            return False
        if isinstance(error, UpstreamRefused) and error.status in _KEY_REFUSED:
            return self._has_another()
        if isinstance(error, UpstreamRefused) and error.status in _FREE:
            return self._comes_in_time(error)
        if isinstance(error, UpstreamRefused) and error.outcome_unknown:
            return self.unknown <= 1 and self._comes_in_time(error)
        if isinstance(error, UpstreamLost):
            return self.unknown <= 1 or not error.outcome_unknown
        return False

    def _retries(self, error: UpstreamError) -> int:
        """How often the deployment that failed just now lets a call be tried again."""
        deployment = self._tried[-1].deployment
        return deployment.retries_after.get(kind_of(error), deployment.retries)

    def _comes_in_time(self, error: UpstreamRefused) -> bool:
        return self._has_another() or (error.retry_after or 0.0) <= self._rules.max_wait

    def pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if self._has_another():
            return 0.0
        asked = error.retry_after if isinstance(error, UpstreamRefused) else None
        return max(_BACKOFF(state) if asked is None else asked, self._rules.retry_after)
