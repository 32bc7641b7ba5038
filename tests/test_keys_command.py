"""``cache-proxy keys``: the same keys as the routes', in the database of the configuration."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cache_proxy.access import hashed
from cache_proxy.cli import main

CONFIG = """
general_settings: {master_key: sk-master}
cache_proxy_settings: {keys: [{key: sk-from-the-file, key_alias: job}]}
"""


@pytest.fixture(autouse=True)
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("CACHE_PROXY_", "JINA_", "REDIS_", "LITELLM_", "DATABASE_")):
            monkeypatch.delenv(name)
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("CACHE_PROXY_CONFIG", str(tmp_path / "config.yaml"))


def invoke(*args: str) -> Result:
    return CliRunner().invoke(main, ["keys", *args])


def told(*args: str) -> dict[str, Any]:
    ended = invoke(*args)
    assert ended.exit_code == 0, ended.output
    found: dict[str, Any] = json.loads(ended.output)
    return found


def test_a_key_is_made_shown_changed_and_taken_back() -> None:
    made = told(
        "generate", "--alias", "search", "--team", "t", "--user", "u", "--model", "a", "--model", "b", "--max-budget",
        "2.5", "--budget-duration", "30d", "--rpm-limit", "60", "--tpm-limit", "1000", "--namespace", "n",
        "--cache-control", "ttl", "--duration", "1mo",
    )  # fmt: skip
    assert made["key"].startswith("sk-")
    assert (made["models"], made["max_budget"], made["rpm_limit"], made["allowed_cache_controls"]) == (
        ["a", "b"], 2.5, 60, ["ttl"],
    )  # fmt: skip
    assert told("info", "search")["token"] == hashed(made["key"])
    changed = told("update", "search", "--block", "--rpm-limit", "none", "--model", "none")
    assert (changed["blocked"], changed["rpm_limit"], changed["models"], changed["team_id"]) == (True, None, [], "t")
    assert made["expires"] is not None
    assert told("update", "search", "--duration", "none")["expires"] is None
    assert told("delete", made["key"]) == {"deleted_keys": [hashed(made["key"])]}
    assert invoke("info", "search").exit_code == 1


def test_the_list_shows_those_of_the_file_too_and_never_a_key() -> None:
    made = told("generate", "--alias", "search")
    for form in ("table", "json"):
        shown = invoke("list", "--format", form).output
        assert "job" in shown
        assert "search" in shown
        assert made["key"] not in shown
        assert "sk-from-the-file" not in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["info", "nobody"], "There is no such key"),
        (["update", "job", "--block"], "in the configuration file"),
        (["generate", "--alias", "job"], "key_alias"),
        (["generate", "--duration", "999999w"], "at most a hundred years"),
        (["generate", "--max-budget", "much"], "is no number"),
        (["generate", "--budget-duration", "a month"], "30s, 15m, 24h"),
    ],
)
def test_what_can_not_be_done_is_said_in_a_line(args: list[str], words: str) -> None:
    ended = invoke(*args)
    assert ended.exit_code != 0
    assert words in ended.output
    assert "Traceback" not in ended.output


def test_without_a_master_key_there_are_no_keys(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    assert "keys need general_settings.master_key" in invoke("list").output


def test_a_database_that_is_away_is_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "config.yaml").write_text(CONFIG.replace("{keys", f"{{ledger_dir: {tmp_path / 'file'}, keys"))
    ended = invoke("list")
    assert (ended.exit_code, "the ledger's database failed" in ended.output) == (1, True)
