"""What kind of failure an error of the upstream is, and what its status says about money."""

from collections.abc import Mapping

from cache_proxy.errors import UpstreamError, UpstreamLost, UpstreamRefused
from cache_proxy.models import Failure

FREE = frozenset({429, 503})
"""Statuses of calls that were not billed and may go better in a moment."""

KEY_REFUSED = frozenset({401, 402, 403})
"""Statuses that are about the key a call was made with."""

_BY_STATUS: Mapping[int, Failure] = {
    401: Failure.AUTHENTICATION,
    402: Failure.AUTHENTICATION,
    403: Failure.AUTHENTICATION,
    408: Failure.TIMEOUT,
    429: Failure.RATE_LIMIT,
    500: Failure.SERVER,
    502: Failure.GATEWAY,
    503: Failure.UNAVAILABLE,
    504: Failure.TIMEOUT,
    520: Failure.GATEWAY,
    524: Failure.TIMEOUT,
}


def kind_of(error: UpstreamError) -> Failure:
    """The kind of this failure. 504 is a time-out, as LiteLLM maps it; 520 and 524 are Cloudflare's 502 and 504."""
    if isinstance(error, UpstreamRefused):
        return _BY_STATUS.get(error.status, Failure.OTHER)
    return Failure.TIMEOUT if isinstance(error, UpstreamLost) and error.timed_out else Failure.OTHER
