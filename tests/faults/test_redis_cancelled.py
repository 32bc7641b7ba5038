"""Look-ups and writes cancelled at any moment, on connections that others use: nobody is handed another's reply."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from cache_proxy.backends import Backend, RedisBackend, RedisClusterBackend
from cache_proxy.backends.redis import Access
from cache_proxy.backends.redis.buckets import SLOTS, bucket_of
from cache_proxy.errors import StoreError
from tests.faults import network
from tests.faults.network import Network, between
from tests.faults.redis_scenarios import standalone
from tests.faults.servers import until
from tests.integration.redis_servers import HOST, PASSWORD, Cluster, RedisServer, clustered

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CONNECTIONS = 8
TASKS = 30
ROUNDS = 100
STEP = 1.02
"""By how much the patience grows after each that was given up, and shrinks after each that was answered."""

SLOW = partial(network.trickle, seconds=0.01)


def value_of(key: bytes) -> bytes:
    """What is right under this key: of a length of its own."""
    return hashlib.shake_256(key).digest(50 + key[0] * 20)


KEYS = [hashlib.sha256(b"%d" % number).digest() for number in range(300)]


@asynccontextmanager
async def filled(store: Backend) -> AsyncIterator[Backend]:
    """A store that holds all there is, and is closed whatever happens: a leak here fails another test."""
    await store.open()
    try:
        await store.set_many({key: value_of(key) for key in KEYS})
        yield store
    finally:
        await store.close()


@dataclass
class Storm:
    """Ask, write and give up, many at a time. The patience follows the machine: about as many are given up as not."""

    store: Backend
    patience: float = 0.1
    answered: int = 0
    given_up: int = 0

    async def rage(self) -> None:
        await asyncio.gather(*(self._asker(random.Random(number)) for number in range(TASKS)))
        assert min(self.answered, self.given_up) > 100, self

    async def _asker(self, chance: random.Random) -> None:
        for _ in range(ROUNDS):
            keys = chance.sample(KEYS, chance.randint(1, 20))
            try:
                async with asyncio.timeout(chance.random() * self.patience):
                    await self._one(keys, writing=chance.random() < 0.2)
            except (TimeoutError, StoreError):
                self.given_up += 1
                self.patience *= STEP
            else:
                self.answered += 1
                self.patience /= STEP

    async def _one(self, keys: Sequence[bytes], *, writing: bool) -> None:
        if writing:
            await self.store.set_many({key: value_of(key) for key in keys})
        else:
            found = await self.store.get_many(keys)
            assert found == {key: value_of(key) for key in keys}


async def all_connections_work(store: Backend, net: Network, server: RedisServer, key: bytes) -> None:
    """As many look-ups as there may be connections reach the server at once: none was lost."""
    net.fault = held_back
    before = look_ups(server)
    asking = [asyncio.create_task(store.get_many([key])) for _ in range(CONNECTIONS)]
    await asyncio.to_thread(until, lambda: look_ups(server) == before + CONNECTIONS)
    net.fault = network.whole
    for task in asking:
        task.cancel()
    await asyncio.gather(*asking, return_exceptions=True)
    assert await store.get_many([key]) == {key: value_of(key)}


async def held_back(piece: bytes) -> AsyncIterator[bytes]:
    """Values do not get through; that a client may log in does."""
    if piece.startswith(b"*"):
        await asyncio.Event().wait()
    yield piece


def look_ups(server: RedisServer) -> int:
    return int(server.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"])


async def test_on_one_server_everybody_gets_his_own_reply_whoever_leaves(redis_program: str) -> None:
    access = Access(password=PASSWORD, max_connections=CONNECTIONS)
    with standalone() as redis, between(redis.address) as net:
        async with filled(RedisBackend.from_parts(HOST, net.port, access=access, namespace="cancelled")) as store:
            net.fault = SLOW
            await Storm(store).rage()
            assert net.connections <= CONNECTIONS
            await all_connections_work(store, net, redis, KEYS[0])


@contextmanager
def far_away(cluster: Cluster) -> Iterator[list[Network]]:
    """A network before each server, which the Cluster names as the way to it."""
    with ExitStack() as stack:
        nets = [stack.enter_context(between(server.address)) for server in cluster.primaries]
        for server, net in zip(cluster.primaries, nets, strict=True):
            server.ask("CONFIG", "SET", "cluster-announce-port", net.port)
        ports = {net.port for net in nets}
        until(lambda: all(named(server) == ports for server in cluster.primaries))
        yield nets


def named(server: RedisServer) -> set[int]:
    """The ports that it sends clients to."""
    return {int(port) for _, _, (_, port, *_), *_ in server.ask("CLUSTER", "SLOTS")}


def way_to(server: RedisServer, key: bytes) -> int:
    """The port that it sends a client to for this key."""
    slot = SLOTS[bucket_of(key)]
    return next(int(port) for first, last, (_, port, *_), *_ in server.ask("CLUSTER", "SLOTS") if first <= slot <= last)


async def test_in_a_cluster_everybody_gets_his_own_reply_whoever_leaves(redis_program: str) -> None:
    access = Access(max_connections=CONNECTIONS)
    with clustered() as cluster, far_away(cluster) as nets:
        async with filled(RedisClusterBackend([(HOST, nets[0].port)], access=access, patience=5.0)) as store:
            for net in nets:
                net.fault = SLOW
            await Storm(store).rage()
            for server, net in zip(cluster.primaries, nets, strict=True):
                assert net.connections <= CONNECTIONS
                key = next(key for key in KEYS if way_to(server, key) == net.port)
                await all_connections_work(store, net, server, key)
