"""``/spend/report`` and ``/spend/logs``: what the ledger says; to the holder of a key, of that key alone."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import orjson

from cache_proxy.access import Admitted
from cache_proxy.asgi.errors import HTTPError
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.asgi.query import SPAN, Query, wrong
from cache_proxy.asgi.rights import forbidden
from cache_proxy.asgi.spend_logs import row
from cache_proxy.errors import ConfigError, LedgerError
from cache_proxy.ledger.found import GROUPS, Filters, Page, Whose, beginning, is_tag_ambiguous, whose
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

LARGEST_REPORT = 10_000
"""Rows of a report; all others are one more."""

AT_ONCE = 2
"""Reads at a time for the holders of keys: others wait for them in line, and nobody else does."""

REPORT_FIELDS = (*SPAN, "by", "group_by", "api_key", "limit")
LOGS_FIELDS = (
    *SPAN, "api_key", "request_id", "user_id", "team_id", "end_user", "tag", "model", "status", "status_filter",
    "page", "page_size", "sort_by", "sort_order", "summarize",
)  # fmt: skip


class Spend:
    """The handlers; each takes an exchange and who asks."""

    def __init__(self, wired: Wired) -> None:
        self._wired = wired
        self._threads = ThreadPoolExecutor(AT_ONCE, "cache-proxy-spend")

    async def report(self, exchange: Exchange, admitted: Admitted) -> None:
        """What ``cache-proxy usage`` says in JSON."""
        reader = self._reader()
        query = Query(exchange, REPORT_FIELDS)
        by = GROUPINGS.get(query.one_of(GROUPINGS, "by", "group_by") or "")
        asked = _whose(query, admitted)
        since, until = query.span()
        began = beginning(by, asked, since, time.time() if until is None else until)
        most = query.number("limit", LARGEST_REPORT, LARGEST_REPORT)

        def report() -> bytes:
            rows = reader.usage(by, began, until, asked, most)
            return as_json(rows or [], by, began if began != since else None)

        await exchange.reply(200, await self._read(report, admitted))

    async def logs(self, exchange: Exchange, admitted: Admitted) -> None:
        """Single requests, as a list; as a page where one is asked for."""
        query = Query(exchange, LOGS_FIELDS)
        if query.text("page") is not None or query.text("page_size") is not None:
            await self._page(exchange, query, admitted)
        else:
            found = await self._found(query, admitted, 0, LISTED, counted=False)
            await exchange.reply(200, orjson.dumps([row(logged) for logged in found.rows]))

    async def paged_logs(self, exchange: Exchange, admitted: Admitted) -> None:
        """Single requests, always as a page."""
        await self._page(exchange, Query(exchange, LOGS_FIELDS), admitted)

    async def _page(self, exchange: Exchange, query: Query, admitted: Admitted) -> None:
        size = query.number("page_size", PAGE, LARGEST_PAGE)
        number = query.number("page", 1, FARTHEST)
        if number * size > FARTHEST:
            raise wrong("page", f"must end within the first {FARTHEST} rows: look at a shorter period, or for less")
        found = await self._found(query, admitted, (number - 1) * size, size, counted=True)
        told = {
            "data": [row(logged) for logged in found.rows],
            "total": found.total,
            "page": number,
            "page_size": size,
            "total_pages": -(-found.total // size),
            "total_is_capped": found.is_capped,
        }
        await exchange.reply(200, orjson.dumps(told))

    async def _found(self, query: Query, admitted: Admitted, offset: int, limit: int, *, counted: bool) -> Page:
        reader = self._reader()
        filters = _filters(query, _whose(query, admitted))
        newest = _order(query)
        found = await self._read(lambda: reader.logs(filters, offset, limit, newest=newest, counted=counted), admitted)
        return found or Page(())

    async def _read(self, read: Callable[[], T], admitted: Admitted) -> T:
        """In a thread: the database may take its time, and the SQL library to load."""
        threads = None if admitted.key is None else self._threads
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, read)
        except ConfigError as error:
            raise LedgerError(str(error)) from None

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


def _filters(query: Query, asked: Whose | None) -> Filters:
    since, until = query.span()
    status = query.one_of(("success", "failure"), "status", "status_filter")
    tag = query.text("tag")
    if tag is not None and is_tag_ambiguous(tag):
        raise wrong("tag", "can not be a comma alone")
    return Filters(
        since=since,
        until=until,
        key_hashes=() if asked is None else asked.hashes,
        key_alias=None if asked is None else asked.alias,
        request_id=query.text("request_id"),
        user=query.text("user_id"),
        team=query.text("team_id"),
        end_user=query.text("end_user"),
        tag=tag,
        model=query.text("model"),
        succeeded=None if status is None else status == "success",
    )


def _whose(query: Query, admitted: Admitted) -> Whose | None:
    """The key that is asked about; for who has one, that is his own. ``None`` is everybody."""
    given, own = query.text("api_key"), admitted.key
    if given == "":
        raise wrong("api_key", "must be a key's hash or its alias")
    asked = None if given is None else whose(given)
    if own is None:
        return asked
    # By hash: an alias may have been another's before.
    if asked is not None and own.hash not in asked.hashes and asked.alias != own.account.alias:
        raise forbidden("A key may ask about itself only.", "master_key_required")
    return Whose((own.hash,))


def _order(query: Query) -> bool:
    """Whether the newest come first."""
    query.one_of(("startTime",), "sort_by")
    if query.one_of(("true", "false"), "summarize") == "true":
        raise wrong("summarize", "must be false or left out: sums are at /spend/report, by=day for each day")
    return query.one_of(("desc", "asc"), "sort_order") != "asc"
