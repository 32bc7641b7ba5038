"""What was asked of the stand-in: the auditor's book."""

from collections import deque
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One POST.

    ``body`` is the JSON as received (None where it was none); ``tokens`` is what was billed, 0 unless
    work was done; ``status`` is 0 where the call was dropped before any answer; ``fault`` is the kind
    that struck it, if one did.
    """

    endpoint: str
    model: str | None
    items: int
    tokens: int
    body: Any
    status: int
    fault: str | None = None


class Log:
    """The last ``keep`` calls, and totals over all of them."""

    def __init__(self, keep: int) -> None:
        self.calls: deque[Call] = deque(maxlen=keep)
        self.clear()

    def clear(self) -> None:
        self.calls.clear()
        self.count = 0
        self.billed_tokens = 0
        self.billed_items = 0

    def add(self, call: Call) -> None:
        self.calls.append(call)
        self.count += 1
        self.billed_tokens += call.tokens
        self.billed_items += call.items if call.tokens else 0
