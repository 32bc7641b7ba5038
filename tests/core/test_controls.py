"""What a caller says about the cache, in the body and in ``Cache-Control``."""

from typing import Any

import pytest

from cache_proxy.core.wire.controls import CENTURY, read
from cache_proxy.errors import RequestError
from cache_proxy.models import Controls

OFF = Controls(read=False, store=False)


@pytest.mark.parametrize(
    ("cache", "header", "controls"),
    [
        (None, None, Controls()),
        (None, "", Controls()),
        ({}, None, Controls()),
        ({"no-cache": True}, None, Controls(read=False)),
        ({"no-store": True}, None, Controls(store=False)),
        ({"no-cache": False, "no-store": False, "use-cache": True}, None, Controls()),
        ({"no-cache": None, "ttl": None, "s-maxage": None, "namespace": None}, None, Controls()),
        ({"ttl": 60}, None, Controls(ttl=60)),
        ({"ttl": 0.5}, None, Controls(ttl=0.5)),
        ({"ttl": 0}, None, Controls(ttl=0)),
        ({"s-maxage": 9}, None, Controls(max_age=9)),
        ({"s-max-age": 9}, None, Controls(max_age=9)),
        ({"s-maxage": 0}, None, Controls(max_age=0)),
        ({"namespace": "team"}, None, Controls(namespace="team")),
        (None, "no-cache", Controls(read=False)),
        (None, "no-store", Controls(store=False)),
        (None, "only-if-cached", Controls(only_if_cached=True)),
        (None, "max-age=5", Controls(max_age=5)),
        (None, 'max-age="5"', Controls(max_age=5)),
        (None, "max-age=0", Controls(max_age=0)),
        (None, " No-Cache , NO-STORE,,", OFF),
        (None, "max-stale=3, no-transform, min-fresh", Controls()),
        (None, "no-cachet", Controls()),
        ({"no-cache": True}, "no-store", OFF),
        ({"no-cache": False}, "no-cache", Controls(read=False)),
        ({"s-maxage": 9}, "max-age=5", Controls(max_age=5)),
        ({"s-maxage": 3, "s-max-age": 7}, "max-age=5", Controls(max_age=3)),
    ],
)
def test_body_and_header_are_read_and_the_more_careful_wins(cache: Any, header: str | None, controls: Controls) -> None:
    assert read({"cache": cache}, header) == controls


@pytest.mark.parametrize(
    ("cache", "param", "code"),
    [
        ("no-cache", "cache", "wrong_type"),
        (True, "cache", "wrong_type"),
        (["no-cache"], "cache", "wrong_type"),
        ({"Zq7": True}, "cache", "unknown_cache_control"),
        ({"no-cache": "Zq7"}, "cache.no-cache", "wrong_type"),
        ({"no-store": 1}, "cache.no-store", "wrong_type"),
        ({"use-cache": "yes"}, "cache.use-cache", "wrong_type"),
        ({"ttl": "Zq7"}, "cache.ttl", "wrong_type"),
        ({"ttl": True}, "cache.ttl", "wrong_type"),
        ({"ttl": -1}, "cache.ttl", "wrong_type"),
        ({"ttl": float("nan")}, "cache.ttl", "wrong_type"),
        ({"s-maxage": float("inf")}, "cache.s-maxage", "wrong_type"),
        ({"s-max-age": [1]}, "cache.s-max-age", "wrong_type"),
        ({"namespace": 7}, "cache.namespace", "wrong_type"),
    ],
)
def test_a_word_that_can_not_be_obeyed_is_refused_by_name(cache: Any, param: str, code: str) -> None:
    with pytest.raises(RequestError) as error:
        read({"cache": cache}, None)
    assert (error.value.param, error.value.code) == (param, code)
    assert "Zq7" not in error.value.message


@pytest.mark.parametrize("age", ["", "=", "=x", "=-1", "=1.5", "=1e3", "= ", "=\u0661"])
def test_an_age_in_the_header_that_is_no_whole_number_is_refused(age: str) -> None:
    with pytest.raises(RequestError, match="max-age") as error:
        read({}, f"no-store, max-age{age}")
    assert error.value.param == "Cache-Control"


@pytest.mark.parametrize(
    ("cache", "header", "controls"),
    [
        (None, None, OFF),
        ({"no-store": False}, "max-age=5", OFF),
        ({"use-cache": False}, None, OFF),
        ({"use-cache": True}, None, Controls()),
        ({"use-cache": True, "ttl": 5}, "no-cache", Controls(read=False, ttl=5)),
        # Nothing is in a cache that is not used, and only-if-cached forbids to spend.
        (None, "only-if-cached", Controls(read=False, store=False, only_if_cached=True)),
    ],
)
def test_default_off_uses_the_cache_only_for_requests_that_say_so(
    cache: Any, header: str | None, controls: Controls
) -> None:
    assert read({"cache": cache}, header, default_off=True) == controls


def test_default_off_refuses_bad_words_all_the_same() -> None:
    with pytest.raises(RequestError):
        read({"cache": {"ttl": "x"}}, None, default_off=True)


@pytest.mark.parametrize(
    ("controls", "shared"), [(Controls(), True), (Controls(read=False), False), (Controls(store=False), False)]
)
def test_only_a_request_that_reads_and_stores_may_share_a_trip(controls: Controls, shared: bool) -> None:
    assert controls.shared is shared


def test_of_several_ages_the_smallest_counts_and_no_directive_hides_another() -> None:
    told = read({}, "max-age=60, no-store, max-age=5, max-age=10")
    assert (told.max_age, told.store) == (5.0, False)


def test_a_ttl_beyond_what_stores_can_count_to_is_a_century() -> None:
    assert read({"cache": {"ttl": 1e16}}, None).ttl == CENTURY
