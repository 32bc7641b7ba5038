"""A request's query: read field by field, and refused where a field is not what it must be."""

import time
from collections.abc import Callable, Collection
from typing import TypeVar
from urllib.parse import parse_qsl

from cache_proxy.asgi.errors import HTTPError
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.reporting.moments import moment

T = TypeVar("T")

MOST_FIELDS = 64


class Query:
    """The fields of a query, each of which may come once. Everything here raises ``HTTPError`` 400, which names the
    field and the remedy and never repeats a value: that may be a key.
    """

    def __init__(self, exchange: Exchange, known: Collection[str]) -> None:
        """``known`` are the fields that may come: to overlook one would be to answer another question."""
        try:
            text = exchange.scope.get("query_string", b"").decode("ascii")
            pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
        except ValueError:
            raise wrong("query", f"must be at most {MOST_FIELDS} fields, each written as name=value in UTF-8") from None
        if "\0" in "".join(value for _, value in pairs):
            raise wrong("query", "must not hold the character NUL, which no ledger has")
        self._fields = dict(pairs)
        if len(self._fields) < len(pairs):
            raise wrong("query", "must have each field only once")
        for name in self._fields:
            if name not in known:
                raise wrong(None, f"There is no such field here. Known are: {', '.join(sorted(known))}.")

    def text(self, name: str) -> str | None:
        """A field as it came."""
        return self._fields.get(name)

    def first(self, *names: str) -> str | None:
        """A field that has several names, of which only one may come."""
        given = [name for name in names if name in self._fields]
        if len(given) > 1:
            raise wrong(given[1], f"says the same as `{given[0]}`: send one of them")
        return self._fields[given[0]] if given else None

    def one_of(self, values: Collection[str], *names: str) -> str | None:
        """A field that is one of these words."""
        found = self.first(*names)
        if found is not None and found not in values:
            raise wrong(names[0], f"must be one of {', '.join(values)}")
        return found

    def number(self, name: str, default: int, most: int) -> int:
        """A field that is a number from 1 on."""
        text = self._fields.get(name)
        if text is None:
            return default
        number = int(text) if text.isascii() and text.isdigit() and len(text) <= len(str(most)) else 0
        if not 1 <= number <= most:
            raise wrong(name, f"must be a whole number from 1 to {most}")
        return number

    def span(self) -> tuple[float | None, float | None]:
        """``since`` and ``until``, or LiteLLM's ``start_date`` and ``end_date``, the last of which is a whole day."""
        now = time.time()
        since, until = self.first("since", "start_date"), self.first("until", "end_date")
        ends_day = "end_date" in self._fields
        first = None if since is None else self._read("since", lambda: moment(since, now))
        last = None if until is None else self._read("until", lambda: moment(until, now, ends_day=ends_day))
        if first is not None and last is not None and first >= last:
            raise wrong(self._sent("since"), "must be before the end of the period")
        return first, last

    def _read(self, name: str, read: Callable[[], T]) -> T:
        try:
            return read()
        except ValueError as error:
            raise wrong(self._sent(name), str(error)) from None

    def _sent(self, name: str) -> str:
        return name if name in self._fields else _LITELLM[name]


_LITELLM = {"since": "start_date", "until": "end_date"}

SPAN = ("since", "until", "start_date", "end_date")


def wrong(field: str | None, told: str) -> HTTPError:
    """The refusal of a field. Without one, ``told`` is a whole sentence."""
    message = told if field is None else f"`{field}` {told}."
    return HTTPError(400, message, kind="invalid_request_error", code="invalid_query", param=field)
