"""Look-ups and writes cancelled at any moment, on connections that others use: nobody is handed another's reply."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager, suppress
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
GIVEN = 0.1
"""Seconds at most that one waits, which is about what an answer takes here."""

SLOW = partial(network.trickle, seconds=0.01)


def value_of(key: bytes) -> bytes:
    """What is right under this key: of a length of its own."""
    return hashlib.shake_256(key).digest(50 + key[0] * 20)


KEYS = [hashlib.sha256(b"%d" % number).digest() for number in range(300)]


async def storm(store: Backend) -> None:
    """Ask, write and give up, many at a time."""
    answered = sum(await asyncio.gather(*(_asker(store, random.Random(number)) for number in range(TASKS))))
    assert 100 < answered < TASKS * ROUNDS * 0.75, "some were given up, and some were not"


async def _asker(store: Backend, chance: random.Random) -> int:
    answered = 0
    for _ in range(ROUNDS):
        keys = chance.sample(KEYS, chance.randint(1, 20))
        with suppress(TimeoutError, StoreError):
            async with asyncio.timeout(chance.random() * GIVEN):
                if chance.random() < 0.2:
                    await store.set_many({key: value_of(key) for key in keys})
                else:
                    found = await store.get_many(keys)
                    assert found == {key: value_of(key) for key in keys}
                    answered += 1
    return answered


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
        store = RedisBackend.from_parts(HOST, net.port, access=access, namespace="cancelled")
        await store.open()
        await store.set_many({key: value_of(key) for key in KEYS})
        net.fault = SLOW
        await storm(store)
        assert net.connections <= CONNECTIONS
        await all_connections_work(store, net, redis, KEYS[0])
        await store.close()


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
        store = RedisClusterBackend([(HOST, nets[0].port)], access=access, patience=5.0)
        await store.open()
        await store.set_many({key: value_of(key) for key in KEYS})
        for net in nets:
            net.fault = SLOW
        await storm(store)
        for server, net in zip(cluster.primaries, nets, strict=True):
            assert net.connections <= CONNECTIONS
            key = next(key for key in KEYS if way_to(server, key) == net.port)
            await all_connections_work(store, net, server, key)
        await store.close()
