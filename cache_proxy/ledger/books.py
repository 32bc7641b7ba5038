"""The ledger, as the rest of the package sees it."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Mapping
from typing import Any

from cache_proxy import lasting
from cache_proxy.calls import Call, Settlement
from cache_proxy.errors import BudgetExceeded, LedgerUnavailable, PriceUnknown
from cache_proxy.ids import new_id
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.notes import Ending, Intent, Note, Prune, Tidy, Told
from cache_proxy.ledger.sums import DAY
from cache_proxy.ledger.tidying import Tidied
from cache_proxy.ledger.writer import PATIENCE, Waiter, Writer
from cache_proxy.receipts import Receipt

PRUNE_EVERY = 3600.0
"""Seconds between two looks for what is too old."""

PRUNE_AGAIN = 1.0
"""The same, where there was more than was taken out at once."""


class SqlLedger:
    """Writes calls and receipts into a database. One for each event loop; opened by :meth:`open`.

    ``refusing`` says what happens while the database is away: nothing is spent, or what is spent is written later.
    """

    def __init__(
        self,
        database: Database,
        *,
        refusing: bool = True,
        days: int = 0,
        names_days: int = 0,
        now: Callable[[], float] = time.time,
        timed: Callable[[str, float], None] | None = None,
    ) -> None:
        """Single calls and requests are kept for ``days``, and sums by names that callers choose are kept apart for
        ``names_days``; 0: for good. ``timed`` hears how long each commit took (see
        ``Writer``).
        """
        self._database = database
        self._timed = timed
        self._days = days
        self._names_days = names_days
        self._pruning: asyncio.Task[None] | None = None
        self._refusing = refusing
        self._now = now
        self._writer: Writer | None = None
        self._open: dict[str, Intent] = {}

    def open(self) -> None:
        """Begin to write, from the running event loop on."""
        self._writer = Writer(self._database, refusing=self._refusing, timed=self._timed)
        self._pruning = lasting.start(self._prune())

    async def _prune(self) -> None:
        done = Tidied()
        while True:
            more = False
            if self._days:
                old = Prune(self._now() - self._days * DAY)
                await _Patiently(self._put(old, waited_for=True))
                more = old.more
            note = Tidy(self._now(), self._names_days, done)
            await _Patiently(self._put(note, waited_for=True))
            done = note.told or done
            await asyncio.sleep(PRUNE_AGAIN if more or done.more else PRUNE_EVERY)

    @property
    def ailing(self) -> bool:
        """Whether the database is away."""
        return self._writer is not None and self._writer.ailing

    @property
    def missing(self) -> Mapping[str, int]:
        """How many notes of which kind (``intent``, ``ending``, ``told``) are lost to the ledger for good."""
        return Counter() if self._writer is None else Counter(self._writer.missing)

    async def intend(self, call: Call) -> None:
        """See :class:`cache_proxy.calls.Ledger`. Raises ``LedgerUnavailable``, ``BeyondBudget``."""
        if call.price is None and call.budgeted:
            raise PriceUnknown(call.budgeted)
        intent = Intent(call)
        waiter = self._put(intent, waited_for=True)
        self._open[call.id] = intent
        try:
            await _Patiently(waiter)
            if waiter is not None:
                self._check(intent, waiter)
        except BudgetExceeded:
            # Nothing was written.
            del self._open[call.id]
            raise
        except BaseException:
            # Nothing will be sent. It may stand in the database all the same, now or in a moment.
            intent.void = True
            self.settle(call, Settlement((0,) * len(call.shares), 0))
            raise

    def _check(self, intent: Intent, waiter: Waiter) -> None:
        if waiter.done():
            waiter.result()
        elif self._writer is not None and (self._refusing or intent.must_fit):
            raise self._writer.refusal_of(intent)

    def settle(self, call: Call, settlement: Settlement) -> Awaitable[None]:
        """See :class:`cache_proxy.calls.Ledger`."""
        return self._end(call, settlement)

    def unsettled(self, call: Call) -> Awaitable[None]:
        """See :class:`cache_proxy.calls.Ledger`."""
        return self._end(call, None)

    def record(self, receipt: Receipt) -> Awaitable[None]:
        """Write down a request. Who awaits what is given waits, if it cost money, until that is durable. After the end
        nothing is written: the calls' money is.
        """
        if self._writer is None:
            return _Patiently(None)
        costs = receipt.tokens_billed > 0 or receipt.tokens_unsettled > 0
        return _Patiently(self._put(Told(new_id(receipt.started_at), receipt), waited_for=costs))

    def _end(self, call: Call, settlement: Settlement | None) -> Awaitable[None]:
        intent = self._open.pop(call.id, None) or Intent(call)
        return _Patiently(self._put(Ending(intent, settlement, self._now()), waited_for=True))

    def _put(self, note: Note, *, waited_for: bool) -> Waiter | None:
        if self._writer is None:
            raise LedgerUnavailable
        return self._writer.put(note, waited_for=waited_for)

    async def close(self, patience: float) -> None:
        """Write what is left, for so many seconds at most, and let go of the database."""
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.wait({self._pruning})
        if self._writer is not None:
            await self._writer.close(patience)
            self._writer = None


class _Patiently:
    """Waits for a note, if it is waited for at all; not for ever."""

    def __init__(self, waiter: Waiter | None) -> None:
        self._waiter = waiter

    def __await__(self) -> Generator[Any, None, None]:
        if self._waiter is not None:
            yield from asyncio.wait({self._waiter}, timeout=PATIENCE).__await__()
