"""Requests that are paid for with a key which the caller brings along (``core/own_key.py`` says what must be proved).

What the upstream has said of a key is remembered here as well, so that a key that is made up is asked about once, and a
good one costs no look at the store. All of it is told apart by the key's hash; the key itself is not kept.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from cache_proxy.access import OwnKey
from cache_proxy.core import own_key
from cache_proxy.core.asked import Asked, is_remote, keeping
from cache_proxy.engine import Allow, Engine
from cache_proxy.errand import Proof
from cache_proxy.errors import StoreError, UpstreamRefused
from cache_proxy.models import Deployment, Entry, Key, Shape
from cache_proxy.receipts import Story

T = TypeVar("T")

TAG = "key-proof"
"""Under this tag stand the calls that were made only to prove a key. No caller may use it."""

REFUSED_FOR = 60.0
"""Seconds for which a key that was made up is refused without asking again."""

MOST = 10_000
"""Keys that are remembered, good ones and bad ones."""

LONGEST_REFUSAL = 4096
"""Bytes of an upstream's refusal that are remembered with a key."""

_MADE_UP = 401


class _Refusal(NamedTuple):
    """What the upstream said. Not the error itself, which holds on to all that was being done when it was raised."""

    until: float
    body: bytes
    content_type: str


class OwnKeys:
    """What serves such requests on one event loop."""

    def __init__(self, engine: Engine, now: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._now = now
        # Oldest first: each is remembered for the same time, or is put at the end again.
        self._good_until: OrderedDict[Key, float] = OrderedDict()
        self._refused: OrderedDict[Key, _Refusal] = OrderedDict()

    async def answer(self, asked: Asked, own: OwnKey, story: Story, allow: Allow | None = None) -> bytes:
        """The reply's JSON, paid for with this key. The target must take keys. Raises what ``Engine.answer`` does;
        nothing of the request is looked up, and no more told than its id, before the key is known to be good.
        """
        asked = own_key.paid_with(asked, own.secret)
        proof = own_key.proof(asked, own.hash)
        seat = proof.seats[0]
        self._refuse_again(seat)
        try:
            given = {} if self._is_good(seat) else await self._prove(asked, proof, own, story)
            already = story.tokens_billed
            reply = await self._engine.answer(asked, story, allow, given)
        except UpstreamRefused as error:
            await self._hear(seat, error, asked.target.deployments)
            raise
        if story.tokens_billed > already:
            self._trust(seat, own_key.WINDOW)
        if already:
            story.cache_status += f"; {TAG}"
        return reply

    def _refuse_again(self, key: Key) -> None:
        """Raise the upstream's refusal of a moment ago, if it has said that there is no such key."""
        refusal = self._refused.get(key)
        if refusal is not None and self._now() < refusal.until:
            raise UpstreamRefused(_MADE_UP, refusal.body, content_type=refusal.content_type)

    def _is_good(self, key: Key) -> bool:
        """Whether the upstream has accepted it lately, as far as is known here."""
        return self._now() < self._good_until.get(key, 0.0)

    async def _prove(self, asked: Asked, proof: Asked, own: OwnKey, story: Story) -> Mapping[Key, Entry]:
        """Ask the upstream, unless the store knows. What was paid for on the way, if it is an answer to the request."""
        means, seat = self._engine.means, proof.seats[0]
        at = own_key.shortest(asked)
        # Where items depend on each other, the answer for one alone is none.
        key = asked.seats[at] if asked.ask.shape is Shape.EACH or len(asked.ask.items) == 1 else None
        ttl = keeping(asked, means.policy, remote=is_remote(asked, (asked.ask.items[at],)))
        # On the key's own account, whatever else is known of the caller: his budget with us is not for this.
        told = Story(story.request_id, story.endpoint, own.account, story.started_at, tags=(TAG,))
        try:
            entries = await self._engine.entries(proof, told, proof=Proof(key, ttl))
        finally:
            story.add(told)
        entry = entries[seat]
        self._trust(seat, (entry.expires_at or 0.0) - means.clock())
        # What somebody else has paid for may be about another item.
        return {key: entry} if key is not None and told.tokens_billed else {}

    def _trust(self, key: Key, seconds: float) -> None:
        _remember(self._good_until, key, self._now() + min(seconds, own_key.WINDOW))

    async def _hear(self, key: Key, error: UpstreamRefused, places: Sequence[Deployment]) -> None:
        """The upstream refuses something that was to be paid for with this key. One that has no money left was accepted
        all the same.
        """
        if error.status != _MADE_UP or len(places) > 1:
            # Of a group with several places nobody can tell which of them it was.
            return
        self._good_until.pop(key, None)
        # Other workers are not to believe it from the store any longer.
        with suppress(StoreError):
            await self._engine.means.store.delete_many([key])
        # What another worker was told comes without the upstream's words: this one asks for itself.
        if error.body and len(error.body) <= LONGEST_REFUSAL:
            _remember(self._refused, key, _Refusal(self._now() + REFUSED_FOR, error.body, error.content_type))


def _remember(memory: OrderedDict[Key, T], key: Key, what: T) -> None:
    memory[key] = what
    memory.move_to_end(key)
    while len(memory) > MOST:
        memory.popitem(last=False)
