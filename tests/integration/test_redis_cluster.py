"""A Cluster: how it is asked, slots that move, and servers that fail."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from cache_proxy.backends import GuardedBackend, RedisClusterBackend
from cache_proxy.backends.contract import random_entries
from cache_proxy.backends.redis import Access
from cache_proxy.backends.redis.buckets import BUCKETS, SLOTS, bucket_of
from cache_proxy.errors import ConfigError, PartialAnswer, StoreError
from tests.integration.redis_servers import HOST, Cluster, RedisServer, clustered, free_ports, mend, until

pytestmark = pytest.mark.anyio

ONE_EACH = [bytes([bucket * 256 // BUCKETS]) * 32 for bucket in range(BUCKETS)]
"""A key in each bucket."""


@asynccontextmanager
async def opened(
    cluster: Cluster, patience: float = 5.0, access: Access | None = None
) -> AsyncIterator[RedisClusterBackend]:
    seeds = [server.address for server in cluster.primaries]
    store = RedisClusterBackend(seeds, uuid.uuid4().hex, access=access, patience=patience)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(shared_cluster: Cluster) -> AsyncIterator[RedisClusterBackend]:
    async with opened(shared_cluster) as made:
        yield made
        await made.clear()


def calls(cluster: Cluster, command: str) -> list[int]:
    """How often each server was told this since the last reset."""
    return [
        server.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"] for server in cluster.primaries
    ]


async def test_a_look_up_is_one_mget_a_bucket_and_every_server_has_its_share(
    shared_cluster: Cluster, store: RedisClusterBackend
) -> None:
    entries = random_entries(512)
    await store.set_many(entries)
    shared_cluster.ask_all("CONFIG", "RESETSTAT")
    assert await store.get_many(list(entries)) == entries
    asked = calls(shared_cluster, "mget")
    assert sum(asked) == len({bucket_of(key) for key in entries})
    assert max(asked) - min(asked) <= 2
    assert calls(shared_cluster, "get") == [0, 0, 0]
    assert calls(shared_cluster, "cluster|slots") == [0, 0, 0], "the map is learned once"


async def test_keys_are_named_by_namespace_bucket_and_key_and_carry_the_ttl(shared_cluster: Cluster) -> None:
    key = b"\x41" * 32
    async with opened(shared_cluster) as store:
        await store.set_many({key: b"1"}, ttl=90.0)
        name = f"{store.namespace}:{{{TAG_OF_41}}}:{key.hex()}".encode()
        assert 80_000 < shared_cluster.owner(name).ask("PTTL", name) <= 90_000
        await store.clear()


TAG_OF_41 = "11"


# Slots that move -----------------------------------------------------------------------------------------------------


async def test_a_slot_that_moved_is_followed(shared_cluster: Cluster, store: RedisClusterBackend) -> None:
    key = ONE_EACH[0]
    slot = SLOTS[0]
    await store.ping()
    assert await store.get_many([key]) == {}
    home = shared_cluster.holder(slot)
    other = next(server for server in shared_cluster.primaries if server is not home)
    shared_cluster.move(slot, other)
    try:
        assert await store.set_many({key: b"1"}) is True
        assert await store.get_many(ONE_EACH) == {key: b"1"}
        assert await store.delete_many(ONE_EACH) == 1
    finally:
        shared_cluster.move(slot, home)
    assert await store.get_many(ONE_EACH) == {}


async def test_while_a_slot_moves_keys_are_found_at_both_ends(
    shared_cluster: Cluster, store: RedisClusterBackend
) -> None:
    bucket = 5
    first = bucket * 256 // BUCKETS
    here, there, nowhere = (bytes([first]) + bytes([byte]) * 31 for byte in b"abc")
    await store.set_many({here: b"1"})
    home = shared_cluster.holder(SLOTS[bucket])
    other = next(server for server in shared_cluster.primaries if server is not home)
    shared_cluster.begin_to_move(SLOTS[bucket], other)
    try:
        await store.set_many({there: b"2"})
        assert await store.get_many([there]) == {there: b"2"}, "asked for elsewhere"
        assert await store.get_many([nowhere, here, there]) == {here: b"1", there: b"2"}
        assert await store.delete_many([nowhere, here, there]) == 2
        assert await store.get_many([here, there]) == {}
    finally:
        shared_cluster.stay(SLOTS[bucket])


# Servers that fail ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_three(redis_program: str) -> Iterator[Cluster]:
    with clustered({"cluster-require-full-coverage": "no"}) as cluster:
        yield cluster


@pytest.fixture
def frail(of_three: Cluster) -> Iterator[Cluster]:
    """A Cluster without replicas whose servers may be killed and hung; what is left goes on."""
    yield of_three
    of_three.ask_all_that_run("CONFIG", "SET", "cluster-require-full-coverage", "no")
    mend(of_three)


def held_by(cluster: Cluster, server: RedisServer) -> list[bytes]:
    """The keys of ONE_EACH that this server holds."""
    return [key for key in ONE_EACH if cluster.holder(SLOTS[bucket_of(key)]) is server]


async def test_while_a_server_is_dead_the_others_go_on(frail: Cluster) -> None:
    lost = held_by(frail, frail.primaries[1])
    left = {key: b"1" for key in ONE_EACH if key not in lost}
    async with opened(frail) as store, guarded(store) as guard:
        await guard.set_many(dict.fromkeys(ONE_EACH, b"1"))
        frail.primaries[1].kill()
        with pytest.raises(PartialAnswer) as partial:
            await store.get_many(ONE_EACH)
        assert partial.value.found == left
        assert partial.value.refused
        async with asyncio.timeout(10):
            for _ in range(100):
                assert await guard.get_many(ONE_EACH) == left
                assert await guard.get_many(lost[:1]) == {}
        assert guard.state == "closed", "its other servers are worth asking"
        assert guard.ailing
        assert guard.failures["read_refused"] >= 200
        with pytest.raises(PartialAnswer):
            await guard.get_strict(lost[:1])
        await still_writes_and_never_claims_too_much(guard, lost[0], next(iter(left)))
        mend(frail)
        async with asyncio.timeout(15):
            while guard.ailing or not await guard.set_many({lost[0]: b"3"}):
                await guard.get_many(lost[:1])
                await asyncio.sleep(0.02)
        assert (await store.get_many(ONE_EACH))[lost[0]] == b"3", "without a restart"


async def still_writes_and_never_claims_too_much(guard: GuardedBackend, lost: bytes, left: bytes) -> None:
    assert await guard.set_many({lost: b"2", left: b"2"}) is False
    assert await guard.get_many([left]) == {left: b"2"}
    for purge in (guard.clear, guard.ping, lambda: guard.delete_many([lost, left])):
        with pytest.raises(StoreError):
            await purge()


@asynccontextmanager
async def guarded(store: RedisClusterBackend) -> AsyncIterator[GuardedBackend]:
    guard = GuardedBackend(store, probe_after=0.05)
    await guard.open()
    try:
        yield guard
    finally:
        await guard.close()


async def test_a_server_that_hangs_costs_its_own_part_and_a_bounded_wait(frail: Cluster) -> None:
    hung = frail.primaries[2]
    lost = held_by(frail, hung)
    left = {key: b"1" for key in ONE_EACH if key not in lost}
    async with opened(frail, patience=0.5) as store:
        await store.set_many(dict.fromkeys(ONE_EACH, b"1"))
        hung.pause()
        waits = []
        for _ in range(6):
            began = time.monotonic()
            with pytest.raises(PartialAnswer) as partial:
                await store.get_many(ONE_EACH)
            waits.append(time.monotonic() - began)
            assert partial.value.found == left
        assert max(waits) < 2.0
        assert min(waits[:2]) >= 0.5
        assert max(waits[2:]) < 0.5, "it is left alone"
        hung.resume()
        async with asyncio.timeout(10):
            while store.ailing:
                with suppress(PartialAnswer):
                    await store.get_many(ONE_EACH)
                await asyncio.sleep(0.02)
        assert await store.get_many(ONE_EACH) == dict.fromkeys(ONE_EACH, b"1")


async def test_a_cluster_that_is_down_as_a_whole_answers_nothing_at_once_and_comes_back(frail: Cluster) -> None:
    async with opened(frail) as store, guarded(store) as guard:
        await guard.set_many(dict.fromkeys(ONE_EACH, b"1"))
        frail.ask_all("CONFIG", "SET", "cluster-require-full-coverage", "yes")
        frail.primaries[0].kill()
        async with asyncio.timeout(10):
            while await guard.get_many(ONE_EACH):
                await asyncio.sleep(0.02)
        async with asyncio.timeout(10):
            for _ in range(50):
                assert await guard.get_many(ONE_EACH) == {}
        mend(frail)
        async with asyncio.timeout(15):
            while not await guard.set_many({ONE_EACH[0]: b"2"}) or guard.ailing:
                await guard.get_many(ONE_EACH)
                await asyncio.sleep(0.02)


@pytest.mark.slow
async def test_a_replica_that_takes_over_is_found(redis_program: str) -> None:
    with clustered(replicas=True, node_timeout=500) as cluster:
        entries = dict.fromkeys(ONE_EACH, b"1")
        async with opened(cluster) as store:
            await store.set_many(entries)
            until(lambda: sum(replica.ask("DBSIZE") for replica in cluster.replicas) == len(entries), "replication")
            cluster.primaries[0].kill()
            async with asyncio.timeout(15):
                while True:
                    with suppress(PartialAnswer):
                        if await store.get_many(ONE_EACH) == entries:
                            break
                    await asyncio.sleep(0.02)
            assert await store.set_many(entries) is True
            await store.ping()


# The way in ----------------------------------------------------------------------------------------------------------


async def test_one_server_that_is_up_is_enough_to_find_the_others(shared_cluster: Cluster) -> None:
    (nobody,) = free_ports(1)
    store = RedisClusterBackend([(HOST, nobody), shared_cluster.primaries[2].address], uuid.uuid4().hex)
    await store.open()
    assert await store.set_many(dict.fromkeys(ONE_EACH, b"1")) is True
    await store.clear()
    await store.close()


@pytest.mark.parametrize("verb", ["get_many", "set_many", "delete_many", "clear", "ping", "advice"])
async def test_nobody_to_be_found_is_refused_at_once(verb: str) -> None:
    store = RedisClusterBackend([(HOST, port) for port in free_ports(2)])
    await store.open()
    arguments = {"get_many": ([b"k"],), "set_many": ({b"k": b"v"},), "delete_many": ([b"k"],)}
    for _ in range(2):
        with pytest.raises(StoreError) as refused:
            await getattr(store, verb)(*arguments.get(verb, ()))
        assert refused.value.refused
        assert not isinstance(refused.value, PartialAnswer), "this is the breaker's business"
    await store.close()


async def test_a_server_that_is_no_cluster_says_so(shared_redis: RedisServer) -> None:
    store = RedisClusterBackend([shared_redis.address], access=Access(password=shared_redis.password))
    await store.open()
    with pytest.raises(StoreError, match="is no server of a Cluster"):
        await store.ping()
    await store.close()


async def test_a_wrong_password_is_refused_and_repeated_nowhere(shared_cluster: Cluster) -> None:
    access = Access(username="nobody", password="hunter2")
    async with opened(shared_cluster, access=access) as store:
        with pytest.raises(StoreError) as refused:
            await store.get_many(ONE_EACH)
        assert "hunter2" not in str(refused.value) + repr(store) + repr(access)


def test_what_a_cluster_can_not_do_refuses_the_start() -> None:
    with pytest.raises(ConfigError, match="database 0"):
        RedisClusterBackend([(HOST, 1)], access=Access(db=1))
    with pytest.raises(ConfigError, match="namespace"):
        RedisClusterBackend([(HOST, 1)], "a{b}")
