"""The keys that one event loop knows: what the database said of each, for as long as nobody has changed a key.

A key that is revoked anywhere lets nobody in a second later. At most every ``LOOK_EVERY`` seconds, when a request
comes, one look at the database asks whether keys were changed, and if so all that was known is forgotten. A request
waits for that look only where the last one is older than ``OLDEST``.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from cache_proxy.access import AccessKey
from cache_proxy.errors import LedgerError

if TYPE_CHECKING:
    from cache_proxy.ledger.keys import KeyTable

LOOK_EVERY = 0.5
OLDEST = 0.9
PATIENCE = 2.0
"""Seconds that a request waits for a database that does not answer."""

MOST = 10_000
"""Keys that are remembered."""

MOST_UNKNOWN = 1_000
"""The same of those that do not exist. Apart, so that whoever tries made-up ones pushes out no good one."""

AT_ONCE = 2
"""Look-ups of keys at a time: whoever tries made-up ones must not take all threads."""


class Keyring:
    """Known keys, by their hash. Times are seconds."""

    def __init__(self, table: "KeyTable", grace: float, clock: Callable[[], float] = time.monotonic) -> None:
        """``grace`` is for how long a known key lets in while the database is away."""
        self.table = table
        self._grace = grace
        self._clock = clock
        self._known: OrderedDict[str, AccessKey] = OrderedDict()
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._changes = -1
        self._current_at = float("-inf")
        self._looked_at = float("-inf")
        self._away = False
        self._looking: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def find(self, hash_: str) -> AccessKey | None:
        """The key of this hash, if there is one. Raises ``LedgerError`` where nobody can tell."""
        now = self._clock()
        if now - self._looked_at >= LOOK_EVERY and self._looking is None:
            self._looking = asyncio.create_task(self._look())
        if self._looking is not None and now - self._current_at > OLDEST and not self._away:
            await self._wait(self._looking)
        if self._away:
            return self._in_grace(hash_)
        if hash_ in self._known:
            self._known.move_to_end(hash_)
            return self._known[hash_]
        if hash_ in self._unknown:
            return None
        return await self._look_up(hash_)

    def _in_grace(self, hash_: str) -> AccessKey | None:
        found = self._known.get(hash_)
        if found is None or self._clock() - self._current_at > self._grace:
            raise LedgerError("the database of the keys is away, and this key is not known here")
        return found

    async def _wait(self, looking: "asyncio.Task[None]") -> None:
        done, _ = await asyncio.wait({looking}, timeout=PATIENCE)
        self._away = self._away or not done

    async def _look(self) -> None:
        """Whether keys were changed since the last look."""
        began = self._looked_at = self._clock()
        try:
            self._hear(await asyncio.to_thread(self.table.changes), began)
        except Exception:
            # Told by whoever writes there. What is not clearly allowed is refused.
            self._away = True
        finally:
            self._looking = None

    def _hear(self, changes: int, at: float) -> None:
        """So often keys had been changed, at a moment not before this one."""
        if changes != self._changes:
            # While it is away they are needed: what is forgotten then is forgotten when it is back.
            self._forget()
        self._changes, self._current_at, self._away = changes, at, False

    async def _look_up(self, hash_: str) -> AccessKey | None:
        try:
            async with asyncio.timeout(PATIENCE), self._turns:
                changes, found = await asyncio.to_thread(self.table.find, hash_)
        except TimeoutError:
            raise LedgerError("the database of the keys does not answer") from None
        # What was read before the last change, or after one that was not heard of yet, is good for this time only.
        if changes == self._changes:
            self._remember(hash_, found)
        return found

    def _remember(self, hash_: str, found: AccessKey | None) -> None:
        if found is None:
            self._unknown[hash_] = None
        else:
            self._known[hash_] = found
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        while len(self._unknown) > MOST_UNKNOWN:
            self._unknown.popitem(last=False)

    def _forget(self) -> None:
        self._known.clear()
        self._unknown.clear()

    def forget(self) -> None:
        """A key was changed here: the next request looks at once."""
        self._forget()
        self._changes, self._current_at, self._looked_at = -1, float("-inf"), float("-inf")

    async def close(self) -> None:
        """Let go of the database."""
        looking = self._looking
        if looking is not None:
            looking.cancel()
            await asyncio.wait({looking})
        await asyncio.to_thread(self.table.close)
