"""``upstream="app"``: calls to the very app that the middleware is wrapped round, in this process, over ASGI.

A call goes to the app's own route, on behalf of the caller who leads it: with his path, state, address and credentials,
but our canonical body. It outlives him: its answer serves others too.
"""

import asyncio
import logging
import traceback
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import NamedTuple
from urllib.parse import quote

import orjson
from starlette.types import ASGIApp, Message, Scope

from cache_proxy import lasting
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.errors import UpstreamNonsense, UpstreamRefused
from cache_proxy.models import Deployment, Endpoint, Json
from cache_proxy.upstream.outcome import OK, Body, broken_off, outcome, too_late

log = logging.getLogger("cache_proxy")

FORWARDED = frozenset(
    {
        b"api-key", b"authorization", b"cookie", b"forwarded", b"host", b"traceparent", b"tracestate", b"user-agent",
        b"x-api-key", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
    }
)  # fmt: skip
"""The caller's headers that the app sees: who calls, from where, in which trace. None of them may change an answer."""

BACKGROUND_PATIENCE = 20.0
"""Seconds that what the app still does after an answer (its background tasks) may take when everything ends."""

_ABOUT_THE_CALLER = frozenset({401, 402, 403, 407, 429})

Headers = list[tuple[bytes, bytes]]


class Caller(NamedTuple):
    """Whose request it is, and the path of the app's route for it."""

    exchange: Exchange
    path: str


caller: ContextVar[Caller] = ContextVar("cache_proxy_caller")
"""Set for each request that may lead a call. A call runs in a task of its own, which keeps what it began with."""


class Inner:
    """The app, as an upstream of its own middleware. ``connect`` makes the connection of a deployment."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._calls: set[asyncio.Task[None]] = set()

    def connect(self, deployment: Deployment) -> "Connection":
        """The way to the app for this deployment."""
        return Connection(self, deployment)

    def begin(self, scope: Scope, call: "Call") -> "asyncio.Task[None]":
        """Call the app. The task ends with all that it does, also after its answer."""
        task = lasting.start(self._run(scope, call))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return task

    async def _run(self, scope: Scope, call: "Call") -> None:
        try:
            await self._app(scope, call.receive, call.send)
        except Exception as error:
            # Never its message, which may hold a text or a key.
            places = "".join(traceback.format_tb(error.__traceback__))
            log.error("the app raised %s in request %s\n%s", type(error).__name__, call.request_id, places)

    async def finish(self) -> None:
        """Wait for what the app still does on the running loop after its answers."""
        loop = asyncio.get_running_loop()
        here = {task for task in self._calls if task.get_loop() is loop}
        if not here:
            return
        _, late = await asyncio.wait(here, timeout=BACKGROUND_PATIENCE)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


class Connection:
    """What a lane sends through (:class:`cache_proxy.upstream.lane.Connection`)."""

    def __init__(self, inner: Inner, deployment: Deployment) -> None:
        self._inner = inner
        self._timeout = deployment.timeout
        self._headers = _own_headers(deployment)

    async def post(self, endpoint: Endpoint, body: Mapping[str, Json]) -> bytes:  # noqa: ARG002  the path says which
        """The body of the app's 200. Raises ``UpstreamError`` of the kind that fits anything else."""
        who = caller.get()
        # Without a key of the configuration's, the app judges by the caller's own.
        call = Call(orjson.dumps(body), who.exchange.request_id, personal=b"authorization" not in self._headers)
        running = self._inner.begin(_scope(who, call, self._headers), call)
        try:
            await asyncio.wait({running, call.over}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            running.cancel()
            raise
        if not call.over.done() and not running.done():
            running.cancel()
            raise too_late(self._timeout)
        if call.fault is not None:
            running.cancel()
            raise call.fault
        return call.answer()

    async def close(self) -> None:
        """Let the app end what it began."""
        await self._inner.finish()


class Call:
    """One request to the app, as the app sees it, and the answer it gives."""

    def __init__(self, content: bytes, request_id: str, *, personal: bool) -> None:
        self.content = content
        self.request_id = request_id
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.fault: UpstreamNonsense | None = None
        self._personal = personal
        self._taken = False
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._body = Body()

    async def receive(self) -> Message:
        """The whole body at once; then nothing, until the answer is complete and the client gone."""
        if not self._taken:
            self._taken = True
            return {"type": "http.request", "body": self.content, "more_body": False}
        # Waited for in a way that does not cancel it: apps cancel whoever listens for this.
        await asyncio.wait({self.over})
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the answer. Raises ``OSError`` where nobody reads it any more, as servers do."""
        if self.fault is not None:
            raise OSError("the answer is not read any further")
        if self.over.done():
            return
        if message["type"] == "http.response.start":
            self._start(message)
        elif message["type"] == "http.response.body":
            self._take(message)

    def _start(self, message: Message) -> None:
        self._status = message["status"]
        self._headers = {
            bytes(name).decode("latin-1").lower(): bytes(value).decode("latin-1")
            for name, value in message.get("headers", ())
        }
        if self._headers.get("content-encoding", "identity").lower() != "identity":
            self._end(UpstreamNonsense("the app compressed its answer, though it was asked not to"))

    def _take(self, message: Message) -> None:
        try:
            self._body.add(message.get("body", b""))
        except UpstreamNonsense as error:
            self._end(error)
        else:
            if not message.get("more_body", False):
                self._end(None)

    def _end(self, fault: UpstreamNonsense | None) -> None:
        self.fault = fault
        self.over.set_result(None)

    def answer(self) -> bytes:
        """The body of a 200. Raises what fits anything else, and what a server says for an app that breaks."""
        if self._status is None or not self.over.done():
            raise broken_off() if self._status == OK else _internal_server_error()
        if self._status != OK and not 400 <= self._status < 600:
            raise UpstreamNonsense(_out_of_place(self._status))
        try:
            return outcome(self._status, self._headers, self._body.whole())
        except UpstreamRefused as error:
            error.personal = self._personal and error.status in _ABOUT_THE_CALLER
            raise


def _out_of_place(status: int) -> str:
    told = f"the app answered with status {status} where only 200 makes sense"
    if status in (301, 302, 303, 307, 308):
        return (
            f"{told}: a redirect is not followed; ask the path that the app itself has, or give it a route of this path"
        )
    return told


def _internal_server_error() -> UpstreamRefused:
    return UpstreamRefused(500, b"Internal Server Error", content_type="text/plain; charset=utf-8")


def _own_headers(deployment: Deployment) -> dict[bytes, bytes]:
    """What the configuration says of the entry for the app: it stands in place of the caller's."""
    headers = {name.lower().encode(): value.encode() for name, value in deployment.headers.items()}
    if deployment.api_key:
        headers.setdefault(b"authorization", f"Bearer {deployment.api_key}".encode())
    return headers


def _scope(who: Caller, call: Call, own: Mapping[bytes, bytes]) -> Scope:
    given = who.exchange.scope
    scope = {
        **given,
        "path": who.path,
        "query_string": b"",
        "headers": _headers(given["headers"], call, own),
        # What the server can do for the caller's connection it can not do for ours.
        "extensions": {},
    }
    if who.path != given["path"]:
        scope["raw_path"] = quote(who.path).encode()
    if "state" in given:
        scope["state"] = dict(given["state"])
    return scope


def _headers(given: Iterable[tuple[bytes, bytes]], call: Call, own: Mapping[bytes, bytes]) -> Headers:
    ours = {
        b"accept": b"application/json",
        b"accept-encoding": b"identity",
        b"content-length": b"%d" % len(call.content),
        b"content-type": b"application/json",
        b"x-request-id": call.request_id.encode(),
        **own,
    }
    return [*((name, value) for name, value in given if name in FORWARDED and name not in ours), *ours.items()]
