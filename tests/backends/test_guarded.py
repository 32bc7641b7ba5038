import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

import pytest

from cache_proxy.backends.contract import A, B
from cache_proxy.backends.guarded import GuardedBackend
from cache_proxy.errors import ConfigError, StoreError
from tests.backends.fakes import Clock, SloppyStore, WaywardStore

pytestmark = pytest.mark.anyio

SOON = 0.02


@pytest.fixture
async def inner() -> WaywardStore:
    return WaywardStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def guard(inner: WaywardStore, clock: Clock) -> AsyncIterator[GuardedBackend]:
    made = GuardedBackend(inner, read_deadline=SOON, write_deadline=SOON, purge_deadline=SOON, clock=clock)
    await made.open()
    await made.set_many({A: b"1"})
    yield made
    inner.answering.set()
    await made.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


async def until_closed(guard: GuardedBackend) -> None:
    await until(lambda: guard.state == "closed")


async def test_a_store_that_never_answers_is_a_miss_within_the_deadline(
    guard: GuardedBackend, inner: WaywardStore
) -> None:
    inner.answering.clear()
    async with asyncio.timeout(5):
        assert await guard.get_many([A]) == {}
    assert guard.failures["read_timeout"] == 1
    assert guard.state == "closed"


async def test_repeated_time_outs_open_the_breaker_and_a_probe_closes_it(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "cache_proxy.store")
    inner.answering.clear()
    for _ in range(2):
        await guard.get_many([A])
    assert guard.state == "open"
    reads = inner.reads
    assert await guard.get_many([A]) == {}
    assert inner.reads == reads, "an open breaker leaves the store alone"
    inner.answering.set()
    clock.now += 1.0
    assert await guard.get_many([A]) == {}, "no request waits for the probe"
    await until_closed(guard)
    assert await guard.get_many([A]) == {A: b"1"}
    assert [record.__dict__["state"] for record in caplog.records] == ["open", "closed"]


async def test_only_one_caller_probes_and_failed_probes_come_ever_later(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    inner.refusing = StoreError("gone")
    for _ in range(2):
        await guard.get_many([A])
    probes = []
    for _ in range(40):
        clock.now += 1.0
        before = inner.reads
        await asyncio.gather(*(guard.get_many([A]) for _ in range(5)))
        for _ in range(10):
            await asyncio.sleep(0)
        probes.append(inner.reads - before)
    assert max(probes) == 1
    assert [second for second, probe in enumerate(probes, 1) if probe] == [1, 3, 7, 15, 25, 35]


async def test_a_store_that_hangs_for_good_is_not_asked_for_ever_more(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    inner.answering.clear()
    for _ in range(30):
        clock.now += 10.0
        await guard.get_many([A])
        await until(lambda: guard.state != "half-open")
    assert inner.reads - inner.reads_finished == 2 + 8
    inner.answering.set()
    await until(lambda: not guard._asked)
    clock.now += 10.0
    await guard.get_many([A])
    await until_closed(guard)


async def test_a_store_that_takes_a_value_again_is_probed_again_soon(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    inner.refusing = StoreError("gone")
    for _ in range(8):
        clock.now += 10.0
        await guard.get_many([A])
        for _ in range(10):
            await asyncio.sleep(0)
    assert guard.state == "open", "the next probe is due in ten seconds"
    inner.refusing = None
    clock.now += 1.0
    assert await guard.get_many([A]) == {}
    assert await guard.set_many({B: b"2"})
    assert await guard.get_many([A]) == {}, "no request waits for the probe"
    await until_closed(guard)


async def test_a_store_that_was_opened_again_is_given_the_first_pause_again(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    inner.refusing = StoreError("gone")
    for _ in range(20):
        clock.now += 10.0
        await guard.get_many([A])
        await asyncio.sleep(0)
    await guard.close()
    await guard.open()
    for _ in range(2):
        await guard.get_many([A])
    assert guard.state == "open"
    clock.now += 1.0
    await guard.get_many([A])
    await until(lambda: guard.state == "half-open")


async def test_calls_that_stalled_together_count_as_one_time_out(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    inner.answering.clear()
    waiting = [asyncio.create_task(guard.get_many([A])) for _ in range(20)]
    await asyncio.sleep(0)
    clock.now += 1.0
    await asyncio.gather(*waiting)
    assert guard.failures["read_timeout"] == 20
    assert guard.state == "closed"


async def test_refusals_open_the_breaker_at_once(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing = StoreError("gone")
    assert await guard.get_many([A]) == {}
    assert await guard.get_many([A]) == {}
    assert guard.state == "open"


async def test_an_error_outside_the_contract_is_a_miss_too(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing = ZeroDivisionError()
    assert await guard.get_many([A]) == {}
    assert await guard.set_many({B: b"2"}) is False


UNSOUND = [None, [b"1"], {A: "1"}, {A: bytearray(b"1")}, {A: memoryview(b"1")}, {A: None}, {B: b"1"}, {"a": b"1"}]


@pytest.mark.parametrize("found", UNSOUND)
async def test_an_answer_that_is_not_bytes_under_the_keys_asked_is_a_miss_and_told_once(
    found: object, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    inner = SloppyStore(found)
    guard = GuardedBackend(inner, clock=clock)
    for _ in range(2):
        assert await guard.get_many([A]) == {}
    assert guard.failures == {"read_refused": 2}
    assert guard.state == "open"
    contract = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(contract) == 1
    assert "store=wayward breaks its contract: get_many gave" in contract[0]
    await guard.close()


async def test_numbers_and_truth_values_that_are_none_do_no_harm() -> None:
    guard = GuardedBackend(SloppyStore(None))
    assert await guard.set_many({A: b"1"}) is False
    with pytest.raises(StoreError, match="delete_many gave no number"):
        await guard.delete_many([A])
    await guard.close()


@pytest.mark.parametrize("verb", [lambda _keys: {}, None])
async def test_a_verb_that_is_no_coroutine_function_is_a_failure_like_any_other(
    guard: GuardedBackend, inner: WaywardStore, monkeypatch: pytest.MonkeyPatch, verb: object
) -> None:
    monkeypatch.setattr(inner, "get_many", verb)
    assert await guard.get_many([A]) == {}
    assert guard.failures == {"read_refused": 1}


async def test_whether_a_store_ails_is_asked_of_itself_too_and_no_answer_is_no() -> None:
    class Ailing(WaywardStore):
        @property
        def ailing(self) -> bool:
            return self.entries[A] == b"ill"

    store = Ailing()
    guard = GuardedBackend(store)
    assert not guard.ailing, "it raised KeyError"
    store.entries[A] = b"ill"
    assert guard.ailing
    store.entries[A] = b"well"
    assert not guard.ailing


async def test_of_a_foreign_error_only_the_type_is_told(
    guard: GuardedBackend, inner: WaywardStore, caplog: pytest.LogCaptureFixture
) -> None:
    inner.refusing = ValueError("memcached://user:hunter2@there")
    with pytest.raises(StoreError) as refused:
        await guard.ping()
    for _ in range(3):
        await guard.get_many([A])
    assert "ValueError" in str(refused.value)
    assert "hunter2" not in str(refused.value) + caplog.text
    assert caplog.text.count("breaks its contract") == 1


async def test_a_look_up_never_raises_even_what_refuses_a_start(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing = ConfigError("wrong")
    for _ in range(3):
        assert await guard.get_many([A]) == {}
    assert await guard.set_many({B: b"2"}) is False


async def test_a_store_that_can_not_be_opened_is_opened_by_a_probe(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    await guard.close()
    inner.refusing_open = OSError("not mounted")
    await guard.open()
    assert guard.state == "open"
    # What would have refused the start must not end the probing later.
    inner.refusing_open = ConfigError("made for another version")
    clock.now += 1.0
    assert await guard.get_many([A]) == {}
    await until(lambda: guard.state == "open")
    inner.refusing_open = None
    clock.now += 10.0
    assert await guard.get_many([A]) == {}
    await until_closed(guard)
    assert await guard.get_many([A]) == {A: b"1"}


async def test_a_configuration_that_can_not_be_obeyed_refuses_the_start(inner: WaywardStore) -> None:
    inner.refusing_open = ConfigError("made for another version")
    with pytest.raises(ConfigError, match="another version"):
        await GuardedBackend(inner).open()


async def test_closed_in_the_middle_of_a_probe_and_opened_again_it_is_in_use_again(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    inner.refusing = StoreError("gone")
    for _ in range(2):
        await guard.get_many([A])
    inner.refusing = None
    inner.answering.clear()
    clock.now += 1.0
    await guard.get_many([A])
    assert guard.state == "half-open"
    await guard.close()
    inner.answering.set()
    await guard.open()
    await until_closed(guard)
    assert await guard.get_many([A]) == {A: b"1"}


async def test_a_caller_who_leaves_does_not_cancel_the_read(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.answering.clear()
    caller = asyncio.create_task(guard.get_many([A]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    inner.answering.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert (inner.reads_finished, inner.reads_cancelled) == (1, 0)


async def test_a_paid_value_is_stored_by_a_store_that_is_only_slow(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.answering.clear()
    assert await guard.set_many({B: b"2"}) is False
    inner.answering.set()
    await guard.close()
    assert inner.entries[B] == b"2"


async def test_a_slow_write_within_the_deadline_is_true_even_with_the_breaker_open(
    inner: WaywardStore, clock: Clock
) -> None:
    guard = GuardedBackend(inner, read_deadline=SOON, clock=clock)
    inner.answering.clear()
    for _ in range(2):
        await guard.get_many([A])
    writing = asyncio.create_task(guard.set_many({B: b"2"}))
    await asyncio.sleep(0)
    inner.answering.set()
    assert await writing is True
    await guard.close()


async def test_a_store_that_is_left_alone_ails_until_it_answers(
    guard: GuardedBackend, inner: WaywardStore, clock: Clock
) -> None:
    assert not guard.ailing
    inner.refusing = StoreError("gone")
    for _ in range(2):
        await guard.get_many([A])
    assert guard.ailing
    inner.refusing = None
    clock.now += 1.0
    await guard.get_many([A])
    await until_closed(guard)
    assert not guard.ailing


async def test_a_store_that_reads_but_hangs_in_writes_ails_until_one_is_through(
    guard: GuardedBackend, inner: WaywardStore
) -> None:
    inner.answering_writes.clear()
    assert await guard.set_many({B: b"2"}) is False
    assert not guard.ailing, "one may be bad luck"
    assert await guard.set_many({B: b"3"}) is False
    assert guard.ailing
    assert guard.state == "closed"
    assert await guard.get_many([A]) == {A: b"1"}
    inner.answering_writes.set()
    assert await guard.set_many({B: b"4"}) is True
    assert not guard.ailing


async def test_writes_that_are_refused_at_once_are_no_reason_not_to_wait(
    guard: GuardedBackend, inner: WaywardStore
) -> None:
    inner.refusing_writes = StoreError("OOM")
    for _ in range(5):
        await guard.set_many({B: b"2"})
    assert not guard.ailing


async def test_a_full_store_that_refuses_writes_is_still_read(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing_writes = StoreError("OOM")
    for _ in range(5):
        assert await guard.set_many({B: b"2"}) is False
    assert guard.failures["write_refused"] == 5
    assert guard.state == "closed"
    assert await guard.get_many([A]) == {A: b"1"}


async def test_writes_under_way_are_bounded_in_bytes(inner: WaywardStore) -> None:
    guard = GuardedBackend(inner, write_deadline=SOON, pending_bytes=1000)
    inner.answering.clear()
    answers = await asyncio.gather(*(guard.set_many({bytes([n]) * 32: bytes(368)}) for n in range(4)))
    assert not any(answers)
    assert guard.failures == {"write_dropped": 2, "write_timeout": 2}
    inner.answering.set()
    await guard.close()


@pytest.mark.parametrize("hung", ["writes", "writes and close", "everything"])
async def test_closing_a_hung_store_takes_no_longer_than_one_write_may(inner: WaywardStore, hung: str) -> None:
    patience = 0.6
    guard = GuardedBackend(inner, read_deadline=SOON, write_deadline=patience)
    await guard.open()
    inner.answering.clear()
    inner.closing_takes = 0.05
    if hung != "writes":
        inner.closing.clear()
    writing = asyncio.create_task(guard.set_many({A: b"1"}))
    stubborn = guard._calls.start(stays, asyncio.Event()) if hung == "everything" else None
    await asyncio.sleep(0)
    began = asyncio.get_running_loop().time()
    await guard.close()
    assert asyncio.get_running_loop().time() - began < patience * 1.6
    assert inner.closed == (hung == "writes")
    assert await writing is False
    if stubborn is not None:
        stubborn.cancel()


async def stays(forever: asyncio.Event) -> None:
    """Does not go when it is first told to."""
    with contextlib.suppress(asyncio.CancelledError):
        await forever.wait()
    await forever.wait()


async def test_a_write_under_way_is_waited_for_by_close_before_the_store_is_closed(inner: WaywardStore) -> None:
    guard = GuardedBackend(inner, write_deadline=60.0)
    inner.answering.clear()
    writing = asyncio.create_task(guard.set_many({A: b"1"}))
    await asyncio.sleep(0)
    closing = asyncio.create_task(guard.close())
    await asyncio.sleep(0)
    assert inner.closed == 0
    inner.answering.set()
    await closing
    assert await writing is True
    assert inner.closed == 1


async def test_a_close_that_fails_is_nobodys_trouble(inner: WaywardStore, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = GuardedBackend(inner)
    monkeypatch.setattr(inner, "close", lambda: 1 / 0)
    await guard.close()
    await guard.close()


async def test_a_purge_that_failed_does_not_claim_success(guard: GuardedBackend, inner: WaywardStore) -> None:
    inner.refusing = StoreError("gone")
    with pytest.raises(StoreError):
        await guard.delete_many([A])
    with pytest.raises(StoreError):
        await guard.clear()
    inner.answering.clear()
    with pytest.raises(StoreError) as slow:
        await guard.clear()
    assert not slow.value.refused


async def test_ping_tells_the_truth(guard: GuardedBackend, inner: WaywardStore) -> None:
    await guard.ping()
    inner.refusing = StoreError("gone")
    with pytest.raises(StoreError):
        await guard.ping()


async def test_it_goes_by_the_name_it_is_given(inner: WaywardStore) -> None:
    assert GuardedBackend(inner).name == "wayward"
    assert GuardedBackend(inner, name="lmdb").name == "lmdb"
