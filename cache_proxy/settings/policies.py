"""How often which failure is tried again, and how often it is put up with, in LiteLLM's words."""

from collections.abc import Mapping

from pydantic import Field

from cache_proxy.models import Failure
from cache_proxy.settings.base import Section, Tries


class RetryPolicy(Section):
    """``retry_policy``: it wins over every ``num_retries``. A call that may have been billed is tried again once."""

    AuthenticationErrorRetries: Tries | None = Field(
        default=None, description="After 401, 402 and 403; only at another deployment of the group."
    )
    TimeoutErrorRetries: Tries | None = Field(default=None, description="After a time-out and 504.")
    RateLimitErrorRetries: Tries | None = Field(default=None, description="After 429.")
    InternalServerErrorRetries: Tries | None = Field(default=None, description="After 500.")
    ServiceUnavailableErrorRetries: Tries | None = Field(default=None, description="After 503.")
    DefaultRetries: Tries | None = Field(default=None, description="After every failure that has no number here.")


class AllowedFailsPolicy(Section):
    """``allowed_fails_policy``: it wins over ``allowed_fails``."""

    AuthenticationErrorAllowedFails: Tries | None = Field(
        default=None, description="401, 402 and 403. Without it, the deployment rests at once."
    )
    TimeoutErrorAllowedFails: Tries | None = Field(default=None, description="Time-outs and 504.")
    RateLimitErrorAllowedFails: Tries | None = Field(
        default=None, description="429. Without it, the deployment rests at once where the upstream says for how long."
    )
    InternalServerErrorAllowedFails: Tries | None = Field(default=None, description="500.")
    ServiceUnavailableErrorAllowedFails: Tries | None = Field(default=None, description="503. Without it, as for 429.")
    BadGatewayErrorAllowedFails: Tries | None = Field(default=None, description="502.")


_WORDS: Mapping[str, Failure] = {
    "AuthenticationError": Failure.AUTHENTICATION,
    "TimeoutError": Failure.TIMEOUT,
    "RateLimitError": Failure.RATE_LIMIT,
    "InternalServerError": Failure.SERVER,
    "ServiceUnavailableError": Failure.UNAVAILABLE,
    "BadGatewayError": Failure.GATEWAY,
}


def retries_after(policy: RetryPolicy | None) -> dict[Failure, int]:
    """How often each kind of failure is tried again; those the policy is silent about are left out."""
    if policy is None:
        return {}
    usual = {} if policy.DefaultRetries is None else dict.fromkeys(Failure, policy.DefaultRetries)
    return usual | _by_failure(policy, "Retries")


def allowed_fails_of(policy: AllowedFailsPolicy | None) -> dict[Failure, int]:
    """How many failures in a row of each kind are put up with; those the policy is silent about are left out."""
    return {} if policy is None else _by_failure(policy, "AllowedFails")


def _by_failure(policy: Section, suffix: str) -> dict[Failure, int]:
    given = ((failure, getattr(policy, f"{word}{suffix}", None)) for word, failure in _WORDS.items())
    return {failure: number for failure, number in given if number is not None}
