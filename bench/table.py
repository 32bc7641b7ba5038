"""What is measured, what is to be reached, and whether it is."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One line of the table. ``ok`` is ``None`` where nothing is to be reached, or nothing was measured."""

    what: str
    measured: str
    reach: str = ""
    ok: bool | None = None


def at_least(what: str, ratio: float, limit: float, told: str) -> Row:
    """A ratio that should be high."""
    return Row(what, f"{ratio:.2f} x ({told})", f"≥ {limit:g} x", ratio >= limit)


def at_most(what: str, value: float, limit: float, unit: str = "x", told: str = "") -> Row:
    """A figure that should be low."""
    written = f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    return Row(what, f"{written} {unit}" + (f" ({told})" if told else ""), f"≤ {limit:,g} {unit}", value <= limit)


def not_here(what: str, why: str) -> Row:
    """Something that could not be measured."""
    return Row(what, f"not measured: {why}")


def lines(rows: Iterable[Row]) -> Iterable[str]:
    """The rows as lines of a Markdown table."""
    for row in rows:
        ok = {True: "yes", False: "**no**", None: ""}[row.ok]
        yield f"| {row.what} | {row.measured} | {row.reach} | {ok} |"


HEAD = ("| what | measured | reach | ok? |", "|---|---|---|---|")
