"""``router_settings`` and what else says how a deployment is called: shares, retries, rests, time-outs, trust."""

from pathlib import Path
from typing import Any

import pytest

from cache_proxy.errors import ConfigError
from cache_proxy.models import Failure
from cache_proxy.settings import DeploymentSettings, Settings, parse

HOME = {"HOME": "/home/someone"}
V3 = "jina_ai/jina-embeddings-v3"


def entry(info: dict[str, Any] | None = None, name: str = "m", **params: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": V3, **params}, "model_info": info or {}}


def settings(*entries: dict[str, Any], environ: dict[str, str] | None = None, **sections: Any) -> Settings:
    return parse({"model_list": list(entries) or [entry()], **sections}, HOME | (environ or {}))


def only(*entries: dict[str, Any], environ: dict[str, str] | None = None, **sections: Any) -> DeploymentSettings:
    (found,) = settings(*entries, environ=environ, **sections).deployments
    return found


def refused(*entries: dict[str, Any], **sections: Any) -> str:
    with pytest.raises(ConfigError) as error:
        settings(*entries, **sections)
    return str(error.value)


# Shares --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "shares"),
    [
        ({}, {}, [1, 1]),
        ({"weight": 3}, {"weight": 1}, [3, 1]),
        ({"weight": 3, "rpm": 10}, {"rpm": 60}, [3, 0]),
        ({"rpm": 10, "tpm": 5}, {"rpm": 60}, [10, 60]),
        ({"tpm": 1000}, {"tpm": 3000}, [1000, 3000]),
        ({"weight": 0}, {"weight": 0}, [1, 1]),
    ],
)
def test_a_group_shares_its_calls_by_weight_or_else_by_its_limits(
    first: dict[str, Any], second: dict[str, Any], shares: list[float]
) -> None:
    assert [one.weight for one in settings(entry(**first), entry(**second)).deployments] == shares
    least_busy = {"routing_strategy": "least-busy"}
    found = settings(entry(**first), entry(**second), router_settings=least_busy)
    assert [one.weight for one in found.deployments] == [1, 1]
    assert found.warnings == ()


@pytest.mark.parametrize("strategy", ["usage-based-routing-v2", "latency-based-routing", "cost-based-routing"])
def test_another_strategy_warns_and_is_simple_shuffle(strategy: str) -> None:
    found = settings(entry(weight=3), entry(weight=1), router_settings={"routing_strategy": strategy})
    assert [one.weight for one in found.deployments] == [3, 1]
    assert found.warnings == ("router_settings.routing_strategy is not acted on here: simple-shuffle is used",)


def test_limits_may_stand_in_three_places() -> None:
    assert only(entry({"rpm": 3}, rpm=1) | {"rpm": 2}).rpm == 1
    assert only(entry({"rpm": 3, "tpm": 30}) | {"rpm": 2}).rpm == 2
    assert only(entry({"rpm": 3, "tpm": 30})).tpm == 30


# Retries -------------------------------------------------------------------------------------------------------------


def test_a_retry_policy_speaks_of_kinds_and_the_rest_keeps_its_number() -> None:
    policy = {"RateLimitErrorRetries": 5, "TimeoutErrorRetries": "0", "AuthenticationErrorRetries": 1}
    found = only(entry(num_retries=3), router_settings={"retry_policy": policy})
    assert found.num_retries == 3
    assert found.retries_after == {Failure.RATE_LIMIT: 5, Failure.TIMEOUT: 0, Failure.AUTHENTICATION: 1}


def test_the_default_of_a_retry_policy_is_for_every_kind_it_does_not_name() -> None:
    found = only(router_settings={"retry_policy": {"DefaultRetries": 1, "ServiceUnavailableErrorRetries": 7}})
    assert found.retries_after == dict.fromkeys(Failure, 1) | {Failure.UNAVAILABLE: 7}


def test_a_model_names_own_policy_stands_in_the_place_of_the_common_one() -> None:
    router = {
        "retry_policy": {"RateLimitErrorRetries": 5, "TimeoutErrorRetries": 4},
        "model_group_retry_policy": {"m": {"RateLimitErrorRetries": 9}, "nobody": {"DefaultRetries": 1}},
    }
    found = settings(entry(), entry(name="other"), router_settings=router)
    assert [one.retries_after for one in found.deployments] == [
        {Failure.RATE_LIMIT: 9},
        {Failure.RATE_LIMIT: 5, Failure.TIMEOUT: 4},
    ]
    assert found.warnings == ("router_settings.model_group_retry_policy: no deployment here has the model_name nobody",)


def test_kinds_that_are_never_tried_again_are_noted_once_whatever_the_group() -> None:
    policy = {"BadRequestErrorRetries": 1}
    found = settings(router_settings={"model_group_retry_policy": {"m": policy, "*": policy}})
    assert found.warnings[0] == (
        "router_settings.model_group_retry_policy.*.BadRequestErrorRetries is not acted on here: "
        "such an answer would be the same the next time"
    )
    assert len([line for line in found.warnings if "BadRequestErrorRetries" in line]) == 1


def test_the_pause_before_a_retry() -> None:
    assert settings().retry_after == 0
    assert settings(router_settings={"retry_after": "3"}).retry_after == 3


# Rests ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "info", "sections", "seconds"),
    [
        ({}, {}, {}, 5),
        ({}, {}, {"litellm_settings": {"cooldown_time": 9}}, 9),
        ({}, {}, {"litellm_settings": {"cooldown_time": 9}, "router_settings": {"cooldown_time": 8}}, 8),
        ({"cooldown_time": 7}, {}, {"router_settings": {"cooldown_time": 8}}, 7),
        ({"cooldown_time": 7}, {"cooldown_time": 6}, {}, 6),
        ({"cooldown_time": 0}, {}, {"router_settings": {"cooldown_time": 8}}, None),
        ({}, {}, {"router_settings": {"cooldown_time": 0}}, 5),
        ({"cooldown_time": 7}, {}, {"router_settings": {"disable_cooldowns": True}}, None),
    ],
)
def test_how_long_a_failing_deployment_rests(
    params: dict[str, Any], info: dict[str, Any], sections: dict[str, Any], seconds: float | None
) -> None:
    assert only(entry(info, **params), **sections).cooldown == seconds


def test_how_often_a_deployment_may_fail() -> None:
    router = {
        "allowed_fails": 5,
        "allowed_fails_policy": {"RateLimitErrorAllowedFails": 100, "BadGatewayErrorAllowedFails": 2},
    }
    found = only(router_settings=router)
    assert (found.allowed_fails, found.allowed_fails_of) == (5, {Failure.RATE_LIMIT: 100, Failure.GATEWAY: 2})
    own = only(entry({"allowed_fails_policy": {"RateLimitErrorAllowedFails": 1}}), router_settings=router)
    assert (own.allowed_fails, own.allowed_fails_of) == (5, {Failure.RATE_LIMIT: 1, Failure.GATEWAY: 2})
    every = only(entry({"allowed_fails": 0}), router_settings=router)
    assert (every.allowed_fails, every.allowed_fails_of) == (0, {}), "its own number counts for every kind"


# Limits of 0, as the sample of LiteLLM's own documentation has them -------------------------------------------------


def test_a_0_is_a_limit_that_is_not_set() -> None:
    found = only(
        entry(max_parallel_requests=0, timeout=0),
        general_settings={"max_parallel_requests": 0},
        router_settings={"timeout": 0, "default_max_parallel_requests": 0},
        litellm_settings={"request_timeout": 0},
    )
    assert (found.max_parallel_requests, found.timeout) == (32, 120)


def test_a_time_out_has_two_names() -> None:
    assert only(entry(request_timeout=7)).timeout == 7
    assert only(entry(request_timeout=7, timeout=6)).timeout == 6
    assert only(entry(request_timeout=7)).default_params == {}, "it is no parameter of the request"


# Trust ---------------------------------------------------------------------------------------------------------------


def test_who_says_whether_certificates_are_checked() -> None:
    common: dict[str, Any] = {"litellm_settings": {"ssl_verify": False}}
    assert only().verify is True
    assert only(**common).verify is False
    assert only(environ={"SSL_VERIFY": "True"}, **common).verify is True
    assert only(environ={"SSL_VERIFY": "false"}).verify is False
    assert only(entry(ssl_verify="True"), environ={"SSL_VERIFY": "false"}).verify is True
    assert only(entry(ssl_verify=True), **common).verify is True


def test_certificates_to_trust_are_a_file(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nplanted\n-----END CERTIFICATE-----\n")
    for given in (str(tmp_path / "none.pem"), str(broken), "perhaps"):
        message = refused(entry(ssl_verify=given))
        assert message.startswith("model_list[0].litellm_params.ssl_verify: expected true, false or a readable file")
        assert "planted" not in message
    assert refused(litellm_settings={"ssl_verify": ["x"]}).startswith("litellm_settings.ssl_verify: ")
    assert "\n" not in refused(litellm_settings={"ssl_verify": ["x"]})


# Addresses, names and parameters -------------------------------------------------------------------------------------


def test_a_base_url_is_an_api_base() -> None:
    found = only(entry(base_url="http://own:7997"))
    assert (found.api_base, found.default_params, found.any_name) == ("http://own:7997", {}, True)
    assert only(entry(base_url="http://one", api_base="http://other")).api_base == "http://other"
    assert refused(entry(base_url="ftp://x")).startswith("model_list[0].litellm_params.base_url")
    assert refused(entry(base_url="os.environ/NO_SUCH")).startswith("model_list[0].litellm_params.base_url")


def test_headers_have_two_names() -> None:
    found = only(entry(headers={"x-a": "1", "x-b": "2"}, extra_headers={"x-b": "3"}))
    assert found.extra_headers == {"x-a": "1", "x-b": "3"}


def test_an_id_may_be_a_number() -> None:
    assert only(entry({"id": 7})).id == "7"


def test_default_parameters_of_every_request_win_over_a_deployments_own() -> None:
    router = {"default_litellm_params": {"dimensions": 64, "task": "separation", "timeout": 3, "api_key": "planted"}}
    found = settings(entry(dimensions=128, late_chunking=True), router_settings=router)
    assert found.deployments[0].default_params == {"dimensions": 64, "task": "separation", "late_chunking": True}
    assert found.warnings == (
        (
            "router_settings.default_litellm_params.timeout is not acted on here: "
            "say it in the litellm_params of the deployment"
        ),
        (
            "router_settings.default_litellm_params.api_key is not acted on here: "
            "say it in the litellm_params of the deployment"
        ),
    )
    assert parse({"router_settings": router}, HOME).deployments[0].default_params["dimensions"] == 64


@pytest.mark.parametrize(
    "name",
    ["cache", "caching", "tags", "mock_response", "litellm_session_id", "output_cost_per_token", "itpm", "_internal"],
)
def test_what_litellm_keeps_for_itself_is_never_sent(name: str) -> None:
    given: dict[str, Any] = {name: "planted"}
    found = settings(entry(**given))
    assert found.deployments[0].default_params == {}
    (line,) = found.warnings
    assert line.startswith(f"model_list[].litellm_params.{name} is not acted on here")


def test_dropped_fields_are_one_thing_for_a_group() -> None:
    assert only(entry(additional_drop_params=["dimensions"])).dropped == {"dimensions"}
    assert "drop different fields" in refused(entry(additional_drop_params=["dimensions"]), entry())
    assert settings(entry(additional_drop_params=["tools[*].x", "user"])).warnings == (
        "model_list[].litellm_params.additional_drop_params: only whole fields of a request can be dropped",
    )


# Who is served -------------------------------------------------------------------------------------------------------


def test_a_deployment_for_another_environment_is_skipped() -> None:
    entries = [entry({"supported_environments": ["production", "staging"]}), entry(name="other")]
    line = "model_list: m is for another LITELLM_ENVIRONMENT and is skipped"
    for environ, served, warned in (
        ({"LITELLM_ENVIRONMENT": "production"}, ["m", "other"], ()),
        ({"LITELLM_ENVIRONMENT": "development"}, ["other"], (line,)),
        ({}, ["other"], (line,)),
    ):
        found = settings(*entries, environ=dict(environ))
        assert [one.model_name for one in found.deployments] == served
        assert found.warnings == warned


@pytest.mark.parametrize(("blocked", "served"), [(True, 1), ("true", 1), (False, 2), (None, 2)])
def test_a_blocked_deployment_is_skipped(blocked: object, served: int) -> None:
    found = settings(entry({"blocked": blocked}), entry(name="other"))
    assert len(found.deployments) == served
    assert found.warnings == (() if served == 2 else ("model_list: m is blocked and is skipped",))


def test_an_alias_with_a_misspelt_key_is_noted() -> None:
    alias = {"old": {"model": "m", "hiden": True}}
    assert settings(router_settings={"model_group_alias": alias}).warnings == (
        "router_settings.model_group_alias.*.hiden is not acted on here",
    )


# The router's Redis, and LiteLLM's word for the log ------------------------------------------------------------------

REDIS = {"redis_host": "r", "redis_port": "6380", "redis_password": "planted", "redis_db": 2}


def test_the_routers_redis_is_the_cache_where_it_is_meant_as_one() -> None:
    found = settings(router_settings={**REDIS, "cache_responses": True, "cache_kwargs": {"namespace": "n"}})
    assert found.cache.redis is not None
    assert (found.cache.kind, found.cache.redis.host, found.cache.redis.port) == ("redis", "r", 6380)
    assert (found.cache.redis.db, found.cache.namespace) == (2, "n")
    assert found.cache.redis.password is not None
    assert found.warnings == ()
    url = settings(router_settings={"redis_url": "redis://planted@r", "cache_responses": "true"}).cache
    assert url.redis is not None
    assert url.redis.url is not None


@pytest.mark.parametrize(
    ("router", "common"),
    [
        (REDIS, {}),
        ({**REDIS, "cache_responses": False}, {}),
        ({**REDIS, "cache_responses": True}, {"cache": False}),
        ({**REDIS, "cache_responses": True}, {"cache_params": {"type": "disk"}}),
        ({"redis_host": "r", "cache_responses": True}, {}),
    ],
)
def test_otherwise_the_routers_redis_is_noted(router: dict[str, Any], common: dict[str, Any]) -> None:
    found = settings(router_settings=router, litellm_settings=common)
    assert found.cache.redis is None
    assert found.warnings == tuple(
        f"router_settings.{key} is not acted on here: limits are kept in the cache's store"
        for key in ("redis_host", "redis_port", "redis_password", "redis_db")
        if key in router
    )


@pytest.mark.parametrize(
    ("given", "own", "form"),
    [(None, {}, "json"), (True, {}, "json"), (False, {}, "console"), (False, {"log_format": "off"}, "off")],
)
def test_json_logs_is_a_word_for_the_form_of_the_log(given: bool | None, own: dict[str, str], form: str) -> None:
    found = settings(litellm_settings={"json_logs": given}, cache_proxy_settings=own)
    assert found.own.log_format == form
