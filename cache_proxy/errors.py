"""Every error this package raises on purpose. It knows no HTTP: ``asgi/errors.py`` gives each a status.

    CacheProxyError
    ├── ConfigError             the configuration can not be obeyed; the start is refused
    ├── RequestError            the request can not be understood; nothing was spent
    │   ├── ModelNotFound       no deployment answers to this model name
    │   └── NoSuchKey           no key answers to this name
    ├── NotCached               ``only-if-cached`` was asked and something is missing; nothing was spent
    ├── StoreError              a store could not do its work (never reaches a caller: see ``backends/guarded.py``)
    │   └── PartialAnswer       some of its servers could not; what the others hold comes with it
    ├── LedgerError             the ledger's database could not do its work
    └── UpstreamError           the trip to the upstream brought no answer
        ├── UpstreamRefused     the upstream answered with another status than 200
        ├── UpstreamLost        connection, time-out: no answer at all
        ├── UpstreamNonsense    a 200 that is not an answer to what was asked
        ├── UpstreamBusy        our own limits (concurrency, rpm, tpm) left no room within the bound
        └── NotPaid             nothing was sent, for it could not be paid
            ├── LedgerUnavailable   it can not be written down
            └── BeyondBudget        a key may not spend this
                ├── BudgetExceeded  it does not fit its budget
                ├── PriceUnknown    nobody knows what it costs
                └── BudgetUnknown   the ledger can not be asked whether it fits

No message holds a secret or a text that a caller sent: messages are logged.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple


class CacheProxyError(Exception):
    """Base of the tree."""


class ConfigError(CacheProxyError):
    """The configuration can not be obeyed. The message names the key and the remedy."""


class RequestError(CacheProxyError):
    """The request can not be understood.

    ``param`` names the field at fault, ``code`` is a stable word for programs, and ``malformed`` says that the
    body is no JSON object at all, or holds what no body may hold (the others are well-formed JSON with a wrong field).
    """

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str = "invalid_request",
        malformed: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code
        self.malformed = malformed


class ModelNotFound(RequestError):
    """No deployment answers to this model name."""

    def __init__(self, message: str) -> None:
        super().__init__(message, param="model", code="model_not_found")


class NoSuchKey(RequestError):
    """There is no key by this name."""

    def __init__(self) -> None:
        super().__init__("There is no such key. GET /key/list shows those there are.", param="key", code="no_such_key")


class NotCached(CacheProxyError):
    """``only-if-cached`` was asked, and part of the answer is not in the store."""


class StoreError(CacheProxyError):
    """A store could not do its work.

    ``refused`` means that it said no at once (connection refused, read-only, full); otherwise it was too slow.
    """

    def __init__(self, message: str, *, refused: bool = True) -> None:
        super().__init__(message)
        self.refused = refused


class PartialAnswer(StoreError):
    """Some of a store's servers did not answer a look-up. ``found`` is what the others hold: less, never wrong.

    The store itself leaves such servers alone for a while, so this says nothing against the store as a whole.
    """

    def __init__(self, message: str, found: Mapping[bytes, bytes], *, refused: bool = True) -> None:
        super().__init__(message, refused=refused)
        self.found = found


class LedgerError(CacheProxyError):
    """The ledger's database could not do its work. ``refused`` means that it is well, and did not take what it was
    given: another try would end the same.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class UpstreamError(CacheProxyError):
    """The trip to the upstream brought no answer.

    ``outcome_unknown`` is true where the upstream may have done, and billed, the work all the same;
    ``unknown_calls`` counts such calls on the whole way here, retries included, and ``tokens_unsettled`` is the most
    tokens that they can have cost.
    """

    outcome_unknown: bool = False
    unknown_calls: int = 0
    tokens_unsettled: int = 0
    tokens: int = 0
    """What the upstream says it billed for an answer that makes no sense."""
    price: int | None = None
    """Pico-USD for each of those tokens, ``None`` where it is unknown."""


class UpstreamRefused(UpstreamError):
    """The upstream answered with another status than 200.

    ``body`` is the upstream's own text. It may echo inputs (Jina's 422 does), so it is shown only to a caller
    whose items alone were in the call, and never logged. ``personal`` says that it was about the caller who led the
    call, and not about the operator's key: another caller may be welcome.
    """

    personal: bool = False

    def __init__(
        self,
        status: int,
        body: bytes,
        *,
        content_type: str = "application/json",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"the upstream answered with status {status}")
        self.status = status
        self.body = body
        self.content_type = content_type
        self.retry_after = retry_after
        # 520 and 524 are Cloudflare's 502 and 504, and Jina's API is behind it.
        self.outcome_unknown = status in (500, 502, 504, 520, 524)

    def without_body(self) -> "UpstreamRefused":
        """The same refusal for a caller who must not see the body."""
        bare = UpstreamRefused(self.status, b"", content_type=self.content_type, retry_after=self.retry_after)
        bare.personal = self.personal
        return bare


class UpstreamLost(UpstreamError):
    """Connection or time-out: no answer at all. ``timed_out`` tells the two apart."""

    def __init__(self, message: str, *, outcome_unknown: bool, timed_out: bool = False) -> None:
        super().__init__(message)
        self.outcome_unknown = outcome_unknown
        self.timed_out = timed_out


class UpstreamNonsense(UpstreamError):
    """A 200 that is not an answer to what was asked: HTML, cut short, misnumbered, not finite. Never stored.

    The upstream most likely billed it.
    """

    outcome_unknown = True


class UpstreamBusy(UpstreamError):
    """Our own limits for a deployment left no room within the bound. ``retry_after`` is in seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotPaid(UpstreamError):
    """Nothing was sent, for it could not be paid. It says nothing about the upstream, nor about other callers."""


class LedgerUnavailable(NotPaid):
    """The ledger can not take the note without which nothing is spent."""

    def __init__(self) -> None:
        super().__init__("the ledger can not be written, and nothing is spent that is not written down first")


class BeyondBudget(NotPaid):
    """Some of those who were to pay for a call have a budget, and may not spend this.

    ``keys`` are the hashes of their keys. It says nothing about whoever else was to pay for it.
    """

    def __init__(self, message: str, keys: Collection[str]) -> None:
        super().__init__(message)
        self.keys = frozenset(keys)


class Shortage(NamedTuple):
    """Why something does not fit a budget. Money is pico-USD, times are seconds since the epoch."""

    spent: int
    reserved: int
    """For calls under way, and those of which nobody knows what they cost."""
    limit: int
    asked: int
    """The most that this could have cost."""
    resets_at: int | None
    """When it is spent anew; ``None`` for never."""


class BudgetExceeded(BeyondBudget):
    """What was asked for does not fit the budget of these keys: for each of them, why."""

    def __init__(self, short: Mapping[str, Shortage]) -> None:
        super().__init__("the budget of this key is used up", short)
        self.short = short


class PriceUnknown(BeyondBudget):
    """Nobody knows the price of a token of this model, so nobody knows whether it fits."""

    def __init__(self, keys: Collection[str]) -> None:
        super().__init__("nobody knows what this model costs, so a key with a budget may not spend on it", keys)


class BudgetUnknown(BeyondBudget):
    """The ledger can not be asked whether it fits."""

    def __init__(self, keys: Collection[str]) -> None:
        super().__init__("the ledger can not be written, so nobody can tell whether this fits the key's budget", keys)
