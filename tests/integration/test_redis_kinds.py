"""Every kind of Redis, configured as an operator does it: the contract on each, and what is particular to one."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from cache_proxy.backends import Backend
from cache_proxy.backends.contract import A, StoreContract, random_entries
from cache_proxy.backends.counter_contract import CountersContract
from cache_proxy.backends.lease_contract import LeasesContract
from cache_proxy.backends.redis import leases as redis_leases
from cache_proxy.serving import hosted
from cache_proxy.settings import parse
from cache_proxy.standin import StandIn
from cache_proxy.wiring import redis as wiring
from tests.backends.fakes import shorter_words
from tests.integration.redis_servers import (
    HOST,
    PASSWORD,
    PRIMARY,
    Certificates,
    Cluster,
    RedisServer,
    Watched,
    clustered,
)
from tests.integration.redis_servers import watched as under_watch
from tests.integration.test_server import EMBED, KEY, ROOT, cache_status, serving

pytestmark = pytest.mark.anyio

NEEDED = ("+mget", "+set", "+unlink", "+scan")
NEEDED_BY_LEASES = ("+eval", "+exists", "+time", "+pttl")
NEEDED_BY_COUNTERS = ("+zadd", "+zcard", "+zrem", "+zremrangebyscore", "+zscore", "+pttl", "+pexpire")
IN_A_CLUSTER = ("+cluster|slots", "+asking")
NEEDED_OF_SENTINELS = ("+sentinel|masters",)


def test_the_page_on_stores_says_what_a_user_needs() -> None:
    page = (ROOT / "docs" / "stores.md").read_text()
    assert f"~cache-proxy:* -@all {' '.join((*NEEDED, *IN_A_CLUSTER))}\n" in page
    assert f"~cache-proxy:* -@all {' '.join(NEEDED)}\n" in page
    assert f"-@all {' '.join(NEEDED_OF_SENTINELS)}\n" in page
    assert f"ACL SETUSER cache {' '.join(NEEDED_BY_LEASES)}\n" in page
    assert f"ACL SETUSER cache {' '.join(NEEDED_BY_COUNTERS)}\n" in page


def store_of(params: Mapping[str, Any], **environ: str) -> Backend:
    """The bare store of these ``cache_params``."""
    document = {"litellm_settings": {"cache_params": {"type": "redis", **params}}}
    cache = parse(document, {"HOME": "/home/someone", **environ}).cache
    return wiring.build(cache, cache.namespace, read_timeout=60.0)


@dataclass
class Place:
    """Where a store is: its ``cache_params``, and the server of a name."""

    params: Mapping[str, Any]
    server: Callable[[bytes], RedisServer]
    db: int = 0

    def ask(self, name: bytes, *command: str | bytes) -> Any:
        """What the server of this name says."""
        with self.server(name).admin() as client:
            client.execute_command("SELECT", self.db)
            return client.execute_command(*command)


def with_user(params: Mapping[str, Any], servers: Iterable[RedisServer], rights: Iterable[str]) -> dict[str, Any]:
    """The same for an ACL user of its own, who has these rights in the namespace and no other."""
    user = uuid.uuid4().hex
    for server in servers:
        server.ask("ACL", "SETUSER", user, "on", f">{PASSWORD}", f"~{params['namespace']}:*", "-@all", *rights)
    return {**params, "username": user, "password": PASSWORD}


def needed(request: pytest.FixtureRequest, *others: str) -> list[str]:
    """The rights that these tests need."""
    return [*NEEDED, *others, *getattr(request.cls, "besides", ())]


def by_url(name: str, request: pytest.FixtureRequest) -> Place:
    server: RedisServer = request.getfixturevalue("shared_redis")
    url = f"valkey://:{quote(PASSWORD)}@{HOST}:{server.port}/3"
    return Place({"url": url, "namespace": name}, lambda _: server, db=3)


def by_fields(name: str, request: pytest.FixtureRequest) -> Place:
    server: RedisServer = request.getfixturevalue("shared_redis")
    params = {"host": HOST, "port": str(server.port), "db": 2, "namespace": name, "socket_keepalive": False}
    more = {"client_name": "cache", "health_check_interval": 30}
    rights = needed(request, "+select", "+ping", "+client|setname")
    return Place(with_user({**params, **more}, [server], rights), lambda _: server, db=2)


def on_a_socket(name: str, request: pytest.FixtureRequest) -> Place:
    server: RedisServer = request.getfixturevalue("shared_redis")
    params = with_user({"unix_socket_path": server.socket, "namespace": name}, [server], needed(request))
    return Place(params, lambda _: server)


def by_the_url_of_a_socket(name: str, request: pytest.FixtureRequest) -> Place:
    server: RedisServer = request.getfixturevalue("shared_redis")
    url = f"unix://:{quote(PASSWORD)}@{server.socket}?db=4"
    return Place({"url": url, "namespace": name}, lambda _: server, db=4)


def over_tls(name: str, request: pytest.FixtureRequest) -> Place:
    server: RedisServer = request.getfixturevalue("shared_tls")
    certificates: Certificates = request.getfixturevalue("certificates")
    params = {"host": HOST, "port": server.port, "namespace": name, **certificates.params}
    return Place(with_user(params, [server], needed(request)), lambda _: server)


def under_sentinels(name: str, request: pytest.FixtureRequest) -> Place:
    watched: Watched = request.getfixturevalue("shared_sentinels")
    watcher = uuid.uuid4().hex
    for sentinel in watched.sentinels:
        sentinel.ask("ACL", "SETUSER", watcher, "on", f">{PASSWORD}", "-@all", *NEEDED_OF_SENTINELS)
    params = {**sentinel_params(watched), "sentinel_username": watcher, "db": 1, "namespace": name}
    return Place(with_user(params, watched.servers, needed(request, "+select")), lambda _: watched.primary(), db=1)


def in_a_cluster(name: str, request: pytest.FixtureRequest) -> Place:
    cluster: Cluster = request.getfixturevalue("shared_cluster")
    params = {"redis_startup_nodes": cluster.nodes[:1], "namespace": name}
    return Place(with_user(params, cluster.servers, needed(request, *IN_A_CLUSTER)), cluster.owner)


def over_tls_in_a_cluster(name: str, request: pytest.FixtureRequest) -> Place:
    certificates: Certificates = request.getfixturevalue("certificates")
    with ExitStack() as stack:
        cluster = stack.enter_context(clustered(tls=certificates))
        request.addfinalizer(stack.pop_all().close)
    return Place({"startup_nodes": cluster.nodes, "namespace": name, **certificates.params}, cluster.owner)


def over_tls_under_sentinels(name: str, request: pytest.FixtureRequest) -> Place:
    certificates: Certificates = request.getfixturevalue("certificates")
    with ExitStack() as stack:
        watched = stack.enter_context(under_watch(tls=certificates))
        request.addfinalizer(stack.pop_all().close)
    return Place({**sentinel_params(watched), "namespace": name, **certificates.params}, lambda _: watched.primary())


def sentinel_params(watched: Watched) -> dict[str, Any]:
    return {
        "sentinel_nodes": [[HOST, sentinel.port] for sentinel in watched.sentinels],
        "service_name": PRIMARY,
        "sentinel_password": PASSWORD,  # and the primary's, as at LiteLLM
    }


KINDS = [by_url, on_a_socket, over_tls, under_sentinels, in_a_cluster]


class TestEveryKind(StoreContract):
    @pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
    async def store(self, request: pytest.FixtureRequest) -> AsyncIterator[Backend]:
        self.namespace = uuid.uuid4().hex
        self.place: Place = request.param(self.namespace, request)
        made = store_of(self.place.params)
        await made.open()
        yield made
        await made.open()
        await made.clear()
        await made.close()

    @property
    def foreign(self) -> list[bytes]:
        ours = self.namespace
        names = [f"{ours}x:00", f"{ours}:deeper:00ff", f"{ours}:{{7}}:none", f"x{ours}:00", f"{ours}:{A.hex()}0"]
        return [name.encode() for name in names]

    async def plant(self) -> None:
        for name in self.foreign:
            self.place.ask(name, "SET", name, b"theirs")

    async def is_intact(self) -> bool:
        return all(self.place.ask(name, "GET", name) == b"theirs" for name in self.foreign)


class Shared:
    """Two stores at one place, as two processes have them, on every kind."""

    @pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
    async def pair(self, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Backend, Backend]]:
        place: Place = request.param(uuid.uuid4().hex, request)
        async with AsyncExitStack() as closing:
            first, second = store_of(place.params), store_of(place.params)
            for each in (first, second):
                await each.open()
                closing.push_async_callback(each.close)
            yield first, second

    @pytest.fixture
    def store(self, pair: tuple[Backend, Backend]) -> Backend:
        return pair[0]

    @pytest.fixture
    def beside(self, pair: tuple[Backend, Backend]) -> Backend:
        return pair[1]


class TestLeasesOnEveryKind(Shared, LeasesContract):
    besides = NEEDED_BY_LEASES

    @pytest.fixture
    def word_seconds(self, monkeypatch: pytest.MonkeyPatch) -> float:
        return shorter_words(monkeypatch, redis_leases)


class TestCountersOnEveryKind(Shared, CountersContract):
    besides = ("+eval", "+time", *NEEDED_BY_COUNTERS)


@pytest.mark.parametrize("kind", [by_fields, by_the_url_of_a_socket, over_tls_in_a_cluster, over_tls_under_sentinels])
async def test_the_other_ways_to_say_it_lead_to_the_same(
    kind: Callable[[str, pytest.FixtureRequest], Place], request: pytest.FixtureRequest
) -> None:
    namespace = uuid.uuid4().hex
    store = store_of(kind(namespace, request).params)
    await store.open()
    entries = random_entries(200)
    await store.set_many(entries)
    assert await store.get_many([*entries, A]) == entries
    await store.ping()
    assert await store.delete_many(list(entries)) == 200
    await store.close()


# From a config.yaml to an answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [over_tls, under_sentinels, in_a_cluster])
def test_a_server_with_this_in_its_config_misses_once_and_then_hits(
    kind: Callable[[str, pytest.FixtureRequest], Place], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    params = {"type": "redis", **kind(uuid.uuid4().hex, request).params}
    sections = {
        "litellm_settings": {"cache": True, "cache_params": params},
        "cache_proxy_settings": {"memory_mib": 0},
    }
    upstream = StandIn()
    with hosted(upstream) as url, serving(tmp_path, url, sections) as server:
        missed = server.post("/v1/embeddings", EMBED)
        hit = server.post("/v1/embeddings", EMBED)
        assert (cache_status(missed), cache_status(hit)) == ("fwd=miss; stored", "hit")
        assert hit.json()["data"] == missed.json()["data"]
        assert server.client.get("/cache/ping", headers=KEY).json()["ping_response"] is True
        assert server.client.get("/health", headers=KEY).json()["store"]["status"] == "healthy"
        assert PASSWORD not in server.told()
