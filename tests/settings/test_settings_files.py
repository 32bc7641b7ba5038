"""The files of ``config/``: complete, true to the code, and started as they are."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from cache_proxy.settings import OwnSettings, load, parse
from cache_proxy.settings.entries import Credential, LiteLLMParams, ModelEntry, ModelInfo
from cache_proxy.settings.keys import KeyEntry
from cache_proxy.settings.sections import CacheParams, File, GeneralSettings, LiteLLMSettings, RouterSettings

CONFIG = Path(__file__).parents[2] / "config"
ENVIRON = {
    "HOME": "/home/someone",
    "JINA_AI_API_KEY": "jina_1",
    "JINA_AI_API_KEY_2": "jina_2",
    "REDIS_URL": "redis://redis:6379/1",
    "REDIS_PASSWORD": "redis-secret",
    "LITELLM_MASTER_KEY": "sk-2",
    "LITELLM_ENVIRONMENT": "production",
}
BARE = {"HOME": "/home/someone"}


def uncommented() -> dict[str, Any]:
    """config.yaml with every setting in force."""
    text = (CONFIG / "config.yaml").read_text()
    document = yaml.safe_load(re.sub(r"(?m)^( *)#(?=\S)", r"\1", text))
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_every_file_starts_as_it_is_and_without_warnings(path: Path) -> None:
    # A REDIS_URL that the file does not ask for is named, where the file says where Redis is.
    text = path.read_text()
    environ = {name: value for name, value in ENVIRON.items() if name != "REDIS_URL" or name in text}
    assert load(path, environ).warnings == ()


def test_the_full_file_as_it_stands_changes_nothing() -> None:
    assert load(CONFIG / "config.yaml", BARE) == load(None, BARE)


@pytest.mark.parametrize(
    ("section", "where"),
    [
        (File, ()),
        (Credential, ("credential_list", 0)),
        (ModelEntry, ("model_list", 0)),
        (LiteLLMParams, ("model_list", 0, "litellm_params")),
        (ModelInfo, ("model_list", 0, "model_info")),
        (LiteLLMSettings, ("litellm_settings",)),
        (CacheParams, ("litellm_settings", "cache_params")),
        (RouterSettings, ("router_settings",)),
        (GeneralSettings, ("general_settings",)),
        (OwnSettings, ("cache_proxy_settings",)),
    ],
)
def test_the_full_file_shows_every_setting_and_no_other(section: type[BaseModel], where: tuple[str | int, ...]) -> None:
    shown: Any = uncommented()
    for part in where:
        shown = shown[part]
    assert set(shown) - {"dimensions"} == set(section.model_fields)


def test_the_defaults_that_the_full_file_shows_are_those_of_the_code() -> None:
    document = uncommented()
    (example,) = document["cache_proxy_settings"].pop("keys")
    assert set(example) == set(KeyEntry.model_fields)
    assert OwnSettings.model_validate(document["cache_proxy_settings"]) == OwnSettings()

    examples = document["litellm_settings"]["cache_params"]
    for key in ("ttl", "default_in_memory_ttl", "default_in_redis_ttl"):
        del examples[key]
    for key in ("master_key", "database_url"):
        del document["general_settings"][key]
    shown = parse(without(document, "include", "model_list"), BARE)
    usual = parse({}, BARE)
    assert replace(shown.cache, chosen=False) == usual.cache, "said, which is all that differs"
    assert shown.own == usual.own
    # Only a number of calls at a time that somebody wrote holds for all workers together.
    assert [replace(one, parallel_everywhere=False) for one in shown.deployments] == list(usual.deployments)


def test_the_defaults_shown_for_a_deployment_are_those_of_the_code() -> None:
    document = uncommented()
    entry = document["model_list"][0]
    examples = {"rpm", "tpm", "input_cost_per_token", "weight", "order", "extra_headers", "dimensions"}
    full = parse({"model_list": [entry], "credential_list": document["credential_list"]}, ENVIRON).deployments[0]
    plain = parse(
        {
            "model_list": [
                {
                    "model_name": entry["model_name"],
                    "litellm_params": {"model": entry["litellm_params"]["model"]}
                    | {key: entry["litellm_params"][key] for key in examples},
                    "model_info": {key: entry["model_info"][key] for key in ("mode", "items", "documents")},
                }
            ]
        },
        ENVIRON,
    ).deployments[0]
    said = {"any_name", "identified", "parallel_everywhere"}
    assert all(getattr(full, name) for name in said)
    for name in set(full.__slots__) - said:
        assert getattr(full, name) == getattr(plain, name), name


def test_the_redis_defaults_that_the_full_file_shows_are_those_of_the_code() -> None:
    params = uncommented()["litellm_settings"]["cache_params"]
    defaults = (
        "port", "db", "ssl", "ssl_cert_reqs", "ssl_check_hostname", "max_connections", "socket_timeout",
        "socket_connect_timeout", "socket_keepalive", "health_check_interval",
    )  # fmt: skip
    shown = {key: params[key] for key in defaults}
    one = {"litellm_settings": {"cache_params": {"type": "redis", "host": "localhost"}}}
    other = {"litellm_settings": {"cache_params": {"type": "redis", "host": "localhost", **shown}}}
    assert parse(one, BARE).cache == parse(other, BARE).cache


def test_every_setting_of_our_own_is_described() -> None:
    assert all(field.description for field in OwnSettings.model_fields.values())


def without(document: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in keys}
