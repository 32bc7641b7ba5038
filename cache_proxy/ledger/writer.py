"""The one who writes: a thread, which takes all that waits, writes it in one transaction, and tells who waits for it.

While one commit is under way the next batch gathers, so that a commit a batch is all that durability costs, however
many wait. What nobody waits for is written within ``SOON`` seconds. Where the database fails, what is to be written
stays here and is tried again; beyond ``ROOM`` notes it is counted as missing instead.
"""

import asyncio
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from cache_proxy.errors import BudgetUnknown, CacheProxyError, LedgerError, LedgerUnavailable, NotPaid
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.notes import Intent, Note, Told
from cache_proxy.ledger.posting import Batch

log = logging.getLogger("cache_proxy.ledger")

SOON = 0.5
"""Seconds that what nobody waits for may wait for more of its kind."""

MOST = 1024
"""Notes in one transaction."""

STORIES = 128
"""Rows of hits in a transaction that somebody waits for."""

GRACE = 2.0
"""Seconds beyond its patience that the end waits for the writer: for the try that is under way."""

ROOM = 100_000
"""Notes about money that are kept while the database is away, and as many rows of hits: about 200 MB each."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
"""Seconds between two tries at a database that fails."""

PATIENCE = 5.0
"""Seconds after which a database that does not answer counts as one that fails."""

Waiter = asyncio.Future[None]


class Writer:
    """Writes for one event loop. ``missing`` counts the notes that were given up."""

    def __init__(
        self,
        database: Database,
        *,
        refusing: bool,
        clock: Callable[[], float] = time.monotonic,
        timed: Callable[[str, float], None] | None = None,
    ) -> None:
        """``refusing``: an intent that can not be written at once fails with ``LedgerUnavailable``; otherwise it counts
        as good, and is written when the database is back. ``timed`` hears, in the thread, of each commit whether it was
        ``written`` or ``failed``, and how many seconds that took; it must not raise.
        """
        self.missing: Counter[str] = Counter()
        self._database = database
        self._refusing = refusing
        self._clock = clock
        self._timed = timed or (lambda *_: None)
        self._name = os.urandom(8).hex()
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        # Money goes first: rows of hits may be many, and a call waits for its intent.
        self._money: deque[_Waiting] = deque()
        self._stories: deque[_Waiting] = deque()
        self._urgent = 0
        self._due = float("inf")
        self._failing = False
        self._began_at = float("inf")
        # Why the database did not take the last batch, though it is well.
        self._refused = ""
        self._end_at = float("inf")
        self._thread = threading.Thread(target=self._run, name="cache-proxy-ledger", daemon=True)
        self._thread.start()

    @property
    def ailing(self) -> bool:
        """Whether the database did not take the last batch, or does not answer."""
        return self._failing or self._clock() - self._began_at > PATIENCE

    def put(self, note: Note, *, waited_for: bool) -> Waiter | None:
        """Have this written; if it is waited for, what to wait for. Nobody waits for a database that fails.

        Raises ``NotPaid`` for an intent that is not going to be written in time.
        """
        ailing = self.ailing
        if ailing and isinstance(note, Intent) and (self._refusing or note.must_fit):
            raise self.refusal_of(note)
        with self._changed:
            queue = self._stories if isinstance(note, Told) and not waited_for else self._money
            if len(queue) >= ROOM:
                if isinstance(note, Intent) and (self._refusing or note.must_fit):
                    raise self.refusal_of(note)
                self._miss([note])
                return None
            waiter = self._loop.create_future() if waited_for and not ailing else None
            if waiter is not None:
                # Whoever gave up waiting does not look at it any more.
                waiter.add_done_callback(_look_at)
            first = not self._waits
            if first:
                self._due = self._clock() + SOON
            queue.append((note, waiter))
            self._urgent += waiter is not None
            if waiter is not None or first:
                self._changed.notify()
            return waiter

    @property
    def _waits(self) -> int:
        return len(self._money) + len(self._stories)

    def refusal_of(self, intent: Intent) -> NotPaid:
        """Why this one, which is not known to be written, must not be sent; from now on it will not be."""
        intent.void = True
        return LedgerUnavailable() if self._refusing else BudgetUnknown(intent.call.budgeted)

    async def close(self, patience: float) -> None:
        """Write what waits, for so many seconds at most, and end."""
        with self._changed:
            self._end_at = self._clock() + patience
            self._changed.notify()
        # A database that has fallen silent is not waited for: its thread ends with the process.
        await asyncio.to_thread(self._thread.join, patience + GRACE)
        if self._thread.is_alive():
            fields = {"database": self._database.place, "waiting": self._waits}
            log.error("ledger=%(database)s does not answer at the end; %(waiting)d notes wait", fields, extra=fields)

    def _tell_of_missing(self) -> None:
        if self.missing:
            fields = {"database": self._database.place, "missing": sum(self.missing.values())}
            log.error("%(missing)d notes are lost to the ledger=%(database)s", fields, extra=fields)

    def _run(self) -> None:
        try:
            self._database.open()
        except CacheProxyError as error:
            self._turn(failing=True, reason=str(error))
        while taken := self._gather():
            self._write(taken)
        self._database.close()
        self._tell_of_missing()

    def _gather(self) -> "list[_Waiting]":
        """What is to be written next; nothing once there is nothing left and the end has come."""
        with self._changed:
            while not self._waits or not self._is_time():
                if self._is_ending and not self._waits:
                    return []
                self._changed.wait(max(0.0, self._due - self._clock()) if self._waits else None)
            taken = [self._money.popleft() for _ in range(min(MOST, len(self._money)))]
            # Few at a time while somebody waits: what comes meanwhile waits for this transaction.
            room = STORIES if taken else MOST
            taken += [self._stories.popleft() for _ in range(min(room, len(self._stories)))]
            self._urgent -= sum(waiter is not None for _, waiter in taken)
            # What is left over has waited for its turn already.
            self._due = self._clock()
            return taken

    @property
    def _is_ending(self) -> bool:
        return self._end_at < float("inf")

    def _is_time(self) -> bool:
        return self._urgent > 0 or self._is_ending or self._clock() >= self._due

    def _write(self, taken: "list[_Waiting]") -> None:
        """Write these, however often that must be tried."""
        batch = Batch(os.urandom(8).hex(), [note for note, _ in taken])
        pause = SHORTEST_PAUSE
        while not self._is_committed(batch):
            if self._refused:
                self._sift(taken)
                return
            self._tell(taken, failed=True)
            if self._clock() >= self._end_at:
                self._give_up(batch.notes)
                return
            time.sleep(max(0.0, min(pause, self._end_at - self._clock())))
            pause = min(2 * pause, LONGEST_PAUSE)
        self._tell(taken, failed=False)

    def _give_up(self, notes: Sequence[Note]) -> None:
        """The end has come, and the database is away: what is left is lost."""
        with self._changed:
            left = [note for note, _ in (*self._money, *self._stories)]
            self._money.clear()
            self._stories.clear()
        self._miss([*notes, *left])

    def _sift(self, taken: "list[_Waiting]") -> None:
        """Of notes that the database does not take together, keep from it only the one that it does not take alone."""
        if len(taken) > 1:
            for one in taken:
                self._write([one])
            return
        self._miss([note for note, _ in taken])
        fields = {"database": self._database.place, "what": type(taken[0][0]).__name__.lower(), "reason": self._refused}
        log.error(
            "ledger=%(database)s does not take one %(what)s, which is lost to it: %(reason)s", fields, extra=fields
        )
        self._tell(taken, failed=True)

    def _is_committed(self, batch: Batch) -> bool:
        began_at = self._clock()
        written = self._is_written(batch)
        self._timed("written" if written else "failed", self._clock() - began_at)
        return written

    def _is_written(self, batch: Batch) -> bool:
        self._began_at = self._clock()
        self._refused = ""
        try:
            with self._database.writing() as connection:
                intents = batch.post(connection, self._name, time.time())
        except LedgerError as error:
            self._refused = str(error) if error.refused else ""
            if not error.refused:
                self._turn(failing=True, reason=str(error))
            return False
        except CacheProxyError as error:
            self._turn(failing=True, reason=str(error))
            return False
        except Exception as error:
            # What nobody foresaw is most likely in a note. Of the error only its kind: its text may hold anything.
            self._refused = type(error).__name__
            return False
        finally:
            self._began_at = float("inf")
        for intent in intents:
            intent.written = True
        self._turn(failing=False)
        return True

    def _tell(self, taken: "list[_Waiting]", *, failed: bool) -> None:
        waiters = [(note, waiter) for note, waiter in taken if waiter is not None]
        if waiters:
            with suppress(RuntimeError):  # the loop is closed, and nobody waits any more
                self._loop.call_soon_threadsafe(self._wake, waiters, failed)

    def _wake(self, waiters: Sequence[tuple[Note, Waiter]], failed: bool) -> None:
        for note, waiter in waiters:
            if waiter.done():
                continue
            if failed and isinstance(note, Intent) and (self._refusing or note.must_fit):
                waiter.set_exception(self.refusal_of(note))
            elif not failed and isinstance(note, Intent) and note.refusal is not None:
                waiter.set_exception(note.refusal)
            else:
                waiter.set_result(None)

    def _miss(self, notes: Sequence[Note]) -> None:
        for note in notes:
            self.missing[type(note).__name__.lower()] += 1

    def _turn(self, *, failing: bool, reason: str = "") -> None:
        if failing == self._failing:
            return
        self._failing = failing
        fields = {"database": self._database.place, "reason": reason, "missing": sum(self.missing.values())}
        if failing:
            log.error("ledger=%(database)s is not written: %(reason)s", fields, extra=fields)
        else:
            log.warning("ledger=%(database)s is written again; missing=%(missing)d", fields, extra=fields)


_Waiting = tuple[Note, Waiter | None]


def _look_at(waiter: Waiter) -> None:
    if not waiter.cancelled():
        waiter.exception()
