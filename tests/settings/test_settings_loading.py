"""Reading: files, includes, the environment, and what refuses the start."""

import os
from pathlib import Path
from typing import Any

import pytest

from cache_proxy.errors import ConfigError
from cache_proxy.settings import OwnSettings, load, parse

HOME = {"HOME": "/home/someone"}


def refused(document: dict[str, Any], environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as error:
        parse(document, HOME | (environ or {}))
    return str(error.value)


def test_without_a_file_the_environment_is_enough() -> None:
    environ = HOME | {
        "JINA_AI_TOKEN": "jina_t",
        "JINA_AI_API_BASE": "http://onprem:8080/v1/",
        "LITELLM_MASTER_KEY": "sk-9",
    }
    settings = load(None, environ)
    (jina,) = settings.deployments
    assert jina.api_key is not None
    assert jina.api_key.get_secret_value() == "jina_t"
    assert jina.api_base == jina.identity == "http://onprem:8080/v1"
    assert settings.master_key is not None
    assert settings.master_key.get_secret_value() == "sk-9"
    assert settings.warnings == ()


def test_the_process_environment_is_read_by_default_and_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_PROXY_DIR", "/srv/of-the-environment")
    before = dict(os.environ)
    settings = parse({"environment_variables": {"JINA_AI_API_KEY": "jina_x"}})
    assert settings.cache.directory == Path("/srv/of-the-environment")
    assert settings.deployments[0].api_key is not None
    assert dict(os.environ) == before


def test_environment_variables_of_the_file_win_and_may_refer_to_the_process() -> None:
    document = {
        "environment_variables": {"JINA_AI_API_KEY": "os.environ/TEAM_KEY", "PORT_OF_REDIS": 7000},
        "litellm_settings": {"cache_params": {"type": "redis", "host": "r", "port": "os.environ/PORT_OF_REDIS"}},
    }
    settings = parse(document, HOME | {"JINA_AI_API_KEY": "other", "TEAM_KEY": "jina_team"})
    assert settings.deployments[0].api_key is not None
    assert settings.deployments[0].api_key.get_secret_value() == "jina_team"
    assert settings.cache.redis is not None
    assert settings.cache.redis.port == 7000


def test_environment_variables_of_the_file_may_refer_to_those_before_them() -> None:
    chain = {"A": "os.environ/C", "B": "os.environ/A", "C": "late", "D": "os.environ/C"}
    document = {
        "environment_variables": chain,
        "litellm_settings": {"cache_params": {"type": "redis", "host": "os.environ/B", "namespace": "os.environ/D"}},
    }
    settings = parse(document, HOME | {"C": "of-the-process"})
    assert settings.cache.redis is not None
    assert (settings.cache.redis.host, settings.cache.namespace) == ("of-the-process", "late"), "as at LiteLLM"
    assert settings.warnings == ()
    with pytest.raises(ConfigError, match="needs a host or url"):
        parse(document, HOME)


def test_a_reference_may_stand_inside_a_value() -> None:
    entry = {"model": "jina_ai/x", "api_base": "http://os.environ/JINA_HOST:8080/v1"}
    document = {"model_list": [{"model_name": "m", "litellm_params": entry}]}
    assert parse(document, HOME | {"JINA_HOST": "onprem"}).deployments[0].api_base == "http://onprem:8080/v1"


def test_a_missing_variable_of_an_optional_setting_warns_with_its_name_and_place() -> None:
    entry = {"model": "jina_ai/x", "api_key": "os.environ/NO_SUCH"}
    settings = parse({"model_list": [{"model_name": "m", "litellm_params": entry}]}, HOME)
    assert settings.deployments[0].api_key is None
    assert settings.warnings == (
        "model_list[].litellm_params.api_key: the environment variable NO_SUCH is not set or empty",
    )


def test_references_work_in_lists_and_deep_inside() -> None:
    params = {
        "type": "redis",
        "sentinel_nodes": [["os.environ/HOST", "os.environ/PORT"], ["b", 2]],
        "service_name": "os.environ/PRIMARY",
        "supported_call_types": ["os.environ/CALL", "os.environ/NO_SUCH"],
    }
    entry = {"model": "jina_ai/x", "extra_body": {"vendor": {"deep": ["os.environ/HOST"]}}}
    document = {
        "model_list": [{"model_name": "m", "litellm_params": entry}],
        "litellm_settings": {"cache_params": params},
    }
    settings = parse(document, HOME | {"HOST": "a", "PORT": "1", "PRIMARY": "p", "CALL": "embedding"})
    assert settings.cache.redis is not None
    assert [(node.host, node.port) for node in settings.cache.redis.sentinel_nodes] == [("a", 1), ("b", 2)]
    assert (settings.cache.redis.service_name, settings.cache.rerank) == ("p", False)
    assert settings.deployments[0].default_params == {"vendor": {"deep": ["a"]}}
    assert settings.unset == (
        "litellm_settings.cache_params.supported_call_types[]: the environment variable NO_SUCH is not set or empty",
    )
    assert "sentinel_nodes[0][0]: the environment variable HOST is not set" in refused(document, {"PORT": "1"})


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}, {"KEY": "  "}])
def test_a_master_key_whose_variable_is_missing_refuses_the_start(environ: dict[str, str]) -> None:
    message = refused({"general_settings": {"master_key": "os.environ/KEY"}}, environ)
    assert "general_settings.master_key" in message
    assert "KEY" in message


@pytest.mark.parametrize("key", ["", "  ", None, 1234, ["a"], "käy"])
def test_a_master_key_that_can_not_guard_refuses_the_start(key: object) -> None:
    assert "general_settings.master_key" in refused({"general_settings": {"master_key": key}})


@pytest.mark.parametrize("name", ["LITELLM_MASTER_KEY", "CACHE_PROXY_MASTER_KEY"])
def test_an_empty_master_key_of_the_environment_refuses_the_start(name: str) -> None:
    assert name in refused({}, {name: ""})


def test_the_line_end_of_a_key_from_a_file_is_no_part_of_it() -> None:
    settings = parse({}, HOME | {"LITELLM_MASTER_KEY": "sk-1\n", "JINA_API_KEY": "jina\r\n"})
    assert settings.master_key is not None
    assert settings.master_key.get_secret_value() == "sk-1"
    assert settings.deployments[0].api_key is not None
    assert settings.deployments[0].api_key.get_secret_value() == "jina"


@pytest.mark.parametrize(
    ("params", "key"),
    [({"api_base": "os.environ/BASE"}, "api_base"), ({"api_base": ""}, "api_base")],
)
def test_texts_never_go_to_jina_because_another_address_is_missing(params: dict[str, str], key: str) -> None:
    document = {"model_list": [{"model_name": "m", "litellm_params": {"model": "jina_ai/x", **params}}]}
    assert f"model_list[0].litellm_params.{key}" in refused(document)


def test_a_namespace_whose_variable_is_missing_refuses_the_start() -> None:
    assert "cache_params.namespace" in refused({"litellm_settings": {"cache_params": {"namespace": "os.environ/TEAM"}}})


def test_an_included_file_appends_lists_and_merges_sections(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.yaml").write_text(
        "include: [sub/models.yaml]\n"
        "model_list: [{model_name: a, litellm_params: {model: jina_ai/a}}]\n"
        "general_settings: {master_key: sk-main}\n"
    )
    (tmp_path / "sub" / "models.yaml").write_text(
        "include: [more.yaml]\n"
        "model_list: [{model_name: b, litellm_params: {model: jina_ai/b}}]\n"
        "general_settings: {max_request_size_mb: 8}\n"
    )
    (tmp_path / "sub" / "more.yaml").write_text("cache_proxy_settings: {max_items: 7}\n")
    settings = load(tmp_path / "main.yaml", HOME)
    assert [one.model_name for one in settings.deployments] == ["a", "b"]
    assert settings.master_key is not None
    assert (settings.own.max_body_mib, settings.own.max_items) == (8, 7)


def test_a_file_that_is_included_again_is_read_once(tmp_path: Path) -> None:
    entry = "model_list: [{{model_name: {0}, litellm_params: {{model: jina_ai/{0}}}}}]\n"
    (tmp_path / "main.yaml").write_text("include: [left.yaml, right.yaml]\n" + entry.format("main"))
    (tmp_path / "left.yaml").write_text("include: [below.yaml, main.yaml]\n" + entry.format("left"))
    (tmp_path / "right.yaml").write_text("include: [below.yaml]\n" + entry.format("right"))
    (tmp_path / "below.yaml").write_text(entry.format("below"))
    served = [one.model_name for one in load(tmp_path / "main.yaml", HOME).deployments]
    assert served == ["main", "left", "right", "below"]


def test_a_file_that_lies_beside_the_first_one_only_is_found_there(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.yaml").write_text("include: [sub/models.yaml]\n")
    (tmp_path / "sub" / "models.yaml").write_text("include: [limits.yaml]\n")
    (tmp_path / "limits.yaml").write_text("cache_proxy_settings: {max_items: 7}\n")
    assert load(tmp_path / "main.yaml", HOME).own.max_items == 7
    (tmp_path / "sub" / "limits.yaml").write_text("cache_proxy_settings: {max_items: 8}\n")
    assert load(tmp_path / "main.yaml", HOME).own.max_items == 8


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("include: none.yaml", "list of file names"),
        ("include: [none.yaml]", "none.yaml can not be read"),
        ("general_settings: {master_key: sk-planted", "not valid YAML at line 1"),
        ("a: !!python/object/apply:os.system [sk-planted]", "not valid YAML"),
        ("- sk-planted", "expected sections"),
    ],
)
def test_a_file_that_can_not_be_read_says_where_and_quotes_nothing(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "main.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "main.yaml", HOME)
    assert words in str(error.value)
    assert "planted" not in str(error.value)


def test_a_section_that_holds_itself_is_refused() -> None:
    params: dict[str, Any] = {"model": "jina_ai/x"}
    params["extra_body"] = params
    message = refused({"model_list": [{"model_name": "m", "litellm_params": params}]})
    assert "nested too deeply" in message


def test_an_empty_file_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "main.yaml").write_text("# nothing\nmodel_list:\ngeneral_settings:\n")
    assert load(tmp_path / "main.yaml", HOME) == load(None, HOME)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"cache_proxy_settings": {"memory_mib": -1}}, "cache_proxy_settings.memory_mib"),
        ({"cache_proxy_settings": {"memory_mib": "much"}}, "cache_proxy_settings.memory_mib"),
        ({"cache_proxy_settings": {"log_format": "xml"}}, "cache_proxy_settings.log_format"),
        ({"cache_proxy_settings": {"max_wait": float("nan")}}, "cache_proxy_settings.max_wait"),
        ({"cache_proxy_settings": {"cache_urls": True}}, "cache_proxy_settings.cache_urls"),
        ({"cache_proxy_settings": {"cache_urls": 0}}, "cache_proxy_settings.cache_urls"),
        ({"cache_proxy_settings": ["memory_mib"]}, "cache_proxy_settings"),
        ({"litellm_settings": {"cache": "perhaps"}}, "litellm_settings.cache"),
        ({"litellm_settings": {"num_retries": -1}}, "litellm_settings.num_retries"),
        ({"litellm_settings": {"cache_params": {"ttl": 0}}}, "litellm_settings.cache_params.ttl"),
        ({"litellm_settings": {"cache_params": {"mode": "off"}}}, "litellm_settings.cache_params.mode"),
        ({"router_settings": {"model_group_alias": {"a": 5}}}, "router_settings.model_group_alias.a"),
        ({"model_list": {"model_name": "m"}}, "model_list"),
        ({"model_list": ["m"]}, "model_list[0]"),
        ({"model_list": [{"model_name": "m"}]}, "model_list[0].litellm_params"),
        ({"model_list": [{"litellm_params": {"model": "jina_ai/x"}}]}, "model_list[0].model_name"),
        ({"environment_variables": ["A"]}, "environment_variables"),
        ({"include": ["a.yaml"]}, "include"),
    ],
)
def test_a_wrong_value_refuses_the_start_and_names_its_place(document: dict[str, Any], path: str) -> None:
    assert refused(document).startswith(path)


def test_a_wrong_deployment_is_named_by_its_place_in_the_file() -> None:
    document = {
        "model_list": [
            {"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o", "timeout": "long"}},
            {"model_name": "m", "litellm_params": {"model": "jina_ai/x", "rpm": "many"}},
        ]
    }
    assert refused(document).startswith("model_list[1].litellm_params.rpm")


def test_a_misspelt_setting_of_our_own_refuses_the_start_and_is_guessed() -> None:
    assert "did you mean memory_mib?" in refused({"cache_proxy_settings": {"memory_mb": 5}})
    assert "max_wait" in refused({"cache_proxy_settings": {"zzz": 5}})


@pytest.mark.parametrize(
    ("given", "held"), [(3600, 3600.0), ("60", 60.0), (False, False), ("false", False), (None, False)]
)
def test_cached_urls_are_off_or_have_a_lifetime(given: object, held: object) -> None:
    assert parse({"cache_proxy_settings": {"cache_urls": given}}, HOME).own.cache_urls == held


def test_ours_wins_over_litellms_word_for_the_largest_body() -> None:
    general = {"max_request_size_mb": 5}
    assert parse({"general_settings": general}, HOME).own.max_body_mib == 5
    both = {"general_settings": general, "cache_proxy_settings": {"max_body_mib": 9}}
    assert parse(both, HOME).own.max_body_mib == 9
    assert parse({}, HOME).own == OwnSettings()
