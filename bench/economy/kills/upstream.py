"""A stand-in that knows whose each call is, and whether it has begun to answer it."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive, Scope, Send

from cache_proxy.standin import Delays, StandIn

KEPT = 1_000_000
"""Calls that are kept: all of them."""


@dataclass(slots=True, eq=False)
class Sale:
    """A call, by its ``number`` in the stand-in's own log, for whoever showed this ``key``. Times are monotonic."""

    number: int
    key: str
    at: float
    answered_at: float = math.inf
    """When the answer began to go out; infinite: the stand-in is working."""


class Upstream(StandIn):
    """The stand-in, with ``sales`` beside its log."""

    def __init__(self, delay: Delays) -> None:
        super().__init__(delay=delay, keep=KEPT)
        self.sales: list[Sale] = []

    async def serve(self, endpoint: str, scope: Scope, receive: Receive, send: Send) -> None:
        """One POST."""
        try:
            body = await Request(scope, receive).body()
        except ClientDisconnect:
            return
        # The body is here, so the stand-in enters the call into its log before anything else can run.
        sale = Sale(self.call_count, _key_of(scope), time.monotonic())
        self.sales.append(sale)

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def tell(message: Message) -> None:
            sale.answered_at = min(sale.answered_at, time.monotonic())
            await send(message)

        await super().serve(endpoint, scope, again, tell)

    def working_for(self, keys: Sequence[str]) -> set[str]:
        """Those of these keys for which a call is under way."""
        return {sale.key for sale in list(self.sales) if sale.answered_at == math.inf} & set(keys)


def _key_of(scope: Scope) -> str:
    return Request(scope).headers.get("authorization", "").removeprefix("Bearer ")
