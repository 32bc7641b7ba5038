"""What comes from Redis, or seems to, and is not the answer; and who is asked after another took over."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

import pytest

from cache_proxy.backends import RedisBackend
from cache_proxy.backends.contract import A, B
from cache_proxy.backends.redis import Access, Sentinels
from cache_proxy.errors import StoreError
from tests.faults import network
from tests.faults.network import between
from tests.faults.redis_scenarios import standalone
from tests.faults.servers import until
from tests.integration.redis_servers import HOST, PASSWORD, PRIMARY, watched

pytestmark = pytest.mark.anyio

T = TypeVar("T")


async def instead(piece: bytes, of: bytes) -> AsyncIterator[bytes]:
    yield of if piece.startswith(b"*") else piece


FOREIGN = [b"+OK\r\n", b":2\r\n", b"$2\r\nab\r\n", b"$-1\r\n", b"*1\r\n$1\r\n1\r\n", b"*2\r\n:1\r\n:2\r\n", b"*-1\r\n"]


async def test_the_answer_to_something_else_is_an_error_and_never_a_value(redis_program: str) -> None:
    access = Access(password=PASSWORD)
    with standalone() as redis, between(redis.address) as net:
        store = RedisBackend.from_parts(HOST, net.port, access=access)
        await store.open()
        await store.set_many({A: b"1", B: b"2"})
        for reply in FOREIGN:
            net.fault = partial(instead, of=reply)
            with pytest.raises(StoreError, match="something else"):
                await store.get_many([A, B])
        net.fault = network.whole
        assert await store.get_many([A, B]) == {A: b"1", B: b"2"}
        await store.close()


async def once_it_answers(ask: Callable[[], Awaitable[T]]) -> T:
    """The first answer. Until the Sentinels agree on the new primary there may be none."""
    async with asyncio.timeout(15):
        while True:
            with suppress(StoreError):
                return await ask()
            await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_a_primary_that_hung_is_not_asked_when_it_wakes_after_another_took_over(redis_program: str) -> None:
    with watched() as found:
        sentinels = Sentinels([server.address for server in found.sentinels], PRIMARY, password=PASSWORD)
        store = RedisBackend(lambda: sentinels.primary(Access(password=PASSWORD, timeout=30.0)))
        await store.open()
        await store.set_many({A: b"1"})
        hung, heir = found.primary(), found.replica()
        await asyncio.to_thread(until, lambda: heir.info().get("db0", {}).get("keys") == 1)
        hung.pause()
        waiting = asyncio.create_task(store.get_many([A]))
        await asyncio.to_thread(until, lambda: found.primary() is heir and heir.info()["role"] == "master")
        assert await once_it_answers(lambda: store.delete_many([A])) == 1, "by a new connection, to who took over"
        for sentinel in found.sentinels:
            sentinel.signal(signal.SIGSTOP)  # nobody tells the old primary
        hung.resume()
        assert await waiting == {A: b"1"}, "it was asked before that"
        for sentinel in found.sentinels:
            sentinel.signal(signal.SIGCONT)
        assert await store.get_many([A]) == {}, "what was purged stays purged"
        await store.close()
