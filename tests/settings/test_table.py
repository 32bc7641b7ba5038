"""docs/config.md against the code, both ways: what it says is acted on is, what it says warns does, nothing lacks."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cache_proxy.errors import ConfigError
from cache_proxy.settings import Settings, parse
from cache_proxy.settings.base import RequestParams
from cache_proxy.settings.ignored import IGNORED
from cache_proxy.settings.keys import KeyEntry
from cache_proxy.settings.own import OwnSettings
from cache_proxy.settings.router_cache import WORDS
from cache_proxy.settings.table import markdown
from cache_proxy.settings.walk import sections

PAGE = (Path(__file__).parents[2] / "docs" / "config.md").read_text()
ENVIRON = {"HOME": "/home/someone", "JINA_AI_API_KEY": "jina_x", "LITELLM_ENVIRONMENT": "production"}
PARAMS = "model_list[].litellm_params"
CACHE = "litellm_settings.cache_params"
ROUTER = "router_settings"
OWN = "cache_proxy_settings"

KEYS = "cache_proxy_settings.keys[]"

OPEN = (RequestParams, OwnSettings, KeyEntry)
"""The sections whose other keys mean something, or refuse the start."""

Row = tuple[str, str]
"""The path of a section, and one of its keys."""


def rows(*, warning: bool) -> list[Row]:
    """The rows of the page that say a key is acted on, or those that say it warns."""
    found: list[Row] = []
    paths: list[str] = []
    for line in PAGE.splitlines():
        if line.startswith("### "):
            paths = re.findall(r"`([^`]+)`", line) or [""]
        elif line.startswith("| `") and paths:
            keys, told = line.split(" | ", 1)
            if told.startswith("*warns:*") == warning:
                found += [(path, key) for path in paths for key in re.findall(r"`([^`]+)`", keys)]
    return found


def test_the_tables_are_those_that_the_command_prints() -> None:
    assert markdown() in PAGE, "put what `cache-proxy schema --format markdown` prints into docs/config.md"


def test_every_field_and_every_known_key_is_on_the_page_and_no_other() -> None:
    fields = {(path, name) for path, model in sections() for name in model.model_fields}
    assert set(rows(warning=False)) == fields
    assert set(rows(warning=True)) == {
        (path, key) for path, reasons in IGNORED.items() for keys in reasons.values() for key in keys
    }


def test_every_known_key_belongs_to_a_section_that_there_is() -> None:
    assert set(IGNORED) <= {path for path, _ in sections()}


def test_every_row_says_something_and_ends_like_a_sentence() -> None:
    told = [line.split(" | ", 1)[1].removesuffix(" |") for line in markdown().splitlines() if line.startswith("| `")]
    assert [text for text in told if not (text.startswith("*warns:* ") or text.endswith("."))] == []


# A document for each row ---------------------------------------------------------------------------------------------

NODES = [{"host": "r", "port": 7001}]
WITHIN: dict[str, dict[str, Any]] = {
    # What else has to be there for a key of cache_params to mean something.
    "default_in_memory_ttl": {"type": "local"},
    "disk_cache_dir": {"type": "disk"},
    "redis_startup_nodes": {"type": "redis", "host": None},
    "startup_nodes": {"type": "redis", "host": None},
    "sentinel_nodes": {"type": "redis", "host": None, "service_name": "primary"},
    "service_name": {"type": "redis", "host": None, "sentinel_nodes": [["r", 7001]]},
    "sentinel_username": {"type": "redis", "host": None, "sentinel_nodes": [["r", 7001]], "service_name": "primary"},
    "sentinel_password": {"type": "redis", "host": None, "sentinel_nodes": [["r", 7001]], "service_name": "primary"},
    "unix_socket_path": {"type": "redis", "host": None},
    "url": {"type": "redis", "host": None},
    "redis_url": {"type": "redis", "host": None},
    "ssl_keyfile": {"type": "redis", "ssl": True, "ssl_certfile": "/cert.pem"},
    "ssl_password": {"type": "redis", "ssl": True, "ssl_certfile": "/cert.pem", "ssl_keyfile": "/key.pem"},
}
MEANT = {"cache_responses": True, "redis_host": "r", "redis_port": 6379}
"""Where the router's Redis is meant as the cache."""

VALUES: dict[str, Any] = {
    "": {
        "model_list": [],
        "environment_variables": {"A": "b"}, "litellm_settings": {}, "router_settings": {}, "general_settings": {},
        "cache_proxy_settings": {},
        "credential_list": [{"credential_name": "c"}],
    },
    "model_list[]": {"model_name": "m", "litellm_params": {"model": "jina_ai/x"}, "model_info": {}},
    PARAMS: {
        "model": "jina_ai/x", "api_key": "k", "api_base": "http://h", "base_url": "http://h",
        "litellm_credential_name": "shared", "custom_llm_provider": "jina_ai", "extra_headers": {"x-a": "b"},
        "headers": {"x-a": "b"}, "extra_body": {"a": "b"}, "additional_drop_params": ["user"],
        "allowed_openai_params": ["dimensions"], "ssl_verify": True, "drop_params": True,
    },
    "model_list[].model_info": {
        "id": "i", "mode": "embedding", "supported_environments": ["production"], "blocked": False,
        "allowed_fails_policy": {}, "identity": "i", "items": "separate", "documents": "pairs",
        "harmless_params": ["trace"],
    },
    "litellm_settings": {
        "cache_params": {}, "ssl_verify": True, "cache": False, "drop_params": True, "json_logs": True,
        "turn_off_message_logging": True, "redact_user_api_key_info": True,
        "enable_caching_on_provider_specific_optional_params": True,
    },
    CACHE: {
        "type": "redis", "namespace": "n", "mode": "default_on", "supported_call_types": ["embedding"],
        "disk_cache_dir": "/d", "url": "redis://r", "redis_url": "redis://r", "host": "r", "port": 6379,
        "unix_socket_path": "/r.sock", "redis_startup_nodes": NODES, "startup_nodes": NODES,
        "sentinel_nodes": [["r", 7001]], "service_name": "primary", "sentinel_username": "u", "username": "u",
        "sentinel_password": "p", "password": "p", "db": 0, "ssl": True, "ssl_ca_certs": "/ca.pem",
        "ssl_ca_data": "pem", "ssl_certfile": "/cert.pem", "ssl_keyfile": "/key.pem", "ssl_password": "p",
        "ssl_cert_reqs": "required", "ssl_check_hostname": True, "ssl_ciphers": "ECDHE", "socket_keepalive": True,
        "client_name": "proxy",
    },
    ROUTER: {
        "model_group_alias": {"a": "m"}, "retry_policy": {}, "model_group_retry_policy": {}, "cache_kwargs": {"db": 1},
        "allowed_fails_policy": {}, "disable_cooldowns": True, "routing_strategy": "least-busy",
        "enable_weighted_failover": True, "default_litellm_params": {"dimensions": 64}, "redis_port": 6379,
        "cache_responses": True, "redis_url": "redis://r", "redis_host": "r", "redis_password": "p", "redis_db": 0,
    },
    "router_settings.model_group_alias.*": {"model": "m", "hidden": True},
    f"{CACHE}.redis_startup_nodes[]": NODES[0],
    f"{CACHE}.startup_nodes[]": NODES[0],
    f"{CACHE}.sentinel_nodes[]": NODES[0],
    "general_settings": {"master_key": "sk-1", "database_url": "postgresql://h/ledger"},
    OWN: {
        "cache_urls": False, "coalesce": "process", "trust_env": False, "log_format": "off", "log_level": "info",
        "ledger": True, "ledger_dir": "/d", "ledger_failure": "continue", "keys": [],
    },
    KEYS: {
        "key": "sk-2", "models": ["m"], "budget_duration": "30d", "allowed_cache_controls": ["ttl"], "blocked": True,
        "expires": "2030-01-31",
    },
    "credential_list[]": {"credential_name": "shared", "credential_values": {}, "credential_info": {}},
}  # fmt: skip
USUAL = 1
"""What a key is tried with that is not above: a number."""


def document(path: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A file with these keys in this section, and what they need around them."""
    params: dict[str, Any] = {"model": "jina_ai/x"}
    entry: dict[str, Any] = {"model_name": "m", "litellm_params": params, "model_info": {}}
    shared = {"credential_name": "shared", "credential_values": {"api_key": "k"}}
    made: dict[str, Any] = {"model_list": [entry], "credential_list": [shared]}
    if path == CACHE:
        around = {"type": "redis", "host": "r"} | ({"ssl": True} if any(key[:3] == "ssl" for key in given) else {})
        for key in given:
            around |= WITHIN.get(key, {})
        made["litellm_settings"] = {"cache_params": {**around, **given}}
        return made
    if path.startswith(f"{CACHE}."):
        made["litellm_settings"] = {"cache_params": nodes(path, {"host": "r", "port": 7001, **given})}
        return made
    if path == KEYS:
        return {**made, "general_settings": {"master_key": "sk-1"}, OWN: {"keys": [{"key": "sk-2", **given}]}}
    section: Any = made
    for part in path.split(".") if path else []:
        section = section.setdefault("m" if part == "*" else part.removesuffix("[]"), {})
        section = section[0] if isinstance(section, list) else section
    section |= MEANT if path == ROUTER and given.keys() & {*WORDS, "cache_kwargs"} else {}
    section |= {"model": "m"} if path == "router_settings.model_group_alias.*" else {}
    section |= given
    return made


def nodes(path: str, node: dict[str, Any]) -> dict[str, Any]:
    """``cache_params`` with this node in the list that the path names."""
    name = path.removeprefix(f"{CACHE}.").removesuffix("[]")
    return {"type": "redis", name: [node]} | ({"service_name": "primary"} if name == "sentinel_nodes" else {})


def parsed(path: str, given: Mapping[str, Any]) -> Settings:
    return parse(document(path, given), ENVIRON)


def naming(settings: Settings, name: str) -> list[str]:
    return [line for line in settings.warnings if re.match(rf"{re.escape(name)}(?![\w.-])", line)]


def of(path: str, key: str) -> str:
    return f"{path}.{key}".removeprefix(".")


INCLUDE = ("", "include")
"""Works in a file only: see test_settings_loading."""


def by_section(*, warning: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path, key in rows(warning=warning):
        found.setdefault(path, []).append(key)
    return found


ACTED_ON, WARNING = by_section(warning=False), by_section(warning=True)


@pytest.mark.parametrize("path", ACTED_ON)
def test_what_the_page_says_is_acted_on_gives_no_warning(path: str) -> None:
    warned = []
    for key in ACTED_ON[path]:
        if (path, key) != INCLUDE:
            warned += naming(parsed(path, {key: VALUES.get(path, {}).get(key, USUAL)}), of(path, key))
    assert warned == []


@pytest.mark.parametrize("path", WARNING)
def test_what_the_page_says_warns_does_so_once_by_its_name_and_stops_nothing(path: str) -> None:
    names = [key.replace("*", "x") for key in WARNING[path]]
    settings = parsed(path, dict.fromkeys(names, "planted"))
    for name in names:
        (line,) = naming(settings, of(path, name))
        assert re.fullmatch(r"[^:]* is not acted on here: [^:]+", line)
    assert "planted" not in "\n".join(settings.warnings)


@pytest.mark.parametrize("path", [path for path, model in sections() if not issubclass(model, OPEN)])
def test_a_key_that_nobody_knows_warns_once_by_its_name_too(path: str) -> None:
    settings = parsed(path, {"nobody_knows_this": "planted"})
    (line,) = naming(settings, of(path, "nobody_knows_this"))
    assert line.endswith("nobody_knows_this is not acted on here")
    assert "planted" not in "\n".join(settings.warnings)


@pytest.mark.parametrize("path", [path for path, model in sections() if issubclass(model, RequestParams)])
def test_a_key_that_nobody_knows_is_a_parameter_of_the_request_where_those_are_set(path: str) -> None:
    settings = parsed(path, {"nobody_knows_this": 1})
    assert settings.warnings == ()
    assert settings.deployments[0].default_params == {"nobody_knows_this": 1}


@pytest.mark.parametrize("path", [OWN, KEYS])
def test_our_own_sections_are_those_whose_unknown_keys_refuse_the_start(path: str) -> None:
    with pytest.raises(ConfigError, match="nobody_knows_this is not a setting"):
        parsed(path, {"nobody_knows_this": 1})
