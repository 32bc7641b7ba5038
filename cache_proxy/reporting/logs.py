"""One structured line a request, from its receipt. It holds no text and no key: there is none in a receipt."""

import logging
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from threading import Lock, Timer
from typing import Any, Protocol, TextIO

import orjson

from cache_proxy.core.spend import usd
from cache_proxy.receipts import Receipt

logger = logging.getLogger("cache_proxy.request")

_FLUSH_AFTER = 0.05
_PLAIN = re.compile(r"[\w.:/;=+@*-]+")


def set_up_logging(level: str) -> None:
    """A server process's log to standard error, ours and uvicorn's in one form. In an app that is the app's to do."""
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    # httpx logs each call at INFO, with its URL.
    logging.getLogger("httpx").setLevel(logging.WARNING)


def fields(receipt: Receipt) -> dict[str, Any]:
    """The line's fields. Amounts are decimal strings, so that nothing rounds them; absent ones are left out."""
    counts = receipt.counts
    line: dict[str, Any] = {
        "time": at(receipt.started_at),
        "event": "request",
        "request_id": receipt.request_id,
        "who": receipt.account.alias,
        "endpoint": receipt.endpoint,
        "model": receipt.model,
        "upstream_model": receipt.upstream_model,
        "status": receipt.status,
        "cache": receipt.cache_status.removeprefix("cache-proxy; ").partition("; detail=")[0],
        "items": counts.items,
        "hits": counts.hits,
        "misses": counts.misses,
        "duplicates": counts.duplicates,
        "joined": counts.joined,
        "tokens_billed": receipt.tokens_billed,
        "tokens_saved": receipt.tokens_saved,
        "cost_usd": usd(receipt.cost),
        "saved_usd": usd(receipt.saved),
        "latency_ms": round(receipt.latency * 1000, 3),
        "bytes": receipt.bytes_out,
    }
    line.update((name, value) for name, value in zip(_SOMETIMES, _sometimes(receipt), strict=True) if value)
    return line


_SOMETIMES = ("outcome_unknown", "tokens_unsettled", "error", "team", "key_user", "user", "tags")
_sometimes = attrgetter("outcome_unknown", "tokens_unsettled", "error", "account.team", "account.user", "user", "tags")


def at(moment: float) -> str:
    """ISO 8601 to the millisecond, of seconds since the epoch."""
    second = int(moment)
    return f"{_second(second)}.{int((moment - second) * 1000):03d}+00:00"


@lru_cache(maxsize=8)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def as_json(line: Mapping[str, Any]) -> str:
    """A line for machines."""
    return orjson.dumps(line).decode()


def as_text(line: Mapping[str, Any]) -> str:
    """A line for people. What most lines are about is not said."""
    told = {name: value for name, value in line.items() if value != "" and (name, value) != ("event", "request")}
    return f"{told.pop('time')} " + " ".join(f"{name}={_quoted(value)}" for name, value in told.items())


def _quoted(value: Any) -> str:
    """A value in one piece: whatever holds blanks, quotes or controls is written as JSON."""
    text = value if isinstance(value, str) else str(value)
    return text if _PLAIN.fullmatch(text) else orjson.dumps(value).decode()


FORMATS: dict[str, Callable[[Mapping[str, Any]], str]] = {"json": as_json, "console": as_text}


class RequestLog:
    """Writes each receipt as a line through ``write``."""

    def __init__(self, form: str, write: Callable[[str], None]) -> None:
        """``form`` is one of ``FORMATS``."""
        self._form = FORMATS[form]
        self._write = write

    def record(self, receipt: Receipt) -> None:
        """Write one line."""
        self._write(self._form(fields(receipt)))


class Lines(Protocol):
    """Where lines go."""

    def __call__(self, line: str) -> None:
        """Take a line."""

    def flush(self) -> None:
        """Write what is waiting."""


class LoggerLines:
    """Lines to the ``cache_proxy.request`` logger: right inside somebody else's app."""

    def __call__(self, line: str) -> None:
        """Log a line."""
        logger.info("%s", line)

    def flush(self) -> None:
        """Nothing waits here."""


class StreamLines:
    """Lines to a stream, a few at a time: what comes within 50 ms leaves in one write, off the event loop."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._lock = Lock()
        self._timer: Timer | None = None

    def __call__(self, line: str) -> None:
        """Take a line."""
        with self._lock:
            self._lines.append(line)
            if self._timer is None:
                self._timer = Timer(_FLUSH_AFTER, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what is waiting."""
        with self._lock:
            lines, self._lines, self._timer = self._lines, [], None
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()
