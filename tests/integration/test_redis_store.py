import asyncio
import signal
import uuid
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from cache_proxy.backends import Backend, GuardedBackend, MemoryBackend, RedisBackend, TieredBackend
from cache_proxy.backends.contract import A, B, StoreContract, random_entries
from cache_proxy.backends.redis import Access
from cache_proxy.errors import ConfigError, StoreError
from tests.integration.conftest import PASSWORD, RedisServer

pytestmark = pytest.mark.anyio


def store_on(server: RedisServer, namespace: str | None = None, timeout: float = 5.0) -> RedisBackend:
    name = namespace or uuid.uuid4().hex
    access = Access(password=PASSWORD, timeout=timeout)
    return RedisBackend.from_parts(unix_socket_path=server.socket, access=access, namespace=name)


@pytest.fixture
async def client(shared_redis: RedisServer) -> AsyncIterator[Redis]:
    client = Redis(unix_socket_path=shared_redis.socket, password=PASSWORD)
    await client.flushall()
    yield client
    await client.aclose()


class TestRealRedis(StoreContract):
    @pytest.fixture(params=["redis", "memory before guarded redis"])
    async def store(self, request: pytest.FixtureRequest, shared_redis: RedisServer) -> AsyncIterator[Backend]:
        made: Backend = store_on(shared_redis)
        if request.param != "redis":
            made = TieredBackend(MemoryBackend(2**24), GuardedBackend(made))
        await made.open()
        yield made
        await made.close()


async def test_a_look_up_is_one_mget_and_a_write_is_one_trip(shared_redis: RedisServer, client: Redis) -> None:
    store = store_on(shared_redis)
    await store.open()
    entries = random_entries(200)
    await store.set_many(entries, ttl=60.0)
    await client.config_resetstat()
    await store.get_many(list(entries))
    calls = {name: stats["calls"] for name, stats in (await client.info("commandstats")).items()}
    assert calls.get("cmdstat_mget") == 1
    assert "cmdstat_get" not in calls
    await store.close()


async def test_keys_carry_the_namespace_and_the_ttl(shared_redis: RedisServer, client: Redis) -> None:
    store = store_on(shared_redis, "team")
    await store.open()
    await store.set_many({A: b"1"}, ttl=90.0)
    await store.set_many({B: b"2"})
    assert 80_000 < await client.pttl(b"team:" + A.hex().encode()) <= 90_000
    assert await client.ttl(b"team:" + B.hex().encode()) == -1
    await store.close()


@pytest.mark.parametrize("namespace", ["team", "t*", "t[e]am?", "t\\", "^-]"])
async def test_clear_leaves_foreign_keys_alone(shared_redis: RedisServer, client: Redis, namespace: str) -> None:
    foreign = ["tXam:00", "other", f"{namespace}:deeper:00ff", f"{namespace}x:00", "team2:00", f"x{namespace}:00"]
    await client.mset(dict.fromkeys(foreign, b"theirs"))
    store = store_on(shared_redis, namespace)
    await store.open()
    entries = random_entries(2500)
    await store.set_many(entries)
    await client.config_resetstat()
    await store.clear()
    assert await store.get_many(list(entries)) == {}
    assert await client.dbsize() == len(foreign)
    stats = await client.info("commandstats")
    assert not {"cmdstat_flushdb", "cmdstat_keys"} & set(stats)
    await store.close()


async def test_a_frozen_server_is_a_miss_in_time_and_comes_back(own_redis: RedisServer) -> None:
    guard = GuardedBackend(store_on(own_redis), read_deadline=0.1, probe_after=0.05)
    await guard.open()
    await guard.set_many({A: b"1"})
    own_redis.signal(signal.SIGSTOP)
    async with asyncio.timeout(2):
        for _ in range(20):
            assert await guard.get_many([A]) == {}
    assert guard.state in ("open", "half-open")
    writing = asyncio.create_task(guard.set_many({B: b"2"}))
    await asyncio.sleep(0)
    own_redis.signal(signal.SIGCONT)
    assert await writing is True, "a paid value waits for a busy store"
    async with asyncio.timeout(5):
        while await guard.get_many([A, B]) != {A: b"1", B: b"2"}:
            await asyncio.sleep(0.01)
    await guard.close()


async def test_a_server_killed_under_load_costs_misses_and_no_error(own_redis: RedisServer) -> None:
    guard = GuardedBackend(store_on(own_redis), probe_after=0.05)
    await guard.open()
    entries = random_entries(50, 4000)
    await guard.set_many(entries)

    async def load() -> int:
        answers = [await guard.get_many(list(entries)) for _ in range(100)]
        assert all(answer in (entries, {}) for answer in answers)
        return sum(bool(answer) for answer in answers)

    callers = [asyncio.create_task(load()) for _ in range(8)]
    await asyncio.sleep(0.05)
    own_redis.kill()
    async with asyncio.timeout(10):
        hits = await asyncio.gather(*callers)
    assert sum(hits) < 800
    assert await guard.set_many({A: b"1"}) is False
    with pytest.raises(StoreError) as refused:
        await guard.clear()
    assert refused.value.refused
    await guard.close()


async def test_a_full_server_refuses_writes_and_answers_reads(own_redis: RedisServer, redis_folder: object) -> None:
    store = store_on(own_redis)
    guard = GuardedBackend(store)
    await guard.open()
    await guard.set_many({A: b"1"})
    async with Redis(unix_socket_path=own_redis.socket, password=PASSWORD) as client:
        await client.config_set("maxmemory", "1")
    assert await guard.set_many({B: b"2"}) is False
    with pytest.raises(StoreError, match="OutOfMemoryError") as full:
        await store.set_many({B: b"secret value"})
    assert full.value.refused
    assert "secret" not in str(full.value)
    with pytest.raises(StoreError):
        await store.ping()
    assert await guard.get_many([A]) == {A: b"1"}
    assert guard.state == "closed"
    await guard.close()


async def test_a_connection_closed_while_idle_costs_no_miss(shared_redis: RedisServer, client: Redis) -> None:
    store = store_on(shared_redis)
    await store.open()
    await store.set_many({A: b"1"})
    await client.client_kill_filter(_type="normal", skipme=True)
    assert await store.get_many([A]) == {A: b"1"}
    await store.close()


async def test_a_purge_reaches_the_memory_of_another_host_within_a_second(shared_redis: RedisServer) -> None:
    now = [0.0]
    one, other = (
        TieredBackend(MemoryBackend(2**20), GuardedBackend(store_on(shared_redis, "fleet")), clock=lambda: now[0])
        for _ in range(2)
    )
    await one.open()
    await other.open()
    await other.set_many({A: b"1"})
    await one.clear()
    now[0] += 0.9
    assert await other.get_many([A]) == {}
    await one.close()
    await other.close()


async def test_a_wrong_password_is_refused_and_repeated_nowhere(shared_redis: RedisServer) -> None:
    store = RedisBackend.from_url(f"unix://:hunter2@{shared_redis.socket}")
    await store.open()
    with pytest.raises(StoreError) as refused:
        await store.get_many([A])
    assert refused.value.refused
    assert "hunter2" not in str(refused.value) + repr(store) + repr(vars(store))
    await store.close()


async def test_nobody_listening_is_refused_at_once() -> None:
    store = RedisBackend.from_url("redis://127.0.0.1:1/0")
    await store.open()
    with pytest.raises(StoreError) as refused:
        await store.get_many([A])
    assert refused.value.refused
    await store.close()


def test_a_url_that_is_none_is_a_config_error_that_does_not_repeat_it() -> None:
    with pytest.raises(ConfigError) as wrong:
        RedisBackend.from_url("http://user:hunter2@host")
    assert "hunter2" not in str(wrong.value)


async def test_a_client_that_decodes_is_refused() -> None:
    store = RedisBackend(lambda: Redis(decode_responses=True))
    with pytest.raises(ConfigError):
        await store.open()
