"""What a worker tells of a key's spending, by a clock that stands still and a ledger that can be made to fail."""

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_proxy.calls import Account, Settlement
from cache_proxy.errors import LedgerError
from cache_proxy.wiring import spent as module
from cache_proxy.wiring.spent import EVERY, MOST, PATIENCE, Spent
from tests.backends.fakes import Clock
from tests.ledger.money import PRICE, call

pytestmark = pytest.mark.anyio

KEY = "a" * 64
ME = Account("me", KEY)


class Sums:
    """What a ledger says, which can be made to fail, or to say it late; counts how often it is asked."""

    def __init__(self) -> None:
        self.written: Counter[str] = Counter()
        self.asked: list[Sequence[str]] = []
        self.failing = False
        self.looked, self.answering = threading.Event(), threading.Event()
        self.answering.set()

    def read(self, keys: Sequence[str]) -> dict[str, int]:
        self.asked.append(keys)
        found = {key: self.written[key] for key in keys if self.written[key]}
        self.looked.set()
        self.answering.wait(10)
        if self.failing:
            raise LedgerError("the database is away")
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pay(spent: Spent, tokens: int, account: Account = ME, price: int | None = 1) -> None:
    spent.settled(call((account, 100), price=price), Settlement((tokens,), 200))


async def done(spent: Spent) -> None:
    while spent._asking is not None:
        await asyncio.sleep(0.001)


async def test_it_is_what_the_ledger_says_and_what_was_paid_here_since(clock: Clock) -> None:
    sums = Sums()
    sums.written[KEY] = 1_000
    spent = Spent(sums.read, clock)
    assert await spent.of(KEY) == 1_000
    pay(spent, 7)
    pay(spent, 5, Account("other", "b" * 64))
    pay(spent, 5, price=None)
    assert await spent.of(KEY) == 1_007
    sums.written[KEY] = 1_507
    assert await spent.of(KEY) == 1_007
    assert len(sums.asked) == 1


async def test_what_others_have_paid_is_heard_of_after_ten_seconds_without_waiting(clock: Clock) -> None:
    sums = Sums()
    spent = Spent(sums.read, clock)
    assert await spent.of(KEY) == 0
    sums.written[KEY] = 500
    clock.now += EVERY - 1
    assert await spent.of(KEY) == 0
    clock.now += 1
    sums.answering.clear()
    assert await spent.of(KEY) == 0
    sums.answering.set()
    await done(spent)
    assert await spent.of(KEY) == 500
    assert len(sums.asked) == 2


async def test_keys_that_are_due_at_a_time_are_asked_about_together(clock: Clock) -> None:
    sums = Sums()
    spent = Spent(sums.read, clock)
    sums.answering.clear()
    first = asyncio.create_task(spent.of(KEY))
    await asyncio.to_thread(sums.looked.wait)
    others = [asyncio.create_task(spent.of(f"{at:064x}")) for at in range(50)]
    await asyncio.sleep(0)
    sums.answering.set()
    assert await asyncio.gather(first, *others) == [0] * 51
    assert [len(keys) for keys in sums.asked] == [1, 50]


async def test_a_reply_waits_a_little_for_a_ledger_that_hangs_and_the_next_ones_do_not(clock: Clock) -> None:
    sums = Sums()
    sums.answering.clear()
    spent = Spent(sums.read, clock)
    began = asyncio.get_running_loop().time()
    assert await spent.of(KEY) is None
    assert PATIENCE * 0.9 < asyncio.get_running_loop().time() - began < PATIENCE + 2
    clock.now += PATIENCE
    began = asyncio.get_running_loop().time()
    for at in range(100):
        assert await spent.of(f"{at:064x}") is None
    assert asyncio.get_running_loop().time() - began < PATIENCE
    sums.answering.set()
    await done(spent)
    assert await spent.of(KEY) == 0


async def test_while_the_ledger_is_away_what_is_known_goes_on_and_it_is_not_asked_all_the_time(clock: Clock) -> None:
    sums = Sums()
    sums.written[KEY] = 1_000
    spent = Spent(sums.read, clock)
    await spent.of(KEY)
    sums.failing = True
    clock.now += EVERY
    for _ in range(10):
        assert await spent.of("b" * 64) is None
        assert await spent.of(KEY) == 1_000
        await done(spent)
    pay(spent, 7)
    assert await spent.of(KEY) == 1_007
    assert len(sums.asked) == 2
    sums.failing = False
    clock.now += EVERY
    assert await spent.of("b" * 64) == 0


async def test_only_so_many_keys_are_remembered(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST == 10_000
    monkeypatch.setattr(module, "MOST", 3)
    spent = Spent(Sums().read, clock)
    for at in range(10):
        await spent.of(f"{at:064x}")
    assert list(spent._levels) == [f"{at:064x}" for at in (7, 8, 9)]


steps = st.lists(
    st.tuples(st.sampled_from(["pay", "write", "others", "ask", "answer"]), st.integers(1, 1_000)), max_size=30
)


@settings(max_examples=100, deadline=None)
@given(steps=steps)
def test_nothing_is_counted_twice_and_nothing_that_was_told_is_taken_back(steps: list[tuple[str, int]]) -> None:
    asyncio.run(_play(steps))


async def _play(steps: list[tuple[str, int]]) -> None:
    sums, clock = Sums(), Clock()
    spent = Spent(sums.read, clock)
    told = await spent.of(KEY) or 0
    paid = unwritten = 0
    for what, amount in steps:
        match what:
            case "pay":
                # Heard of here before it is written, by whoever writes.
                pay(spent, amount)
                paid, unwritten = paid + amount, unwritten + amount
            case "write":
                sums.written[KEY] += unwritten
                unwritten = 0
            case "others":
                sums.written[KEY] += amount
                paid += amount
            case "ask" if spent._asking is None:
                sums.answering.clear()
                sums.looked.clear()
                clock.now += EVERY
                await spent.of(KEY)
                await asyncio.to_thread(sums.looked.wait)
            case _:
                sums.answering.set()
                await done(spent)
        now = await spent.of(KEY)
        assert now is not None
        assert told <= now <= paid
        told = now
    sums.answering.set()
    await done(spent)
    sums.written[KEY] += unwritten
    clock.now += EVERY
    await spent.of(KEY)
    await done(spent)
    assert await spent.of(KEY) == paid


async def test_at_the_end_nothing_is_asked_any_more(clock: Clock) -> None:
    sums = Sums()
    sums.answering.clear()
    spent = Spent(sums.read, clock)
    asking = asyncio.create_task(spent.of(KEY))
    await asyncio.to_thread(sums.looked.wait)
    await spent.close()
    assert await asking is None
    sums.answering.set()


def test_the_price_is_taken_with_the_tokens() -> None:
    spent = Spent(Sums().read)
    spent._remember(KEY)
    pay(spent, 3, price=PRICE)
    assert spent._levels[KEY].amount == 3 * PRICE
