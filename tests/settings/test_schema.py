"""The JSON Schema of the file: current, true of every file we ship, and strict where a mistake can only be one."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from cache_proxy.errors import ConfigError
from cache_proxy.settings import parse
from cache_proxy.settings.schema import DEFAULTS, schema, text
from cache_proxy.settings.walk import sections

CONFIG = Path(__file__).parents[2] / "config"
EVERYTHING = Path(__file__).parent / "litellm_everything.yaml"
FILES = [*sorted(CONFIG.glob("*.yaml")), EVERYTHING]
HEADER = re.compile(r"# yaml-language-server: \$schema=(\S+)")
HOME = {"HOME": "/home/someone"}

validator = Draft7Validator(schema())


def faults(document: Any) -> list[str]:
    return [".".join(map(str, fault.absolute_path)) for fault in validator.iter_errors(document)]


def one_model(**params: Any) -> dict[str, Any]:
    return {"model_list": [{"model_name": "m", "litellm_params": {"model": "jina_ai/x", **params}}]}


def test_the_committed_schema_is_what_the_command_prints() -> None:
    assert (CONFIG / "schema.json").read_text() == text(), "run `cache-proxy schema > config/schema.json`"


def test_it_is_a_schema() -> None:
    Draft7Validator.check_schema(schema())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_valid_and_tells_editors_where_the_schema_is(path: Path) -> None:
    header = HEADER.match(path.read_text())
    assert header is not None
    assert (path.parent / header[1]).resolve() == CONFIG / "schema.json"
    assert faults(yaml.safe_load(path.read_text())) == []


def test_the_full_file_is_valid_with_every_setting_in_force() -> None:
    full = re.sub(r"(?m)^( *)#(?=\S)", r"\1", (CONFIG / "config.yaml").read_text())
    assert faults(yaml.safe_load(full)) == []


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"cache_proxy_settings": {"memory_mb": 5}}, "cache_proxy_settings"),
        ({"cache_proxy_settings": {"memory_mib": "much"}}, "cache_proxy_settings.memory_mib"),
        ({"cache_proxy_settings": {"memory_mib": -1}}, "cache_proxy_settings.memory_mib"),
        ({"cache_proxy_settings": {"memory_mib": [1]}}, "cache_proxy_settings.memory_mib"),
        ({"cache_proxy_settings": {"log_level": "loud"}}, "cache_proxy_settings.log_level"),
        ({"cache_proxy_settings": ["memory_mib"]}, "cache_proxy_settings"),
        ({"litellm_settings": {"cache": "perhaps"}}, "litellm_settings.cache"),
        ({"litellm_settings": {"num_retries": 1.5}}, "litellm_settings.num_retries"),
        ({"litellm_settings": {"cache_params": {"mode": "off"}}}, "litellm_settings.cache_params.mode"),
        ({"litellm_settings": {"cache_params": {"port": 70_000}}}, "litellm_settings.cache_params.port"),
        ({"litellm_settings": {"cache_params": {"sentinel_nodes": 7}}}, "litellm_settings.cache_params.sentinel_nodes"),
        ({"router_settings": {"model_group_alias": {"a": 5}}}, "router_settings.model_group_alias.a"),
        ({"router_settings": {"retry_policy": {"TimeoutErrorRetries": "often"}}}, "router_settings.retry_policy"),
        ({"general_settings": {"master_key": None}}, "general_settings.master_key"),
        ({"general_settings": {"master_key": 1234}}, "general_settings.master_key"),
        (one_model(rpm="many"), "model_list.0.litellm_params.rpm"),
        (one_model(model=None), "model_list.0.litellm_params.model"),
        ({"model_list": [{"model_name": "m"}]}, "model_list.0"),
        ({"model_list": ["m"]}, "model_list.0"),
        ({"credential_list": [{"credential_values": {}}]}, "credential_list.0"),
        ({"include": "other.yaml"}, "include"),
    ],
)
def test_a_wrong_file_is_refused_at_its_place_by_the_schema_as_by_the_server(
    document: dict[str, Any], place: str
) -> None:
    (found,) = faults_inside(document)
    assert place.startswith(found) or found.startswith(place)
    with pytest.raises(ConfigError):
        parse(document, HOME)


def faults_inside(document: Any) -> list[str]:
    """The places of the faults: of several ways in which a value may be written none fits, which is one fault."""
    found = []
    for fault in validator.iter_errors(document):
        inner = sorted(fault.context or [], key=lambda each: -len(each.absolute_path))
        found.append(".".join(map(str, (inner[0] if inner else fault).absolute_path)))
    return found


@pytest.mark.parametrize(
    "document",
    [
        {"cache_proxy_settings": {"memory_mib": "64", "trust_env": "true", "log_level": "os.environ/LEVEL"}},
        {"cache_proxy_settings": {"memory_mib": None, "cache_urls": "3600", "max_wait": "0.5"}},
        {"cache_proxy_settings": None, "model_list": None, "general_settings": {"master_key": "os.environ/KEY"}},
        {"litellm_settings": {"cache": "os.environ/ON", "request_timeout": "os.environ/SECONDS"}},
        {"litellm_settings": {"cache_params": {"sentinel_nodes": [["os.environ/HOST", 26379]], "port": "6379"}}},
        {"litellm_settings": {"cache_params": {"redis_startup_nodes": [{"host": "h", "port": "7001"}]}}},
        {"litellm_settings": {"callbacks": ["otel"], "nobody_knows_this": {"a": 1}}},
        {"router_settings": {"model_group_alias": {"a": "m", "b": {"model": "m", "hidden": "true"}}}},
        one_model(api_base="http://os.environ/HOST:8080/v1", input_cost_per_token="5e-8", dimensions=64, weight=2),
        {"guardrails": [{"guardrail_name": "pii"}], "something_new": 5},
    ],
)
def test_what_litellm_and_yaml_allow_is_allowed(document: dict[str, Any]) -> None:
    assert faults(document) == []


def test_an_editor_can_say_what_each_key_means_and_what_it_is_by_default() -> None:
    made = schema()
    own = made["definitions"]["OwnSettings"]["properties"]
    assert own["memory_mib"]["default"] == 128
    assert made["definitions"]["RouterSettings"]["properties"]["timeout"]["default"] == DEFAULTS["timeout"] == 120
    for _, model in sections():
        described = made["properties"] if model.__name__ == "File" else made["definitions"].get(model.__name__, {})
        for name, member in described.get("properties", {}).items():
            assert member["description"], (model, name)


def test_an_editor_is_told_what_is_not_acted_on_and_why() -> None:
    patterns = schema()["definitions"]["LiteLLMParams"]["patternProperties"]
    told = {
        name: [found["description"] for pattern, found in patterns.items() if re.search(pattern, name)]
        for name in ("aws_region_name", "output_cost_per_token", "input_cost_per_token", "litellm_credential_name")
    }
    assert told["aws_region_name"] == ["Not acted on here: the API it is for is not spoken here."]
    assert told["output_cost_per_token"] == ["Not acted on here: the price is input_cost_per_token."]
    assert told["input_cost_per_token"] == told["litellm_credential_name"] == []


def test_the_defaults_it_tells_of_are_those_of_the_code() -> None:
    (deployment,) = parse({}, HOME).deployments
    assert DEFAULTS["timeout"] == DEFAULTS["request_timeout"] == deployment.timeout
    assert DEFAULTS["num_retries"] == DEFAULTS["max_retries"] == deployment.num_retries
    assert DEFAULTS["max_parallel_requests"] == deployment.max_parallel_requests
    assert DEFAULTS["default_max_parallel_requests"] == deployment.max_parallel_requests
    assert (DEFAULTS["allowed_fails"], DEFAULTS["cooldown_time"]) == (deployment.allowed_fails, deployment.cooldown)


def test_it_is_small_enough_for_an_editor() -> None:
    assert len(json.dumps(schema())) < 100_000


def test_the_schema_is_one_for_javascript_too() -> None:
    """Its patterns are expressions of JavaScript, which are stricter than Python's."""
    command = [sys.executable, "-m", "check_jsonschema", "--check-metaschema", str(CONFIG / "schema.json")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
