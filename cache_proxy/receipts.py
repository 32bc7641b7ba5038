"""The story of a request: one frozen record, which headers, log line and metrics all read.

Nothing downstream counts anything a second time.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from cache_proxy.calls import Account, Payer


class Counts(NamedTuple):
    """Where each position of a request came from. ``items = hits + misses + duplicates + joined``."""

    items: int = 0
    hits: int = 0
    misses: int = 0
    duplicates: int = 0
    """Positions that repeat an item which this same request already pays for."""
    joined: int = 0
    """Positions whose value another request was already paying for."""


NOTHING_YET = Counts()


class Receipt(NamedTuple):
    """One request, told once. Money is pico-USD, ``None`` where the price is unknown; times are seconds."""

    request_id: str
    endpoint: str
    account: Account
    model: str
    upstream_model: str
    status: int
    cache_status: str
    counts: Counts
    tokens_billed: int
    tokens_saved: int
    cost: int | None
    saved: int | None
    latency: float
    bytes_out: int
    started_at: float
    outcome_unknown: int = 0
    """Upstream calls of this request that may have been billed without an answer."""
    tokens_unsettled: int = 0
    """The most tokens that those calls can have cost. Not in ``tokens_billed``."""
    key: str | None = None
    """The hexadecimal key of the answer, where it has a single one."""
    error: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()

    def payer(self) -> Payer:
        """The request, as one that pays."""
        return Payer(self.request_id, self.account, self.user or "", self.tags, self.model)


@dataclass(slots=True)
class Story:
    """A receipt while it is being written: the engine fills it in, the door ends it, once, whatever happened."""

    request_id: str
    endpoint: str
    account: Account
    started_at: float
    model: str = ""
    upstream_model: str = ""
    cache_status: str = ""
    counts: Counts = NOTHING_YET
    tokens_billed: int = 0
    tokens_saved: int = 0
    price: int | None = None
    """Pico-USD that a token costs which is saved."""
    cost: int | None = 0
    outcome_unknown: int = 0
    tokens_unsettled: int = 0
    key: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()

    def payer(self) -> Payer:
        """This request, as one that pays."""
        return Payer(self.request_id, self.account, self.user or "", self.tags, self.model)

    def pay(self, tokens: int, price: int | None) -> None:
        """So many tokens were billed, at so many pico-USD each."""
        self.tokens_billed += tokens
        if tokens:
            self.cost = None if price is None or self.cost is None else self.cost + tokens * price

    def add(self, other: "Story") -> None:
        """What is told there was paid for here as well."""
        self.tokens_billed += other.tokens_billed
        self.cost = None if other.cost is None or self.cost is None else self.cost + other.cost
        self.outcome_unknown += other.outcome_unknown
        self.tokens_unsettled += other.tokens_unsettled

    def end(self, *, status: int, latency: float, bytes_out: int, error: str | None = None) -> Receipt:
        """The receipt."""
        return Receipt(
            request_id=self.request_id,
            endpoint=self.endpoint,
            account=self.account,
            model=self.model,
            upstream_model=self.upstream_model,
            status=status,
            cache_status=self.cache_status,
            counts=self.counts,
            tokens_billed=self.tokens_billed,
            tokens_saved=self.tokens_saved,
            cost=self.cost,
            saved=_cost(self.tokens_saved, self.price),
            latency=latency,
            bytes_out=bytes_out,
            started_at=self.started_at,
            outcome_unknown=self.outcome_unknown,
            tokens_unsettled=self.tokens_unsettled,
            key=self.key,
            error=error,
            user=self.user,
            tags=self.tags,
        )


def _cost(tokens: int, price: int | None) -> int | None:
    """Pico-USD; unknown where the price is, unless there is nothing to pay."""
    if tokens == 0:
        return 0
    return None if price is None else tokens * price


class Observer(Protocol):
    """Gets each receipt once, on the event loop; must be quick and must not raise."""

    def record(self, receipt: Receipt) -> None:
        """Take note of one request."""
