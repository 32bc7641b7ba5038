"""Money: one call to an upstream, for whom it is made, and how it ended. This is what a ledger is told."""

from collections.abc import Awaitable
from typing import NamedTuple, Protocol

from cache_proxy.models import Endpoint


class Budget(NamedTuple):
    """The most that a key may spend."""

    limit: int
    """Pico-USD."""
    duration: str = ""
    """In what time, as LiteLLM spells it (``30d``); for good, if empty."""


class Account(NamedTuple):
    """Whose money is spent. All of it is for the record, and none of it a secret; empty where there is nothing."""

    alias: str = ""
    """What the caller is called: a key's alias, ``master``, ``local``, ``open``, or the host app's word."""
    key: str = ""
    """The key's SHA-256 in hexadecimal digits."""
    team: str = ""
    user: str = ""
    """Whose key it is."""
    budget: Budget | None = None
    """It goes with whoever pays, so that the ledger needs to look up no key."""


class Payer(NamedTuple):
    """One request that pays for a part of a call."""

    request_id: str
    account: Account
    end_user: str = ""
    """The request's ``user``."""
    tags: tuple[str, ...] = ()
    model: str = ""
    """The model, as this caller calls it."""


class Share(NamedTuple):
    """The part of a call that is for one payer."""

    payer: Payer
    tokens_bound: int
    """The most tokens that it can cost."""


class Call(NamedTuple):
    """A call that is about to be sent, or was. Times are seconds since the epoch."""

    id: str
    """32 hexadecimal digits, later calls' ids sort after; a retry is another call."""
    deployment: str
    """The deployment's id."""
    model: str
    """The upstream's name for it."""
    endpoint: Endpoint
    items: int
    sent_at: float
    shares: tuple[Share, ...]
    price: int | None = None
    """Pico-USD a token, ``None`` where it is unknown."""

    @property
    def tokens_bound(self) -> int:
        """The most tokens it can be billed."""
        return sum(share.tokens_bound for share in self.shares)

    @property
    def budgeted(self) -> frozenset[str]:
        """The keys among its payers that have a budget."""
        return frozenset(share.payer.account.key for share in self.shares if share.payer.account.budget is not None)


class Settlement(NamedTuple):
    """How a call ended of which the cost is known."""

    tokens: tuple[int, ...]
    """What was billed for each share of the call."""
    status: int
    """The upstream's status; 0 where it was never reached."""
    estimated: bool = False
    """The upstream did not say how many tokens it billed."""


class Ledger(Protocol):
    """Where money is written down."""

    async def intend(self, call: Call) -> None:
        """Write this call down before it is sent. When this returns, the note survives whatever happens next.

        Raises ``NotPaid`` if it must not be sent.
        """

    def settle(self, call: Call, settlement: Settlement) -> Awaitable[None]:
        """Write down what an intended call cost. Taken note of at once; when what is given has been awaited, it is
        durable, or the call stands as intended and this is kept to be written later.
        """

    def unsettled(self, call: Call) -> Awaitable[None]:
        """Write down that nobody knows what an intended call cost. The same holds as for ``settle``."""


class CallObserver(Protocol):
    """Hears of each call once, on the event loop, when it has ended; must be quick and must not raise."""

    def settled(self, call: Call, settlement: Settlement) -> None:
        """It is known what it cost."""

    def unsettled(self, call: Call) -> None:
        """Nobody knows what it cost."""
