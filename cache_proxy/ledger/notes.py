"""What is written down in the ledger."""

from dataclasses import dataclass

from cache_proxy.calls import Call, Settlement
from cache_proxy.errors import BudgetExceeded
from cache_proxy.ledger.tidying import Tidied
from cache_proxy.receipts import Receipt


@dataclass(slots=True, eq=False)
class Intent:
    """A call is about to be sent."""

    call: Call
    written: bool = False
    """Whether it stands in the database."""
    void: bool = False
    """It will not be sent after all."""
    refusal: BudgetExceeded | None = None
    """Why it must not be sent, if it does not fit a budget; then it is not written."""

    @property
    def must_fit(self) -> bool:
        """Whether it must not be sent before it is known to fit, whatever the operator says of other calls."""
        return bool(self.call.budgeted)


@dataclass(slots=True, eq=False)
class Ending:
    """How an intended call ended; without a settlement nobody knows. ``at`` is seconds since the epoch."""

    intent: Intent
    settlement: Settlement | None
    at: float


@dataclass(slots=True, eq=False)
class Told:
    """A request was answered. ``id`` is the row's own: a caller may use a request id twice."""

    id: str
    receipt: Receipt


@dataclass(slots=True, eq=False)
class Prune:
    """What is older than ``before`` (seconds since the epoch) is not needed any more; its sums stay."""

    before: float
    more: bool = False
    """Whether there is more of it than was taken out at once."""


@dataclass(slots=True, eq=False)
class Tidy:
    """Names of callers' own choice are kept apart for ``names_days``, and what is empty is not needed."""

    now: float
    names_days: int
    done: Tidied
    """How far it had come before."""
    told: Tidied | None = None
    """How far it is once this is written."""


Note = Intent | Ending | Told | Prune | Tidy
