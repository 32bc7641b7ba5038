"""Settings at work: each of them reaches what it is for, and names stand for what the operator said."""

import dataclasses
import io
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from cache_proxy.access import hashed
from cache_proxy.asgi.drain import Drain
from cache_proxy.asgi.standalone import build
from cache_proxy.backends import (
    DiskBackend,
    GuardedBackend,
    MemoryBackend,
    RedisBackend,
    RedisClusterBackend,
    TieredBackend,
)
from cache_proxy.calls import Account
from cache_proxy.core.catalog import BATCH_TOKENS, MODELS, Ranking
from cache_proxy.core.names import Target
from cache_proxy.errand import Sharing
from cache_proxy.errors import ConfigError, ModelNotFound
from cache_proxy.models import PICO, Endpoint, Failure
from cache_proxy.receipts import Story
from cache_proxy.settings import CacheSettings, DeploymentSettings, OwnSettings, Plugin, RedisSettings, Settings, parse
from cache_proxy.standin import StandIn
from cache_proxy.upstream.client import Client
from cache_proxy.upstream.lanes import Lanes
from cache_proxy.wiring import MIB, Wired, build_store, names, policy, requests_bytes
from cache_proxy.wiring.ledger import build_database, build_ledger, ledger_place
from cache_proxy.wiring.stores import GIB
from cache_proxy.wiring.targets import deployment
from tests.support import proxy, settings_for

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parent.parent
V3 = "jina_ai/jina-embeddings-v3"
Document = dict[str, Any]


def with_own(folder: Path, **fields: Any) -> Settings:
    return settings_for(folder, {"cache_proxy_settings": fields})


def with_cache(folder: Path, on: bool = True, **params: Any) -> Settings:
    return settings_for(folder, {"litellm_settings": {"cache": on, "cache_params": params}})


def with_model(folder: Path, model: str = V3, info: Mapping[str, Any] | None = None, **params: Any) -> Settings:
    entry = {"model_name": "mine", "litellm_params": {"model": model, **params}, "model_info": dict(info or {})}
    return settings_for(folder, {"model_list": [entry]})


def target(settings: Settings, name: str = "mine") -> Target:
    return names(settings).resolve(name)


def tier(settings: Settings) -> TieredBackend:
    store = build_store(settings)
    assert isinstance(store, TieredBackend)
    return store


def guard(settings: Settings) -> GuardedBackend:
    store = tier(settings).lower
    assert isinstance(store, GuardedBackend)
    return store


def disk(settings: Settings) -> DiskBackend:
    return cast("DiskBackend", guard(settings).inner)


def lanes(settings: Settings) -> Lanes:
    return Wired(settings)._build().means.lanes


async def asked(folder: Path, document: Document, body: Document, path: str = "/embeddings") -> httpx.Response:
    async with proxy(StandIn(), folder, document) as client:
        return await client.post(path, json=body)


# cache_proxy_settings ------------------------------------------------------------------------------------------------


async def _memory(folder: Path) -> None:
    settings = with_own(folder, memory_mib=16)
    assert tier(settings).memory.max_bytes == 8 * MIB
    assert Wired(settings)._build()._renderings._max_bytes == 6 * MIB
    assert requests_bytes(settings) == MIB
    assert isinstance(build_store(with_own(folder, memory_mib=0)), GuardedBackend)


async def _stale(folder: Path) -> None:
    assert policy(with_own(folder, stale_if_error=90)).stale_if_error == 90


def _sharing(folder: Path, **own: Any) -> Sharing:
    return Wired(with_own(folder, **own))._build().means.sharing


async def _coalescing(folder: Path) -> None:
    ways = {way: _sharing(folder, coalesce=way) for way in ("all", "process", "none")}
    assert {way: (made.joining, made.leases) for way, made in ways.items()} == {
        "all": (True, True), "process": (True, False), "none": (False, False),
    }  # fmt: skip
    assert ways["none"].window == 0, "nobody travels with another"
    claims = Wired(with_own(folder))._build().means.claims
    assert claims.needed, "the store on disk has leases"
    assert not Wired(with_own(folder, coalesce="process"))._build().means.claims.needed


async def _lease(folder: Path) -> None:
    assert _sharing(folder, lease_seconds=7).lease == 7


async def _window(folder: Path) -> None:
    assert _sharing(folder, batch_window_ms=20).window == 0.02


async def _draining(folder: Path) -> None:
    server = build(with_own(folder, drain_seconds=7))
    assert isinstance(server, Drain)
    assert server._patience == 7


async def _disk_size(folder: Path) -> None:
    assert disk(with_own(folder, disk_max_gib=0.5)).max_bytes == GIB // 2


async def _body_size(folder: Path) -> None:
    own = {"cache_proxy_settings": {"max_body_mib": 0.001}}
    assert (await asked(folder, own, {"model": V3, "input": "a" * 2000})).status_code == 413
    assert (await asked(folder, own, {"model": V3, "input": "a" * 500})).status_code == 200


async def _items(folder: Path) -> None:
    own = {"cache_proxy_settings": {"max_items": 2}}
    assert (await asked(folder, own, {"model": V3, "input": ["a", "b", "c"]})).status_code == 422
    assert (await asked(folder, own, {"model": V3, "input": ["a", "b"]})).status_code == 200


async def _reading(folder: Path) -> None:
    assert guard(with_own(folder, store_read_timeout=0.25))._read_deadline == 0.25


async def _writing(folder: Path) -> None:
    settings = with_own(folder, store_write_timeout=9.0)
    assert guard(settings)._write_deadline == 9.0
    assert disk(settings)._write_patience == 9.0


async def _waiting(folder: Path) -> None:
    assert lanes(with_own(folder, max_wait=3.0))._rules.max_wait == 3.0


async def _urls(folder: Path) -> None:
    assert policy(with_own(folder, cache_urls=60)).url_ttl == 60
    assert policy(with_own(folder)).url_ttl is None


async def _environment(folder: Path) -> None:
    for trusted in (False, True):
        wired = Wired(with_own(folder, trust_env=trusted))
        (found,) = names(wired.settings).resolve(V3).deployments
        client = wired._connect(found)
        assert isinstance(client, Client)
        assert client._http.trust_env is trusted
        await client.close()


class _Lines(io.StringIO):
    def __call__(self, line: str) -> None:
        self.write(line)


async def _log_form(folder: Path) -> None:
    told = {}
    for form in ("json", "console", "off"):
        lines = _Lines()
        wired = Wired(with_own(folder, log_format=form), lines=lines)
        wired.record(Story("id", "embeddings", Account("me"), 0.0).end(status=200, latency=0.0, bytes_out=0))
        told[form] = lines.getvalue()
    assert told["json"].startswith("{")
    assert "status=200" in told["console"]
    assert told["off"] == ""


async def _log_level(folder: Path) -> None:
    # It is set up for a whole process.
    code = (
        "import logging, sys; from cache_proxy.reporting.logs import set_up_logging; set_up_logging(sys.argv[1]); "
        "print(logging.getLevelName(logging.getLogger('cache_proxy').getEffectiveLevel()).lower())"
    )
    for level in ("debug", "error"):
        command = [sys.executable, "-c", code, with_own(folder, log_level=level).own.log_level]
        assert subprocess.check_output(command, text=True, cwd=ROOT).strip() == level


def _ledgers(folder: Path) -> Path:
    """Where its file is, once it has been opened."""
    return Path(build_database(with_own(folder).ledger).place)


async def _with_ledger(folder: Path) -> None:
    assert build_ledger(with_own(folder, ledger=False).ledger) is None
    await asked(folder, {}, {"model": V3, "input": "a"})
    assert _ledgers(folder).exists()
    await asked(folder / "none", {"cache_proxy_settings": {"ledger": False}}, {"model": V3, "input": "a"})
    assert not _ledgers(folder / "none").exists()


async def _ledger_place(folder: Path) -> None:
    settings = with_own(folder, ledger_dir=str(folder / "elsewhere"))
    assert ledger_place(settings.ledger) == str(folder / "elsewhere" / "ledger.db")
    assert ledger_place(with_own(folder).ledger) == str(folder / "ledger.db")


async def _ledger_failure(folder: Path) -> None:
    told = {}
    for choice in ("refuse", "continue"):
        blocked = folder / choice
        blocked.touch()
        own = {"ledger_dir": str(blocked), "ledger_failure": choice}
        async with proxy(StandIn(), folder, {"cache_proxy_settings": own}) as client:
            answer = await client.post("/embeddings", json={"model": V3, "input": choice})
            told[choice] = answer.status_code
            blocked.unlink()  # the end waits for what can not be written
    assert told == {"refuse": 503, "continue": 200}


async def _ledger_days(folder: Path) -> None:
    kept = build_ledger(with_own(folder, ledger_days=30).ledger)
    assert kept is not None
    assert kept._days == 30


async def _ledger_names_days(folder: Path) -> None:
    for own, days in (({}, 400), ({"ledger_names_days": 31}, 31)):
        kept = build_ledger(with_own(folder, **own).ledger)
        assert kept is not None
        assert kept._names_days == days


Check = Callable[[Path], Any]


async def _keys(folder: Path) -> None:
    settings = settings_for(
        folder,
        {"general_settings": {"master_key": "sk-1"}, "cache_proxy_settings": {"keys": [{"key": "sk-2"}]}},
    )
    found = await Wired(settings).find_key(hashed("sk-2"))
    assert found is not None
    assert found.configured


async def _grace(folder: Path) -> None:
    document = {"general_settings": {"master_key": "sk-1"}, "cache_proxy_settings": {"key_grace_seconds": 7}}
    wired = Wired(settings_for(folder, document))
    await wired.open()
    running = wired._engines.here
    assert running is not None
    assert running.keyring is not None
    assert running.keyring._grace == 7
    await wired.close()


OWN: dict[str, Check] = {
    "ledger": _with_ledger,
    "ledger_dir": _ledger_place,
    "ledger_failure": _ledger_failure,
    "ledger_days": _ledger_days,
    "ledger_names_days": _ledger_names_days,
    "keys": _keys,
    "key_grace_seconds": _grace,
    "memory_mib": _memory,
    "drain_seconds": _draining,
    "disk_max_gib": _disk_size,
    "max_body_mib": _body_size,
    "max_items": _items,
    "store_read_timeout": _reading,
    "store_write_timeout": _writing,
    "max_wait": _waiting,
    "cache_urls": _urls,
    "coalesce": _coalescing,
    "lease_seconds": _lease,
    "batch_window_ms": _window,
    "stale_if_error": _stale,
    "trust_env": _environment,
    "log_format": _log_form,
    "log_level": _log_level,
}


def test_every_setting_of_our_section_is_proved_to_do_something() -> None:
    assert set(OWN) == set(OwnSettings.model_fields)


@pytest.mark.parametrize("name", OWN)
async def test_a_setting_of_our_section_reaches_what_it_is_for(name: str, tmp_path: Path) -> None:
    await OWN[name](tmp_path)


# cache_params --------------------------------------------------------------------------------------------------------


def _on(folder: Path) -> None:
    store = build_store(with_cache(folder, on=False))
    assert isinstance(store, MemoryBackend)
    assert store.max_bytes == 0
    assert policy(with_cache(folder, on=False)).endpoints == frozenset()
    assert policy(with_cache(folder)).endpoints == frozenset(Endpoint)


def _kind(folder: Path) -> None:
    assert isinstance(guard(with_cache(folder, type="disk")).inner, DiskBackend)
    assert isinstance(guard(with_cache(folder, type="redis", host="h")).inner, RedisBackend)
    assert isinstance(build_store(with_cache(folder, type="local")), MemoryBackend)


def _directory(folder: Path) -> None:
    place = folder / "elsewhere"
    assert disk(with_cache(folder, type="disk", disk_cache_dir=str(place))).directory == place


def _chosen(folder: Path) -> None:
    # `folder` is named by the environment.
    with pytest.raises(ConfigError, match="which app"):
        settings_for(folder).round_the_app()
    assert isinstance(build_store(parse({}, {"HOME": str(folder)}).round_the_app()), MemoryBackend)


def _redis(folder: Path) -> None:
    store = guard(with_cache(folder, type="redis", host="h")).inner
    assert isinstance(store, RedisBackend)
    assert store.namespace == "cache-proxy"


def _plugin(folder: Path) -> None:
    settings = with_cache(folder)
    plugin = Plugin("other", "somebody's", MemoryBackend, {"max_bytes": 7})
    guarded = guard(dataclasses.replace(settings, cache=dataclasses.replace(settings.cache, plugin=plugin)))
    assert cast("MemoryBackend", guarded.inner).max_bytes == 7


def _ttl(folder: Path) -> None:
    assert policy(with_cache(folder, ttl=60)).ttl == 60
    assert policy(with_cache(folder)).ttl is None


def _namespace(folder: Path) -> None:
    settings = with_cache(folder, type="redis", host="h", namespace="team")
    assert policy(settings).namespace == "team"
    assert cast("RedisBackend", guard(settings).inner).namespace == "team"


def _default_off(folder: Path) -> None:
    assert policy(with_cache(folder, mode="default_off")).default_off
    assert not policy(with_cache(folder)).default_off


def _embeddings(folder: Path) -> None:
    assert policy(with_cache(folder, supported_call_types=["arerank"])).endpoints == {Endpoint.RERANK}


def _rerank(folder: Path) -> None:
    assert policy(with_cache(folder, supported_call_types=["embedding"])).endpoints == {Endpoint.EMBEDDINGS}


CACHE: dict[str, Check] = {
    "enabled": _on,
    "kind": _kind,
    "directory": _directory,
    "chosen": _chosen,
    "redis": _redis,
    "plugin": _plugin,
    "ttl": _ttl,
    "namespace": _namespace,
    "default_off": _default_off,
    "embeddings": _embeddings,
    "rerank": _rerank,
}


def test_every_cache_setting_is_proved_to_do_something() -> None:
    assert set(CACHE) == {field.name for field in dataclasses.fields(CacheSettings)}


@pytest.mark.parametrize("name", CACHE)
def test_a_cache_setting_reaches_what_it_is_for(name: str, tmp_path: Path) -> None:
    CACHE[name](tmp_path)


SENTINEL: Document = {"sentinel_nodes": [["s", 1], ["t", 2]], "service_name": "main", "sentinel_password": "spw"}

REDIS: dict[str, tuple[Document, Document]] = {
    # What is configured, and what a connection is made with.
    "url": ({"url": "redis://:pw@there:7000/3"}, {"host": "there", "port": 7000, "db": 3, "password": "pw"}),
    "unix_socket_path": ({"unix_socket_path": "/run/redis.sock"}, {"path": "/run/redis.sock"}),
    "host": ({"host": "there"}, {"host": "there"}),
    "port": ({"host": "h", "port": "7000"}, {"port": 7000}),
    "username": ({"host": "h", "username": "me"}, {"username": "me"}),
    "password": ({"host": "h", "password": "pw"}, {"password": "pw"}),
    "db": ({"host": "h", "db": 3}, {"db": 3}),
    "socket_timeout": ({"host": "h", "socket_timeout": 2.5}, {"socket_timeout": 2.5}),
    "socket_connect_timeout": ({"host": "h", "socket_connect_timeout": 0.5}, {"socket_connect_timeout": 0.5}),
    "socket_keepalive": ({"host": "h", "socket_keepalive": False}, {"socket_keepalive": False}),
    "health_check_interval": ({"host": "h", "health_check_interval": 9}, {"health_check_interval": 9.0}),
    "client_name": ({"host": "h", "client_name": "us"}, {"client_name": "us"}),
}


def test_every_setting_of_redis_is_proved_to_do_something() -> None:
    several = {"cluster", "sentinel_nodes", "service_name", "sentinel_username", "sentinel_password"}
    proved = {*REDIS, *several, "ssl", "tls", "max_connections"}
    assert proved == {field.name for field in dataclasses.fields(RedisSettings)}


@pytest.mark.parametrize("name", REDIS)
async def test_a_setting_of_redis_reaches_the_connection(name: str, tmp_path: Path) -> None:
    configured, expected = REDIS[name]
    pool = await _pool(tmp_path, configured)
    assert {key: pool.connection_kwargs.get(key) for key in expected} == expected


async def test_tls_and_the_number_of_connections_reach_the_pool_of_redis(tmp_path: Path) -> None:
    tls = {"ssl": True, "ssl_check_hostname": False, "ssl_cert_reqs": "optional", "ssl_ciphers": "ECDHE+AESGCM"}
    pool = await _pool(tmp_path, {"host": "h", "max_connections": 7, **tls})
    assert pool.max_connections == 7
    context = pool.connection_kwargs["tls"]
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_OPTIONAL)
    assert all("ECDHE" in cipher["name"] or cipher["protocol"] == "TLSv1.3" for cipher in context.get_ciphers())
    assert (await _pool(tmp_path, {"url": "rediss://h", **tls})).connection_kwargs["tls"].check_hostname is False
    assert "tls" not in (await _pool(tmp_path, {"host": "h"})).connection_kwargs


async def test_sentinels_are_asked_for_the_primary_with_their_own_login(tmp_path: Path) -> None:
    more = {"sentinel_username": "watcher", "password": "pw", "db": 2, "max_connections": 7}
    pool = await _pool(tmp_path, {**SENTINEL, **more})
    assert (pool.service_name, pool.max_connections) == ("main", 7)
    assert (pool.connection_kwargs["password"], pool.connection_kwargs["db"]) == ("pw", 2)
    asked = [sentinel.connection_pool.connection_kwargs for sentinel in pool.sentinel_manager.sentinels]
    assert [(each["host"], each["port"]) for each in asked] == [("s", 1), ("t", 2)]
    assert {(each["username"], each["password"], each["db"]) for each in asked} == {("watcher", "spw", 0)}


async def test_the_servers_of_a_cluster_are_those_of_the_settings(tmp_path: Path) -> None:
    more: Document = {"namespace": "team", "password": "pw"}
    store = guard(with_cache(tmp_path, type="redis", redis_startup_nodes=[{"host": "a", "port": 7001}], **more)).inner
    assert isinstance(store, RedisClusterBackend)
    assert store.namespace == "team"
    routes: Any = store._routes
    assert (routes._seeds, routes._access.password) == ([("a", 7001)], "pw")
    assert store._patience < with_cache(tmp_path).own.store_read_timeout, "so that there is an answer to wait for"


async def _pool(folder: Path, configured: Document) -> Any:
    store = guard(with_cache(folder, type="redis", **configured)).inner
    await store.open()
    client: Any = cast("RedisBackend", store)._client
    await store.close()
    return client.connection_pool


# model_list ----------------------------------------------------------------------------------------------------------


def _reached(field: str, expected: Any, **given: Any) -> Check:
    """A field of the deployment that is handed on as it is."""

    def check(folder: Path) -> None:
        (found,) = target(with_model(folder, **given)).deployments
        assert getattr(found, field) == expected

    return check


def _specified(field: str, expected: Any, info: Document, model: str = "jina_ai/new-model") -> Check:
    """A field of ``model_info`` that changes what is believed of the model."""

    def check(folder: Path) -> None:
        changed = target(with_model(folder, model, info)).spec
        assert getattr(changed, field) == expected
        assert getattr(target(with_model(folder, model)).spec, field) != expected

    return check


def _group_name(folder: Path) -> None:
    assert target(with_model(folder)).model == "jina-embeddings-v3"
    with pytest.raises(ModelNotFound):
        target(with_model(folder), "not mine")


def _upstream_name(folder: Path) -> None:
    assert target(with_model(folder), V3).model == "jina-embeddings-v3"


def _provider(folder: Path) -> None:
    other = target(with_model(folder, "hosted_vllm/jina-embeddings-v3", api_base="http://vllm.test/v1"))
    assert not other.spec.known, "another server's model of the same name has defaults of its own"
    assert target(with_model(folder)).spec is not other.spec
    assert target(with_model(folder)).spec.known


def _identity(folder: Path) -> None:
    assert target(with_model(folder, info={"identity": "shared"})).identity == "shared"
    assert target(with_model(folder, api_base="http://one.test/v1")).identity == "http://one.test/v1"


def _identified(folder: Path) -> None:
    one = with_model(folder, info={"identity": "this app"}, api_base="app")
    with pytest.raises(ConfigError, match="which app"):
        one.round_the_app()
    everything = {"model_name": "*", "litellm_params": {"model": "*", "api_base": "app"}}
    known = settings_for(folder, {"model_list": [{**everything, "model_info": {"identity": "this app"}}]})
    assert known.round_the_app().cache.kind == "disk"


def _defaults(folder: Path) -> None:
    assert target(with_model(folder, dimensions=64, extra_body={"task": "separation"})).defaults == {
        "dimensions": 64,
        "task": "separation",
    }


def _any_name(folder: Path) -> None:
    wild = {"model_name": "*", "litellm_params": {"model": "*", "api_base": "http://any.test/v1"}}
    assert target(settings_for(folder, {"model_list": [wild]}), "BAAI/bge-m3").model == "BAAI/bge-m3"
    with pytest.raises(ModelNotFound):
        target(settings_for(folder), "BAAI/bge-m3")


def _by_the_router(field: str, expected: Any, **given: Any) -> Check:
    """A field of the deployment that comes from ``router_settings``."""

    def check(folder: Path) -> None:
        (found,) = target(settings_for(folder, {"router_settings": given}), "jina-embeddings-v3").deployments
        assert getattr(found, field) == expected

    return check


def _dropped(folder: Path) -> None:
    assert target(with_model(folder, additional_drop_params=["dimensions"])).dropped == {"dimensions"}


def _batch_tokens(folder: Path) -> None:
    assert target(with_model(folder)).batch_tokens == BATCH_TOKENS
    assert target(with_model(folder, info={"max_batch_tokens": 500})).batch_tokens == 500
    assert target(with_model(folder, tpm=90)).batch_tokens == 90, "more could never be sent"


def _batch(folder: Path) -> None:
    assert target(with_model(folder, info={"max_embedding_batch_size": 32})).batch == 32
    assert target(with_model(folder, info={"max_embedding_batch_size": 4096})).batch == 512, "Jina's own limit holds"


def _weight(folder: Path) -> None:
    entries = [{"model_name": "mine", "litellm_params": {"model": V3, "weight": weight}} for weight in (3, 1)]
    assert [one.weight for one in target(settings_for(folder, {"model_list": entries})).deployments] == [3.0, 1.0]


DEPLOYMENT: dict[str, Check] = {
    "id": _reached("id", "first", info={"id": "first"}),
    "model_name": _group_name,
    "litellm_model": _upstream_name,
    "model": _upstream_name,
    "provider": _provider,
    "api_base": _reached("base_url", "http://one.test/v1", api_base="http://one.test/v1/"),
    "identity": _identity,
    "identified": _identified,
    "api_key": _reached("api_key", "jina_mine", api_key="jina_mine"),
    "rpm": _reached("rpm", 7, rpm=7),
    "tpm": _reached("tpm", 700, tpm=700),
    "max_parallel_requests": _reached("max_parallel", 3, max_parallel_requests=3),
    "parallel_everywhere": _reached("parallel_everywhere", True, max_parallel_requests=3),
    "timeout": _reached("timeout", 9.0, timeout=9),
    "num_retries": _reached("retries", 5, num_retries=5),
    "retries_after": _by_the_router(
        "retries_after", {Failure.SERVER: 4}, retry_policy={"InternalServerErrorRetries": 4}
    ),
    "allowed_fails": _reached("allowed_fails", 8, info={"allowed_fails": 8}),
    "allowed_fails_of": _by_the_router(
        "allowed_fails_of", {Failure.RATE_LIMIT: 9}, allowed_fails_policy={"RateLimitErrorAllowedFails": 9}
    ),
    "cooldown": _reached("cooldown", 77.0, cooldown_time=77),
    "verify": _reached("verify", False, ssl_verify="false"),
    "input_cost_per_token": _specified("price", PICO // 10**6, {"input_cost_per_token": "0.000001"}, V3),
    "mode": _specified("only", Endpoint.RERANK, {"mode": "rerank"}),
    "items": _specified("separate", False, {"items": "together"}),
    "documents": _specified("ranking", Ranking.PAIRS, {"documents": "pairs"}),
    "harmless_params": _specified("harmless", frozenset({"trace"}), {"harmless_params": ["trace"]}),
    "default_params": _defaults,
    "dropped": _dropped,
    "batch": _batch,
    "batch_tokens": _batch_tokens,
    "extra_headers": _reached("headers", {"x-team": "search"}, extra_headers={"x-team": "search"}),
    "weight": _weight,
    "order": _reached("order", 2, order=2),
    "any_name": _any_name,
}


def test_every_setting_of_a_deployment_is_proved_to_do_something() -> None:
    assert set(DEPLOYMENT) == {field.name for field in dataclasses.fields(DeploymentSettings)}


@pytest.mark.parametrize("name", DEPLOYMENT)
def test_a_setting_of_a_deployment_reaches_what_it_is_for(name: str, tmp_path: Path) -> None:
    DEPLOYMENT[name](tmp_path)


def test_items_and_documents_may_also_be_declared_to_belong_together(tmp_path: Path) -> None:
    together = {"items": "together", "documents": "together"}
    spec = target(with_model(tmp_path, "infinity/new", together, api_base="http://own.test")).spec
    assert (spec.separate, spec.ranking) == (False, Ranking.LIST)
    assert target(with_model(tmp_path, "infinity/new", api_base="http://own.test")).spec.separate


def test_the_catalogs_price_counts_where_none_is_configured(tmp_path: Path) -> None:
    assert target(with_model(tmp_path)).spec.price == MODELS["jina-embeddings-v3"].price == 50_000
    free = with_model(tmp_path, input_cost_per_token=Decimal(0))
    assert target(free).spec.price == 0


async def test_the_cost_of_a_request_is_the_configured_price(tmp_path: Path) -> None:
    entry = {"model_name": "mine", "litellm_params": {"model": V3, "input_cost_per_token": 0.5}}
    answer = await asked(tmp_path, {"model_list": [entry]}, {"model": "mine", "input": "a"})
    assert (answer.headers["x-tokens-billed"], answer.headers["x-cost-usd"]) == ("3", "1.5")


@pytest.mark.parametrize(("mode", "served"), [("embedding", "/embeddings"), ("rerank", "/rerank")])
async def test_a_deployment_of_one_mode_refuses_the_other(tmp_path: Path, mode: str, served: str) -> None:
    model = "jina_ai/jina-colbert-v2"  # serves both
    entry = {"model_name": "mine", "litellm_params": {"model": model}, "model_info": {"mode": mode}}
    body = {"model": "mine", "input": ["a"], "query": "q", "documents": ["a"]}
    for path in ("/embeddings", "/rerank"):
        answer = await asked(tmp_path / path[1:], {"model_list": [entry]}, body, path)
        assert (answer.status_code == 200) == (path == served), answer.text
        if path != served:
            assert answer.json()["error"]["param"] == "model"


def test_retries_rests_and_trust_reach_the_lanes(tmp_path: Path) -> None:
    router = {
        "allowed_fails": 7,
        "allowed_fails_policy": {"TimeoutErrorAllowedFails": 2},
        "cooldown_time": 11,
        "num_retries": 4,
        "retry_policy": {"RateLimitErrorRetries": 9},
        "retry_after": 1.5,
    }
    settings = settings_for(tmp_path, {"router_settings": router, "litellm_settings": {"ssl_verify": False}})
    found = deployment(settings.deployments[0])
    assert (found.allowed_fails, found.allowed_fails_of, found.cooldown) == (7, {Failure.TIMEOUT: 2}, 11)
    assert (found.retries, found.retries_after) == (4, {Failure.RATE_LIMIT: 9})
    assert found.verify is False
    assert lanes(settings)._rules.retry_after == 1.5
    off = settings_for(tmp_path, {"router_settings": {"disable_cooldowns": True, **router}})
    assert deployment(off.deployments[0]).cooldown is None


# Names ---------------------------------------------------------------------------------------------------------------


async def listed(folder: Path, document: Document) -> list[str]:
    async with proxy(StandIn(), folder, document) as client:
        return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]


async def test_without_a_list_every_model_of_the_catalog_answers_by_both_its_names(tmp_path: Path) -> None:
    shown = await listed(tmp_path, {})
    assert set(shown) == {name for model in MODELS for name in (model, f"jina_ai/{model}")}
    found = names(settings_for(tmp_path))
    assert {found.resolve(name).model for name in shown} == set(MODELS)


async def test_hidden_aliases_answer_and_are_not_listed(tmp_path: Path) -> None:
    document = {
        "model_list": [{"model_name": "mine", "litellm_params": {"model": V3}}],
        "router_settings": {"model_group_alias": {"shown": "mine", "secret": {"model": "mine", "hidden": True}}},
    }
    assert await listed(tmp_path, document) == ["mine", "shown"]
    found = names(settings_for(tmp_path, document))
    assert found.resolve("shown") == found.resolve("secret") == found.resolve("mine")


async def test_a_wildcard_lists_what_it_takes_and_answers_to_it(tmp_path: Path) -> None:
    document = {"model_list": [{"model_name": "jina_ai/*", "litellm_params": {"model": "jina_ai/*"}}]}
    assert set(await listed(tmp_path, document)) == {f"jina_ai/{model}" for model in MODELS}
    found = names(settings_for(tmp_path, document))
    assert found.resolve("jina_ai/never-heard-of").model == "never-heard-of"
    with pytest.raises(ModelNotFound):
        found.resolve("jina-embeddings-v3")


async def test_a_group_shares_one_identity_and_its_calls(tmp_path: Path) -> None:
    members = [
        {"model_name": "mine", "litellm_params": {"model": V3, "api_base": f"http://{name}.test/v1"}} for name in "ab"
    ]
    settings = settings_for(tmp_path, {"model_list": members})
    found = target(settings)
    assert [member.id for member in found.deployments] == ["mine#1", "mine#2"]
    assert found.identity == "mine"
    standin = StandIn()
    async with proxy(standin, tmp_path, {"model_list": members}) as client:
        for _ in range(2):
            answer = await client.post("/embeddings", json={"model": "mine", "input": "a"})
        assert answer.headers["cache-status"].startswith("cache-proxy; hit")
    assert standin.call_count == 1


async def test_an_alias_and_its_model_share_every_answer(tmp_path: Path) -> None:
    entries = [{"model_name": name, "litellm_params": {"model": V3}} for name in ("one", "two")]
    standin = StandIn()
    async with proxy(standin, tmp_path, {"model_list": entries}) as client:
        for name in ("one", "two", V3):
            assert (await client.post("/embeddings", json={"model": name, "input": "a"})).status_code == 200
    assert standin.call_count == 1


# The life of it ------------------------------------------------------------------------------------------------------


async def test_it_opens_once_and_closes_as_often_as_one_likes(tmp_path: Path) -> None:
    wired = Wired(settings_for(tmp_path))
    assert wired.running is None
    assert await wired.open() is await wired.open() is wired.running
    await wired.close()
    await wired.close()
    assert wired.running is None
    await Wired(settings_for(tmp_path)).close()


def test_warnings_of_the_configuration_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Wired(settings_for(tmp_path, {"litellm_settings": {"callbacks": ["secret-thing"]}}))
    assert "litellm_settings.callbacks" in caplog.text
    assert "secret-thing" not in caplog.text
