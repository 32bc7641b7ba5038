"""``model_list``: what is served, by whom, as whose answers, under which names."""

from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cache_proxy.errors import ConfigError
from cache_proxy.settings import DeploymentSettings, Settings, load, parse

CONFIG = Path(__file__).parents[2] / "config"
ENVIRON = {"HOME": "/home/someone", "JINA_AI_API_KEY": "jina_env"}


def entry(name: str, model: str, info: dict[str, Any] | None = None, **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": model, **params}, "model_info": info or {}}


def models(*entries: dict[str, Any], **sections: Any) -> Settings:
    return parse({"model_list": list(entries), **sections}, ENVIRON)


def only(*entries: dict[str, Any], **sections: Any) -> DeploymentSettings:
    (deployment,) = models(*entries, **sections).deployments
    return deployment


def refused(*entries: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigError) as error:
        models(*entries, **sections)
    return str(error.value)


def test_litellms_sample_for_jina_loads_as_written() -> None:
    settings = load(CONFIG / "litellm.yaml", ENVIRON)
    embedding, rerank = settings.deployments
    assert (embedding.model_name, embedding.model) == ("embedding-model", "jina-embeddings-v3")
    assert (rerank.model_name, rerank.model) == ("rerank-model", "jina-reranker-v2-base-multilingual")
    assert embedding.provider == rerank.provider == "jina_ai"
    assert embedding.api_base == embedding.identity == "https://api.jina.ai/v1"
    assert embedding.on_jina
    assert embedding.api_key is not None
    assert embedding.api_key.get_secret_value() == "jina_env"
    assert settings.master_key is not None
    assert settings.master_key.get_secret_value() == "sk-1234"
    assert settings.cache.enabled
    assert settings.cache.kind == "disk"
    assert settings.warnings == ()


@pytest.mark.parametrize(
    ("model", "params", "upstream"),
    [
        ("jina_ai/jina-embeddings-v3", {}, ("jina_ai", "jina-embeddings-v3")),
        ("jina-embeddings-v3", {}, ("jina_ai", "jina-embeddings-v3")),
        ("elser-v2", {}, ("jina_ai", "elser-v2")),
        ("anything", {"custom_llm_provider": "jina_ai"}, ("jina_ai", "anything")),
        ("infinity/m", {"api_base": "http://h"}, ("infinity", "m")),
        ("hosted_vllm/BAAI/bge-m3", {"api_base": "http://h"}, ("hosted_vllm", "BAAI/bge-m3")),
        ("openai/text-embedding-3-small", {"api_base": "http://h"}, ("openai", "text-embedding-3-small")),
        ("BAAI/bge-m3", {"api_base": "http://h"}, ("jina_ai", "BAAI/bge-m3")),
        ("bge-m3", {"api_base": "http://h"}, ("jina_ai", "bge-m3")),
    ],
)
def test_the_provider_is_taken_off_the_name(model: str, params: dict[str, Any], upstream: tuple[str, str]) -> None:
    deployment = only(entry("m", model, **params))
    assert (deployment.provider, deployment.model) == upstream


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("openai/gpt-4o", {}),
        ("gpt-4o", {}),
        ("BAAI/bge-m3", {}),
        ("jina_ai/", {}),
        ("bedrock/amazon.titan-embed", {"aws_region_name": "os.environ/NO_SUCH"}),
        ("azure/ada", {"api_base": "os.environ/NO_SUCH", "api_key": "os.environ/NO_SUCH", "timeout": "long"}),
        ("azure/ada", {"api_base": "https://a.openai.azure.com?x=1"}),
    ],
)
def test_what_can_not_be_served_is_skipped_with_one_warning(model: str, params: dict[str, Any]) -> None:
    settings = models(entry("other", model, **params), entry("m", "jina_ai/x"))
    assert [one.model_name for one in settings.deployments] == ["m"]
    assert settings.warnings == ("model_list: other can not be served here and is skipped",)


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"api_base": "https://gateway/v1?api-version=planted"}, "litellm_params.api_base: a base URL has no ? or #"),
        ({"api_base": "https://u:planted@h/v1"}, "litellm_params.api_base: a URL here may hold no user"),
        ({"api_base": "${PLANTED}"}, "litellm_params.api_base: expected a URL"),
        ({"api_base": "http://h", "rpm": 0}, "litellm_params.rpm: the value should be greater"),
        ({"api_base": "http://h", "extra_headers": {"x": 1}}, "litellm_params.extra_headers.x: the value should"),
        ({"api_base": "http://h", "extra_headers": {"x": "planted ä"}}, "litellm_params.extra_headers: expected names"),
        ({"api_base": "http://h", "since": date(2026, 1, 1)}, "litellm_params.since: JSON can not say this"),
        (
            {"api_base": "http://h", "litellm_credential_name": "planted"},
            "litellm_params.litellm_credential_name names",
        ),
        ({"api_base": "http://h", "model": "openai/*"}, "litellm_params.model has a * that model_name lacks"),
    ],
)
def test_what_may_be_a_chat_model_is_skipped_where_it_can_not_be_obeyed(params: dict[str, Any], why: str) -> None:
    chat = entry("gpt", **({"model": "openai/gpt-4o"} | params))
    settings = models(chat, entry("m", "jina_ai/x"))
    assert [one.model_name for one in settings.deployments] == ["m"]
    (line,) = settings.warnings
    assert line.startswith(f"model_list: gpt can not be used as it is written and is skipped (model_list[0].{why}")
    assert "planted" not in line.lower()
    assert settings.unset == ()


CERTAIN = [
    entry("m", "jina_ai/x"),
    entry("m", "x", custom_llm_provider="jina_ai"),
    entry("m", "openai/jina-embeddings-v3"),
    entry("m", "hosted_vllm/x", {"mode": "embedding"}),
    entry("m", "openai/x", {"mode": "rerank"}),
    entry("m", "openai/x", {"identity": "ours"}),
    entry("m", "infinity/x"),
]


@pytest.mark.parametrize("certain", CERTAIN)
def test_what_is_certainly_for_this_proxy_is_never_skipped(certain: dict[str, Any]) -> None:
    def told(**params: Any) -> str:
        return refused({**certain, "litellm_params": certain["litellm_params"] | params})

    assert "api_base: a base URL has no ?" in told(api_base="http://h?x")
    assert "litellm_params.rpm" in told(api_base="http://h", rpm=0)
    assert "api_base: the environment variable NO_SUCH is not set" in told(api_base="os.environ/NO_SUCH")


def test_an_address_that_is_not_there_is_told_as_something_that_is_missing() -> None:
    settings = models(entry("bge", "hosted_vllm/bge", api_base="os.environ/NO_SUCH"), entry("m", "jina_ai/x"))
    assert [one.model_name for one in settings.deployments] == ["m"]
    (line,) = settings.warnings
    assert line.startswith("model_list: bge can not be used as it is written and is skipped (model_list[0]")
    assert "NO_SUCH is not set" in line
    assert settings.unset == (line,)


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"model": "openai/gpt-5"}, "name different upstream models"),
        ({"model": "openai/gpt-4o", "temperature": 0.2}, "set different default parameters"),
    ],
)
def test_a_group_of_what_may_be_chat_models_is_skipped_where_its_answers_would_differ(
    second: dict[str, Any], why: str
) -> None:
    chat = [entry("gpt", api_base="http://h", **params) for params in ({"model": "openai/gpt-4o"}, second)]
    settings = models(*chat, entry("m", "jina_ai/x"))
    assert [one.model_name for one in settings.deployments] == ["m"]
    assert settings.warnings[0].startswith("model_list: gpt can not be used as it is written and is skipped (")
    assert why in settings.warnings[0]
    jinas = entry("gpt", "jina_ai/x")
    assert "different upstream models" in refused(jinas, *chat), "with one of Jina's among them its answers matter"


def test_an_id_that_two_deployments_have_is_that_of_the_one_which_is_certain() -> None:
    chat = entry("gpt", "openai/gpt-4o", {"id": "m"}, api_base="http://h")
    settings = models(chat, entry("m", "jina_ai/x"))
    assert [one.id for one in settings.deployments] == ["m"]
    assert "several deployments have the id m" in settings.warnings[0]
    again = entry("other", "openai/gpt-4o", {"id": "1"}, api_base="http://h")
    twins = models(entry("gpt", "openai/gpt-4o", {"id": "1"}, api_base="http://h"), again, entry("m", "jina_ai/x"))
    assert [one.model_name for one in twins.deployments] == ["gpt", "m"]


def test_a_deployment_of_another_mode_is_skipped() -> None:
    settings = models(entry("chat", "jina_ai/jina-vlm", {"mode": "chat"}), entry("m", "jina_ai/x", {"mode": "rerank"}))
    assert [(one.model_name, one.mode) for one in settings.deployments] == [("m", "rerank")]


def test_a_list_of_which_nothing_can_be_served_does_not_open_every_jina_model() -> None:
    settings = models(entry("gpt", "openai/gpt-4o"))
    assert settings.deployments == ()
    assert settings.route("jina-embeddings-v3") is None
    assert "model_list: none of its deployments can be served here" in settings.warnings


@pytest.mark.parametrize(
    ("given", "held"),
    [
        ("https://API.Jina.AI", "https://api.jina.ai/v1"),
        ("https://api.jina.ai:443/v1/", "https://api.jina.ai/v1"),
        ("https://api.jina.ai/v1/embeddings", "https://api.jina.ai/v1"),
        ("https://api.jina.ai/v1/rerank/", "https://api.jina.ai/v1"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:7997/", "http://localhost:7997"),
        ("http://[::1]:7997/rerank", "http://[::1]:7997"),
        ("https://h/Path/v1", "https://h/Path/v1"),
    ],
)
def test_a_base_url_has_one_spelling(given: str, held: str) -> None:
    deployment = only(entry("m", "jina_ai/x", api_base=given))
    assert deployment.api_base == deployment.identity == held


@pytest.mark.parametrize(
    "given",
    [
        "api.jina.ai/v1",
        "ftp://h",
        "http://",
        "https://h:99999",
        "https://[h",
        "https://user:planted@h/v1",
        "https://h/v1?key=planted",
        "https://h/v1#planted",
        "https://h/a b",
    ],
)
def test_a_base_url_that_is_none_refuses_the_start(given: str) -> None:
    message = refused(entry("m", "jina_ai/x", api_base=given))
    assert message.startswith("model_list[0].litellm_params.api_base")
    assert "planted" not in message


def test_limits_come_from_the_deployment_then_the_router_then_the_general_settings() -> None:
    common = {
        "litellm_settings": {"request_timeout": 30, "num_retries": 5},
        "general_settings": {"max_parallel_requests": 4},
    }
    router = {"timeout": 20, "num_retries": 0, "default_max_parallel_requests": 3}
    own = entry("m", "jina_ai/x", timeout="10", max_retries=1, max_parallel_requests=2, rpm="60", tpm=1000)

    def limits(deployment: DeploymentSettings) -> tuple[float, int, int]:
        return deployment.timeout, deployment.num_retries, deployment.max_parallel_requests

    assert limits(only(own, router_settings=router, **common)) == (10, 1, 2)
    assert limits(only(entry("m", "jina_ai/x"), router_settings=router)) == (20, 0, 3)
    assert limits(only(entry("m", "jina_ai/x"), router_settings=router, **common)) == (30, 0, 3), "as at LiteLLM"
    assert limits(only(entry("m", "jina_ai/x"), **common)) == (30, 5, 4)
    assert limits(only(entry("m", "jina_ai/x"))) == (120, 2, 32)
    assert (only(own).rpm, only(own).tpm) == (60, 1000)


def test_a_number_of_calls_at_a_time_holds_for_all_workers_only_where_the_operator_set_it() -> None:
    one = entry("m", "jina_ai/x")
    assert only(entry("m", "jina_ai/x", max_parallel_requests=2)).parallel_everywhere
    assert only(one, router_settings={"default_max_parallel_requests": 2}).parallel_everywhere
    assert only(one, general_settings={"max_parallel_requests": 2}).parallel_everywhere
    assert not only(entry("m", "jina_ai/x", max_parallel_requests=0)).parallel_everywhere
    assert not only(one).parallel_everywhere


@pytest.mark.parametrize("cost", ["5e-8", 5e-8, "0.00000005", Decimal("5E-8")])
def test_a_price_is_exact(cost: object) -> None:
    assert only(entry("m", "jina_ai/x", input_cost_per_token=cost)).input_cost_per_token == Decimal("5E-8")
    assert only(entry("m", "jina_ai/x", {"input_cost_per_token": cost})).input_cost_per_token == Decimal("5E-8")


def test_other_parameters_are_defaults_of_the_request_but_litellms_own_are_not() -> None:
    settings = models(
        entry("m", "jina_ai/x", dimensions=512, extra_body={"task": "a"}, api_version="1", aws_region_name="x")
    )
    assert settings.deployments[0].default_params == {"dimensions": 512, "task": "a"}
    assert settings.warnings == (
        "model_list[].litellm_params.api_version is not acted on here: the API it is for is not spoken here",
        "model_list[].litellm_params.aws_region_name is not acted on here: the API it is for is not spoken here",
    )


@pytest.mark.parametrize("headers", [{"x": "a\nb"}, {"x y": "a"}, {"": "a"}, {"x": "ä"}])
def test_a_header_that_can_not_be_sent_refuses_the_start(headers: dict[str, str]) -> None:
    assert "extra_headers" in refused(entry("m", "jina_ai/x", extra_headers=headers))


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "TE", "Trailer", "Upgrade"])
def test_a_header_that_would_break_the_framing_of_calls_refuses_the_start(name: str) -> None:
    message = refused(entry("m", "jina_ai/x", extra_headers={name: "5"}))
    assert message.startswith(f"model_list[0].litellm_params.extra_headers: {name.lower()} ")
    assert only(entry("m", "jina_ai/x", extra_headers={"Host": "virtual"})).extra_headers == {"Host": "virtual"}


@pytest.mark.parametrize("value", [date(2026, 1, 1), float("nan"), b"x", "\ud800"])
def test_a_default_parameter_that_json_can_not_say_refuses_the_start(value: object) -> None:
    assert "model_list[0].litellm_params.since" in refused(entry("m", "jina_ai/x", since=value))


@pytest.mark.parametrize("model", ["infinity/x", "BAAI/x", "x", "openai/x"])
def test_a_server_that_nobody_called_jinas_is_not_shown_jinas_key(model: str) -> None:
    assert only(entry("m", model, api_base="http://h")).api_key is None
    assert models(entry("*", "*", api_base="http://h")).deployments[0].api_key is None
    assert only(entry("m", "jina_ai/x", api_base="http://onprem")).api_key is not None


def test_a_second_key_for_one_server_leaves_the_cache_warm() -> None:
    one, two = models(entry("m", "jina_ai/x", api_key="a"), entry("m", "jina_ai/x", api_key="b")).deployments
    assert one.identity == two.identity == only(entry("m", "jina_ai/x")).identity
    assert (one.id, two.id) == ("m#1", "m#2")


def test_a_group_on_several_servers_shares_one_identity() -> None:
    plain = entry("m", "jina_ai/x", api_base="http://a"), entry("m", "infinity/x", api_base="http://b")
    assert [one.identity for one in models(*plain).deployments] == ["m", "m"]
    named = plain[0], entry("m", "infinity/x", {"identity": "ours", "id": "b"}, api_base="http://b")
    assert [(one.identity, one.id) for one in models(*named).deployments] == [("ours", "m#1"), ("ours", "b")]


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (entry("m", "jina_ai/y"), "different upstream models"),
        (entry("m", "jina_ai/x", {"identity": "b"}), "model_info.identity"),
        (entry("m", "jina_ai/x", {"items": "together"}), "model_info.items"),
        (entry("m", "jina_ai/x", {"id": "1"}), "model_info.id"),
        (entry("m", "jina_ai/x", dimensions=8), "default parameters"),
    ],
)
def test_a_group_whose_answers_would_differ_refuses_the_start(second: dict[str, Any], words: str) -> None:
    assert words in refused(entry("m", "jina_ai/x", {"identity": "a", "items": "separate", "id": "1"}), second)


def routed(settings: Settings, name: str) -> tuple[str, str] | None:
    found = settings.route(name)
    return (found.group, found.model) if found else None


def test_a_deployment_answers_to_its_name_and_to_its_model() -> None:
    settings = models(entry("a", "jina_ai/x"), entry("b", "jina_ai/x"), entry("jina_ai/y", "jina_ai/z"))
    assert routed(settings, "a") == ("a", "x")
    assert routed(settings, "b") == ("b", "x")
    assert routed(settings, "jina_ai/x") == ("a", "x")
    assert routed(settings, "jina_ai/y") == ("jina_ai/y", "z")
    assert routed(settings, "x") is None


def test_a_group_answers_with_all_its_members() -> None:
    settings = models(entry("m", "jina_ai/x", api_key="1"), entry("m", "jina_ai/x", api_key="2"))
    found = settings.route("jina_ai/x")
    assert found is not None
    assert found.deployments == settings.deployments


@pytest.mark.parametrize(
    ("pattern", "model", "params", "name", "upstream"),
    [
        ("jina_ai/*", "jina_ai/*", {}, "jina_ai/new", "new"),
        ("jina_ai/*", "jina_ai/*", {}, "new", None),
        ("*", "*", {}, "jina_ai/new", "new"),
        ("*", "*", {}, "jina-new", "jina-new"),
        ("*", "*", {}, "gpt-4o", None),
        ("*", "*", {}, "openai/gpt-4o", None),
        ("*", "*", {"api_base": "http://h"}, "BAAI/bge-m3", "BAAI/bge-m3"),
        ("team/*", "jina_ai/jina-*", {}, "team/v9", "jina-v9"),
        ("v-*", "jina_ai/x", {}, "v-1", "x"),
        ("v.*", "jina_ai/x", {}, "vv1", None),
        ("BAAI/*", "infinity/BAAI/*", {"api_base": "http://h"}, "BAAI/bge", "BAAI/bge"),
    ],
)
def test_a_wildcard_passes_on_what_it_matched(
    pattern: str, model: str, params: dict[str, Any], name: str, upstream: str | None
) -> None:
    found = models(entry(pattern, model, **params)).route(name)
    assert (found.model if found else None) == upstream


def test_a_name_wins_over_a_wildcard_and_the_closer_wildcard_over_the_wider() -> None:
    settings = models(entry("*", "*"), entry("jina_ai/*", "jina_ai/*", api_key="k"), entry("jina_ai/x", "jina_ai/y"))
    assert routed(settings, "jina_ai/x") == ("jina_ai/x", "y")
    assert routed(settings, "jina_ai/z") == ("jina_ai/*", "z")
    assert routed(settings, "jina-z") == ("*", "jina-z")


def test_a_wildcard_model_needs_a_wildcard_name() -> None:
    assert "model_list[0].litellm_params.model" in refused(entry("m", "jina_ai/*"))


def test_without_a_list_every_jina_model_answers() -> None:
    settings = parse({}, ENVIRON)
    for name in ("jina_ai/jina-embeddings-v3", "jina-embeddings-v3"):
        assert routed(settings, name) == ("*", "jina-embeddings-v3")
    assert routed(settings, "jina_ai/unheard-of") == ("*", "unheard-of")
    assert settings.route("gpt-4o") is None
    assert settings.deployments[0].wildcard


def test_an_alias_is_another_name() -> None:
    alias = {"ada": "m", "quiet": {"model": "jina_ai/x", "hidden": True}, "gpt": "gpt-4o"}
    settings = models(entry("m", "jina_ai/x"), router_settings={"model_group_alias": alias})
    assert routed(settings, "ada") == routed(settings, "quiet") == ("m", "x")
    assert settings.route("gpt") is None
    assert (settings.aliases["ada"].hidden, settings.aliases["quiet"].hidden) == (False, True)
    assert settings.warnings == ("router_settings.model_group_alias: gpt names no model that is served here",)
