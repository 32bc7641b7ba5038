"""Moments, as people write them."""

import re
from datetime import UTC, date, datetime, time, timedelta

FORMS = "7d, 24h, 30m, 2026-11-01 or 2026-11-01T09:30:00Z"
"""What is understood, in examples."""

_AGO = re.compile(r"([0-9]{1,6})([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def moment(text: str, now: float, *, ends_day: bool = False) -> float:
    """Seconds since the epoch. A date is its first moment, or with ``ends_day`` the one after its last; what names no
    zone is UTC. Raises ``ValueError``, whose message is a sentence about ``text`` that does not repeat it.
    """
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - int(ago[1]) * _SECONDS[ago[2]]
    try:
        found = _day(text)
        if found is not None:
            return (datetime.combine(found, time(), UTC) + timedelta(days=ends_day)).timestamp()
        at = datetime.fromisoformat(text)
        return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"is no time; write it like {FORMS}") from None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
