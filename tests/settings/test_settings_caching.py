"""``litellm_settings.cache``: which store, and how it is reached."""

from pathlib import Path
from typing import Any

import pytest

from cache_proxy.errors import ConfigError
from cache_proxy.settings import CacheSettings, RedisSettings, parse

HOME = {"HOME": "/home/someone"}


def cache(section: dict[str, Any] | None = None, **environ: str) -> CacheSettings:
    return parse({"litellm_settings": section}, HOME | environ).cache


def redis(params: dict[str, Any], **environ: str) -> RedisSettings:
    found = cache({"cache_params": {"type": "redis", **params}}, **environ).redis
    assert found is not None
    return found


def refused(params: dict[str, Any], **environ: str) -> str:
    with pytest.raises(ConfigError) as error:
        cache({"cache_params": params}, **environ)
    return str(error.value)


@pytest.mark.parametrize(
    ("section", "environ", "kind"),
    [
        (None, {}, "disk"),
        (None, {"REDIS_URL": "redis://r"}, "redis"),
        (None, {"REDIS_HOST": "r"}, "disk"),
        ({"cache": True}, {}, "disk"),
        ({"cache": True}, {"REDIS_HOST": "r"}, "redis"),
        ({"cache": True, "cache_params": {"ttl": 5}}, {}, "disk"),
        ({"cache": True, "cache_params": {"host": "r"}}, {}, "redis"),
        ({"cache_params": {"disk_cache_dir": "/x"}}, {"REDIS_URL": "redis://r"}, "disk"),
        ({"cache_params": {"type": "disk"}}, {"REDIS_URL": "redis://r"}, "disk"),
        ({"cache_params": {"type": "local"}}, {}, "memory"),
        ({"cache_params": {"type": "memory"}}, {}, "memory"),
        ({"cache_params": {"type": "redis"}}, {"REDIS_HOST": "r"}, "redis"),
    ],
)
def test_the_store_is_chosen(section: dict[str, Any] | None, environ: dict[str, str], kind: str) -> None:
    found = cache(section, **environ)
    assert found.enabled
    assert found.kind == kind
    assert (found.redis is not None) == (kind == "redis")


@pytest.mark.parametrize("word", [False, "false", "os.environ/OFF"])
def test_a_cache_that_is_off_stays_off_whatever_its_params(word: object) -> None:
    section = {"cache": word, "cache_params": {"type": "disk", "redis_startup_nodes": [{"host": "a"}]}}
    assert not cache(section, REDIS_URL="redis://r", OFF="False").enabled


def test_a_cache_that_is_on_without_a_redis_to_be_found_says_that_it_has_none() -> None:
    for params in (None, {"ttl": 600, "namespace": "x"}):
        (line,) = parse({"litellm_settings": {"cache": True, "cache_params": params}}, HOME).warnings
        assert "kept without Redis" in line


FOR_THE_APP = {"model_name": "*", "litellm_params": {"model": "*", "api_base": "app"}}


def round_the_app(
    cache_params: dict[str, Any] | None = None, *entries: dict[str, Any], environ: dict[str, str] | None = None
) -> CacheSettings:
    document = {"litellm_settings": {"cache": True, "cache_params": cache_params}, "model_list": list(entries)}
    return parse(document, HOME | (environ or {})).round_the_app().cache


def test_an_app_of_which_nothing_says_which_it_is_keeps_its_answers_to_itself() -> None:
    assert round_the_app().kind == "memory"
    assert round_the_app({"ttl": 5}).kind == "memory"
    assert round_the_app(environ={"REDIS_HOST": ""}).kind == "memory"
    assert parse({}, HOME).round_the_app().cache.kind == "memory"
    assert parse({}, HOME).cache.kind == "disk", "and only there"


@pytest.mark.parametrize(
    ("params", "environ"),
    [
        ({"type": "disk"}, {}),
        ({"disk_cache_dir": "/shared"}, {}),
        ({"type": "redis", "host": "r"}, {}),
        ({"namespace": ""}, {"CACHE_PROXY_DIR": "/shared"}),
        ({}, {"REDIS_URL": "redis://r"}),
    ],
)
def test_a_store_that_other_apps_reach_needs_to_know_which_app_it_is_for(
    params: dict[str, Any], environ: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"cache_params\.namespace.*model_info\.identity.*type: local"):
        round_the_app(params, environ=environ)
    kind = "redis" if "host" in params or environ.get("REDIS_URL") else "disk"
    assert round_the_app({**params, "namespace": "ours"}, environ=environ).kind == kind
    known = {**FOR_THE_APP, "model_info": {"identity": "ours"}}
    assert round_the_app(params, known, environ=environ).kind == kind


def test_every_entry_for_the_app_must_say_which_it_is() -> None:
    known = {**FOR_THE_APP, "model_name": "m", "model_info": {"identity": "ours"}}
    known["litellm_params"] = {"model": "m", "api_base": "app"}
    with pytest.raises(ConfigError, match="which app"):
        round_the_app({"type": "disk"}, known)
    elsewhere = {"model_name": "*", "litellm_params": {"model": "*"}}
    assert round_the_app({"type": "disk"}, known, elsewhere).kind == "disk"
    beside = {"model_name": "m", "litellm_params": {"model": "infinity/m", "api_base": "http://other"}}
    unnamed = {**known, "model_info": {}}
    with pytest.raises(ConfigError, match="which app"):
        round_the_app({"type": "disk"}, unnamed, beside, elsewhere)


def test_an_app_without_room_in_memory_is_refused() -> None:
    with pytest.raises(ConfigError, match="memory_mib is 0"):
        parse({"cache_proxy_settings": {"memory_mib": 0}}, HOME).round_the_app()


@pytest.mark.parametrize("word", ["s3", "gcs", "azure-blob", "redis-semantic", "qdrant-semantic", "planted"])
def test_an_unknown_type_refuses_the_start_and_lists_the_known_ones(word: str) -> None:
    message = refused({"type": word})
    assert message.startswith("litellm_settings.cache_params.type: expected one of disk, local, redis")
    assert ("a wrong vector" in message) == word.endswith("-semantic")
    assert "planted" not in message


def test_redis_by_its_parts() -> None:
    params = {"host": "r", "port": "6380", "username": "u", "password": "p", "db": 2, "ssl": "true"}
    found = redis(params | {"max_connections": 5, "socket_timeout": "0.5"})
    assert found.password is not None
    assert found.password.get_secret_value() == "p"
    assert (found.url, found.host, found.port, found.username) == (None, "r", 6380, "u")
    assert (found.db, found.ssl, found.max_connections, found.socket_timeout) == (2, True, 5, 0.5)


def test_redis_by_litellms_variables() -> None:
    variables = {
        "REDIS_HOST": "r",
        "REDIS_PORT": "6380",
        "REDIS_PASSWORD": "p",
        "REDIS_USERNAME": "u",
        "REDIS_SSL": "True",
        "REDIS_DB": "3",
        "REDIS_NAMESPACE": "team",
    }
    found = redis({"port": 6381}, **variables)
    assert (found.host, found.port, found.username, found.ssl, found.db) == ("r", 6381, "u", True, 3)
    assert found.password is not None
    assert cache({"cache_params": {"type": "redis"}}, **variables).namespace == "team"
    assert cache({"cache_params": {"type": "redis", "namespace": "own"}}, **variables).namespace == "own"


@pytest.mark.parametrize("key", ["url", "redis_url"])
def test_redis_by_url(key: str) -> None:
    found = redis({key: "rediss://u:p@r:6380/2"}, REDIS_HOST="other")
    assert found.url is not None
    assert found.url.get_secret_value() == "rediss://u:p@r:6380/2"


def test_the_files_host_wins_over_the_environments_url() -> None:
    assert redis({"host": "r"}, REDIS_URL="redis://other").url is None
    assert redis({}, REDIS_URL="redis://other", REDIS_HOST="r").url is not None


@pytest.mark.parametrize(
    ("params", "environ", "where"),
    [
        ({}, {}, "litellm_settings.cache_params: redis needs a host"),
        ({}, {"REDIS_CLUSTER_NODES": "[]"}, "REDIS_CLUSTER_NODES"),
        ({}, {"REDIS_URL": "http://planted@r"}, "REDIS_URL"),
        ({"url": "redis://"}, {}, "litellm_settings.cache_params.url"),
        ({"url": "redis://:planted@r:port"}, {}, "litellm_settings.cache_params.url"),
        ({"url": "redis://r", "ssl": True}, {}, "litellm_settings.cache_params.url"),
        ({"host": "r"}, {"REDIS_PORT": "planted"}, "REDIS_PORT"),
        ({"host": "r"}, {"REDIS_PORT": "70000"}, "REDIS_PORT"),
        ({"host": "r"}, {"REDIS_SSL": "planted"}, "REDIS_SSL"),
    ],
)
def test_a_redis_that_can_not_be_reached_as_told_refuses_the_start(
    params: dict[str, Any], environ: dict[str, str], where: str
) -> None:
    message = refused({"type": "redis", **params}, **environ)
    assert message.startswith(where)
    assert "planted" not in message


@pytest.mark.parametrize(
    ("params", "environ", "folder"),
    [
        ({}, {}, "/home/someone/.cache/cache-proxy"),
        ({}, {"XDG_CACHE_HOME": "/xdg"}, "/xdg/cache-proxy"),
        ({}, {"XDG_CACHE_HOME": "/xdg", "CACHE_PROXY_DIR": "/ours"}, "/ours"),
        ({"disk_cache_dir": "~/file"}, {"CACHE_PROXY_DIR": "/ours"}, "/home/someone/file"),
    ],
)
def test_the_folder_of_the_disk_store(params: dict[str, str], environ: dict[str, str], folder: str) -> None:
    assert cache({"cache_params": params}, **environ).directory == Path(folder)


def test_lifetime_namespace_and_mode() -> None:
    found = cache({"cache_params": {"type": "disk", "ttl": "60", "namespace": "n", "mode": "default_off"}})
    assert (found.ttl, found.namespace, found.default_off) == (60, "n", True)
    usual = cache()
    assert (usual.ttl, usual.namespace, usual.default_off) == (None, "", False)
    both = {"ttl": 60, "default_in_memory_ttl": 5, "default_in_redis_ttl": 6}
    assert cache({"cache_params": {"type": "local", **both}}).ttl == 5
    assert cache({"cache_params": {"type": "redis", "host": "r", **both}}).ttl == 6
    assert cache({"cache_params": {"type": "disk", **both}}).ttl == 60


@pytest.mark.parametrize(
    ("calls", "held"),
    [
        (None, (True, True)),
        ([], (False, False)),
        (["acompletion", "aembedding"], (True, False)),
        (["rerank"], (False, True)),
        (["embedding", "arerank"], (True, True)),
    ],
)
def test_only_the_call_types_asked_for_are_cached(calls: list[str] | None, held: tuple[bool, bool]) -> None:
    found = cache({"cache_params": {"supported_call_types": calls}})
    assert (found.embeddings, found.rerank) == held


def test_keys_of_another_store_warn_by_name() -> None:
    params = {"type": "disk", "host": "r", "password": "planted", "s3_bucket_name": "b"}
    assert parse({"litellm_settings": {"cache_params": params}}, HOME).warnings == (
        (
            "litellm_settings.cache_params.s3_bucket_name is not acted on here: "
            "answers are kept on disk, in Redis or in memory"
        ),
        "litellm_settings.cache_params.host is not acted on here",
        "litellm_settings.cache_params.password is not acted on here",
    )


def test_a_cache_in_memory_needs_memory() -> None:
    document = {
        "litellm_settings": {"cache_params": {"type": "local"}},
        "cache_proxy_settings": {"memory_mib": 0},
    }
    with pytest.raises(ConfigError, match="memory_mib"):
        parse(document, HOME)


@pytest.mark.parametrize("calls", [[], ["acompletion", "completion"]])
def test_call_types_that_leave_nothing_to_cache_warn(calls: list[str]) -> None:
    found = parse({"litellm_settings": {"cache_params": {"supported_call_types": calls}}}, HOME)
    assert found.warnings == (
        "litellm_settings.cache_params.supported_call_types names neither embedding nor rerank, so nothing is cached",
    )


@pytest.mark.parametrize("calls", [None, ["arerank", "completion"], ["embedding"]])
def test_call_types_that_leave_something_to_cache_do_not_warn(calls: list[str] | None) -> None:
    assert parse({"litellm_settings": {"cache_params": {"supported_call_types": calls}}}, HOME).warnings == ()
