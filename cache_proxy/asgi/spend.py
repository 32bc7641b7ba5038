"""``/spend/report`` and ``/spend/logs``: what the ledger says, to those who may know all of it."""

import asyncio
import re
from collections.abc import Callable
from hashlib import sha256
from typing import TypeVar

import orjson

from cache_proxy.access import Admitted
from cache_proxy.asgi.errors import HTTPError
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.asgi.query import SPAN, Query, wrong
from cache_proxy.asgi.spend_logs import row
from cache_proxy.errors import ConfigError, LedgerError
from cache_proxy.ledger.found import GROUPS, Filters, Page, is_tag_ambiguous
from cache_proxy.reporting.usage import as_json
from cache_proxy.wiring import Wired
from cache_proxy.wiring.reading import Reader

T = TypeVar("T")

PAGE = 50
LARGEST_PAGE = 1000
FARTHEST = 100_000
"""Rows from the first: to find those behind it the database would have to read all before."""

LISTED = 1000
"""As many rows has an answer that is not paged."""

GROUPINGS = {name: name for name in GROUPS} | {"api_key": "key", "customer": "user"}
"""Ours, and LiteLLM's words for them."""

REPORT_FIELDS = (*SPAN, "by", "group_by")
LOGS_FIELDS = (
    *SPAN, "api_key", "request_id", "user_id", "team_id", "end_user", "tag", "model", "status", "status_filter",
    "page", "page_size", "sort_by", "sort_order", "summarize",
)  # fmt: skip

_HASH = re.compile(r"[0-9a-fA-F]{64}")


class Spend:
    """The handlers; each takes an exchange and who asks."""

    def __init__(self, wired: Wired) -> None:
        self._wired = wired

    async def report(self, exchange: Exchange, _admitted: Admitted) -> None:
        """What ``cache-proxy usage`` says in JSON."""
        reader = self._reader()
        query = Query(exchange, REPORT_FIELDS)
        by = GROUPINGS.get(query.one_of(GROUPINGS, "by", "group_by") or "")
        since, until = query.span()
        rows = await _read(lambda: reader.usage(by, since, until))
        await exchange.reply(200, as_json(rows or [], by))

    async def logs(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Single requests, as a list; as a page where one is asked for."""
        query = Query(exchange, LOGS_FIELDS)
        if query.text("page") is not None or query.text("page_size") is not None:
            await self._page(exchange, query)
        else:
            found = await self._found(query, 0, LISTED, counted=False)
            await exchange.reply(200, orjson.dumps([row(logged) for logged in found.rows]))

    async def paged_logs(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Single requests, always as a page."""
        await self._page(exchange, Query(exchange, LOGS_FIELDS))

    async def _page(self, exchange: Exchange, query: Query) -> None:
        size = query.number("page_size", PAGE, LARGEST_PAGE)
        number = query.number("page", 1, FARTHEST)
        if number * size > FARTHEST:
            raise wrong("page", f"must end within the first {FARTHEST} rows: look at a shorter period, or for less")
        found = await self._found(query, (number - 1) * size, size, counted=True)
        told = {
            "data": [row(logged) for logged in found.rows],
            "total": found.total,
            "page": number,
            "page_size": size,
            "total_pages": -(-found.total // size),
            "total_is_capped": found.is_capped,
        }
        await exchange.reply(200, orjson.dumps(told))

    async def _found(self, query: Query, offset: int, limit: int, *, counted: bool) -> Page:
        reader = self._reader()
        filters = _filters(query)
        newest = _order(query)
        found = await _read(lambda: reader.logs(filters, offset, limit, newest=newest, counted=counted))
        return found or Page(())

    def _reader(self) -> Reader:
        reader = self._wired.reader
        if reader is None:
            raise HTTPError(
                404,
                "There is no ledger: cache_proxy_settings.ledger is false.",
                kind="invalid_request_error",
                code="ledger_off",
            )
        return reader


async def _read(read: Callable[[], T]) -> T:
    """In a thread: the database may take its time, and the SQL library to load."""
    try:
        return await asyncio.to_thread(read)
    except ConfigError as error:
        raise LedgerError(str(error)) from None


def _filters(query: Query) -> Filters:
    since, until = query.span()
    status = query.one_of(("success", "failure"), "status", "status_filter")
    hashes, alias = _key(query.text("api_key"))
    tag = query.text("tag")
    if tag is not None and is_tag_ambiguous(tag):
        raise wrong("tag", "can not be a comma alone")
    return Filters(
        since=since,
        until=until,
        key_hashes=hashes,
        key_alias=alias,
        request_id=query.text("request_id"),
        user=query.text("user_id"),
        team=query.text("team_id"),
        end_user=query.text("end_user"),
        tag=tag,
        model=query.text("model"),
        succeeded=None if status is None else status == "success",
    )


def _key(given: str | None) -> tuple[tuple[str, ...], str | None]:
    """A key's hashes and its alias, of what may be any of these, or the key itself: that goes no further than here."""
    if given is None:
        return (), None
    if not given:
        raise wrong("api_key", "must be a key's hash or its alias")
    if _HASH.fullmatch(given):
        return (given.lower(),), None
    hashed = sha256(given.encode()).hexdigest()
    return (hashed,), None if given.startswith("sk-") else given


def _order(query: Query) -> bool:
    """Whether the newest come first."""
    query.one_of(("startTime",), "sort_by")
    if query.one_of(("true", "false"), "summarize") == "true":
        raise wrong("summarize", "must be false or left out: sums are at /spend/report, by=day for each day")
    return query.one_of(("desc", "asc"), "sort_order") != "asc"
