"""What an upstream's answer means, whichever way it came: the one table from statuses to errors."""

from collections.abc import Mapping

from cache_proxy.errors import UpstreamLost, UpstreamNonsense, UpstreamRefused

OK = 200
ANSWER_LIMIT = 256 * 2**20
"""Bytes of an answer. 512 vectors of 2048 numbers are about 25 MB of text."""

_LONGEST_NUMBER = 9


class Body:
    """The body of an answer, put together from its parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        """Take the next part. Raises ``UpstreamNonsense`` beyond ``ANSWER_LIMIT``."""
        self._size += len(part)
        if self._size > ANSWER_LIMIT:
            raise UpstreamNonsense(f"the upstream's answer is larger than {ANSWER_LIMIT} bytes")
        self._parts.append(part)

    def whole(self) -> bytes:
        """All parts in one."""
        return b"".join(self._parts)


def outcome(status: int, headers: Mapping[str, str], body: bytes) -> bytes:
    """The body of a 200. Raises the ``UpstreamError`` that fits anything else. Names of headers are lower case."""
    if status == OK:
        return body
    if not 400 <= status < 600:
        raise UpstreamNonsense(
            f"the upstream answered with status {status} where only 200 makes sense: check `api_base`"
        )
    raise UpstreamRefused(
        status,
        body,
        content_type=headers.get("content-type", "application/octet-stream"),
        retry_after=_retry_after(headers.get("retry-after")),
    )


def broken_off() -> UpstreamNonsense:
    """A 200 that ended too early. It was billed, and is never asked for again."""
    return UpstreamNonsense("the upstream's answer broke off")


def too_late(patience: float) -> UpstreamLost:
    """No answer within ``patience`` seconds."""
    return UpstreamLost(f"the upstream did not answer within {patience:g} s", outcome_unknown=True, timed_out=True)


def _retry_after(value: str | None) -> float | None:
    """Seconds from a ``Retry-After`` of that form. Jina documents none; the date form is not worth a clock."""
    counts = value is not None and value.isascii() and value.isdigit() and len(value) <= _LONGEST_NUMBER
    return float(value) if value is not None and counts else None
