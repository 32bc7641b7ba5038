"""What a run came to, and the rows of the table."""

import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.economy.answers import is_right
from bench.economy.books import Audit, audit
from bench.economy.clients import LOST
from bench.economy.kills.course import LONGEST, Plan, Run
from bench.economy.kills.fleet import Store
from bench.economy.kills.losses import strike
from bench.economy.measure import OK
from bench.page import put

PAGE = Path(__file__).resolve().parents[3] / "docs" / "economy.md"
BEGIN = "<!-- kills: written by `make bench-kills ARGS=--write` -->"
END = "<!-- kills end -->"

MACHINE = 1.5
"""Seconds that a request may take beyond the lease of a server that died and the longest call of the one that pays in
its place. The dead one's own call comes before (up to 0.3), the last look at its lease after (up to 0.13); the rest is
for a machine of two cores that runs servers, store, upstream and callers all at once. The table shows what it really
is.
"""

COLUMNS = ("store", "kills", "calls cut off", "requests", "lost with the killed", "answered", "wrong", "not 200",
           "longest wait s", "lease s", "tokens ideal", "tokens billed", "unavoidable", "paid / ideal",
           "without the unavoidable")  # fmt: skip
HEAD = (f"| {' | '.join(COLUMNS)} |", f"|---{'|---:' * (len(COLUMNS) - 1)}|")


@dataclass(frozen=True)
class Tally:
    """A run in figures. ``died`` were lost with a server that was killed, ``lost`` without that excuse; ``longest`` and
    ``lease`` are seconds. ``ideal`` is what the load had to cost, ``unavoidable`` what the dead had paid for in vain.
    """

    store: str
    kills: int
    cut_off: int
    requests: int
    died: int
    lost: int
    wrong: int
    not_200: int
    longest: float
    lease: float
    audit: Audit
    billed: int

    @property
    def answered(self) -> int:
        return self.requests - self.died - self.lost

    @property
    def unavoidable(self) -> int:
        return self.billed - self.audit.billed

    @property
    def ratio(self) -> float:
        return self.billed / self.audit.ideal

    @property
    def bound(self) -> float:
        """Seconds that nobody may wait longer."""
        return self.lease + LONGEST + MACHINE


def tally(store: Store, plan: Plan, run: Run) -> Tally:
    """The figures of this run."""
    answered = [asked for asked in run.asked if asked.note.status != LOST]
    died = sum(asked.died for asked in run.asked)
    fine = [asked.note for asked in answered if asked.note.status == OK]
    right = [note for note in fine if is_right(note.request, note.content)]
    needed = strike(run.calls, run.sales, run.losses)
    return Tally(
        store=store.told,
        kills=len(run.dead),
        cut_off=len({loss.number for loss in run.losses}),
        requests=len(run.asked),
        died=died,
        lost=len(run.asked) - len(answered) - died,
        wrong=len(fine) - len(right),
        not_200=len(answered) - len(fine),
        longest=max(asked.note.seconds for asked in answered),
        lease=plan.lease,
        audit=audit([asked.note.request.ask for asked in run.asked], [note.request.ask for note in right], needed),
        billed=sum(call.tokens for call in run.calls),
    )


def line(found: Tally) -> str:
    """The row in Markdown."""
    counts = (found.kills, found.cut_off, found.requests, found.died, found.answered, found.wrong, found.not_200)
    tokens = (found.audit.ideal, found.billed, found.unavoidable)
    cells = [found.store, *(f"{count:,}" for count in counts), f"{found.longest:.2f}", f"{found.lease:g}"]
    cells += [*(f"{count:,}" for count in tokens), f"{found.ratio:.3f}", f"{found.audit.ratio:.3f}"]
    return f"| {' | '.join(cells)} |"


def flaws(found: Tally) -> Iterator[str]:
    """What must not be, of any run."""
    audit = found.audit
    counts = {
        "wrong answers": found.wrong,
        "answers other than 200": found.not_200,
        "requests lost by a server that lived": found.lost,
        "tokens paid twice without a kill's excuse": audit.billed - audit.ideal,
        "items answered but never bought": audit.unpaid,
        "items bought but never asked for": audit.unasked,
    }
    yield from (f"{found.store}: {count} {what}" for what, count in counts.items() if count)
    if found.longest > found.bound:
        yield f"{found.store}: somebody waited {found.longest:.2f} s, more than {found.bound:g} s"


def write(plan: Plan, lines: Iterable[str]) -> None:
    """Put these rows on the page, with what they were measured on."""
    machine = f"Python {platform.python_version()} on {os.cpu_count()} processors, which also ran the load"
    extent = f"{plan.servers} servers of one process, {plan.callers} callers, `--seed {plan.seed}`"
    put(PAGE, BEGIN, END, [f"Measured with {machine}: {extent}.", "", *HEAD, *lines])
