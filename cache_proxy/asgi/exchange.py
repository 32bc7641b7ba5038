"""One HTTP exchange: the request's headers and body, and the reply."""

import random
from collections.abc import Mapping, Sequence

from starlette.types import Message, Receive, Scope, Send

from cache_proxy.asgi.errors import HTTPError

_LONGEST_ID = 128
_LONGEST_LENGTH = 18


class ClientGoneError(Exception):
    """The client left while its body was being read. There is nobody to answer."""


class Exchange:
    """A request and the way to answer it. Made anew for each request; holds nothing beyond it."""

    __slots__ = ("_receive", "_send", "answered", "headers", "request_id", "scope")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self._send = send
        self.answered = False
        self.headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self.request_id = self._id()

    def _id(self) -> str:
        """The caller's own id if it is printable and short, so that it can be searched for; else a new one."""
        given = self.headers.get(b"x-request-id") or self.headers.get(b"x-litellm-call-id")
        if given and len(given) <= _LONGEST_ID and given.isascii():
            text = given.decode("ascii")
            if text.isprintable():
                return text
        return f"{random.getrandbits(128):032x}"

    def header(self, name: bytes) -> str | None:
        """A header's value, or ``None``. Names are lower case."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def joined(self, name: bytes) -> str | None:
        """A header that may come in several lines, as one (RFC 9110 section 5.3)."""
        if name not in self.headers:
            return None
        return ", ".join(value.decode("latin-1") for value in self.all_values(name))

    def all_values(self, name: bytes) -> list[bytes]:
        """Every value of a header, for those that must not come twice."""
        return [value for found, value in self.scope["headers"] if found == name]

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises ``HTTPError`` 413 beyond ``limit`` bytes, 415 for a compressed one."""
        self._check_declared(limit)
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            return _within(message.get("body", b""), limit)
        return await self._assemble(message, limit)

    async def _assemble(self, message: Message, limit: int) -> bytes:
        parts, size = [], 0
        while True:
            if message["type"] != "http.request":
                raise ClientGoneError
            part = message.get("body", b"")
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)
            message = await self._receive()

    def _check_declared(self, limit: int) -> None:
        declared = self.headers.get(b"content-length", b"")
        # Python refuses to read thousands of digits as a number.
        if declared.isdigit() and (len(declared) > _LONGEST_LENGTH or int(declared) > limit):
            raise _too_large(limit)
        if self.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise HTTPError(
                415,
                "Compressed request bodies are not taken. Send the JSON as it is.",
                kind="invalid_request_error",
                code="unsupported_encoding",
            )

    async def reply(
        self,
        status: int,
        body: bytes,
        headers: Sequence[tuple[bytes, bytes]] = (),
        content_type: bytes = b"application/json",
    ) -> None:
        """Send the whole reply."""
        start = [
            (b"content-type", content_type),
            (b"content-length", b"%d" % len(body)),
            # No cache between us and the client may keep this: it is an answer to a POST with a key.
            (b"cache-control", b"no-store"),
            (b"x-request-id", self.request_id.encode()),
            *headers,
        ]
        self.answered = True
        await self._send({"type": "http.response.start", "status": status, "headers": start})
        await self._send({"type": "http.response.body", "body": body if self.scope["method"] != "HEAD" else b""})


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> HTTPError:
    return HTTPError(
        413,
        f"The body is larger than {limit} bytes. Send fewer items a request, or raise max_body_mib.",
        kind="invalid_request_error",
        code="body_too_large",
        # What is left of the body will not be read.
        headers=[(b"connection", b"close")],
    )
