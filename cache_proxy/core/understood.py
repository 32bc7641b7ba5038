"""A bounded memory of requests that came before, byte for byte: what they ask for need not be worked out again.

What a request asks for depends on its bytes and on the configuration alone, and that stands still while a process
runs. Clients that embed the same things again mostly send the same bytes again.
"""

from collections import OrderedDict
from typing import NamedTuple

from cache_proxy.core.asked import Asked

_ITEM_BYTES = 600
"""Roughly what an item, its key and its slot take besides the text itself."""

_COPIES = 3
"""Of each text, one in the request, one as a string, one as it is keyed."""

Request = tuple[bytes, str | None, str]
"""A body, its ``Cache-Control``, and the namespace of the caller's key."""


class Understood(NamedTuple):
    """What a request asks for, and what it says about its caller."""

    asked: Asked
    user: str | None
    tags: tuple[str, ...]
    controls: frozenset[str] = frozenset()
    """The cache controls that it names, of those a key may be held to."""


class Memory:
    """The requests of one endpoint. The least recently used are forgotten; 0 bytes remember nothing."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[Request, Understood] = OrderedDict()
        self._bytes = 0

    def recall(self, request: Request) -> Understood | None:
        """What exactly this request asks for, if it is remembered."""
        found = self._held.get(request)
        if found is not None:
            self._held.move_to_end(request)
        return found

    def remember(self, request: Request, understood: Understood) -> None:
        """Keep this for the next time, unless it would take more than a tenth of the room."""
        if request in self._held or (size := _size(request, understood)) > self._max_bytes // 10:
            return
        self._held[request] = understood
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._bytes -= _size(*self._held.popitem(last=False))


def _size(request: Request, understood: Understood) -> int:
    return _COPIES * len(request[0]) + _ITEM_BYTES * (1 + len(understood.asked.ask.items))
