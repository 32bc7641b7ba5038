"""Requests that are paid for with a key which the caller brings along (``core/own_key.py`` says what must be proved).

What the upstream has said of a key is remembered here as well, so that a key that is made up is asked about once, and a
good one costs no look at the store. All of it is told apart by the key's hash; the key itself is not kept.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from cache_proxy.access import OwnKey
from cache_proxy.core import own_key
from cache_proxy.core.asked import Asked, is_remote, keeping, store_ttl
from cache_proxy.engine import Allow, Engine
from cache_proxy.errand.calls import STORE_PATIENCE
from cache_proxy.errors import StoreError, UpstreamRefused
from cache_proxy.models import Entry, Key, Shape
from cache_proxy.receipts import Story

TAG = "key-proof"
"""Under this tag stand the calls that were made only to prove a key."""

REFUSED_FOR = 60.0
"""Seconds for which a key that was made up is refused without asking again."""

MOST = 10_000
"""Keys that are remembered, good and bad ones."""

_MADE_UP = 401
_NOT_GOOD = frozenset({401, 402, 403})


class OwnKeys:
    """What serves such requests on one event loop."""

    def __init__(self, engine: Engine, now: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._now = now
        self._good_until: OrderedDict[Key, float] = OrderedDict()
        self._refused: OrderedDict[Key, tuple[float, UpstreamRefused]] = OrderedDict()

    async def answer(self, asked: Asked, own: OwnKey, story: Story, allow: Allow | None = None) -> bytes:
        """The reply's JSON, paid for with this key. The target must take keys. Raises what ``Engine.answer`` does;
        nothing of the request is looked up before the key is known to be good.
        """
        asked = own_key.paid_with(asked, own.secret)
        proof = own_key.proof(asked, own.hash)
        seat = proof.seats[0]
        self._refuse_again(seat)
        try:
            # Whoever neither reads nor shares gets only what he pays for himself.
            if asked.controls.read and not self._is_good(seat):
                await self._prove(asked, proof, story, allow)
            already = story.tokens_billed
            reply = await self._engine.answer(asked, story, allow)
        except UpstreamRefused as error:
            await self._hear(seat, error)
            raise
        if story.tokens_billed > already:
            self._trust(seat, own_key.WINDOW)
        if already:
            story.cache_status += f"; {TAG}"
        return reply

    def _refuse_again(self, key: Key) -> None:
        """Raise the upstream's refusal of a moment ago, if it has said that there is no such key."""
        until, refusal = self._refused.get(key, (0.0, None))
        if refusal is not None and self._now() < until:
            # A new one: an error that is raised again and again holds on to all who have seen it.
            raise UpstreamRefused(refusal.status, refusal.body, content_type=refusal.content_type)

    def _is_good(self, key: Key) -> bool:
        """Whether the upstream has accepted it lately, as far as is known here."""
        return self._now() < self._good_until.get(key, 0.0)

    async def _prove(self, asked: Asked, proof: Asked, story: Story, allow: Allow | None) -> None:
        """Ask the upstream, unless the store knows."""
        means, seat = self._engine.means, proof.seats[0]
        told = replace(story, tags=(*story.tags, TAG))
        since = means.flights.purges
        try:
            entries = await self._engine.entries(proof, told, allow, proof=True)
        finally:
            story.tokens_billed += told.tokens_billed
            story.outcome_unknown += told.outcome_unknown
            story.tokens_unsettled += told.tokens_unsettled
        entry = entries[seat]
        self._trust(seat, (entry.expires_at or 0.0) - means.clock())
        if told.tokens_billed:
            await self._keep(asked, entry, since)

    async def _keep(self, asked: Asked, entry: Entry, since: int) -> None:
        """The item that was asked about is paid for now: it is an answer like any other, where it stands for itself."""
        if asked.ask.shape is not Shape.EACH and len(asked.ask.items) > 1:
            return
        means, at = self._engine.means, own_key.shortest(asked)
        key, items = asked.seats[at], (asked.ask.items[at],)
        ttl = keeping(asked, means.policy, remote=is_remote(asked, items))
        if ttl == 0 or means.flights.is_purged(key, since) or key in await means.shelf.read([key]):
            return
        kept = replace(entry, expires_at=None if ttl is None else entry.created_at + ttl)
        await asyncio.wait({means.shelf.write({key: kept}, store_ttl(ttl, means.policy))}, timeout=STORE_PATIENCE)

    def _trust(self, key: Key, seconds: float) -> None:
        self._good_until[key] = self._now() + min(seconds, own_key.WINDOW)
        self._good_until.move_to_end(key)
        while len(self._good_until) > MOST:
            self._good_until.popitem(last=False)

    async def _hear(self, key: Key, error: UpstreamRefused) -> None:
        """The upstream refuses something that was to be paid for with this key."""
        if error.status not in _NOT_GOOD:
            return
        if self._good_until.pop(key, None) is not None:
            # Other workers are not to believe it from the store any longer.
            with suppress(StoreError):
                await self._engine.means.store.delete_many([key])
        if error.status == _MADE_UP:
            self._refused[key] = (self._now() + REFUSED_FOR, error)
            self._refused.move_to_end(key)
            while len(self._refused) > MOST:
                self._refused.popitem(last=False)
