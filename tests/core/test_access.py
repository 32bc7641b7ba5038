"""Keys as requests of LiteLLM's write them, and what each may do."""

from typing import Any

import pytest

from cache_proxy.access import AccessKey
from cache_proxy.core.wire import access, controls
from cache_proxy.errors import RequestError

NOW = 1_764_331_200.0


def refusal(body: dict[str, Any]) -> RequestError:
    with pytest.raises(RequestError) as raised:
        access.changes(body, NOW)
    assert "planted" not in raised.value.message
    return raised.value


def test_every_field_reaches_the_key() -> None:
    body = {
        "key_alias": "a", "team_id": "t", "user_id": "u", "models": ["m", "m"], "max_budget": 0.000_000_5,
        "budget_duration": "30d", "rpm_limit": 1, "tpm_limit": 2, "duration": "1h", "blocked": True, "namespace": "n",
        "allowed_cache_controls": ["no-cache"], "metadata": {"a": 1}, "expires": None,
    }  # fmt: skip
    assert set(body) == set(access.FIELDS)
    assert access.changes(body, NOW) == {
        "alias": "a", "team": "t", "user": "u", "models": ("m",), "max_budget": 500_000, "budget_duration": "30d",
        "rpm_limit": 1, "tpm_limit": 2, "expires_at": NOW + 3600, "blocked": True, "namespace": "n",
        "allowed_cache_controls": ("no-cache",), "metadata": {"a": 1},
    }  # fmt: skip


def test_what_is_not_said_is_not_changed_and_null_takes_a_limit_away() -> None:
    assert access.changes({}, NOW) == {}
    assert access.changes({"max_budget": None, "models": None, "blocked": None}, NOW) == {
        "max_budget": None, "models": (), "blocked": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "expires_at"),
    [
        ({"duration": None}, None),
        ({"duration": ""}, None),
        ({"duration": None, "expires": "2025-11-28T12:00:00"}, NOW),
        ({"duration": "1h", "expires": None}, NOW + 3600),
        ({"expires": None}, None),
    ],
)
def test_null_takes_the_expiry_away_by_either_name(body: dict[str, Any], expires_at: float | None) -> None:
    assert access.changes(body, NOW) == {"expires_at": expires_at}


def test_a_field_that_means_nothing_here_is_refused_unless_it_is_empty() -> None:
    assert access.changes({"aliases": {}, "config": {}, "soft_budget": None, "permissions": {}, "spend": 0}, NOW) == {}
    refused = refusal({"max_parallel_requests": 5})
    assert (refused.param, refused.code) == ("max_parallel_requests", "not_acted_on")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key_alias", "sk-planted"), ("key_alias", "a" * 64), ("key_alias", "A1" * 32),
        ("key_alias", 5), ("key_alias", "planted" * 50), ("key_alias", "planted\n"), ("models", "planted"),
        ("models", [5]), ("max_budget", "planted"), ("max_budget", -1), ("max_budget", True), ("max_budget", 1e300),
        ("budget_duration", "planted"), ("budget_duration", 30), ("rpm_limit", 0), ("rpm_limit", 1.5),
        ("tpm_limit", "planted"), ("duration", "planted"), ("expires", "planted"), ("blocked", "planted"),
        ("duration", "999999w"), ("budget_duration", "999999w"), ("expires", "9999-12-31T23:59:59-23:00"),
        ("expires", "1969-12-31"), ("namespace", 5), ("allowed_cache_controls", ["planted"]), ("metadata", ["planted"]),
    ],
)  # fmt: skip
def test_a_value_that_can_not_be_obeyed_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    assert str(refusal({name: value}).param).startswith(name)


@pytest.mark.parametrize(("given", "good"), [("sk-" + "x" * 20, True), ("sk-short", False), ("x" * 40, False)])
def test_a_key_that_somebody_thought_of_must_not_be_too_easy(given: str, good: bool) -> None:
    if good:
        assert access.chosen_key({"key": given}) == given
    else:
        with pytest.raises(RequestError):
            access.chosen_key({"key": given})


def test_money_is_told_in_usd_and_times_as_dates() -> None:
    told = access.told(AccessKey(hash="f" * 64, max_budget=12_500_000_000_000, expires_at=NOW, created_at=NOW))
    assert (told["max_budget"], told["expires"], told["created_at"]) == (
        12.5, "2025-11-28T12:00:00Z", "2025-11-28T12:00:00Z",
    )  # fmt: skip


@pytest.mark.parametrize(("moment", "told"), [(1e15, "9999-12-31T23:59:59Z"), (-1e15, "1970-01-01T00:00:00Z")])
def test_whatever_moment_stands_in_a_database_is_told(moment: float, told: str) -> None:
    assert access.date(moment) == told


@pytest.mark.parametrize(
    ("models", "name", "allowed"),
    [
        ((), "anything", True),
        (("a",), "a", True),
        (("a",), "A", False),
        (("a",), "ab", False),
        (("jina-*",), "jina-embeddings-v3", True),
        (("jina-*",), "jina_ai/jina-embeddings-v3", False),
        (("all-proxy-models",), "anything", True),
    ],
)
def test_a_key_has_a_right_to_the_models_it_names(models: tuple[str, ...], name: str, allowed: bool) -> None:
    assert AccessKey(hash="", models=models).may_use(name) is allowed


def test_a_key_is_good_until_it_expires_or_is_blocked() -> None:
    assert AccessKey(hash="").is_good(NOW)
    assert AccessKey(hash="", expires_at=NOW + 1).is_good(NOW)
    assert not AccessKey(hash="", expires_at=NOW).is_good(NOW)
    assert not AccessKey(hash="", blocked=True).is_good(NOW)


@pytest.mark.parametrize(
    ("cache", "header", "named"),
    [
        (None, None, set()),
        ({"no-cache": True, "ttl": 5, "namespace": "n"}, None, {"no-cache", "ttl", "namespace"}),
        ({"no-cache": False, "ttl": None, "no-store": None}, None, set()),
        ({"ttl": 0, "s-max-age": 0}, None, {"ttl", "s-maxage"}),
        ({"use-cache": True}, "only-if-cached", set()),
        (None, "No-Cache, max-age=5", {"no-cache", "s-maxage"}),
        (None, "no-store", {"no-store"}),
    ],
)
def test_the_controls_that_a_request_names_count_by_whichever_name(cache: Any, header: str, named: set[str]) -> None:
    assert controls.named({} if cache is None else {"cache": cache}, header) == named
