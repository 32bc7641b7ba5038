"""``/embeddings`` and ``/rerank``: from an exchange to an answer, its receipt and the headers that tell of it."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from itertools import islice

from cache_proxy.access import Admitted
from cache_proxy.asgi import rights, told
from cache_proxy.asgi.auth import readmit
from cache_proxy.asgi.errors import ErrorReply, reply_to, unexpected
from cache_proxy.asgi.exchange import ClientGoneError, Exchange
from cache_proxy.calls import Account
from cache_proxy.core.understood import Understood
from cache_proxy.core.wire import controls
from cache_proxy.core.wire.fields import parse_body
from cache_proxy.engine import Engine
from cache_proxy.errors import BudgetExceeded, CacheProxyError
from cache_proxy.models import Endpoint, Json
from cache_proxy.own_keys import TAG as PROOF_TAG
from cache_proxy.receipts import Receipt, Story
from cache_proxy.wiring import Wired
from cache_proxy.wiring.ledger import NOTHING

CLIENT_GONE = 499
"""nginx's status for a client that left before it was answered; it stands in the log only."""

LOOK_AGAIN_AFTER = 0.5
"""Seconds that a body may take before it is asked anew whether its sender may come in: keys are taken back."""

_LONGEST_NOTE = 128
_MOST_TAGS = 32


class Inference:
    """Answers one endpoint's requests."""

    def __init__(self, wired: Wired, endpoint: Endpoint, body_limit: int) -> None:
        self._wired = wired
        self._endpoint = endpoint
        self._body_limit = body_limit
        self._under_way = wired.measuring.under_way(endpoint)

    async def __call__(self, exchange: Exchange, admitted: Admitted) -> None:
        """Answer, and record the receipt whatever happens."""
        self._under_way.inc()
        try:
            await self._serve(exchange, admitted)
        finally:
            self._under_way.dec()

    async def _serve(self, exchange: Exchange, admitted: Admitted) -> None:
        began = time.perf_counter()
        story = Story(exchange.request_id, self._endpoint.value, admitted.account, time.time())
        try:
            body = await self._answer(exchange, story, admitted, began)
        except ClientGoneError:
            self._record_gone(story, began, admitted)
            return
        except asyncio.CancelledError:
            # Cut off from outside, by the host or the server's end. What is under way comes home all the same.
            self._record_gone(story, began, admitted)
            raise
        except CacheProxyError as error:
            await self._refuse(exchange, story, began, reply_to(error), admitted)
            return
        except Exception as error:
            await self._refuse(exchange, story, began, unexpected(error, exchange.request_id), admitted)
            return
        receipt = story.end(status=200, latency=time.perf_counter() - began, bytes_out=len(body))
        await self._wired.record(receipt)
        await exchange.reply(200, body, told.headers(receipt, await self._wired.spent(admitted)))

    async def _answer(self, exchange: Exchange, story: Story, admitted: Admitted, began: float) -> bytes:
        tags = exchange.header(b"x-litellm-tags")
        if tags:
            story.tags = _listed(tags)
        raw = await exchange.body(self._body_limit)
        if admitted.key is not None and time.perf_counter() - began > LOOK_AGAIN_AFTER:
            admitted = await readmit(admitted, self._wired.find_key)
            story.account = admitted.account
        engine = self._wired.running or await self._wired.open()
        limits = None
        if admitted.key is not None:
            limits = await self._wired.limits()
            await rights.count_request(admitted, limits)
        room = "" if admitted.key is None else admitted.key.namespace
        understood = self._understand(engine, exchange, raw, room, story)
        rights.check(admitted, understood)
        own, allow = rights.own_key(admitted, understood.asked), rights.spending(admitted, limits)
        try:
            if own is None:
                return await engine.answer(understood.asked, story, allow)
            return await (await self._wired.own_keys()).answer(understood.asked, own, story, allow)
        except BudgetExceeded as error:
            if limits is not None:
                limits.hear(error)
            raise

    def _understand(self, engine: Engine, exchange: Exchange, raw: bytes, room: str, story: Story) -> Understood:
        before, cache_control = engine.before[self._endpoint], exchange.joined(b"cache-control")
        request = (raw, cache_control, room)
        understood = before.recall(request)
        if understood is not None:
            story.user, story.tags = understood.user, story.tags or understood.tags
            return understood
        body = parse_body(raw)
        user, tags = _note(body.get("user")), _tags(body)
        story.user, story.tags = user, story.tags or tags
        asked = engine.understand(self._endpoint, body, cache_control, room)
        understood = Understood(asked, user, tags, controls.named(body, cache_control))
        before.remember(request, understood)
        return understood

    def note(self, exchange: Exchange, reply: ErrorReply) -> None:
        """Tell of a request that was turned away at the gate. It leaves no row: strangers could fill the disk."""
        story = Story(exchange.request_id, self._endpoint.value, Account(), time.time())
        self._wired.observe(story.end(status=reply.status, latency=0.0, bytes_out=len(reply.body), error=reply.word))

    def _record_gone(self, story: Story, began: float, admitted: Admitted) -> None:
        latency = time.perf_counter() - began
        self._record(story, admitted, story.end(status=CLIENT_GONE, latency=latency, bytes_out=0, error="client_gone"))

    def _record(self, story: Story, admitted: Admitted, receipt: Receipt) -> Awaitable[None]:
        """Write it down, but for a guest for whose key nobody has vouched: like whoever is turned away at the gate he
        leaves no row. Where his proof may have cost something, that is all there is.
        """
        if not admitted.guest or story.model:
            return self._wired.record(receipt)
        if story.tokens_billed or story.tokens_unsettled:
            return self._wired.record(receipt._replace(user=None, tags=()))
        self._wired.observe(receipt)
        return NOTHING

    async def _refuse(
        self, exchange: Exchange, story: Story, began: float, reply: ErrorReply, admitted: Admitted
    ) -> None:
        receipt = story.end(
            status=reply.status,
            latency=time.perf_counter() - began,
            bytes_out=len(reply.body),
            error=reply.word,
        )
        await self._record(story, admitted, receipt)
        headers = [*told.headers(receipt, await self._wired.spent(admitted)), *reply.headers]
        await exchange.reply(reply.status, reply.body, headers, reply.content_type)


def _note(value: Json) -> str | None:
    """A short word of the caller's for the record, or nothing."""
    return value[:_LONGEST_NOTE] if isinstance(value, str) and value else None


def _tags(body: Mapping[str, Json]) -> tuple[str, ...]:
    """LiteLLM's tags in a body: ``metadata.tags``."""
    metadata = body.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return _few(tag for tag in tags if isinstance(tag, str)) if isinstance(tags, list) else ()


def _listed(header: str) -> tuple[str, ...]:
    """LiteLLM's tags in a header: separated by commas."""
    return _few(tag.strip() for tag in header.split(",") if tag.strip())


def _few(tags: Iterable[str]) -> tuple[str, ...]:
    """Each once, and no more than a person would read: every tag is a row of sums in the ledger."""
    return tuple(islice(dict.fromkeys(tag[:_LONGEST_NOTE] for tag in tags if tag != PROOF_TAG), _MOST_TAGS))
