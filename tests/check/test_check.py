"""``cache-proxy check``: what it says of a configuration, how it ends, and what it never says."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cache_proxy.check import Report, check
from cache_proxy.check.report import OFFLINE
from cache_proxy.check.words import BAD, ODD, lines
from cache_proxy.cli import main

CONFIG = Path(__file__).parents[2] / "config"
JINA = {"JINA_AI_API_KEY": "jina_planted"}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("CACHE_PROXY_", "JINA_", "REDIS_", "LITELLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path / "store"))


def written(folder: Path, document: Mapping[str, Any]) -> str:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(dict(document)))
    return str(path)


def checked(
    folder: Path, document: Mapping[str, Any], environ: Mapping[str, str] | None = None, *, offline: bool = False
) -> Report:
    around = {"HOME": str(folder), "CACHE_PROXY_DIR": str(folder / "store"), **(environ or {})}
    return check(written(folder, document), offline=offline, environ=around)


def words(report: Report) -> str:
    return "\n".join(line.text for line in lines(report))


def run(*args: str) -> Result:
    return CliRunner().invoke(main, ["check", *args])


ENTRIES = [
    {"model_name": "mine", "litellm_params": {"model": "jina_ai/jina-embeddings-v3", "api_key": "planted"}},
    {"model_name": "mine", "litellm_params": {"model": "jina_ai/jina-embeddings-v3"}, "model_info": {"id": "second"}},
    {
        "model_name": "own",
        "litellm_params": {"model": "infinity/bge", "api_base": "http://gpu:7997"},
        "model_info": {"mode": "rerank"},
    },
]


def test_models_are_told_with_their_deployments_and_whether_there_is_a_key(tmp_path: Path) -> None:
    report = checked(tmp_path, {"model_list": ENTRIES})
    mine, own = report.models
    assert (mine.name, mine.upstream, mine.mode) == ("mine", "jina-embeddings-v3", None)
    assert [(place.id, place.url, place.key) for place in mine.deployments] == [
        ("mine#1", "https://api.jina.ai/v1", "given"),
        ("second", "https://api.jina.ai/v1", "missing"),
    ]
    assert (own.mode, own.deployments[0].url, own.deployments[0].key) == ("rerank", "http://gpu:7997", "none")
    assert report.missing == ("second has no key: set JINA_AI_API_KEY, or litellm_params.api_key",)
    assert report.exit_code == 1


def test_other_names_and_patterns_are_told(tmp_path: Path) -> None:
    alias = {"old": "mine", "older": {"model": "mine", "hidden": True}}
    wild = {"model_name": "jina_ai/*", "litellm_params": {"model": "jina_ai/*"}}
    document = {"model_list": [*ENTRIES, wild], "router_settings": {"model_group_alias": alias}}
    report = checked(tmp_path, document, JINA)
    assert [(alias.name, alias.model, alias.hidden) for alias in report.aliases] == [
        ("old", "mine", False),
        ("older", "mine", True),
    ]
    text = words(report)
    assert "older  is mine, not listed" in text
    assert "jina_ai/*  is whatever the * stands for" in text
    assert "own  is bge (rerank only)" in text


def test_the_cache_is_told_with_its_place_and_its_lifetime(tmp_path: Path) -> None:
    params = {"type": "disk", "ttl": 60, "namespace": "team", "mode": "default_off", "supported_call_types": ["rerank"]}
    report = checked(tmp_path, {"litellm_settings": {"cache_params": params}}, JINA)
    assert report.cache is not None
    assert (report.cache.endpoints, report.cache.ttl, report.cache.namespace) == (("rerank",), 60, "team")
    text = words(report)
    assert "rerank, for 60 s, where the request asks for it" in text
    assert f"disk in {tmp_path / 'store'}, behind 128 MiB of memory in each worker" in text
    assert "namespace  team" in text


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"cache": False}, "nothing is cached"),
        ({"cache_params": {"type": "local"}}, "where      memory of each worker"),
        ({}, "embeddings and rerank, for good"),
    ],
)
def test_what_is_cached_is_told(tmp_path: Path, section: dict[str, Any], told: str) -> None:
    report = checked(tmp_path, {"litellm_settings": section}, JINA)
    assert told in words(report)
    assert report.exit_code == 0


def test_who_gets_in_is_told(tmp_path: Path) -> None:
    assert checked(tmp_path, {}, JINA).callers == "this machine only, without a key"
    guarded = checked(tmp_path, {"general_settings": {"master_key": "sk-planted"}}, JINA)
    assert (guarded.callers, guarded.warnings) == ("whoever sends the master key, or a key", ())
    keys = {"cache_proxy_settings": {"keys": [{"key": "sk-planted-too"}]}}
    assert checked(tmp_path, {"general_settings": {"master_key": "sk-planted"}, **keys}, JINA).callers == (
        "whoever sends the master key, or a key, 1 of them in the file"
    )
    known = checked(tmp_path, {"general_settings": {"master_key": "sk-1234"}}, JINA)
    assert "everybody knows it" in known.warnings[0]
    assert known.exit_code == 0


def test_a_store_that_can_be_used_is_good(tmp_path: Path) -> None:
    report = checked(tmp_path, {}, JINA)
    assert (report.store.reachable, report.exit_code) == (True, 0)
    assert words(report).splitlines()[-1] == "Good."


def test_a_disk_store_whose_folder_can_not_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file, where a folder should be")
    report = checked(tmp_path, {}, JINA)
    assert report.exit_code in (1, 2)
    assert "store" in words(report)
    assert "Traceback" not in words(report)


def test_offline_nothing_is_touched(tmp_path: Path) -> None:
    section = {"cache_params": {"type": "redis", "host": "192.0.2.1"}}
    report = checked(tmp_path, {"litellm_settings": section}, JINA, offline=True)
    assert (report.store, report.exit_code) == (OFFLINE, 0)
    assert "it was not asked" in words(report)
    checked(tmp_path, {}, JINA, offline=True)
    assert not (tmp_path / "store").exists()


def test_variables_that_are_not_set_are_missing_and_other_warnings_are_not(tmp_path: Path) -> None:
    entry = {
        "model_name": "m",
        "litellm_params": {"model": "jina_ai/x", "api_key": "os.environ/NO_SUCH", "tags": ["a"]},
    }
    report = checked(tmp_path, {"model_list": [entry]}, JINA)
    assert report.missing == (
        "model_list[].litellm_params.api_key: the environment variable NO_SUCH is not set or empty",
    )
    (warning,) = report.warnings
    assert warning.startswith("model_list[].litellm_params.tags is not acted on here")
    assert report.exit_code == 1
    assert "1 thing it needs can not be had" in words(report)


def test_a_list_of_which_nothing_is_served_is_told(tmp_path: Path) -> None:
    entry = {"model_name": "gpt", "litellm_params": {"model": "openai/gpt-4o"}}
    report = checked(tmp_path, {"model_list": [entry]}, JINA)
    assert report.missing == ("model_list: there is no deployment that can be served here",)


def test_what_is_refused_says_why_and_nothing_else(tmp_path: Path) -> None:
    report = checked(tmp_path, {"cache_proxy_settings": {"memory_mib": "planted"}})
    assert report.exit_code == 2
    assert report.models == ()
    assert report.error is not None
    assert report.error.startswith("cache_proxy_settings.memory_mib")
    assert words(report).splitlines()[2:] == ["Refused:", f"  {report.error}"]
    assert check(str(tmp_path / "none.yaml")).exit_code == 2


def test_what_is_bad_and_what_is_odd_stands_out(tmp_path: Path) -> None:
    document = {"model_list": ENTRIES, "litellm_settings": {"callbacks": ["otel"]}}
    styles = {line.text.strip(): line.style for line in lines(checked(tmp_path, document))}
    assert styles["second  https://api.jina.ai/v1  key: missing"] == BAD
    assert styles["mine#1  https://api.jina.ai/v1  key: given"] == ""
    assert next(style for text, style in styles.items() if text.startswith("litellm_settings.callbacks")) == ODD


# The command ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_command_prints_it_and_ends_with_its_code(tmp_path: Path, form: str) -> None:
    good = written(tmp_path, {"litellm_settings": {"cache_params": {"type": "local"}}, "model_list": ENTRIES[:1]})
    ended = run("--config", good, "--format", form)
    assert ended.exit_code == 0, ended.output
    lacking = written(tmp_path, {"model_list": ENTRIES})
    assert run("--config", lacking, "--format", form, "--offline").exit_code == 1
    wrong = written(tmp_path, {"model_list": 7})
    ended = run("--config", wrong, "--format", form)
    assert ended.exit_code == 2
    assert "model_list" in ended.output


def test_programs_get_all_of_it(tmp_path: Path) -> None:
    ended = run("--config", written(tmp_path, {"model_list": ENTRIES}), "--format", "json", "--offline")
    told = json.loads(ended.stdout)
    assert told["exit_code"] == 1
    assert told["models"][0]["deployments"][1] == {"id": "second", "url": "https://api.jina.ai/v1", "key": "missing"}
    assert told["store"]["reachable"] is None
    assert told["error"] is None


def test_people_get_plain_text_where_there_is_no_terminal(tmp_path: Path) -> None:
    ended = run("--offline")
    assert "\x1b" not in ended.output
    assert ended.output.startswith("No file: the environment alone\n")


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.name)
def test_every_file_of_ours_is_good_where_nothing_is_missing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("JINA_AI_API_KEY", "JINA_AI_API_KEY_2", "REDIS_PASSWORD", "LITELLM_MASTER_KEY"):
        monkeypatch.setenv(name, "planted")
    monkeypatch.setenv("REDIS_URL", "redis://r")
    ended = run("--config", str(path), "--offline")
    assert ended.exit_code == 0, ended.output
    assert "planted" not in ended.output


PLANTED: dict[str, Any] = {
    "environment_variables": {"SECRET": "planted-variable"},
    "credential_list": [{"credential_name": "c", "credential_values": {"api_key": "planted-credential"}}],
    "model_list": [
        {
            "model_name": "m",
            "litellm_params": {
                "model": "jina_ai/jina-embeddings-v3",
                "litellm_credential_name": "c",
                "extra_headers": {"authorization": "planted-header"},
                "vendor_token": "planted-param",
                "aws_secret_access_key": "planted-aws",
            },
        }
    ],
    "litellm_settings": {"cache_params": {"type": "redis", "url": "redis://me:planted-redis@127.0.0.1:1/0"}},
    "router_settings": {"redis_password": "planted-router"},
    "general_settings": {"master_key": "planted-master", "database_url": "postgresql://u:planted-db@db/x"},
}


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    "extra", [{}, {"cache_proxy_settings": {"memory_mib": "planted-own"}}, {"model_list": "planted-list"}], ids=str
)
def test_no_secret_is_ever_printed(tmp_path: Path, form: str, extra: dict[str, Any]) -> None:
    ended = run("--config", written(tmp_path, PLANTED | extra), "--format", form)
    assert ended.exit_code == (2 if extra else 1), ended.output
    assert "planted" not in ended.output
    assert "127.0.0.1:1" in ended.output or extra


def test_a_file_for_the_middleware_alone_is_told_apart(tmp_path: Path) -> None:
    entry = {"model_name": "*", "litellm_params": {"model": "openai/*", "api_base": "app"}}
    report = checked(tmp_path, {"model_list": [entry]}, offline=True)
    assert [line for line in report.warnings if "middleware" in line]
    assert not [line for line in checked(tmp_path, {"model_list": ENTRIES}, offline=True).warnings if "app" in line]
