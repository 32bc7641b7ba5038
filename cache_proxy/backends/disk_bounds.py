"""How the bytes of the disk store are shared out. Pure.

The whole folder stays within the bound and a tenth: the pages in use within 15/16 of it, the log within 1/16
and one write more. A file that was put aside takes its room from the pages.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cache_proxy.backends.base import Key, Value

PAGE = 16_384
"""Bytes of a page: a 1024-d vector of 4 KiB does not fit SQLite's own 4 KiB page."""

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Bounds:
    """What ``max_bytes`` allows on a disk of ``disk_bytes``: a bound larger than the disk is the disk."""

    max_bytes: int
    disk_bytes: int

    @property
    def whole(self) -> int:
        return min(self.max_bytes, self.disk_bytes)

    @property
    def largest(self) -> int:
        """Bytes of the largest value that is held."""
        return self.whole // 8

    @property
    def goal(self) -> int:
        """Bytes of pages in use that no write goes beyond."""
        return self.whole * 15 // 16

    @property
    def tidy_from(self) -> int:
        """Bytes in use from which entries are let go in the background, before writes have to."""
        return self.goal * 31 // 32

    @property
    def tidy_to(self) -> int:
        return self.goal * 9 // 10

    @property
    def log_pages(self) -> int:
        """Pages in the log after which they are carried over into the file."""
        return min(max(self.whole // 64 // PAGE, 16), 512)

    @property
    def log_most(self) -> int:
        """Bytes of log beyond which nothing is written until it is empty again."""
        return min(max(self.whole // 16, 32 * PAGE), 64 * _MIB)

    @property
    def rows(self) -> int:
        """Rows of housekeeping a trip, so that look-ups get in between: each may put two pages into the log."""
        return min(self.log_most // (4 * PAGE), 256)

    def room(self, file_bytes: int, free_bytes: int, aside_bytes: int) -> int:
        """Bytes that the pages in use may take now.

        As much of the disk as the log may need is left free, or a disk that fills up could take neither a
        value nor a deletion any more.
        """
        return min(self.goal - aside_bytes, file_bytes + free_bytes - self.log_most)

    def parts(self, entries: Mapping[Key, Value]) -> Iterator[dict[Key, Value]]:
        """The entries in parts that can each be written at once without the log running over."""
        part: dict[Key, Value] = {}
        left = self.log_most // 2
        for key, value in entries.items():
            weight = weight_of(value)
            if part and weight > left:
                yield part
                part, left = {}, self.log_most // 2
            part[key] = value
            left -= weight
        if part:
            yield part


def weight_of(value: Value) -> int:
    """Bytes of log that writing this value takes: its own, and pages of the indexes."""
    return len(value) + 2 * PAGE


def room_of(value: Value) -> int:
    """Bytes of pages that this value takes: what is left over at the end of a page is lost."""
    return len(value) * 4 // 3 + 200
