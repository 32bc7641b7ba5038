"""Leases and counters on real servers: how they are asked, what is left behind, slots that move, servers that fail."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from cache_proxy.backends import Backend, GuardedBackend, RedisBackend, RedisClusterBackend
from cache_proxy.backends.base import Leases, Turn, Want
from cache_proxy.backends.contract import A, B
from cache_proxy.backends.redis import Access
from cache_proxy.backends.redis.buckets import BUCKETS, SLOTS, bucket_of
from cache_proxy.errors import StoreError
from tests.integration.redis_servers import PASSWORD, Cluster, RedisServer, clustered, mend
from tests.integration.test_redis_cluster import ONE_EACH, calls, held_by

pytestmark = pytest.mark.anyio

OURS, THEIRS = b"ours", b"theirs"

MINE = Turn(mine=True)

LONG = 60.0


def store_on(server: RedisServer, user: str | None = None) -> RedisBackend:
    access = Access(username=user, password=PASSWORD)
    return RedisBackend.from_parts(unix_socket_path=server.socket, access=access, namespace=uuid.uuid4().hex)


@asynccontextmanager
async def opened(store: Backend) -> AsyncIterator[Leases]:
    await store.open()
    try:
        assert store.leases is not None
        yield store.leases
    finally:
        await store.close()


async def claim(leases: Leases, keys: list[bytes], owner: bytes = OURS) -> dict[bytes, Turn]:
    return dict(await leases.acquire(dict.fromkeys(keys, b""), owner, LONG))


async def is_refused(leases: Leases) -> bool:
    with suppress(StoreError):
        await claim(leases, [A])
        return False
    return True


# How they are asked, and what is left behind --------------------------------------------------------------------------


async def test_a_batch_is_few_scripts_and_leaves_nothing_when_released(shared_redis: RedisServer) -> None:
    store = store_on(shared_redis)
    keys = [bytes([at % 256, at // 256]) * 16 for at in range(512)]
    async with opened(store) as leases:
        shared_redis.ask("CONFIG", "RESETSTAT")
        assert set((await claim(leases, keys)).values()) == {MINE}
        asked = shared_redis.info("commandstats")
        assert asked["cmdstat_eval"]["calls"] == 6
        assert not {"cmdstat_evalsha", "cmdstat_script", "cmdstat_multi"} & set(asked)
        names = shared_redis.ask("KEYS", f"{store.namespace}:*")
        assert len(names) == 512
        assert f"{store.namespace}:{keys[0].hex()}:lease".encode() in names
        assert all(0 < shared_redis.ask("PTTL", name) <= LONG * 1000 for name in names)
        await leases.release(dict.fromkeys(keys, OURS))
        assert shared_redis.ask("KEYS", f"{store.namespace}:*") == []


@pytest.mark.parametrize("end", [(), ("PX", 10**12)], ids=["no end", "an end in thirty years"])
async def test_a_lease_that_was_planted_to_last_for_ever_is_none(
    shared_redis: RedisServer, end: tuple[str | int, ...]
) -> None:
    store = store_on(shared_redis)
    async with opened(store) as leases:
        await claim(leases, [A], THEIRS)
        name = f"{store.namespace}:{A.hex()}:lease"
        assert (await claim(leases, [A]))[A] == Turn(mine=False, owner=THEIRS)
        shared_redis.ask("SET", name, shared_redis.ask("GET", name), *end)
        assert (await claim(leases, [A]))[A] == MINE
        assert 0 < shared_redis.ask("PTTL", name) <= LONG * 1000


@pytest.mark.parametrize(
    "junk",
    [b"", b"\x00", b"\xff", b"\x05abc", b"\x00" + b"x" * 100, b"\x03abc0000000000001", b"\x00" + b"9" * 13, b"-3abc"],
)
async def test_whatever_stands_in_the_place_of_a_lease_is_no_trouble_for_a_script(
    shared_redis: RedisServer, junk: bytes
) -> None:
    store = store_on(shared_redis)
    async with opened(store) as leases:
        shared_redis.ask("SET", f"{store.namespace}:{A.hex()}:lease", junk, "PX", 200)
        await leases.acquire({A: THEIRS, B: b""}, OURS, LONG)
        await leases.renew({A: OURS}, LONG)
        await leases.release({A: OURS}, b"429")
        async with asyncio.timeout(10):
            while not (await claim(leases, [A]))[A].mine:
                await asyncio.sleep(0.01)


async def test_words_and_counters_end_by_themselves(shared_redis: RedisServer) -> None:
    store = store_on(shared_redis)
    async with opened(store) as leases:
        await claim(leases, [A])
        await leases.release({A: OURS}, b"429")
        await store.counters.take(b"n", [Want(3, 60), Want(90, 60)], 0.0)
        await store.counters.enter(b"n", b"1", 2, 5.0)
        await store.counters.enter(b"n", b"2", 2, 30.0)
        await store.counters.enter(b"n", b"1", 2, 1.0)
        left = {name: shared_redis.ask("PTTL", name) for name in shared_redis.ask("KEYS", f"{store.namespace}:*")}
    kinds = {name.rsplit(b":", 1)[1]: ms / 1000 for name, ms in left.items()}
    assert kinds.keys() == {b"lease", b"units", b"inside"}
    assert 0 < kinds[b"lease"] <= 5.0
    assert 80.0 < kinds[b"units"] <= 90.0, "as long as it takes the fullest bucket to be full again"
    assert 20.0 < kinds[b"inside"] <= 30.0, "as long as the last ticket"


async def test_who_leaves_last_leaves_nothing(shared_redis: RedisServer) -> None:
    store = store_on(shared_redis)
    async with opened(store):
        await store.counters.enter(b"n", b"1", 2, 5.0)
        await store.counters.leave(b"n", b"1")
        await store.counters.take(b"n", [Want(0, 60)], 0.0)
    assert shared_redis.ask("KEYS", f"{store.namespace}:*") == []


async def test_in_a_cluster_a_batch_is_one_script_a_bucket(shared_cluster: Cluster) -> None:
    seeds = [server.address for server in shared_cluster.primaries]
    async with opened(RedisClusterBackend(seeds, uuid.uuid4().hex)) as leases:
        keys = [bytes([at % 256, at // 256]) * 16 for at in range(512)]
        shared_cluster.ask_all("CONFIG", "RESETSTAT")
        assert set((await claim(leases, keys)).values()) == {MINE}
        asked = calls(shared_cluster, "eval")
        assert sum(asked) == BUCKETS
        assert max(asked) - min(asked) <= 2
        await leases.release(dict.fromkeys(keys, OURS))


async def test_counters_are_spread_over_the_servers_of_a_cluster(shared_cluster: Cluster) -> None:
    seeds = [server.address for server in shared_cluster.primaries]
    store = RedisClusterBackend(seeds, uuid.uuid4().hex)
    async with opened(store):
        shared_cluster.ask_all("CONFIG", "RESETSTAT")
        for at in range(60):
            assert await store.counters.enter(f"deployment-{at}".encode(), b"t", 1, 0.01)
        assert min(calls(shared_cluster, "eval")) >= 5


# Slots that move ------------------------------------------------------------------------------------------------------


async def test_while_a_slot_moves_a_lease_has_one_owner_and_values_are_seen(shared_cluster: Cluster) -> None:
    bucket = 9
    first = bucket * 256 // BUCKETS
    early, here, late, none = (bytes([first]) + bytes([byte]) * 31 for byte in b"abcd")
    assert {bucket_of(key) for key in (early, here, late, none)} == {bucket}
    seeds = [server.address for server in shared_cluster.primaries]
    store, beside = (RedisClusterBackend(seeds, "moving", patience=5.0) for _ in range(2))
    async with opened(store) as leases, opened(beside) as others:
        await store.set_many({here: b"1"})
        await claim(leases, [early])
        home = shared_cluster.holder(SLOTS[bucket])
        other = next(server for server in shared_cluster.primaries if server is not home)
        shared_cluster.begin_to_move(SLOTS[bucket], other)
        try:
            await store.set_many({late: b"2"})
            turns = await claim(leases, [early, here, late, none])
            assert turns == {early: MINE, here: Turn(True, stored=True), late: Turn(True, stored=True), none: MINE}
            assert await claim(others, [early, here, late, none], THEIRS) == {
                key: Turn(mine=False, stored=key in (here, late), owner=OURS) for key in turns
            }
            assert await leases.renew(dict.fromkeys(turns, OURS), LONG) == set(turns)
            await leases.release(dict.fromkeys(turns, OURS), b"429")
            told = await others.acquire(dict.fromkeys(turns, OURS), THEIRS, LONG)
            assert {turn.word for turn in told.values()} == {b"429"}
            assert await store.counters.enter(b"n", b"1", 1, 1.0)
        finally:
            await claim(leases, [early, here, late, none])
            await leases.release(dict.fromkeys((early, here, late, none), OURS))
            await store.delete_many([here, late])
            shared_cluster.stay(SLOTS[bucket])


async def test_a_slot_that_moved_is_followed(shared_cluster: Cluster) -> None:
    seeds = [server.address for server in shared_cluster.primaries]
    async with opened(RedisClusterBackend(seeds, uuid.uuid4().hex)) as leases:
        assert await leases.renew({ONE_EACH[3]: OURS}, LONG) == set()
        home = shared_cluster.holder(SLOTS[3])
        other = next(server for server in shared_cluster.primaries if server is not home)
        shared_cluster.move(SLOTS[3], other)
        try:
            assert set((await claim(leases, ONE_EACH)).values()) == {MINE}
            await leases.release(dict.fromkeys(ONE_EACH, OURS))
        finally:
            shared_cluster.move(SLOTS[3], home)


# Servers that refuse and fail -----------------------------------------------------------------------------------------


async def test_without_the_right_to_run_scripts_the_store_goes_on_and_the_log_says_why(
    shared_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    rights = ["-@all", "+mget", "+set", "+unlink", "+scan"]
    shared_redis.ask("ACL", "SETUSER", "plain", "on", f">{PASSWORD}", "~*", *rights)
    guard = GuardedBackend(store_on(shared_redis, "plain"), probe_after=0.01)
    with caplog.at_level(logging.INFO, "cache_proxy.store"):
        async with opened(guard) as leases:
            for _ in range(10):
                assert await is_refused(leases)
            assert await guard.set_many({A: b"1"}) is True
            assert await guard.get_many([A]) == {A: b"1"}
            shared_redis.ask("ACL", "SETUSER", "plain", "+eval", "+exists", "+time", "+pttl")
            async with asyncio.timeout(10):
                while await is_refused(leases):
                    await asyncio.sleep(0.01)
            assert await claim(leases, [A]) == {A: Turn(mine=True, stored=True)}
            await guard.clear()
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "store=redis.leases state=open reason=redis: NoPermissionError",
        "store=redis.leases state=closed reason=answered",
    ]


async def test_a_right_that_is_missing_inside_a_script_is_refused_too(shared_redis: RedisServer) -> None:
    rights = ["-@all", "+eval", "+set", "+unlink"]
    shared_redis.ask("ACL", "SETUSER", "halfway", "on", f">{PASSWORD}", "~*", *rights)
    async with opened(store_on(shared_redis, "halfway")) as leases:
        with pytest.raises(StoreError) as refused:
            await claim(leases, [A])
        assert refused.value.refused


async def test_a_full_server_refuses_leases(own_redis: RedisServer) -> None:
    async with opened(store_on(own_redis)) as leases:
        await claim(leases, [A])
        own_redis.ask("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreError) as full:
            await claim(leases, [B])
        assert full.value.refused
        await leases.release({A: OURS})
        own_redis.ask("CONFIG", "SET", "maxmemory", "0")
        assert await claim(leases, [A, B], THEIRS) == {A: MINE, B: MINE}, "what is given up is given up"


async def test_a_server_that_hangs_costs_the_deadline_and_recovers(own_redis: RedisServer) -> None:
    guard = GuardedBackend(store_on(own_redis), write_deadline=0.2, probe_after=0.05)
    async with opened(guard) as leases:
        await claim(leases, [A])
        own_redis.pause()
        waits = []
        for _ in range(6):
            began = time.monotonic()
            assert await is_refused(leases)
            waits.append(time.monotonic() - began)
        assert max(waits) < 2.0
        assert sum(wait > 0.1 for wait in waits) <= 3, "two found out, and one may have been a probe"
        assert guard.failures["lease_timeout"] >= 2
        own_redis.resume()
        async with asyncio.timeout(10):
            while await is_refused(leases):
                await asyncio.sleep(0.01)
        assert await leases.renew({A: OURS}, LONG) == {A}, "it was held all the time"


async def test_a_server_that_is_killed_is_refused_at_once_and_recovers(own_redis: RedisServer) -> None:
    guard = GuardedBackend(store_on(own_redis), probe_after=0.05)
    async with opened(guard) as leases:
        await claim(leases, [A])
        own_redis.kill()
        async with asyncio.timeout(5):
            assert [await is_refused(leases) for _ in range(50)] == [True] * 50
        own_redis.restart()
        async with asyncio.timeout(10):
            while await is_refused(leases):
                await asyncio.sleep(0.01)
        assert await claim(leases, [B], THEIRS) == {B: MINE}


@pytest.fixture(scope="module")
def of_three(redis_program: str) -> Iterator[Cluster]:
    with clustered({"cluster-require-full-coverage": "no"}) as cluster:
        yield cluster


@pytest.fixture
def frail(of_three: Cluster) -> Iterator[Cluster]:
    """A Cluster without replicas whose servers may be killed and hung; what is left goes on."""
    yield of_three
    mend(of_three)


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_a_server_of_a_cluster_that_fails_costs_its_own_part(frail: Cluster, how: str) -> None:
    seeds = [server.address for server in frail.primaries]
    lost = held_by(frail, frail.primaries[1])
    left = [key for key in ONE_EACH if key not in lost]
    owned = dict.fromkeys(ONE_EACH, OURS)
    store = RedisClusterBackend(seeds, uuid.uuid4().hex, access=Access(timeout=0.4, connect_timeout=0.2))
    async with opened(store) as leases:
        await claim(leases, lost[:1])
        frail.primaries[1].kill() if how == "killed" else frail.primaries[1].pause()
        async with asyncio.timeout(5):
            assert await claim(leases, ONE_EACH) == dict.fromkeys(left, MINE)
            assert await leases.renew(owned, LONG) == set(left)
            assert await claim(leases, ONE_EACH, THEIRS) == dict.fromkeys(left, Turn(mine=False, owner=OURS))
            for nothing_said in (claim(leases, lost), leases.renew(dict.fromkeys(lost, OURS), LONG)):
                with pytest.raises(StoreError):
                    await nothing_said
            with pytest.raises(StoreError):
                await leases.release(owned)
            assert await claim(leases, left, THEIRS) == dict.fromkeys(left, MINE), "they were released all the same"
        mend(frail)
        async with asyncio.timeout(15):
            while set(await claim(leases, ONE_EACH, THEIRS)) != set(ONE_EACH):
                await asyncio.sleep(0.02)
        await leases.release(dict.fromkeys(ONE_EACH, THEIRS))
