"""One call to an upstream, as a ledger is told of it."""

from typing import NamedTuple, Protocol

from cache_proxy.models import Endpoint


class Call(NamedTuple):
    """A call that was sent. Times are seconds since the epoch."""

    id: str
    """32 hexadecimal digits; a retry is another call."""
    deployment: str
    """The deployment's id."""
    model: str
    """The upstream's name for it."""
    endpoint: Endpoint
    items: int
    tokens_bound: int
    """The most tokens it can have been billed (``core.spend.bound``)."""
    sent_at: float


class Ledger(Protocol):
    """Where money is written down."""

    async def unsettled(self, call: Call) -> None:
        """Write down a call that may have been billed without an answer, before anything else is done about it.

        It is asked once for each such call, on the way of a request: it should be quick. What it raises is logged,
        and the request goes on.
        """
