"""``cache_params`` of Redis: one of five ways to reach it, TLS, and what can not be obeyed."""

from typing import Any

import pytest

from cache_proxy.errors import ConfigError
from cache_proxy.settings import RedisSettings, Settings, TlsSettings, parse, reveal
from cache_proxy.settings.redis import KEYS, variable
from cache_proxy.settings.sections import CacheParams

HOME = {"HOME": "/home/someone"}
PARAMS = "litellm_settings.cache_params"
CLUSTER = {"redis_startup_nodes": [{"host": "a", "port": 7001}]}
SENTINEL = {"sentinel_nodes": [["s", 26379]], "service_name": "main"}


def settings(params: dict[str, Any] | None, **environ: str) -> Settings:
    section = {"cache": True} if params is None else {"cache_params": {"type": "redis", **params}}
    return parse({"litellm_settings": section}, HOME | environ)


def redis(params: dict[str, Any] | None, **environ: str) -> RedisSettings:
    found = settings(params, **environ)
    assert found.warnings == ()
    assert found.cache.redis is not None
    return found.cache.redis


def refused(params: dict[str, Any], **environ: str) -> str:
    with pytest.raises(ConfigError) as error:
        settings(params, **environ)
    assert "planted" not in str(error.value)
    return str(error.value)


def places(nodes: Any) -> list[tuple[str, int]]:
    return [(node.host, node.port) for node in nodes]


# Cluster -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "environ"),
    [
        ({"redis_startup_nodes": [{"host": "a", "port": "7001"}, {"host": "b"}]}, {}),
        ({"startup_nodes": [["a", 7001], ["b", 6379]]}, {}),
        ({"redis_startup_nodes": "os.environ/NODES"}, {"NODES": '[{"host": "a", "port": 7001}, {"host": "b"}]'}),
        ({}, {"REDIS_CLUSTER_NODES": '[{"host": "a", "port": "7001"}, {"host": "b"}]'}),
        (None, {"REDIS_CLUSTER_NODES": '[["a", 7001], ["b"]]', "REDIS_HOST": "another"}),
        ({"redis_startup_nodes": [{"host": "os.environ/A", "port": 7001}, {"host": "b"}]}, {"A": "a"}),
        ({"startup_nodes": [["a", 7001], ["b"]], "sentinel_nodes": []}, {"REDIS_HOST": "another"}),
    ],
)
def test_a_cluster_by_its_servers(params: dict[str, Any] | None, environ: dict[str, str]) -> None:
    found = redis(params, **environ)
    assert places(found.cluster) == [("a", 7001), ("b", 6379)]
    assert (found.url, found.sentinel_nodes, found.unix_socket_path) == (None, (), None)


def test_a_cluster_takes_user_password_and_tls() -> None:
    found = redis({**CLUSTER, "username": "u", "ssl": True}, REDIS_PASSWORD="p", REDIS_SSL_CA_CERTS="/ca.pem")
    assert (found.username, reveal(found.password), found.ssl) == ("u", "p", True)
    assert found.tls == TlsSettings(ca_certs="/ca.pem")


# Sentinel ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "environ"),
    [
        ({"sentinel_nodes": [["s", 26380], ["t", 26379]], "service_name": "main", "sentinel_password": "p"}, {}),
        ({"sentinel_nodes": [{"host": "s", "port": 26380}, {"host": "t"}], "service_name": "main"}, {"X": "p"}),
        (
            {},
            {
                "REDIS_SENTINEL_NODES": '[["s", 26380], ["t", 26379]]',
                "REDIS_SENTINEL_PASSWORD": "p",
                "REDIS_SERVICE_NAME": "main",
            },
        ),
        ({"sentinel_nodes": [["s", 26380], ["t"]]}, {"REDIS_SERVICE_NAME": "main", "REDIS_HOST": "another"}),
    ],
)
def test_sentinels_by_their_places(params: dict[str, Any], environ: dict[str, str]) -> None:
    found = redis(params, **environ)
    assert places(found.sentinel_nodes) == [("s", 26380), ("t", 26379)]
    assert found.service_name == "main"
    assert (found.url, found.cluster) == (None, ())


@pytest.mark.parametrize(
    ("params", "primarys", "sentinels"),
    [
        ({"sentinel_password": "s"}, "s", "s"),
        ({"sentinel_password": "s", "password": "p"}, "p", "s"),
        ({"sentinel_password": "s", "password": ""}, "", "s"),
        ({"password": "p"}, "p", None),
    ],
)
def test_the_primary_has_the_sentinels_password_unless_it_has_its_own_as_at_litellm(
    params: dict[str, str], primarys: str, sentinels: str | None
) -> None:
    found = redis({**SENTINEL, **params})
    assert (reveal(found.password), reveal(found.sentinel_password)) == (primarys, sentinels)
    assert all(secret not in repr(found) for secret in params.values() if secret and len(secret) > 1)


def test_sentinels_take_a_database_a_user_and_users_of_their_own() -> None:
    found = redis({**SENTINEL, "db": 3, "username": "u", "sentinel_username": "watcher"})
    assert (found.db, found.username, found.sentinel_username) == (3, "u", "watcher")


# One server ----------------------------------------------------------------------------------------------------------


def test_a_unix_socket() -> None:
    found = redis({"unix_socket_path": "/run/redis.sock", "db": 2, "password": "p"}, REDIS_HOST="another")
    assert (found.unix_socket_path, found.db, reveal(found.password), found.ssl) == ("/run/redis.sock", 2, "p", False)
    assert redis({}, REDIS_UNIX_SOCKET_PATH="/run/redis.sock").unix_socket_path == "/run/redis.sock"


@pytest.mark.parametrize(
    ("url", "secure"),
    [
        ("redis://u:p@r:6380/2", False),
        ("rediss://r", True),
        ("valkey://r", False),
        ("valkeys://r:1/0?ssl_cert_reqs=none&db=1", True),
        ("unix:///run/redis.sock?db=3&password=x", False),
    ],
)
def test_urls_of_every_scheme(url: str, secure: bool) -> None:
    for found in (redis({"url": url}), redis({}, REDIS_URL=url)):
        assert (reveal(found.url), found.ssl) == (url, secure)


def test_every_argument_of_tls_and_of_connections_is_handed_on_from_file_or_environment() -> None:
    tls = {
        "ssl_ca_certs": "/ca", "ssl_ca_data": "PEM", "ssl_certfile": "/crt", "ssl_keyfile": "/key",
        "ssl_password": "pw", "ssl_cert_reqs": "Optional", "ssl_check_hostname": False, "ssl_ciphers": "HIGH",
    }  # fmt: skip
    connection = {
        "max_connections": 3, "socket_timeout": 1.5, "socket_connect_timeout": 0.5, "socket_keepalive": False,
        "health_check_interval": 9.0, "client_name": "us",
    }  # fmt: skip
    in_file = redis({"host": "r", "ssl": True, **tls, **connection})
    around = {variable(key): str(value) for key, value in {**tls, **connection, "ssl": True}.items()}
    for found in (in_file, redis({"host": "r"}, **around), redis({"url": "rediss://r", **tls, **connection})):
        assert reveal(found.tls.password) == "pw"
        assert (found.tls.ca_certs, found.tls.ca_data, found.tls.certfile) == ("/ca", "PEM", "/crt")
        assert (found.tls.keyfile, found.tls.cert_reqs, found.tls.check_hostname) == ("/key", "optional", False)
        assert found.tls.ciphers == "HIGH"
        assert {key: getattr(found, key) for key in connection} == connection
        assert "pw" not in repr(found)


# What is said in vain ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "idle"),
    [
        ({"url": "redis://r", "host": "h", "port": 1, "username": "u", "password": "p", "db": 1}, 5),
        ({"url": "redis://r", "redis_url": "redis://s"}, 1),
        ({"unix_socket_path": "/s", "host": "h", "port": 1, "ssl": True, "ssl_ca_certs": "/ca"}, 4),
        ({**CLUSTER, "host": "h", "port": 1, "service_name": "n", "sentinel_password": "p"}, 4),
        ({**SENTINEL, "host": "h", "port": 1}, 2),
        ({"host": "h", "service_name": "n", "sentinel_password": "p", "sentinel_username": "u"}, 3),
        ({"host": "h", "ssl_ca_certs": "/ca", "ssl_cert_reqs": "none", "ssl": False}, 2),
        ({"url": "redis://h", "ssl_certfile": "/crt"}, 1),
        ({"url": "redis://h?protocol=3&ssl_ca_certs=/x&foo=planted&client_name=x"}, 2),
    ],
)
def test_keys_of_another_way_are_named(params: dict[str, Any], idle: int) -> None:
    warnings = settings(params).warnings
    assert len(warnings) == idle
    assert all(" is not acted on here" in line and line.startswith(PARAMS) for line in warnings)
    assert "planted" not in str(warnings)


AROUND = {
    "REDIS_URL": "redis://elsewhere:1/0",
    "REDIS_CLUSTER_NODES": '[["a", 1]]',
    "REDIS_SENTINEL_NODES": '[["a", 1]]',
    "REDIS_UNIX_SOCKET_PATH": "/run/redis.sock",
    "REDIS_HOST": "elsewhere",
}


@pytest.mark.parametrize(
    ("params", "key", "named"),
    [
        ({"host": "h"}, "host", 4),
        ({"unix_socket_path": "/s"}, "unix_socket_path", 3),
        (SENTINEL, "sentinel_nodes", 2),
        (CLUSTER, "redis_startup_nodes", 1),
        ({"url": "redis://h"}, "url", 0),
    ],
)
def test_what_the_file_says_wins_over_what_would_win_at_litellm_and_the_variable_is_named(
    params: dict[str, Any], key: str, named: int
) -> None:
    warnings = [line for name, value in AROUND.items() for line in settings(params, **{name: value}).warnings]
    assert warnings == [
        f"{name} is not acted on here: {PARAMS}.{key} says where Redis is" for name in list(AROUND)[:named]
    ]
    found = settings({"host": "h"}, **AROUND)
    assert found.cache.redis is not None
    assert (found.cache.redis.host, found.cache.redis.url) == ("h", None)


def test_a_server_whose_certificate_is_not_looked_at_is_warned_of() -> None:
    (line,) = settings({"host": "h", "ssl": True, "ssl_cert_reqs": "none"}).warnings
    assert line.startswith(f"{PARAMS}.ssl_cert_reqs is none")


def test_a_certificate_that_is_null_is_none_where_it_is_so_at_litellm() -> None:
    one = settings({"host": "h", "ssl": True, "ssl_cert_reqs": None}, REDIS_SSL_CERT_REQS="required")
    several = settings({**CLUSTER, "ssl": True, "ssl_cert_reqs": None})
    for found in (one, several):
        assert found.cache.redis is not None
        assert found.cache.redis.tls.cert_reqs == "none"
        (line,) = found.warnings
        assert line.startswith(f"{PARAMS}.ssl_cert_reqs is none")
    for params in ({**SENTINEL, "ssl": True}, {"url": "rediss://h"}, {"host": "h", "ssl": True, "ssl_ca_certs": None}):
        again = settings({**params, **({} if "host" in params else {"ssl_cert_reqs": None})})
        assert again.cache.redis is not None
        assert again.cache.redis.tls.cert_reqs == "required"
        assert again.warnings == ()


# What can not be obeyed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "environ", "said"),
    [
        ({**CLUSTER, "db": 1}, {}, f"{PARAMS}.db: a Redis Cluster has database 0 only"),
        (CLUSTER, {"REDIS_DB": "2"}, "REDIS_DB: a Redis Cluster has database 0 only"),
        ({**CLUSTER, "namespace": "a{b}"}, {}, f"{PARAMS}.namespace"),
        (CLUSTER, {"REDIS_NAMESPACE": "{b}"}, f"{PARAMS}.namespace"),
        ({**CLUSTER, **SENTINEL}, {}, f"{PARAMS}.redis_startup_nodes and {PARAMS}.sentinel_nodes are two ways"),
        ({**CLUSTER, "url": "redis://planted@r"}, {}, f"{PARAMS}.url and {PARAMS}.redis_startup_nodes are two ways"),
        ({**SENTINEL, "redis_url": "redis://r"}, {}, f"{PARAMS}.redis_url and {PARAMS}.sentinel_nodes are two ways"),
        ({**CLUSTER, "unix_socket_path": "/s"}, {}, f"{PARAMS}.unix_socket_path and {PARAMS}.redis_startup_nodes"),
        (
            {},
            {"REDIS_URL": "redis://planted@r", "REDIS_CLUSTER_NODES": '[["a", 1]]'},
            "REDIS_URL and REDIS_CLUSTER_NODES are two ways",
        ),
        ({"sentinel_nodes": [["s", 1]]}, {}, f"{PARAMS}.sentinel_nodes needs service_name"),
        ({}, {"REDIS_SENTINEL_NODES": '[["s", 1]]'}, "REDIS_SENTINEL_NODES needs service_name"),
        ({"service_name": "n", "sentinel_password": "planted"}, {}, f"{PARAMS}: redis needs a host"),
        ({"redis_startup_nodes": [{"port": 1}]}, {}, f"{PARAMS}.redis_startup_nodes[0].host is missing"),
        ({"redis_startup_nodes": [{"host": "a", "port": 70000}]}, {}, f"{PARAMS}.redis_startup_nodes[0].port"),
        ({"sentinel_nodes": ["planted"], "service_name": "n"}, {}, f"{PARAMS}.sentinel_nodes[0]"),
        ({"sentinel_nodes": [["a", "planted"]], "service_name": "n"}, {}, f"{PARAMS}.sentinel_nodes[0].port"),
        ({"redis_startup_nodes": "planted"}, {}, f"{PARAMS}.redis_startup_nodes"),
        ({}, {"REDIS_CLUSTER_NODES": "planted"}, "REDIS_CLUSTER_NODES is not what"),
        ({}, {"REDIS_CLUSTER_NODES": '[{"host": "a", "password": "planted"}]'}, "REDIS_CLUSTER_NODES is not what"),
        ({}, {"REDIS_CLUSTER_NODES": "[]"}, "REDIS_CLUSTER_NODES names no server"),
        ({"host": "h", "ssl": True, "ssl_keyfile": "/key"}, {}, f"{PARAMS}.ssl_keyfile needs ssl_certfile"),
        ({"host": "h", "ssl_cert_reqs": "planted"}, {}, f"{PARAMS}.ssl_cert_reqs"),
        ({"host": "h"}, {"REDIS_SSL_CERT_REQS": "planted"}, "REDIS_SSL_CERT_REQS is not what"),
        ({"url": "valkey://r", "ssl": True}, {}, f"{PARAMS}.url is valkey:// while ssl is true; write valkeys://"),
        ({"url": "redis+sentinel://r"}, {}, f"{PARAMS}.url: expected redis://"),
        ({"host": "h", "max_connections": 0}, {}, f"{PARAMS}.max_connections"),
        ({"host": "h"}, {"REDIS_SOCKET_TIMEOUT": "planted"}, "REDIS_SOCKET_TIMEOUT is not what"),
    ],
)
def test_what_can_not_be_obeyed_refuses_the_start_and_names_key_and_remedy(
    params: dict[str, Any], environ: dict[str, str], said: str
) -> None:
    assert refused(params, **environ).startswith(said)


# All of them ---------------------------------------------------------------------------------------------------------


def test_every_key_is_acted_on_in_some_way_or_is_another_stores() -> None:
    others = {"type", "ttl", "default_in_memory_ttl", "namespace", "mode", "supported_call_types", "disk_cache_dir"}
    assert KEYS | others == set(CacheParams.model_fields)


@pytest.mark.parametrize("key", sorted(KEYS - {"redis_url", "startup_nodes", "default_in_redis_ttl"}))
def test_every_key_says_which_variable_stands_for_it(key: str) -> None:
    described = CacheParams.model_fields[key].description or ""
    assert f"Else {variable(key)}" in described
