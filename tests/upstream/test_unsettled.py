"""What the ledger is told of calls, and when: before they are sent, and how they ended."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from cache_proxy.calls import Account, Call, Payer, Settlement, Share
from cache_proxy.errors import (
    LedgerUnavailable,
    NotPaid,
    UpstreamBusy,
    UpstreamError,
    UpstreamNonsense,
    UpstreamRefused,
)
from cache_proxy.models import Deployment, Endpoint, Json
from cache_proxy.upstream.books import Load
from cache_proxy.upstream.lanes import Lanes, Rules, Sent
from tests.upstream.fakes import ANSWER, LOST, TIMED_OUT, UNREACHABLE, Scripted, Time, refused

pytestmark = pytest.mark.anyio

PERHAPS_BILLED: list[UpstreamError] = [LOST, TIMED_OUT, refused(500), refused(502), refused(504), refused(524)]


class Telling(Scripted):
    """Says when it is called."""

    def __init__(self, told: list[str], *script: Any, **usual: Any) -> None:
        super().__init__(*script, **usual)
        self._told = told
        self.after: Callable[[], None] = lambda: None

    async def post(self, endpoint: Endpoint, body: Mapping[str, Json]) -> bytes:
        self._told.append("sent")
        try:
            return await super().post(endpoint, body)
        finally:
            self.after()


class Book:
    """A ledger that keeps what it is told, or raises: at an end, or where it says ``no`` to an intent."""

    def __init__(self, told: list[str], raising: Exception | None = None, no: NotPaid | None = None) -> None:
        self.intended: list[Call] = []
        self.settled: list[tuple[Call, Settlement]] = []
        self.calls: list[Call] = []
        self.no = no
        self._told = told
        self._raising = raising

    async def intend(self, call: Call) -> None:
        await asyncio.sleep(0)
        if self.no is not None:
            raise self.no
        self.intended.append(call)
        self._told.append("intended")

    def settle(self, call: Call, settlement: Settlement) -> Awaitable[None]:
        if self._raising is not None:
            raise self._raising
        self.settled.append((call, settlement))
        self._told.append("settled")
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def unsettled(self, call: Call) -> None:
        await asyncio.sleep(0)
        if self._raising is not None:
            raise self._raising
        self.calls.append(call)
        self._told.append("written")


SHARES = (Share(Payer("first", Account("me")), 40), Share(Payer("second", Account("you")), 33))


class Desk:
    """One deployment behind lanes with a ledger, and the order in which calls were sent and written down."""

    def __init__(self, *script: Any, raising: Exception | None = None, retries: int = 2, **usual: Any) -> None:
        self.told: list[str] = []
        self.book = Book(self.told, raising)
        self.connection = Telling(self.told, *script, **usual)
        self.time = Time()
        self.deployment = Deployment("one", "http://one.test/v1", retries=retries, rpm=3)
        self.lanes = Lanes(
            lambda _: self.connection,
            Rules(max_wait=5.0),
            self.time,
            self.time.sleep,
            ledger=self.book,
            now=lambda: 1_700_000_000.0 + self.time.now,
        )

    async def send(self) -> Sent:
        body = {"model": "m", "input": ["a secret", "b"]}
        load = Load(Endpoint.EMBEDDINGS, body, tokens=4, items=2, shares=SHARES, price=50_000)
        return await self.lanes.send([self.deployment], load)


@pytest.mark.parametrize("error", PERHAPS_BILLED, ids=str)
async def test_a_call_without_an_answer_is_written_down_before_it_is_tried_again(error: UpstreamError) -> None:
    desk = Desk(error)
    sent = await desk.send()
    assert desk.told == ["intended", "sent", "written", "intended", "sent"]
    assert (sent.answer, sent.unknown, sent.tokens_unsettled) == (ANSWER, 1, 73)
    (call,) = desk.book.calls
    assert call == Call(call.id, "one", "m", Endpoint.EMBEDDINGS, 2, 1_700_001_000.0, SHARES, 50_000)
    assert call.tokens_bound == 73
    assert desk.book.intended == [call, sent.call]
    assert len(bytes.fromhex(call.id)) == 16
    assert sent.call.id != call.id, "a retry is another call"


@pytest.mark.parametrize("error", PERHAPS_BILLED, ids=str)
@pytest.mark.parametrize("retries", [0, 1])
async def test_it_is_written_down_where_it_is_not_tried_again_too(error: UpstreamError, retries: int) -> None:
    desk = Desk(usual=error, retries=retries)
    with pytest.raises(type(error)) as raised:
        await desk.send()
    assert desk.told == ["intended", "sent", "written"] * (retries + 1)
    assert (raised.value.unknown_calls, raised.value.tokens_unsettled) == (retries + 1, 73 * (retries + 1))


async def test_an_answer_that_broke_off_is_written_down_and_not_asked_for_again() -> None:
    desk = Desk(UpstreamNonsense("broken off"))
    with pytest.raises(UpstreamNonsense) as raised:
        await desk.send()
    assert desk.told == ["intended", "sent", "written"]
    assert raised.value.tokens_unsettled == 73


@pytest.mark.parametrize("error", [UNREACHABLE, *map(refused, (400, 401, 402, 403, 413, 422, 429, 503))], ids=str)
async def test_what_was_not_billed_is_settled_for_nothing(error: UpstreamError) -> None:
    desk = Desk(usual=error)
    with pytest.raises(UpstreamError) as raised:
        await desk.send()
    assert desk.book.calls == []
    status = error.status if isinstance(error, UpstreamRefused) else 0
    assert desk.book.settled == [(call, Settlement((0, 0), status)) for call in desk.book.intended]
    assert desk.told == ["intended", "sent", "settled"] * len(desk.book.intended)
    assert (raised.value.unknown_calls, raised.value.tokens_unsettled) == (0, 0)


async def test_an_answer_is_left_to_who_reads_it() -> None:
    desk = Desk()
    sent = await desk.send()
    assert desk.told == ["intended", "sent"]
    await desk.lanes.books.settle(sent.call, Settlement((9, 8), 200))
    assert desk.book.settled == [(sent.call, Settlement((9, 8), 200))]
    await desk.lanes.books.unsettled(sent.call)
    assert desk.book.calls == [sent.call]


async def test_what_the_ledger_refuses_is_not_sent() -> None:
    desk = Desk()
    desk.book.no = LedgerUnavailable()
    with pytest.raises(LedgerUnavailable) as raised:
        await desk.send()
    assert desk.told == []
    assert (raised.value.unknown_calls, raised.value.tokens_unsettled) == (0, 0)
    desk.book.no = None
    assert (await desk.send()).answer == ANSWER, "the deployment has nothing to do with it, and does not rest"


async def test_what_was_lost_before_the_ledger_refused_is_told() -> None:
    desk = Desk(LOST)

    def refuse() -> None:
        desk.book.no = LedgerUnavailable()

    desk.connection.after = refuse
    with pytest.raises(LedgerUnavailable) as raised:
        await desk.send()
    assert (raised.value.unknown_calls, raised.value.tokens_unsettled) == (1, 73)


async def test_ids_sort_by_time() -> None:
    desk = Desk()
    first = await desk.send()
    desk.time.now += 0.002
    assert first.call.id < (await desk.send()).call.id


async def test_what_was_lost_on_the_way_is_told_of_a_refusal_for_want_of_room_too() -> None:
    desk = Desk(UNREACHABLE, UNREACHABLE, LOST, retries=9)
    with pytest.raises(UpstreamBusy) as raised:
        await desk.send()
    assert (raised.value.unknown_calls, raised.value.tokens_unsettled) == (1, 73)


async def test_a_call_that_is_given_up_at_the_end_of_everything_is_written_down() -> None:
    desk = Desk(gate=asyncio.Event())
    sending = asyncio.create_task(desk.send())
    await asyncio.sleep(0)
    while not desk.connection.in_flight:
        await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    assert sending.cancelled()
    assert desk.told == ["intended", "sent", "written"]


async def test_a_ledger_that_fails_costs_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(LOST, raising=RuntimeError("CANARY"))
    sent = await desk.send()
    assert (sent.answer, sent.unknown, sent.tokens_unsettled) == (ANSWER, 1, 73)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "tokens_bound=73" in record.getMessage()
    assert "RuntimeError" in record.getMessage()
    assert "CANARY" not in caplog.text

    desk = Desk(usual=refused(500), raising=RuntimeError("CANARY"))
    with pytest.raises(UpstreamRefused):
        await desk.send()


async def test_an_end_that_the_ledger_does_not_take_costs_no_answer() -> None:
    desk = Desk(raising=RuntimeError("CANARY"))
    sent = await desk.send()
    await desk.lanes.books.settle(sent.call, Settlement((9, 8), 200))
    desk = Desk(usual=refused(422), raising=RuntimeError("CANARY"))
    with pytest.raises(UpstreamRefused):
        await desk.send()
