"""An ASGI app driven by hand: for what a proper client would never send."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import orjson
from starlette.types import ASGIApp, Message

Headers = Sequence[tuple[bytes, bytes]]

JSON: Headers = ((b"host", b"localhost"), (b"content-type", b"application/json"))


class Answer(NamedTuple):
    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


async def call(
    app: ASGIApp,
    method: str = "POST",
    path: str = "/v1/embeddings",
    *,
    headers: Headers = JSON,
    chunks: Iterable[bytes] = (b"",),
    ends: bool = True,
    client: tuple[str, int] | None = ("127.0.0.1", 50000),
    root_path: str = "",
    query: bytes = b"",
) -> Answer | None:
    """The answer to one request, or ``None`` if there was none. ``ends=False``: the client leaves after the chunks."""
    parts = list(chunks)
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": not ends or at < len(parts) - 1}
        for at, part in enumerate(parts)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": query,
        "root_path": root_path,
        "headers": list(headers),
        "client": client,
        "server": ("127.0.0.1", 4000),
    }
    await app(scope, receive, send)
    if not sent:
        return None
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return Answer(sent[0]["status"], dict(sent[0]["headers"]), body)
