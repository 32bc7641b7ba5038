"""A bounded memo: what frames hold once opened, and what entries look like once written.

A hit in memory then costs neither a checksum nor a number formatting. The memo is valid only for the very frame object
that the memory tier hands out, so whatever the store forgets or replaces is forgotten here by itself.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from cache_proxy.core.codec import open_frame
from cache_proxy.models import Entry, Key

_OVERHEAD = 1000
"""Roughly what an opened entry and its slot take besides the bytes counted."""


Ends = tuple[bytes, bytes]
"""A written value in two parts: what goes before its index and what goes after."""


class _Slot:
    __slots__ = ("entry", "frame", "size", "written")

    def __init__(self, frame: bytes, entry: Entry) -> None:
        self.frame = frame
        self.entry = entry
        self.written: dict[str, Ends] = {}
        self.size = len(frame) + _OVERHEAD


class Renderings:
    """``max_bytes`` of 0 remembers nothing: right where no memory tier hands the same object out twice."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._slots: OrderedDict[Key, _Slot] = OrderedDict()
        self._bytes = 0

    def open(self, key: Key, frame: bytes) -> Entry | None:
        """The entry in a frame, as :func:`~cache_proxy.core.codec.open_frame` gives it."""
        slot = self._slots.get(key)
        if slot is not None and slot.frame is frame:
            self._slots.move_to_end(key)
            return slot.entry
        entry = open_frame(key, frame)
        if entry is not None and self._max_bytes:
            self._forget(key)
            self._slots[key] = slot = _Slot(frame, entry)
            self._grow(slot.size)
        return entry

    def write(self, key: Key, entry: Entry, how: str, write: Callable[[Any, str], Ends]) -> Ends:
        """What ``write(entry.value, how)`` gives; remembered under ``how`` if the entry is."""
        slot = self._slots.get(key)
        if slot is None or slot.entry is not entry:
            return write(entry.value, how)
        written = slot.written.get(how)
        if written is None:
            written = slot.written[how] = write(entry.value, how)
            size = len(written[0]) + len(written[1])
            slot.size += size
            self._grow(size)
        return written

    def _grow(self, size: int) -> None:
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, slot = self._slots.popitem(last=False)
            self._bytes -= slot.size

    def _forget(self, key: Key) -> None:
        slot = self._slots.pop(key, None)
        if slot is not None:
            self._bytes -= slot.size
