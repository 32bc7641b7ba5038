"""Usage, written out: for programs, for spreadsheets and for people."""

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from cache_proxy.core.spend import usd
from cache_proxy.ledger.found import RESERVED, Usage, is_hash
from cache_proxy.reporting.logs import at

if TYPE_CHECKING:
    from rich.console import RenderableType

NOBODY = "(none)"
"""What people read where a group has no name: those without a team, …"""

PIECE = 500
"""Rows that are written as JSON at a time."""

_FORMULA = ("=", "+", "-", "@")


def fields(found: Usage, by: str | None) -> dict[str, Any]:
    """One row. Amounts of USD are JSON numbers of as many digits as they have, and ``None`` where some of the tokens
    have no price that is known: then ``cost_usd_known`` is what the others cost, and ``tokens_unpriced`` how many have
    none.
    """
    return {
        **names(found, by),
        "requests": found.requests,
        "items": found.items,
        "hits": found.hits,
        "misses": found.misses,
        "duplicates": found.duplicates,
        "joined": found.joined,
        "hit_rate": hit_rate(found),
        "tokens_billed": found.tokens_billed,
        "tokens_saved": found.tokens_saved,
        "tokens_unsettled": found.tokens_unsettled,
        "cost_usd": None if found.cost_unpriced else number(found.cost),
        "saved_usd": None if found.saved_unpriced else number(found.saved),
        "cost_usd_known": number(found.cost),
        "saved_usd_known": number(found.saved),
        "tokens_unpriced": found.cost_unpriced,
        "tokens_saved_unpriced": found.saved_unpriced,
    }


def names(found: Usage, by: str | None) -> dict[str, Any]:
    """What a row is of. A caller without a key has only a name."""
    if by is None:
        return {}
    if by != "key":
        return {by: _told(found.name)}
    return {"key": found.label or _told(found.name), "key_hash": found.name if is_hash(found.name) else ""}


def _told(name: str) -> str:
    """Names of ours without what tells them from those that callers choose."""
    return name.removeprefix(RESERVED)


def number(pico: int) -> orjson.Fragment:
    """An amount of pico-USD as a JSON number that nothing has rounded."""
    return orjson.Fragment(usd(pico))


def hit_rate(found: Usage) -> float | None:
    """The share of items that their request did not have to pay for: hits, duplicates, and what it joined."""
    return None if found.items == 0 else round(1 - found.misses / found.items, 4)


def as_json(rows: Sequence[Usage], by: str | None, since: float | None = None) -> bytes:
    """``{"rows": […]}``, with ``since`` (seconds since the epoch) where that is not what was asked for."""
    told = b"" if since is None else b'"since":%b,' % orjson.dumps(at(since))
    # In pieces: while one is written nothing else runs, in no thread.
    pieces = (
        orjson.dumps([fields(row, by) for row in rows[first : first + PIECE]])[1:-1]
        for first in range(0, len(rows), PIECE)
    )
    return b'{%b"rows":[%b]}' % (told, b",".join(pieces))


def as_csv(rows: Sequence[Usage], by: str | None) -> str:
    """A line for each row, below one that names the columns. What is unknown is empty."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(fields(Usage("", ""), by))
    writer.writerows([_cell(value) for value in fields(row, by).values()] for row in rows)
    return written.getvalue()


def _cell(value: Any) -> Any:
    """No text that a spreadsheet would take for a formula: callers choose tags and users."""
    if isinstance(value, orjson.Fragment):
        return orjson.dumps(value).decode()
    if not isinstance(value, str):
        return value
    text = _printable(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def table(rows: Sequence[Usage], by: str | None) -> "RenderableType":
    """A table for people."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    footer = len(rows) > 1 and by not in (None, "tag")
    # Narrow: a terminal of 80 columns has room for amounts up to tens of millions.
    made = Table(box=box.SIMPLE_HEAD, show_footer=footer, pad_edge=False, collapse_padding=True)
    total = _cells(_total(rows))
    if by is not None:
        made.add_column(by, footer="total", overflow="fold")
    for heading, amount in zip(_HEADINGS, total, strict=True):
        made.add_column(heading, footer=amount, justify="right", overflow="fold")
    for row in rows:
        name = [] if by is None else [Text(_printable(next(iter(names(row, by).values()))) or NOBODY)]
        made.add_row(*name, *_cells(row))
    return made


_HEADINGS = (
    "requests", "items", "hits", "billed", "saved", "unsettled", "cost USD", "saved USD",
)  # fmt: skip


def _cells(row: Usage) -> list[str]:
    rate = hit_rate(row)
    tokens = (row.tokens_billed, row.tokens_saved, row.tokens_unsettled)
    return [
        f"{row.requests:,}",
        f"{row.items:,}",
        "" if rate is None else f"{rate:.1%}",
        *(f"{amount:,}" for amount in tokens),
        _money(row.cost, row.cost_unpriced),
        _money(row.saved, row.saved_unpriced),
    ]


def _money(known: int, unpriced: int) -> str:
    if not unpriced:
        return usd(known)
    return f"{usd(known)} + unknown" if known else "unknown"


def _total(rows: Sequence[Usage]) -> Usage:
    amounts = [row[2:] for row in rows] or [Usage("", "")[2:]]
    return Usage("", "", *(sum(column) for column in zip(*amounts, strict=True)))


def _printable(text: str) -> str:
    """Nothing that would speak to a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
