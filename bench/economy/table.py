"""The rows, as a table for people and as JSON for programs."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from bench.economy.measure import Outcome

COLUMNS = ("topology", "requests", "items asked", "distinct", "upstream calls", "tokens ideal", "tokens billed",
           "paid / ideal", "without coalescing", "p50 ms", "p99 ms", "wrong", "not 200")  # fmt: skip
HEAD = (f"| {' | '.join(COLUMNS)} |", f"|---{'|---:' * (len(COLUMNS) - 1)}|")


@dataclass(frozen=True)
class Row:
    """A topology as it is shipped, and ``plain``: the same with every process, and every request, on its own."""

    told: str
    shipped: Outcome
    plain: Outcome | None = None


def line(row: Row) -> str:
    """The row in Markdown."""
    shipped, audit = row.shipped, row.shipped.audit
    counts = (shipped.requests, shipped.items, audit.distinct, audit.calls, audit.ideal, audit.billed)
    cells = [row.told, *(f"{count:,}" for count in counts), f"{audit.ratio:.3f}"]
    cells.append(f"{row.plain.audit.ratio:.3f}" if row.plain else "")
    cells += [f"{shipped.p50 * 1000:,.0f}", f"{shipped.p99 * 1000:,.0f}", str(shipped.wrong), str(shipped.failed)]
    return f"| {' | '.join(cells)} |"


def flaws(row: Row) -> Iterator[str]:
    """What is wrong with a row besides its ratio: each makes the ratio worth less than it looks."""
    for outcome, name in ((row.shipped, row.told), (row.plain, f"{row.told}, without coalescing")):
        if outcome is None or outcome.flawless:
            continue
        audit = outcome.audit
        yield (
            f"{name}: {outcome.wrong} wrong, {outcome.failed} not 200; the headers told of {outcome.told:,} tokens and "
            f"{audit.billed:,} were billed; {audit.unpaid} items answered but never bought, {audit.unasked} bought but "
            "never asked for"
        )


def verdict(rows: Iterable[Row]) -> str:
    """The one number: the worst of the rows as shipped."""
    return f"paid / ideal = {max(row.shipped.audit.ratio for row in rows):.3f}"


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The rows with everything that was measured."""
    return [
        {"topology": row.told, "shipped": _figures(row.shipped), "plain": row.plain and _figures(row.plain)}
        for row in rows
    ]


def _figures(outcome: Outcome) -> dict[str, Any]:
    return {**asdict(outcome), "ratio": outcome.audit.ratio}
