"""A LiteLLM configuration from real life: it loads, warns by name, and lets no secret out."""

import traceback
from typing import Any

import pytest
import yaml

from cache_proxy.errors import ConfigError
from cache_proxy.settings import parse

REAL_LIFE = """
environment_variables:
  LANGFUSE_SECRET: planted-langfuse
model_list:
  - model_name: gpt-4o
    litellm_params: {model: openai/gpt-4o, api_key: planted-openai, temperature: 0.2, stream_timeout: 30}
    model_info: {mode: chat, base_model: gpt-4o, supports_vision: true}
  - model_name: azure-ada
    litellm_params: {model: azure/ada, api_base: os.environ/AZURE_BASE, api_key: os.environ/AZURE_KEY, api_version: "1"}
  - model_name: claude
    litellm_params: {model: bedrock/anthropic.claude-3, aws_region_name: us-west-2, aws_secret_access_key: planted-aws}
  - model_name: embedding-model
    litellm_params:
      model: jina_ai/jina-embeddings-v3
      api_key: planted-jina
      rpm: 500
      extra_headers: {authorization: planted-header}
      vendor_token: planted-param
    model_info: {id: emb, mode: embedding, base_model: jina-embeddings-v3, output_vector_size: 1024}
litellm_settings:
  set_verbose: true
  drop_params: true
  num_retries: 3
  request_timeout: 60
  success_callback: [langfuse, prometheus]
  failure_callback: [sentry]
  callbacks: [otel]
  fallbacks: [{embedding-model: [azure-ada]}]
  default_fallbacks: [gpt-4o]
  context_window_fallbacks: [{gpt-4o: [claude]}]
  default_team_settings: [{team_id: a, langfuse_secret: planted-team}]
  cache: true
  cache_params:
    type: redis
    host: redis
    password: planted-redis
    ttl: 600
    namespace: litellm
    redis_flush_size: 100
    supported_call_types: [acompletion, aembedding, arerank]
router_settings:
  routing_strategy: usage-based-routing-v2
  redis_host: redis
  redis_password: planted-router
  fallbacks: [{gpt-4o: [claude]}]
  enable_pre_call_checks: true
  allowed_fails: 5
  cooldown_time: 30
  model_group_alias: {text-embedding-3-small: embedding-model}
general_settings:
  master_key: sk-planted-master
  database_url: postgresql://u:planted-db@db/litellm
  alerting: [slack]
  allowed_ips: [10.0.0.1]
  store_model_in_db: true
guardrails:
  - guardrail_name: pii
    litellm_params: {guardrail: presidio, mode: pre_call, api_key: planted-guard}
mcp_servers: {deepwiki: {url: https://planted-mcp}}
callback_settings: {otel: {message_logging: false}}
"""


def real_life() -> dict[str, Any]:
    document = yaml.safe_load(REAL_LIFE)
    assert isinstance(document, dict)
    return document


def test_a_big_configuration_starts_and_does_what_it_says() -> None:
    settings = parse(real_life(), {})
    (deployment,) = settings.deployments
    assert (deployment.id, deployment.model, deployment.rpm) == ("emb", "jina-embeddings-v3", 500)
    assert (deployment.num_retries, deployment.timeout) == (3, 60)
    assert (deployment.allowed_fails, deployment.cooldown) == (5, 30)
    assert (settings.cache.kind, settings.cache.ttl, settings.cache.namespace) == ("redis", 600, "litellm")
    found = settings.route("text-embedding-3-small")
    assert found is not None
    assert found.group == "embedding-model"


def test_every_key_not_acted_on_warns_once_by_its_name() -> None:
    lines = parse(real_life(), {}).warnings
    ignored = [line.partition(" is not acted on here") for line in lines]
    assert sorted(name for name, found, _ in ignored if not found) == [
        "model_list: azure-ada can not be served here and is skipped",
        "model_list: claude can not be served here and is skipped",
        "model_list: gpt-4o can not be served here and is skipped",
    ]
    assert sorted(name for name, found, _ in ignored if found) == sorted(
        [
            "model_list[].model_info.base_model",
            "model_list[].model_info.output_vector_size",
            "litellm_settings.set_verbose",
            "litellm_settings.success_callback",
            "litellm_settings.failure_callback",
            "litellm_settings.callbacks",
            "litellm_settings.fallbacks",
            "litellm_settings.default_fallbacks",
            "litellm_settings.context_window_fallbacks",
            "litellm_settings.default_team_settings",
            "litellm_settings.cache_params.redis_flush_size",
            "router_settings.redis_host",
            "router_settings.redis_password",
            "router_settings.fallbacks",
            "router_settings.enable_pre_call_checks",
            "router_settings.routing_strategy",
            "general_settings.alerting",
            "general_settings.allowed_ips",
            "general_settings.store_model_in_db",
            "guardrails",
            "mcp_servers",
            "callback_settings",
        ]
    )


def test_a_warning_says_why_where_that_is_known() -> None:
    lines = parse(real_life(), {}).warnings
    assert (
        "litellm_settings.fallbacks is not acted on here: an answer of another model would be a wrong answer" in lines
    )
    assert (
        "general_settings.allowed_ips is not acted on here: who gets in is decided by the master key and the keys alone"
        in lines
    )
    assert "router_settings.routing_strategy is not acted on here: simple-shuffle is used" in lines
    assert "router_settings.redis_host is not acted on here: limits are kept in the cache's store" in lines


def test_no_secret_is_seen_in_a_repr_or_a_warning() -> None:
    settings = parse(real_life(), {})
    assert settings.master_key is not None
    assert settings.deployments[0].extra_headers == {"authorization": "planted-header"}
    for text in (repr(settings), str(settings), "\n".join(settings.warnings), repr(settings.route("embedding-model"))):
        assert "planted" not in text


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("litellm_settings", "cache_params", "password"), ["planted-list"]),
        (("litellm_settings", "cache_params", "port"), "planted-port"),
        (("litellm_settings", "cache_params", "url"), "planted-url"),
        (("litellm_settings", "cache"), "planted-word"),
        (("litellm_settings", "cache_params"), "planted-params"),
        (("general_settings", "master_key"), {"planted": "planted"}),
        (("general_settings", "master_key"), "planted-\u2713"),
        (("general_settings",), "planted-section"),
        (("model_list", 3, "litellm_params", "api_key"), 5_000_000_000),
        (("model_list", 3, "litellm_params", "api_key"), "planted\u00e9"),
        (("model_list", 3, "litellm_params", "api_base"), "https://:planted@host"),
        (("model_list", 3, "litellm_params", "extra_headers"), "planted"),
        (("model_list", 3, "litellm_params", "rpm"), "planted"),
        (("cache_proxy_settings",), {"log_level": "planted"}),
        (("general_settings", "master_key"), "os.environ/planted_instead_of_a_name"),
    ],
)
def test_no_secret_is_seen_in_an_error_or_its_traceback(path: tuple[str | int, ...], value: object) -> None:
    document: Any = real_life()
    section = document
    for part in path[:-1]:
        section = section[part]
    section[path[-1]] = value
    with pytest.raises(ConfigError) as error:
        parse(document, {})
    text = "".join(traceback.format_exception(error.value))
    assert "planted" not in str(error.value)
    assert "planted" not in text
    assert "5000000000" not in text
    assert error.value.__cause__ is None
    assert error.value.__context__ is None or error.value.__suppress_context__


THEIR_SAMPLE = """
model_list:
  - {model_name: gpt-3.5, litellm_params: {model: gpt-3.5-turbo, region_name: eu}, model_info: {id: "1"}}
  - {model_name: gpt-3.5, litellm_params: {model: azure/gpt, api_base: https://a.azure.test/, api_version: 2023-05-15}}
  - {model_name: fake, litellm_params: {model: openai/fake-1, api_key: k, api_base: https://fake.test/, rpm: 1000}}
  - {model_name: fake, litellm_params: {model: openai/fake-2, api_key: k, api_base: https://fake.test/, rpm: 1000}}
  - {model_name: llama, litellm_params: {model: openai/llama, api_base: "http://a:8000/v1", temperature: 0.2}}
  - {model_name: llama, litellm_params: {model: openai/llama, api_base: "http://b:8000/v1"}}
  - {model_name: gateway, litellm_params: {model: openai/gpt-4o, api_base: "https://gw.test/v1?api-version=2024"}}
  - {model_name: bad, litellm_params: {model: openai/bad, api_key: k, api_base: https://fake.test/, mock_timeout: true}}
  - {model_name: "*", litellm_params: {model: openai/*, api_key: k}}
router_settings:
  routing_strategy: usage-based-routing-v2
  model_group_alias: {my-alias: fake}
general_settings: {master_key: sk-1234, store_model_in_db: true}
"""


def test_a_sample_about_nothing_but_chat_starts_with_its_groups_and_gateways() -> None:
    settings = parse(yaml.safe_load(THEIR_SAMPLE), {})
    assert [one.model_name for one in settings.deployments] == ["bad"], "which could as well be an embedder"
    skipped = [line.split(" ")[1] for line in settings.warnings if " is skipped" in line]
    assert sorted(skipped) == ["*", "fake", "gateway", "gpt-3.5", "llama"]


def test_cooldowns_can_be_turned_off_and_litellm_settings_are_second() -> None:
    common = {"allowed_fails": 0, "cooldown_time": 9}
    document = {"litellm_settings": common, "router_settings": {"disable_cooldowns": True}}
    (deployment,) = parse(document, {"HOME": "/h"}).deployments
    assert (deployment.allowed_fails, deployment.cooldown) == (0, None)
    (deployment,) = parse({"litellm_settings": common}, {"HOME": "/h"}).deployments
    assert (deployment.allowed_fails, deployment.cooldown) == (0, 9)
