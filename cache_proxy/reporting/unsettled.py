"""What may have been billed without an answer: a line a call, and what it has come to."""

from collections.abc import Callable
from typing import Any

from cache_proxy.calls import Call, Settlement
from cache_proxy.reporting.logs import FORMATS, at


class UnsettledLog:
    """Writes each call as a line through ``write``. It holds no text and no key: there is none in a call."""

    def __init__(self, form: str, write: Callable[[str], None]) -> None:
        """``form`` is one of ``FORMATS``."""
        self.calls = 0
        self.tokens = 0
        self._form = FORMATS[form]
        self._write = write

    def settled(self, call: Call, settlement: Settlement) -> None:
        """What is known needs no line of its own: it stands in those of the requests."""

    def unsettled(self, call: Call) -> None:
        """Write one line."""
        self.calls += 1
        self.tokens += call.tokens_bound
        self._write(self._form(self._fields(call)))

    def _fields(self, call: Call) -> dict[str, Any]:
        """The line's fields; the last two are totals of this worker since it started."""
        return {
            "time": at(call.sent_at),
            "event": "call_unsettled",
            "call_id": call.id,
            "deployment": call.deployment,
            "upstream_model": call.model,
            "endpoint": call.endpoint.value,
            "items": call.items,
            "tokens_bound": call.tokens_bound,
            "calls_so_far": self.calls,
            "tokens_so_far": self.tokens,
        }
