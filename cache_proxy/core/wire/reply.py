"""What both endpoints' replies have in common. All or nothing: one doubtful part makes the whole answer nonsense."""

from collections.abc import Sequence

import orjson

from cache_proxy.core.spend import estimate
from cache_proxy.errors import UpstreamNonsense
from cache_proxy.models import Item, Json

_LONGEST_NAME = 255
_TOO_MANY = 2**31
"""No call costs as many tokens: a larger number is no count."""


def parse(raw: bytes) -> dict[str, Json]:
    """The JSON object of a 200. orjson refuses NaN and Infinity, so every number in it is finite."""
    try:
        parsed = orjson.loads(raw)
    except orjson.JSONDecodeError:
        looks = "HTML" if raw.lstrip()[:1] == b"<" else "not whole JSON"
        raise UpstreamNonsense(f"the upstream answered 200 with a body that is {looks}") from None
    if type(parsed) is not dict:
        raise UpstreamNonsense("the upstream answered 200 with JSON that is no object")
    return parsed


def rows(parsed: dict[str, Json], name: str) -> list[dict[str, Json]]:
    """The list of results. Raises ``UpstreamNonsense`` unless it is a list of numbered objects, and not empty."""
    found = parsed.get(name)
    if type(found) is not list or not found:
        raise UpstreamNonsense(f"the upstream answered 200 without a `{name}` list")
    for row in found:
        if type(row) is not dict or type(row.get("index")) is not int:
            raise UpstreamNonsense(f"`{name}` in the upstream's answer has a member without an index")
    return found


def in_order(rows: list[dict[str, Json]], count: int | None) -> list[dict[str, Json]]:
    """The rows by their index, which must run from 0 without gap or repeat, up to ``count`` where that is known."""
    expected = len(rows) if count is None else count
    if len(rows) != expected:
        raise UpstreamNonsense(f"the upstream answered {len(rows)} items where {expected} were asked for")
    ordered = sorted(rows, key=_index)
    if any(row["index"] != place for place, row in enumerate(ordered)):
        raise UpstreamNonsense("the items in the upstream's answer are misnumbered")
    return ordered


def at_least(count: int, rows: Sequence[dict[str, Json]]) -> None:
    """Raise ``UpstreamNonsense`` for fewer rows than that: an item may give several, but none gives nothing."""
    if len(rows) < count:
        raise UpstreamNonsense(f"the upstream answered {len(rows)} items where at least {count} were asked for")


def _index(row: dict[str, Json]) -> int:
    return int(row["index"])


def model_name(parsed: dict[str, Json], asked: str) -> str:
    """The name the upstream answered with; empty where it is the one asked for, missing or too long to keep."""
    name = parsed.get("model")
    return name if type(name) is str and name != asked and len(name.encode()) <= _LONGEST_NAME else ""


def billed(raw: bytes) -> int:
    """The tokens that an answer which makes no sense says it cost; 0 where it does not even say that."""
    try:
        return tokens(parse(raw), ())[0]
    except UpstreamNonsense:
        return 0


def tokens(parsed: dict[str, Json], items: Sequence[Item]) -> tuple[int, bool]:
    """The tokens billed, and whether the upstream said so or they are estimated here."""
    usage = parsed.get("usage")
    if type(usage) is dict:
        for name in ("total_tokens", "prompt_tokens", "input_tokens"):
            count = usage.get(name)
            if type(count) is int and 0 <= count < _TOO_MANY:
                return count, True
    return sum(map(estimate, items)), False
