"""Calls whose outcome nobody knows: written down before they are tried again, and where they are not."""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cache_proxy.calls import Call, Ledger
from cache_proxy.models import Deployment, Endpoint, Json

log = logging.getLogger("cache_proxy.upstream")


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be sent. ``tokens`` is an estimate, ``bound`` the most that it can cost."""

    endpoint: Endpoint
    body: Mapping[str, Json]
    tokens: int
    items: int
    bound: int


class Doubts:
    """What one answer has cost without anybody knowing: how many calls, and how many tokens at most."""

    def __init__(self, ledger: Ledger | None, now: Callable[[], float]) -> None:
        self.calls = 0
        self.tokens = 0
        self._ledger = ledger
        self._now = now

    def call(self, load: Load, deployment: Deployment) -> Call:
        """The call that is sent at this moment."""
        model = load.body.get("model", "")
        return Call(os.urandom(16).hex(), deployment.id, model, load.endpoint, load.items, load.bound, self._now())

    async def about(self, call: Call) -> None:
        """Count a call whose outcome is unknown, and have it written down. Never raises."""
        self.calls += 1
        self.tokens += call.tokens_bound
        if self._ledger is None:
            return
        try:
            await self._ledger.unsettled(call)
        except Exception as error:
            # The answer is worth more than the note; of the error only its kind, for its text may hold anything.
            fields = {"call_id": call.id, "tokens_bound": call.tokens_bound, "reason": type(error).__name__}
            log.error(
                "the ledger did not take the unsettled call %(call_id)s (tokens_bound=%(tokens_bound)d): %(reason)s",
                fields,
                extra=fields,
            )
