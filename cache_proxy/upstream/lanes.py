"""Lanes: which deployment a call goes to, and what is tried again.

Retries, by what is known about money:

- before the body was sent, 429 and 503: freely, up to the deployment's retries for that kind of failure; nothing was
  billed;
- 401, 402 and 403: only at another deployment of the group (another key may be good);
- after the body was sent (time-out, lost connection, 500, 502, 504): at most once, counted as *outcome unknown*;
- a 200: never, whatever it holds;
- no room within ``rpm``, ``tpm`` or ``max_parallel``: only at another deployment of the group.

Before each call is an intent in the ledger, and after it how it ended; of one whose outcome is unknown that is told
before anything else is done about it. A ledger that says no ends the trip.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from weakref import WeakValueDictionary

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, wait_exponential_jitter

from cache_proxy import lasting
from cache_proxy.calls import Call, Ledger
from cache_proxy.errors import UpstreamBusy, UpstreamError, UpstreamLost, UpstreamRefused
from cache_proxy.models import Deployment
from cache_proxy.upstream.books import Books, Load
from cache_proxy.upstream.counters import Counters, counter_name
from cache_proxy.upstream.doubts import Doubts
from cache_proxy.upstream.failures import FREE, KEY_REFUSED, kind_of
from cache_proxy.upstream.lane import Connection, Lane, Limits
from cache_proxy.upstream.slots import Sleep

MOST_PASSING = 1_000
"""Lanes that were made for one caller each, and are not in use, that are kept."""

_BACKOFF = wait_exponential_jitter(multiplier=0.25, max=8.0, jitter=0.25)


@dataclass(frozen=True, slots=True)
class Rules:
    """How patient the lanes are. Times are seconds."""

    max_wait: float = 30.0
    """The longest a call waits for room in a lane or for a ``Retry-After``."""
    retry_after: float = 0.0
    """The least it waits before it is tried again where no other deployment can take it."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An answer's bytes, and what is known of the calls it took.

    ``call`` is the one that was answered, and not settled yet: what it cost stands in the answer. ``unknown`` counts
    those before it that may have been billed without an answer; they can have cost ``tokens_unsettled`` at most.
    """

    answer: bytes
    call: Call
    unknown: int = 0
    tokens_unsettled: int = 0


class Lanes:
    """All deployments of one event loop. A lane is made when it is first needed, and stays; of those that are made for
    single callers only ``MOST_PASSING``, the last used.
    """

    def __init__(
        self,
        connect: Callable[[Deployment], Connection],
        rules: Rules,
        clock: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
        *,
        counters: Counters | None = None,
        ledger: Ledger | None = None,
        now: Callable[[], float] = time.time,
        timed: Callable[[str, float], None] | None = None,
    ) -> None:
        """``counters`` are those of the store: with them the limits hold for all processes that share it. ``ledger`` is
        told of every call; ``now`` is the time of day, ``clock`` one that is never set back. ``timed`` hears of each
        call its endpoint and how many seconds the upstream took; it must not raise."""
        self.books = Books(ledger, now)
        self._connect = connect
        self._rules = rules
        self._clock = clock
        self._sleep = sleep
        self._counters = counters
        self._timed = timed or _unheard
        self._lanes: dict[str, Lane] = {}
        self._passing: OrderedDict[str, Lane] = OrderedDict()
        # Those that share an account share its limits, for as long as one of them is there.
        self._limits: WeakValueDictionary[bytes, Limits] = WeakValueDictionary()
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, deployments: Sequence[Deployment], load: Load) -> Sent:
        """The upstream's answer, tried again as the rules of this file say. Whoever gets it settles its call.

        Raises ``UpstreamError``; ``NotPaid`` among them where the ledger says no.
        """
        lanes = [self._lane(deployment) for deployment in deployments]
        journey = _Journey(lanes, load, self.books, self._rules, self._clock, self._timed)
        retrying = AsyncRetrying(
            retry=retry_if_exception(journey.is_worth_another_try),
            wait=journey.pause,
            sleep=self._sleep,
            reraise=True,
        )
        with ExitStack() as held:
            for lane in lanes:
                held.enter_context(lane.held())
            self._let_go()
            async for attempt in retrying:
                with attempt:
                    return await journey.attempt()
        raise AssertionError("tenacity ends with a result or an exception")

    def longest(self, deployment: Deployment) -> float:
        """Seconds that a call to it may take at most, with all its waits and retries."""
        tries = 1 + max((deployment.retries, *deployment.retries_after.values()))
        return tries * (deployment.timeout + self._rules.max_wait)

    def resting(self) -> list[str]:
        """The deployments that are left alone just now."""
        now = self._clock()
        return [lane.deployment.id for lane in self._lanes.values() if lane.rests_until > now]

    async def close(self) -> None:
        """Close every connection, and leave what is counted for all."""
        lanes = (*self._lanes.values(), *self._passing.values())
        await asyncio.gather(*self._closing, *(lane.close() for lane in lanes))

    def _lane(self, deployment: Deployment) -> Lane:
        lanes = self._passing if deployment.passing else self._lanes
        lane = lanes.get(deployment.id)
        if lane is None:
            connection = self._connect(deployment)
            limits = self._limits_of(deployment)
            lane = lanes[deployment.id] = Lane(deployment, connection, limits, self._clock, self._sleep)
        if deployment.passing:
            self._passing.move_to_end(deployment.id)
        return lane

    def _let_go(self) -> None:
        """Close the lanes that were not used for longest, but for those in use."""
        if len(self._passing) <= MOST_PASSING:
            return
        idle = (id_ for id_, lane in self._passing.items() if not lane.users)
        for id_ in list(islice(idle, len(self._passing) - MOST_PASSING)):
            closing = lasting.start(self._passing.pop(id_).close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _limits_of(self, deployment: Deployment) -> Limits:
        name = counter_name(deployment)
        limits = self._limits.get(name)
        if limits is None:
            limits = self._limits[name] = Limits(deployment, self._clock, self._sleep, self._counters)
        return limits


class _Journey:
    """One call with its retries."""

    def __init__(
        self,
        lanes: list[Lane],
        load: Load,
        books: Books,
        rules: Rules,
        clock: Callable[[], float],
        timed: Callable[[str, float], None],
    ) -> None:
        self._books = books
        self._timed = timed
        self._doubts = Doubts(books)
        self._lanes = lanes
        self._load = load
        self._rules = rules
        self._clock = clock
        self._tried: list[Lane] = []

    async def attempt(self) -> Sent:
        lane = self._choose(self._load.tokens)
        self._tried.append(lane)
        try:
            async with lane.room(self._load.tokens, self._rules.max_wait):
                sent = await self._post(lane)
        except UpstreamError as error:
            error.unknown_calls, error.tokens_unsettled = self._doubts.calls, self._doubts.tokens
            if len(self._lanes) > 1:
                # The only deployment of a name is never left alone: that would turn a hiccup into an outage.
                lane.failed(error)
            raise
        lane.went_well()
        return sent

    async def _post(self, lane: Lane) -> Sent:
        call = await self._books.open(self._load, lane.deployment)
        try:
            answer = await self._sent(lane)
        except UpstreamError as error:
            if error.outcome_unknown:
                await self._doubts.about(call)
            else:
                self._books.cost_nothing(call, error.status if isinstance(error, UpstreamRefused) else 0)
            raise
        except asyncio.CancelledError:
            # Everything is told to end. What was sent may be billed all the same.
            await self._doubts.about(call)
            raise
        return Sent(answer, call, self._doubts.calls, self._doubts.tokens)

    async def _sent(self, lane: Lane) -> bytes:
        began_at = self._clock()
        try:
            return await lane.connection.post(self._load.endpoint, self._load.body)
        finally:
            self._timed(self._load.endpoint.value, self._clock() - began_at)

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
        if isinstance(error, UpstreamRefused) and error.status in KEY_REFUSED:
            return self._has_another()
        if isinstance(error, UpstreamRefused) and error.status in FREE:
            return self._comes_in_time(error)
        if isinstance(error, UpstreamRefused) and error.outcome_unknown:
            return self._doubts.calls <= 1 and self._comes_in_time(error)
        if isinstance(error, UpstreamLost):
            return self._doubts.calls <= 1 or not error.outcome_unknown
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


def _unheard(_endpoint: str, _seconds: float) -> None:
    pass
