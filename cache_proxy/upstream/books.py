"""What the calls of one engine tell the ledger: an intent before each, and how it ended.

Before a call is sent the ledger may say no. Once it was sent nothing that the ledger does stands between a caller and
an answer that has been paid for.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from cache_proxy.calls import Call, Ledger, Settlement, Share
from cache_proxy.ids import new_id
from cache_proxy.models import Deployment, Endpoint, Json

log = logging.getLogger("cache_proxy.upstream")


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be sent. ``tokens`` is an estimate, ``shares`` say for whom it is and what it can cost at most, and
    ``price`` is pico-USD a token, where the deployment has none of its own.
    """

    endpoint: Endpoint
    body: Mapping[str, Json]
    tokens: int
    items: int
    shares: tuple[Share, ...] = ()
    price: int | None = None


class Books:
    """The way to the ledger, where there is one."""

    def __init__(self, ledger: Ledger | None, now: Callable[[], float]) -> None:
        """``now`` is the time of day."""
        self._ledger = ledger
        self._now = now

    async def open(self, load: Load, deployment: Deployment) -> Call:
        """The call that is sent at this moment, written down. Raises ``NotPaid``."""
        sent_at = self._now()
        model = load.body.get("model", "")
        price = deployment.price if deployment.priced else load.price
        call = Call(new_id(sent_at), deployment.id, model, load.endpoint, load.items, sent_at, load.shares, price)
        if self._ledger is not None:
            await self._ledger.intend(call)
        return call

    async def settle(self, call: Call, settlement: Settlement) -> None:
        """It cost this. Never raises."""
        if self._ledger is not None:
            await self._told(call, self._ledger.settle, settlement)

    def cost_nothing(self, call: Call, status: int) -> None:
        """It was refused, or never arrived. Nobody waits for the note: without it the call stands as it was intended,
        for more than it cost. Never raises.
        """
        if self._ledger is None:
            return
        try:
            self._ledger.settle(call, Settlement((0,) * len(call.shares), status))
        except Exception as error:
            _complain(call, error)

    async def unsettled(self, call: Call) -> None:
        """Nobody knows what it cost. Never raises."""
        if self._ledger is not None:
            await self._told(call, self._ledger.unsettled)

    @staticmethod
    async def _told(call: Call, tell: Callable[..., Awaitable[None]], *what: Settlement) -> None:
        try:
            await tell(call, *what)
        except Exception as error:
            _complain(call, error)


def _complain(call: Call, error: Exception) -> None:
    """The answer is worth more than the note; of the error only its kind, for its text may hold anything."""
    fields = {"call_id": call.id, "tokens_bound": call.tokens_bound, "reason": type(error).__name__}
    log.error(
        "the ledger did not take the end of call %(call_id)s (tokens_bound=%(tokens_bound)d): %(reason)s",
        fields,
        extra=fields,
    )
