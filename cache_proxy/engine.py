"""The one file that knows the whole order of a request: understand, look up, plan, pay, reply.

It decides nothing itself (``core`` does) and knows neither HTTP nor settings.
"""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType

from cache_proxy.core import answer, plan
from cache_proxy.core.asked import Asked, endpoint_of, understand
from cache_proxy.core.names import Names
from cache_proxy.core.renderings import Renderings
from cache_proxy.core.understood import Memory
from cache_proxy.errand import Errand, Means, Price, Proof
from cache_proxy.errors import CacheProxyError, NotCached, UpstreamError
from cache_proxy.models import Endpoint, Entry, Json, Key, Plan
from cache_proxy.receipts import Story

Allow = Callable[[Asked, Price], Awaitable[None]]
"""Says whether a request may pay this for what it misses: raises a ``CacheProxyError`` if not."""


class Engine:
    """Answers requests. One per event loop; see ``wiring`` for how it is made."""

    def __init__(self, names: Names, means: Means, renderings: Renderings, requests_bytes: int = 0) -> None:
        """``requests_bytes`` is the room for each endpoint's requests that came before."""
        self.names = names
        self.before = {endpoint: Memory(requests_bytes) for endpoint in Endpoint}
        self.means = means
        self._renderings = renderings

    def understand(
        self, endpoint: Endpoint, body: Mapping[str, Json], cache_control: str | None = None, room: str = ""
    ) -> Asked:
        """What a request asks for: the same request in the same room always asks for the same. Raises
        ``RequestError``.
        """
        return understand(endpoint, body, cache_control, self.names, self.means.policy, room)

    async def answer(
        self,
        asked: Asked,
        story: Story,
        allow: Allow | None = None,
        given: Mapping[Key, Entry] = MappingProxyType({}),
    ) -> bytes:
        """The reply's JSON; the story is told on the way. ``given`` are entries that were paid for already. Raises
        ``NotCached``, ``UpstreamError``, and what ``allow`` raises where something is to be paid for.
        """
        entries = await self.entries(asked, story, allow, given)
        seated = [entries[key] for key in asked.seats]
        usage = plan.usage(seated)
        story.tokens_saved = max(0, usage - story.tokens_billed)
        return answer.write(asked, seated, usage, story.request_id, self._renderings)

    async def entries(
        self,
        asked: Asked,
        story: Story,
        allow: Allow | None = None,
        given: Mapping[Key, Entry] = MappingProxyType({}),
        proof: Proof | None = None,
    ) -> Mapping[Key, Entry]:
        """What is behind the seats of this request. A ``proof`` is about who asks, and not about the items: no expired
        entry stands in for it. Tells and raises the same as :meth:`answer`.
        """
        # Only a name that is known is told: anything else might be a text or a key in the wrong place.
        story.model, story.upstream_model = asked.name, asked.target.model
        story.price = asked.target.spec.price
        story.key = asked.seats[0].hex() if len(asked.seats) == 1 else None
        with self.means.flights.looking() as look:
            found = await self._look_up(asked)
            planned = plan.plan(asked.seats, found, asked.controls, self.means.clock())
            if given:
                planned = plan.with_these(planned, given)
            errand = Errand(self.means, asked, planned, story, proof=proof) if planned.misses else None
            if errand is not None and not asked.controls.only_if_cached:
                if allow is not None and (price := errand.to_pay(look)).bound:
                    await self._be_allowed(allow, price, asked, planned, story)
                errand.board(look)
        if errand is None:
            self._tell(story, asked, planned)
            return planned.hits
        fetched = await self._fetch(errand, asked, planned, {} if proof else found, story)
        return {**planned.hits, **fetched}

    def under(self, names: Names) -> "Engine":
        """The same engine under other names: it shares store, lanes and flights with this one."""
        return Engine(names, self.means, self._renderings)

    def keys_of(self, body: Mapping[str, Json], room: str = "") -> tuple[Key, ...]:
        """The keys under which the answer to this request is kept in this room. Raises ``RequestError``."""
        return self.understand(endpoint_of(body), body, room=room).seats

    async def _be_allowed(self, allow: Allow, price: Price, asked: Asked, planned: Plan, story: Story) -> None:
        try:
            await allow(asked, price)
        except CacheProxyError:
            self._tell(story, asked, planned)
            raise

    async def _look_up(self, asked: Asked) -> dict[Key, Entry]:
        if not asked.controls.read:
            return {}
        keys = list(dict.fromkeys(asked.seats))
        return await self.means.shelf.look_up(keys, asked.controls, self.means.clock)

    async def _fetch(
        self, errand: Errand, asked: Asked, planned: Plan, found: Mapping[Key, Entry], story: Story
    ) -> Mapping[Key, Entry]:
        """The entries of all misses: paid for, or expired ones where the upstream fails and the operator allows it."""
        try:
            return await self._pay(errand, asked, planned, story)
        except UpstreamError as error:
            allowed, now = self.means.policy.stale_if_error, self.means.clock()
            stale = plan.stand_ins(planned, found, asked.controls, allowed, now) if plan.is_outage(error) else {}
            if not stale:
                raise
            story.counts = plan.count(Plan(asked.seats, {**planned.hits, **stale}, ()), asked.ask)
            story.cache_status = plan.stale_status(story.counts, error)
            return stale

    async def _pay(self, errand: Errand, asked: Asked, planned: Plan, story: Story) -> Mapping[Key, Entry]:
        """The entries of all misses, paid here or joined; the story is told even where that fails."""
        try:
            if asked.controls.only_if_cached:
                raise NotCached("Part of the answer is not in the cache, and only-if-cached forbids to fetch it.")
            return await errand.run()
        finally:
            self._tell(story, asked, planned, errand)

    @staticmethod
    def _tell(story: Story, asked: Asked, planned: Plan, errand: Errand | None = None) -> None:
        story.counts = plan.count(planned, asked.ask, errand.joined if errand else ())
        stored = errand is not None and errand.stored
        story.cache_status = plan.cache_status(story.counts, asked.controls, stored=stored)

    async def close(self, patience: float) -> None:
        """Bring home what is under way (up to ``patience`` seconds), then let go of everything."""
        await self.means.close(patience)
