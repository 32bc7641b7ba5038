"""What a fault did to the answers, as a row; and the rows as the table of the operations page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.page import put
from tests.faults.load import LOST, Note

BEGIN = "<!-- faults: written by `python -m tests.faults --write` -->"
END = "<!-- faults end -->"
HEAD = (
    "| scenario | fault | store | answers | lost | not 200 | wrong | hits before, during | ms before: p50, p99, max "
    "| ms during: p50, p99, max | worst added ms | back after s | log lines |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)


@dataclass(frozen=True)
class Phase:
    """Latencies in seconds, and the share of the answers that came from the store alone."""

    p50: float
    p99: float
    most: float
    hits: float

    @classmethod
    def of(cls, notes: Sequence[Note]) -> "Phase":
        """Those of these requests that were answered; at least one must have been."""
        answered = [note for note in notes if note.status != LOST]
        taken = sorted(note.latency for note in answered)
        hits = sum(note.hit for note in answered) / len(answered)
        return cls(taken[len(taken) // 2], taken[len(taken) * 99 // 100], taken[-1], hits)


@dataclass(frozen=True)
class Row:
    """One fault and its cost. ``lost`` are requests whose connection broke unanswered; ``back`` is how many seconds
    after the fault ended a new value was stored and found again by every server; ``told`` counts the log lines of all
    processes together.
    """

    fault: str
    store: str
    answers: int
    lost: int
    not_200: int
    wrong: int
    before: Phase
    during: Phase
    back: float
    told: int

    @property
    def added(self) -> float:
        """Seconds that the slowest answer during the fault took more than the median before it."""
        return self.during.most - self.before.p50

    def line(self, name: str) -> str:
        """The row in Markdown, under the name of its scenario."""
        hits = f"{self.before.hits:.0%}, {self.during.hits:.0%}"
        cells = [f"`{name}`", self.fault, self.store, f"{self.answers:,}", self.lost, self.not_200, self.wrong, hits]
        cells += [_ms(self.before), _ms(self.during), f"{self.added * 1000:.0f}", f"{self.back:.1f}", self.told]
        return "| " + " | ".join(map(str, cells)) + " |"


def row(
    fault: str,
    store: str,
    notes: Sequence[Note],
    *,
    warm: float,
    began: float,
    ended: float,
    back: float,
    told: int,
) -> Row:
    """The row of a load that was ``warm`` at one time and met a fault from ``began`` to ``ended``. A request that
    touches the fault's time counts to it.
    """
    answered = [note for note in notes if note.status != LOST]
    return Row(
        fault=fault,
        store=store,
        answers=len(answered),
        lost=len(notes) - len(answered),
        not_200=sum(note.status != 200 for note in answered),
        wrong=sum(note.is_wrong for note in answered),
        before=Phase.of([note for note in notes if note.began >= warm and note.ended < began]),
        during=Phase.of([note for note in notes if note.ended >= began and note.began <= ended]),
        back=back,
        told=told,
    )


def write(page: Path, lines: Iterable[str]) -> None:
    """Put these lines between the two markers of a page. Raises ``ValueError`` if it has none."""
    put(page, BEGIN, END, lines)


def _ms(phase: Phase) -> str:
    return ", ".join(f"{seconds * 1000:.0f}" for seconds in (phase.p50, phase.p99, phase.most))
