"""What a deployment takes from the router's and the general settings where it says nothing itself."""

import ssl
from collections.abc import Mapping
from typing import Any

from cache_proxy.errors import ConfigError
from cache_proxy.settings.entries import LiteLLMParams, ModelEntry, ModelInfo
from cache_proxy.settings.policies import allowed_fails_of, retries_after
from cache_proxy.settings.providers import APP
from cache_proxy.settings.sections import Document

DEFAULT_TIMEOUT = 120.0
"""Above the 100 s after which Jina's own gateway gives up: to leave earlier is to risk paying twice."""
DEFAULT_RETRIES = 2
DEFAULT_PARALLEL = 32
DEFAULT_FAILS = 3
DEFAULT_COOLDOWN = 5.0

APP_TIMEOUT = 600.0
APP_PARALLEL = 2**31 - 1
"""The app queues by itself. A bound of ours would refuse what it takes."""
APP_RETRIES = 0
"""What an app in this process says is not said differently a moment later."""

VERIFY_VARIABLE = "SSL_VERIFY"
_YES, _NO = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


def first(*values: Any) -> Any:
    """The first of these that is given."""
    return next((value for value in values if value is not None), None)


def _first_above_0(*values: Any) -> Any:
    """The first of these that is given and not 0: at LiteLLM a 0 is a limit that is not set."""
    return next((value for value in values if value), None)


def limits(entry: ModelEntry, path: str, document: Document, environ: Mapping[str, str]) -> dict[str, Any]:
    """Fields of ``DeploymentSettings``. Raises ``ConfigError``."""
    params, router, common = entry.litellm_params, document.router_settings, document.litellm_settings
    at_app = _at_app(params)
    parallel = _first_above_0(
        params.max_parallel_requests,
        router.default_max_parallel_requests,
        document.general_settings.max_parallel_requests,
    )
    return {
        "timeout": _first_above_0(
            params.timeout,
            params.request_timeout,
            common.request_timeout,
            router.timeout,
            APP_TIMEOUT if at_app else DEFAULT_TIMEOUT,
        ),
        "max_parallel_requests": int(parallel or (APP_PARALLEL if at_app else DEFAULT_PARALLEL)),
        "parallel_everywhere": parallel is not None,
        "verify": _verify(params, path, document, environ),
        **_retries(entry, document),
        **_rests(params, entry.model_info, document),
    }


def _at_app(params: LiteLLMParams) -> bool:
    return (params.api_base or params.base_url or "").strip() == APP


def _retries(entry: ModelEntry, document: Document) -> dict[str, Any]:
    params, router, common = entry.litellm_params, document.router_settings, document.litellm_settings
    usual = first(
        params.num_retries, params.max_retries, router.num_retries, router.max_retries, common.num_retries,
        APP_RETRIES if _at_app(params) else DEFAULT_RETRIES,
    )  # fmt: skip
    policy = router.model_group_retry_policy.get(entry.model_name, router.retry_policy)
    return {"num_retries": usual, "retries_after": retries_after(policy)}


def _rests(params: LiteLLMParams, info: ModelInfo, document: Document) -> dict[str, Any]:
    router, common = document.router_settings, document.litellm_settings
    own = first(info.cooldown_time, params.cooldown_time)
    usual = _first_above_0(router.cooldown_time, common.cooldown_time, DEFAULT_COOLDOWN)
    # A deployment's own number counts for every kind of failure that it has no number for.
    routers = {} if info.allowed_fails is not None else allowed_fails_of(router.allowed_fails_policy)
    return {
        "cooldown": None if router.disable_cooldowns or own == 0 else first(own, usual),
        "allowed_fails": first(info.allowed_fails, router.allowed_fails, common.allowed_fails, DEFAULT_FAILS),
        "allowed_fails_of": routers | allowed_fails_of(info.allowed_fails_policy),
    }


def _verify(params: LiteLLMParams, path: str, document: Document, environ: Mapping[str, str]) -> bool | str:
    given = (
        (params.ssl_verify, f"{path}.litellm_params.ssl_verify"),
        (environ.get(VERIFY_VARIABLE) or None, VERIFY_VARIABLE),
        (document.litellm_settings.ssl_verify, "litellm_settings.ssl_verify"),
    )
    return next((trust(value, where) for value, where in given if value is not None), True)


def trust(value: bool | str, where: str) -> bool | str:
    """Whether certificates are checked, or the file of those to trust. Raises ``ConfigError``."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower()
    if word in _YES | _NO:
        return word in _YES
    try:
        ssl.create_default_context(cafile=value)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise ConfigError(f"{where}: expected true, false or a readable file of PEM certificates") from None
    return value
