"""The stand-in as an ASGI app."""

import asyncio
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from hashlib import blake2b
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from .delays import Delays
from .delivery import Reply, deliver
from .embedding_ask import read_embedding
from .embeddings import Answer, answer_embedding
from .errors import NOT_FOUND, USUAL, Finding, GatewayRefusal, Invalid, Refusal, internal, model_not_found
from .faults import Fault, Script, spoil
from .fields import Manners
from .log import Call, Log
from .models import EMBEDDERS, RERANKERS
from .ranking import answer_rank, read_rank

_HTML = b"<html><head><title>524: A timeout occurred</title></head><body>cloudflare</body></html>"


class StandIn:
    """An ASGI app that answers as api.jina.ai does on ``/v1/embeddings``, ``/v1/rerank`` and
    ``/v1/models``.

    * ``keys``: the API keys that are accepted; None accepts any non-empty Bearer token.
    * ``strict_extra``: refuse fields that the model does not have with 422, as the hosted API did in
      2025. Otherwise they are ignored, but a field that no Jina model has and that is not ``harmless``
      changes every vector and score.
    * ``delay``: seconds that every answer takes, or the `Delays` from which each call gets its own.
    * ``keep``: how many calls the log holds; the totals count all.

    It is driven by `fail_next`, read by `calls` and the totals, and over HTTP by ``/_standin/faults``
    (POST a fault, or a list of them; DELETE) and ``/_standin/log`` (GET, DELETE).
    """

    def __init__(
        self,
        *,
        keys: Collection[str] | None = None,
        strict_extra: bool = False,
        harmless: Collection[str] = ("user", "priority"),
        delay: float | Delays = 0.0,
        keep: int = 10_000,
    ) -> None:
        self.delay = delay
        self.in_flight = 0
        self.peak_in_flight = 0
        self._keys = None if keys is None else frozenset(keys)
        self._manners = Manners(strict_extra, frozenset(harmless))
        self._script = Script()
        self._log = Log(keep)
        self._router = Router(_routes(self), default=_not_found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._router(scope, receive, send)

    @property
    def calls(self) -> list[Call]:
        """The last calls, oldest first."""
        return list(self._log.calls)

    @property
    def call_count(self) -> int:
        """How many calls there were since the log was cleared, also those no longer held."""
        return self._log.count

    @property
    def billed_tokens(self) -> int:
        """What all calls together would have cost."""
        return self._log.billed_tokens

    @property
    def billed_items(self) -> int:
        """How many inputs or documents the billed calls held."""
        return self._log.billed_items

    @property
    def faults_left(self) -> int:
        """How many scripted faults are still waiting."""
        return len(self._script)

    def fail_next(self, *faults: Fault) -> None:
        """Let these go wrong, one call after the other, after the faults that already wait."""
        self._script.add(faults)

    def clear_faults(self) -> None:
        self._script.clear()

    def clear_log(self) -> None:
        """Forget the calls, the totals and the peak."""
        self._log.clear()
        self.peak_in_flight = self.in_flight

    async def serve(self, endpoint: str, scope: Scope, receive: Receive, send: Send) -> None:
        """One POST.

        The work is done and billed first and the wait comes after it, so a caller that hangs up has paid.
        """
        with self._counted():
            try:
                raw = await Request(scope, receive).body()
            except ClientDisconnect:
                return
            fault = self._script.take(endpoint, raw)
            reply = self._reply(endpoint, Request(scope).headers.get("authorization"), raw, fault)
            wait = self._delay_of(self.call_count - 1)
            wait += fault.seconds if fault and fault.kind != "drip" else 0.0
            if wait:
                await asyncio.sleep(wait)
            await deliver(reply, fault, receive, send)

    def _delay_of(self, call: int) -> float:
        return self.delay.of(call) if isinstance(self.delay, Delays) else self.delay

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    def _reply(self, endpoint: str, authorization: str | None, raw: bytes, fault: Fault | None) -> Reply:
        body, answer = _parsed(raw), None
        try:
            if fault and fault.before_work:
                reply = _failure(fault, raw)
            else:
                self._authorize(authorization)
                answer = self._answer(endpoint, body)
                reply = Reply(200, spoil(fault.kind, answer.body) if fault else answer.body)
        except Refusal as refusal:
            reply = _refused(refusal, raw)
        model = body.get("model") if isinstance(body, dict) else None
        items, tokens = (answer.items, answer.tokens) if answer else (0, 0)
        sent = 0 if fault and fault.kind in ("refuse", "drop") else reply.status
        self._log.add(Call(endpoint, model, items, tokens, body, sent, fault.kind if fault else None))
        return reply

    def _authorize(self, authorization: str | None) -> None:
        """The three codes of a 401 in Jina's OpenAPI (2026-04)."""
        if not authorization:
            raise GatewayRefusal(401, "AUTH_MISSING_API_KEY", "Missing API key")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise GatewayRefusal(401, "AUTH_INVALID_FORMAT", "Invalid authorization format")
        if self._keys is not None and token.strip() not in self._keys:
            raise GatewayRefusal(401, "AUTH_INVALID_API_KEY", "Invalid API key")

    def _answer(self, endpoint: str, received: Any) -> Answer:
        body = _object(received)
        name = body.get("model")
        if not isinstance(name, str):
            message = "Unable to extract tag using discriminator 'model'"
            raise Invalid(Finding((), message, "union_tag_not_found", body))
        if endpoint == "embeddings" and name in EMBEDDERS:
            return answer_embedding(read_embedding(EMBEDDERS[name], body, self._manners))
        if endpoint == "rerank" and name in RERANKERS:
            return answer_rank(read_rank(RERANKERS[name], body, self._manners))
        raise model_not_found(name)


class _Door:
    """A route that is a bare ASGI app, so that nothing stands between it and the server's own ``send``."""

    def __init__(self, standin: StandIn, endpoint: str) -> None:
        self._standin = standin
        self._endpoint = endpoint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._standin.serve(self._endpoint, scope, receive, send)


def _routes(standin: StandIn) -> list[Route]:
    async def faults(request: Request) -> Response:
        if request.method == "DELETE":
            standin.clear_faults()
            return Response(status_code=204)
        try:
            standin.fail_next(*_read_faults(_parsed(await request.body())))
        except ValueError as error:
            return JSONResponse({"detail": str(error)}, status_code=400)
        return JSONResponse({"waiting": standin.faults_left}, status_code=201)

    async def log(request: Request) -> Response:
        if request.method == "DELETE":
            standin.clear_log()
            return Response(status_code=204)
        return Response(_written_log(standin), media_type="application/json")

    return [
        Route("/v1/embeddings", _Door(standin, "embeddings"), methods=["POST"]),
        Route("/v1/rerank", _Door(standin, "rerank"), methods=["POST"]),
        Route("/v1/models", _models),
        Route("/_standin/faults", faults, methods=["POST", "DELETE"]),
        Route("/_standin/log", log, methods=["GET", "DELETE"]),
    ]


async def _models(request: Request) -> Response:
    del request
    names = {**EMBEDDERS, **RERANKERS}
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "jina-ai"} for name in names]
    return JSONResponse({"object": "list", "data": data})


async def _not_found(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        reply = _refused(NOT_FOUND, scope["path"].encode())
        await deliver(reply, None, receive, send)


def _written_log(standin: StandIn) -> bytes:
    totals = {"billed_tokens": standin.billed_tokens, "billed_items": standin.billed_items}
    calls = [asdict(call) for call in standin.calls]
    return orjson.dumps({"count": standin.call_count, **totals, "calls": calls})


def _read_faults(value: Any) -> Iterable[Fault]:
    values = value if isinstance(value, list) else [value]
    return [Fault.from_json(each) for each in values]


def _failure(fault: Fault, raw: bytes) -> Reply:
    """The reply of a fault that strikes before any work."""
    if fault.kind == "html":
        return Reply(fault.status or 200, _HTML, "text/html; charset=utf-8", fault.headers)
    status = fault.status or 500
    if fault.body is None:
        usual = _refused(USUAL.get(status) or internal(), raw)
        return Reply(status, usual.body, headers=fault.headers)
    if isinstance(fault.body, str):
        return Reply(status, fault.body.encode(), "text/plain; charset=utf-8", fault.headers)
    return Reply(status, orjson.dumps(fault.body), headers=fault.headers)


def _refused(refusal: Refusal, raw: bytes) -> Reply:
    """The id of a request is a digest of it, so that the same request is refused in the same words."""
    request_id = blake2b(raw, digest_size=16).hexdigest()
    return Reply(refusal.status, orjson.dumps(refusal.body(request_id)))


def _object(body: Any) -> dict[str, Any]:
    if body is None:
        raise Invalid(Finding((), "JSON decode error", "json_invalid", {}))
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise Invalid(Finding((), message, "model_attributes_type", body))
    return body


def _parsed(raw: bytes) -> Any:
    """The JSON of a body, or None: orjson takes no NaN, no lone surrogate, no nesting bomb."""
    try:
        body = orjson.loads(raw)
        orjson.dumps(body)  # what is nested too deep to be echoed is refused at once
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return body
