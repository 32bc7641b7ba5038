"""Keys that stand in the file: what they mean, and that a mistake in them never opens a door."""

from datetime import UTC, datetime
from typing import Any

import pytest

from cache_proxy.access import hashed
from cache_proxy.errors import ConfigError
from cache_proxy.models import PICO
from cache_proxy.settings import Settings, parse

SECRET = "sk-PLANTEDplanted"


def settings(*entries: dict[str, Any], environ: dict[str, str] | None = None, master: str | None = "sk-m") -> Settings:
    general = {} if master is None else {"general_settings": {"master_key": master}}
    return parse({**general, "cache_proxy_settings": {"keys": list(entries)}}, {"HOME": "/h", **(environ or {})})


def refused(*entries: dict[str, Any], master: str | None = "sk-m") -> str:
    with pytest.raises(ConfigError) as raised:
        settings(*entries, master=master)
    assert "PLANTED" not in str(raised.value)
    return str(raised.value)


def test_a_key_is_what_the_file_says_of_it() -> None:
    (key,) = settings(
        {
            "key": SECRET, "key_alias": "search", "team_id": "t", "user_id": "u", "models": ["a", "b-*"],
            "max_budget": "12.5", "budget_duration": "30d", "rpm_limit": "60", "tpm_limit": 1000, "namespace": "n",
            "allowed_cache_controls": ["ttl"], "blocked": True, "expires": "2030-01-31",
        }
    ).keys  # fmt: skip
    assert (key.hash, key.alias, key.team, key.user) == (hashed(SECRET), "search", "t", "u")
    assert (key.models, key.namespace, key.allowed_cache_controls) == (("a", "b-*"), "n", ("ttl",))
    assert (key.max_budget, key.budget_duration) == (12_500_000_000_000, "30d")
    assert key.max_budget == 12.5 * PICO
    assert (key.rpm_limit, key.tpm_limit, key.blocked) == (60, 1000, True)
    assert key.expires_at == datetime(2030, 1, 31, tzinfo=UTC).timestamp()


def test_what_is_left_out_is_without_a_limit() -> None:
    (key,) = settings({"key": SECRET}).keys
    assert (key.models, key.max_budget, key.rpm_limit, key.tpm_limit, key.expires_at) == ((), None, None, None, None)
    assert key.account.alias == f"key-{key.hash[:8]}"


def test_a_key_may_come_from_the_environment() -> None:
    (key,) = settings({"key": "os.environ/SEARCH_KEY"}, environ={"SEARCH_KEY": f"{SECRET}\n"}).keys
    assert key.hash == hashed(SECRET)


@pytest.mark.parametrize("field", ["key", "models", "max_budget", "expires", "namespace", "key_alias"])
def test_a_variable_that_is_not_set_refuses_the_start_for_a_limit_that_is_left_out_is_none(field: str) -> None:
    value: Any = ["os.environ/NOT_SET"] if field == "models" else "os.environ/NOT_SET"
    assert "NOT_SET is not set or empty" in refused({"key": SECRET, field: value})


def test_without_a_master_key_nobody_is_asked_for_one() -> None:
    assert "need general_settings.master_key" in refused({"key": SECRET}, master=None)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{"key": SECRET}, {"key": SECRET}], "stands there twice"),
        ([{"key": "sk-m"}], "is the master_key"),
        ([{"key": SECRET, "key_alias": "a"}, {"key": "sk-other", "key_alias": "a"}], "one key_alias"),
        ([{"key_alias": "a"}], "keys[0].key is missing"),
        ([{"key": " "}], "key is empty"),
        ([{"key": f"{SECRET}é"}], "no HTTP header can carry"),
        ([{"key": SECRET, "max_buget": 5}], "did you mean max_budget?"),
        ([{"key": SECRET, "max_budget": -1}], "max_budget"),
        ([{"key": SECRET, "rpm_limit": 0}], "rpm_limit"),
        ([{"key": SECRET, "budget_duration": "a month"}], "30s, 15m, 24h, 7d, 2w or 1mo"),
        ([{"key": SECRET, "allowed_cache_controls": ["everything"]}], "allowed_cache_controls"),
        ([{"key": SECRET, "expires": "soon"}], "expires"),
        ([{"key": SECRET, "expires": "9999-12-31T23:59:59-23:00"}], "from 1970 to 9999"),
        ([{"key": SECRET, "budget_duration": "999999w"}], "a hundred years"),
        ([{"key": SECRET, "key_alias": "sk-search"}], "taken for a key"),
        ([{"key": SECRET, "key_alias": "f" * 64}], "taken for a key"),
    ],
)
def test_what_can_not_be_obeyed_refuses_the_start_and_tells_no_key(entries: list[dict[str, Any]], words: str) -> None:
    assert words in refused(*entries)


def test_no_key_is_in_what_settings_look_like() -> None:
    made = settings({"key": SECRET, "key_alias": "a"})
    assert "PLANTED" not in f"{made!r} {made.own!r} {made.keys!r} {made.warnings}"


def test_a_budget_needs_the_ledger() -> None:
    own = {"ledger": False, "keys": [{"key": SECRET, "max_budget": 5}]}
    with pytest.raises(ConfigError, match="max_budget needs the ledger"):
        parse({"general_settings": {"master_key": "sk-m"}, "cache_proxy_settings": own}, {"HOME": "/h"})
