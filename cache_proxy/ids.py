"""Ids that nobody else has, in the order of time."""

import os


def new_id(moment: float) -> str:
    """32 hexadecimal digits: RFC 9562's version 7 without its dashes and marks. ``moment`` is seconds since the epoch.

    Rows whose key grows with time are added at one end of an index, and not all over it.
    """
    return f"{int(moment * 1000):012x}{os.urandom(10).hex()}"
