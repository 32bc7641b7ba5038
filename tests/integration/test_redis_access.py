"""TLS, Sentinels, and what the servers themselves have to be told about."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization  # trustme brings it

from cache_proxy.backends import (
    Backend,
    GuardedBackend,
    MemoryBackend,
    RedisBackend,
    RedisClusterBackend,
    TieredBackend,
)
from cache_proxy.backends.contract import A, B
from cache_proxy.backends.redis import Access, Sentinels, Tls
from cache_proxy.errors import ConfigError, StoreError
from tests.integration.redis_servers import (
    HOST,
    PASSWORD,
    PRIMARY,
    Certificates,
    Cluster,
    RedisServer,
    Watched,
    free_ports,
    running,
    until,
    watched,
)

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(store: RedisBackend) -> AsyncIterator[RedisBackend]:
    await store.open()
    try:
        yield store
    finally:
        await store.close()


# TLS -----------------------------------------------------------------------------------------------------------------


def let_in(certificates: Certificates) -> Tls:
    return Tls(ca_certs=certificates.ca, certfile=certificates.client, keyfile=certificates.client_key)


def over(server: RedisServer, tls: Tls, host: str = HOST) -> RedisBackend:
    access = Access(password=PASSWORD, tls=tls)
    return RedisBackend.from_parts(host, server.port, namespace=uuid.uuid4().hex, access=access)


@pytest.mark.parametrize("way", ["text", "url", "url with its own options", "none", "another name", "ciphers"])
async def test_there_are_several_ways_to_be_let_in(
    way: str, shared_tls: RedisServer, certificates: Certificates
) -> None:
    tls = let_in(certificates)
    url = f"rediss://default:{PASSWORD.replace(' ', '%20')}@{HOST}:{shared_tls.port}"
    shown = f"ssl_ca_certs={tls.ca_certs}&ssl_certfile={tls.certfile}&ssl_keyfile={tls.keyfile}"
    stores = {
        "text": lambda: over(shared_tls, replace(tls, ca_certs=None, ca_data=Path(certificates.ca).read_text())),
        "url": lambda: RedisBackend.from_url(url, access=Access(tls=tls)),
        "url with its own options": lambda: RedisBackend.from_url(f"{url}?{shown}&ssl_check_hostname=yes"),
        "none": lambda: over(shared_tls, replace(tls, ca_certs=None, cert_reqs="none"), "localhost"),
        "another name": lambda: over(shared_tls, replace(tls, check_hostname=False), "localhost"),
        "ciphers": lambda: over(shared_tls, replace(tls, ciphers="ECDHE+AESGCM")),
    }
    async with opened(stores[way]()) as store:
        await store.ping()


TOLD = {
    # The server says why only after its part of the handshake, and may hang up before that is read.
    "no certificate": "redis: ",
    "unknown authority": "TLS: the server's certificate is refused (self-signed certificate",
    "another name": "TLS: the server's certificate is refused (Hostname mismatch",
    "no tls": "redis: ",
}


@pytest.mark.parametrize("way", TOLD)
async def test_who_should_not_be_let_in_is_refused(
    way: str, shared_tls: RedisServer, certificates: Certificates, tmp_path: Path
) -> None:
    tls = let_in(certificates)
    stores = {
        "no certificate": lambda: over(shared_tls, Tls(ca_certs=certificates.ca)),
        "unknown authority": lambda: over(shared_tls, replace(tls, ca_certs=Certificates.make(tmp_path).ca)),
        "another name": lambda: over(shared_tls, tls, "localhost"),
        "no tls": lambda: RedisBackend.from_parts(HOST, shared_tls.port, access=Access(password=PASSWORD)),
    }
    async with opened(stores[way]()) as store:
        with pytest.raises(StoreError) as refused:
            await store.get_many([A])
        assert refused.value.refused
        assert PASSWORD not in str(refused.value)
        assert TOLD[way] in str(refused.value)


async def test_connections_share_one_context(shared_tls: RedisServer, certificates: Certificates) -> None:
    # One of their own each would stop the event loop for some 25 ms a connection.
    store = over(shared_tls, let_in(certificates))
    async with opened(store):
        await asyncio.gather(*(store.get_many([A]) for _ in range(8)))
        pool: Any = store._client.connection_pool if store._client else None
        contexts = {id(connection._tls) for connection in pool._available_connections}
        assert len(pool._available_connections) > 1
        assert len(contexts) == 1


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"ca_certs": "/nowhere/ca.pem"}, "ssl_ca_certs or ssl_ca_data"),
        ({"ca_data": "no certificate"}, "ssl_ca_certs or ssl_ca_data"),
        ({"certfile": "/nowhere/client.pem"}, "ssl_certfile, ssl_keyfile or ssl_password"),
        ({"ciphers": "none such"}, "ssl_ciphers"),
    ],
)
async def test_files_that_can_not_be_used_refuse_the_start_by_name(wrong: dict[str, Any], named: str) -> None:
    for store in (
        RedisBackend.from_parts(access=Access(tls=Tls(**wrong))),
        cluster_with(Tls(**wrong)),
        sentinel_with(Tls(**wrong)),
    ):
        guard = GuardedBackend(store)
        with pytest.raises(ConfigError, match=named):
            await guard.open()
        await guard.close()


def cluster_with(tls: Tls) -> RedisClusterBackend:
    return RedisClusterBackend([(HOST, 1)], access=Access(tls=tls))


def sentinel_with(tls: Tls) -> RedisBackend:
    return RedisBackend(lambda: Sentinels([(HOST, 1)], PRIMARY).primary(Access(tls=tls)))


async def test_a_key_with_a_password_needs_it_and_asks_nobody_for_it(
    shared_tls: RedisServer, certificates: Certificates, tmp_path: Path
) -> None:
    key = serialization.load_pem_private_key(Path(certificates.client_key).read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"hunter2"),
        )
    )
    tls = replace(let_in(certificates), keyfile=str(locked))
    async with opened(over(shared_tls, replace(tls, password="hunter2"))) as store:
        await store.ping()
    for password in (None, "wrong one"):
        with pytest.raises(ConfigError, match="ssl_password") as refused:
            await over(shared_tls, replace(tls, password=password)).open()
        assert "wrong one" not in str(refused.value)
    assert "hunter2" not in repr(replace(tls, password="hunter2"))


# Sentinels -----------------------------------------------------------------------------------------------------------


def under(found: Watched, **changed: Any) -> RedisBackend:
    nodes = [sentinel.address for sentinel in found.sentinels]
    sentinels = replace(Sentinels(nodes, PRIMARY, password=PASSWORD), **changed)
    access = Access(password=PASSWORD)
    return RedisBackend(lambda: sentinels.primary(access), uuid.uuid4().hex)


async def test_a_primary_that_became_a_replica_is_left_for_the_new_one(redis_program: str) -> None:
    with watched() as found:
        async with opened(under(found)) as store:
            await asyncio.gather(*(store.get_many([A]) for _ in range(4)))
            await store.set_many({A: b"1"})
            until(lambda: found.replica().ask("DBSIZE") == 1, "replication")
            before = found.primary()
            found.fail_over()
            # As a Sentinel does it too, some seconds later.
            before.ask("REPLICAOF", HOST, found.primary().port)
            async with asyncio.timeout(5):
                while not await stores(store, {B: b"2"}):
                    await asyncio.sleep(0.01)
            assert found.primary().ask("EXISTS", f"{store.namespace}:{B.hex()}") == 1
            assert await store.get_many([A, B]) == {A: b"1", B: b"2"}


async def stores(store: Backend, entries: dict[bytes, bytes]) -> bool:
    with suppress(StoreError):
        return await store.set_many(entries)
    return False


@pytest.mark.slow
async def test_a_primary_that_dies_is_refused_until_another_is_found(redis_program: str) -> None:
    with watched() as found:
        async with opened(under(found)) as store:
            await store.set_many({A: b"1"})
            until(lambda: found.replica().ask("DBSIZE") == 1, "replication")
            found.primary().kill()
            with pytest.raises(StoreError) as refused:
                await store.set_many({B: b"2"})
            assert refused.value.refused
            async with asyncio.timeout(15):
                while not await stores(store, {B: b"2"}):
                    await asyncio.sleep(0.05)
            assert await store.get_many([A, B]) == {A: b"1", B: b"2"}


async def test_sentinels_that_are_dead_or_hang_are_passed_over(redis_program: str) -> None:
    with watched() as found:
        found.sentinels[0].kill()
        found.sentinels[1].pause()
        async with opened(under(found)) as store:
            async with asyncio.timeout(4):
                assert await store.set_many({A: b"1"}) is True


async def test_a_sentinel_that_was_passed_over_by_many_at_a_time_is_not_forgotten(redis_program: str) -> None:
    with watched() as found:
        found.sentinels[0].pause()
        async with opened(under(found)) as store:
            assert await asyncio.gather(*(store.get_many([A]) for _ in range(10))) == [{}] * 10
            pool: Any = store._client.connection_pool if store._client else None
            assert len(set(pool.sentinel_manager.sentinels)) == 3


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"nodes": [(HOST, 1), (HOST, 2)]}, "MasterNotFoundError"),
        ({"service": "another"}, "MasterNotFoundError"),
        ({"password": "hunter2"}, "AuthenticationError|MasterNotFoundError"),
    ],
)
async def test_no_primary_to_be_found_is_refused(shared_sentinels: Watched, changed: dict[str, Any], said: str) -> None:
    async with opened(under(shared_sentinels, **changed)) as store:
        with pytest.raises(StoreError, match=said) as refused:
            await store.get_many([A])
        assert refused.value.refused
        assert "hunter2" not in str(refused.value)


async def test_connections_are_waited_for_and_not_refused(shared_sentinels: Watched) -> None:
    sentinels = Sentinels([each.address for each in shared_sentinels.sentinels], PRIMARY, password=PASSWORD)
    access = Access(password=PASSWORD, max_connections=2)
    async with opened(RedisBackend(lambda: sentinels.primary(access), uuid.uuid4().hex)) as store:
        assert await asyncio.gather(*(store.get_many([A]) for _ in range(30))) == [{}] * 30


# Advice --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def advised(redis_program: str) -> Iterator[RedisServer]:
    with running(port=free_ports(1)[0]) as server:
        yield server


def store_on(server: RedisServer, **options: Any) -> RedisBackend:
    access = Access(password=PASSWORD)
    return RedisBackend.from_parts(unix_socket_path=server.socket, access=access, **options)


async def test_to_be_asked_takes_one_right(advised: RedisServer) -> None:
    advised.ask("ACL", "SETUSER", "asked", "on", f">{PASSWORD}", "-@all", "+info")
    access = Access(username="asked", password=PASSWORD)
    async with opened(RedisBackend.from_parts(HOST, advised.port, access=access)) as store:
        await store.advice()


@pytest.mark.parametrize(
    ("maxmemory", "policy", "said"),
    [
        ("0", "allkeys-lru", "maxmemory is not set"),
        ("100mb", "noeviction", "maxmemory-policy is noeviction"),
        ("100mb", "volatile-lru", "maxmemory-policy is volatile-lru"),
        ("100mb", "allkeys-lfu", None),
    ],
)
async def test_a_server_that_will_not_forget_is_told_of(
    advised: RedisServer, maxmemory: str, policy: str, said: str | None
) -> None:
    advised.ask("CONFIG", "SET", "maxmemory", maxmemory, "maxmemory-policy", policy)
    async with opened(store_on(advised)) as store:
        lines = [line for line in await store.advice() if "memory" in line]
        assert [said is not None and said in line for line in lines] == [True] * (said is not None)


async def test_advice_goes_into_the_log_once_and_holds_up_nothing(
    advised: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    advised.ask("CONFIG", "SET", "maxmemory", "0")
    tiered = TieredBackend(MemoryBackend(2**20), GuardedBackend(store_on(advised)))
    with caplog.at_level(logging.WARNING, "cache_proxy.store"):
        await tiered.open()
        async with asyncio.timeout(5):
            while "maxmemory is not set" not in caplog.text:
                await asyncio.sleep(0.01)
        await tiered.open()
        assert [line for line in await tiered.advice() if "maxmemory is not set" in line]
        await tiered.close()
    assert caplog.text.count("maxmemory is not set") == 1


async def test_a_server_that_may_not_be_asked_is_silently_left_in_peace(
    advised: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    advised.ask("ACL", "SETUSER", "modest", "on", f">{PASSWORD}", "~*", "-@all", "+mget")
    access = Access(username="modest", password=PASSWORD)
    store = RedisBackend.from_parts(unix_socket_path=advised.socket, access=access)
    guard = GuardedBackend(store)
    with caplog.at_level(logging.INFO):
        await guard.open()
        with pytest.raises(StoreError, match="NoPermissionError"):
            await guard.advice()
        assert await guard.get_many([A]) == {}
        await guard.close()
    assert caplog.text == ""


async def test_a_server_that_is_something_else_than_was_thought_says_what_to_write(
    shared_cluster: Cluster, shared_sentinels: Watched
) -> None:
    replica = shared_sentinels.replica()
    expected = {
        shared_cluster.primaries[0].socket: "redis_startup_nodes",
        shared_sentinels.sentinels[0].socket: "sentinel_nodes",
        replica.socket: "replica",
    }
    for socket, said in expected.items():
        access = Access(password=None if said == "redis_startup_nodes" else PASSWORD)
        async with opened(RedisBackend.from_parts(unix_socket_path=socket, access=access)) as store:
            assert said in (await store.advice())[0]


async def test_a_cluster_says_a_thing_once_for_all_its_servers(shared_cluster: Cluster) -> None:
    store = RedisClusterBackend([shared_cluster.primaries[0].address])
    await store.open()
    lines = await store.advice()
    assert [line for line in lines if "maxmemory" in line] == [line for line in lines if "maxmemory is not set" in line]
    assert len(lines) == len(set(lines))
    assert not [line for line in lines if "Cluster" in line]
    await store.close()
