"""Ids that nobody else has, in the order of time."""

import os

_LAST = 16**12 - 2
"""In the year 10889."""


def new_id(moment: float) -> str:
    """32 hexadecimal digits: RFC 9562's version 7 without its dashes and marks. ``moment`` is seconds since the epoch.

    Rows whose key grows with time are added at one end of an index, and not all over it.
    """
    return f"{_milliseconds(moment):012x}{os.urandom(10).hex()}"


def ids_between(since: float, until: float) -> tuple[str, str]:
    """From which id on, and until before which, all ids are that were made from ``since`` until before ``until``; some
    of the last millisecond may be later.
    """
    return f"{_milliseconds(since):012x}", f"{_milliseconds(until) + 1:012x}"


def _milliseconds(moment: float) -> int:
    return int(min(max(moment, 0.0) * 1000, _LAST))
