"""Failure on command.

A `Fault` strikes the next call that it matches, in the order in which faults were scripted, ``times``
times. Which kinds there are, and what each does:

========== =====================================================================================
status     answers ``status`` with ``body`` (Jina's own words for that status where there is none)
html       answers ``status`` (200) with an HTML page, as a proxy or a CDN in between does
truncated  a 200 whose JSON ends in the middle
short      the last item of a right answer is missing
long       one item too many, with the next index
misnumber  every index is one too high
duplicate  the last item has the index of the first
shuffle    the items in reverse order, each with its right index: still a valid answer of /embeddings
nan        a number of the first item is NaN (in JSON, where it does not belong)
infinity   the same with Infinity
ragged     the last vector (of a multi-vector: its last row) is one number short
null       the first vector or score is null
delay      nothing but the wait of ``seconds``
drip       the body comes in small pieces over ``seconds``
refuse     the connection is lost before any work: nothing is billed
drop       the connection is lost after the work: billed, and no byte of the answer is sent
halfway    the connection is lost in the middle of the body: billed
========== =====================================================================================

Every kind but ``drip`` first waits ``seconds``. Kinds other than ``status``, ``html`` and ``refuse`` do the
work, bill it, and spoil only a 200: a refusal stays what it is.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Kind = Literal[
    "status",
    "html",
    "truncated",
    "short",
    "long",
    "misnumber",
    "duplicate",
    "shuffle",
    "nan",
    "infinity",
    "ragged",
    "null",
    "delay",
    "drip",
    "refuse",
    "drop",
    "halfway",
]


class Dropped(ConnectionResetError):
    """Raised out of the app where there is no connection to close, as in-process: the server went away."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing to go wrong, ``times`` times (None: always), on calls of ``endpoint`` (``"embeddings"`` or
    ``"rerank"``; None: any) whose body contains the text ``contains``.
    """

    kind: Kind
    status: int | None = None
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    times: int | None = 1
    endpoint: str | None = None
    contains: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"no kind of fault is called {self.kind!r}: take one of {', '.join(get_args(Kind))}")

    @property
    def before_work(self) -> bool:
        return self.kind in ("status", "html", "refuse")

    def matches(self, endpoint: str, raw: bytes) -> bool:
        if self.endpoint not in (None, endpoint):
            return False
        return self.contains is None or self.contains.encode() in raw

    @classmethod
    def from_json(cls, value: Any) -> "Fault":
        """A fault from a JSON object with these fields. Raises ValueError if it is none."""
        try:
            return cls(**value)
        except TypeError as error:
            raise ValueError(f"not a fault: {error}") from error


class Script:
    """The faults that are still to strike."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Fault, int | None]] = []

    def add(self, faults: Iterable[Fault]) -> None:
        self._waiting.extend((fault, fault.times) for fault in faults)

    def clear(self) -> None:
        self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, endpoint: str, raw: bytes) -> Fault | None:
        """The first fault that matches, used up by one."""
        for at, (fault, left) in enumerate(self._waiting):
            if fault.matches(endpoint, raw):
                self._use(at, fault, left)
                return fault
        return None

    def _use(self, at: int, fault: Fault, left: int | None) -> None:
        if left == 1:
            del self._waiting[at]
        elif left is not None:
            self._waiting[at] = (fault, left - 1)


def spoil(kind: Kind, body: bytes) -> bytes:
    """The body of a right answer, made wrong as the kind says; unchanged for the kinds that act elsewhere."""
    if kind == "truncated":
        return body[: len(body) * 2 // 3]
    if kind not in _SPOILERS:
        return body
    answer = json.loads(body)
    _SPOILERS[kind](answer["data"] if "data" in answer else answer["results"])
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


def _short(items: list[Any]) -> None:
    items.pop()


def _long(items: list[Any]) -> None:
    items.append({**items[-1], "index": len(items)})


def _misnumber(items: list[Any]) -> None:
    for item in items:
        item["index"] += 1


def _duplicate(items: list[Any]) -> None:
    if len(items) == 1:
        items.append(dict(items[0]))
    items[-1]["index"] = items[0]["index"]


def _first_number(value: float | None) -> Callable[[list[Any]], None]:
    def spoil_first(items: list[Any]) -> None:
        name = _value_name(items[0])
        numbers = items[0][name]
        if not isinstance(numbers, list) or value is None:
            items[0][name] = value
            return
        if isinstance(numbers[0], list):
            numbers = numbers[0]
        numbers[0] = value

    return spoil_first


def _ragged(items: list[Any]) -> None:
    numbers = items[-1][_value_name(items[-1])]
    if isinstance(numbers, list):
        (numbers[-1] if isinstance(numbers[-1], list) else numbers).pop()


def _value_name(item: Mapping[str, Any]) -> str:
    return next(name for name in ("relevance_score", "embedding", "embeddings") if name in item)


_SPOILERS: dict[str, Callable[[list[Any]], None]] = {
    "short": _short,
    "long": _long,
    "misnumber": _misnumber,
    "duplicate": _duplicate,
    "shuffle": list.reverse,
    "nan": _first_number(float("nan")),
    "infinity": _first_number(float("inf")),
    "ragged": _ragged,
    "null": _first_number(None),
}
