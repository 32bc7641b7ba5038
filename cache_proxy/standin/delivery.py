"""Sends an answer over ASGI, or fails to."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import Receive, Send

from .faults import Dropped, Fault

_PIECES = 10


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer ready to be sent. Status 0 is no answer at all."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


async def deliver(reply: Reply, fault: Fault | None, receive: Receive, send: Send) -> None:
    """Send the reply as the fault has it: whole, in drips, in half, or not."""
    kind = fault.kind if fault else None
    if kind in ("refuse", "drop"):
        await _hang_up(receive, send)
        return
    await send(_start(reply))
    if kind == "halfway":
        half = reply.body[: len(reply.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
        await _hang_up(receive, send)
    elif fault and kind == "drip":
        await _drip(reply.body, fault.seconds, send)
    else:
        await send({"type": "http.response.body", "body": reply.body})


def _start(reply: Reply) -> dict[str, Any]:
    headers = {
        "content-type": reply.content_type,
        "content-length": str(len(reply.body)),
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-remaining-tokens": "1000000",
        **{name.lower(): value for name, value in reply.headers.items()},
    }
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    return {"type": "http.response.start", "status": reply.status, "headers": raw}


async def _drip(body: bytes, seconds: float, send: Send) -> None:
    step = max(1, -(-len(body) // _PIECES))
    for start in range(0, len(body), step):
        await asyncio.sleep(seconds / _PIECES)
        await send({"type": "http.response.body", "body": body[start : start + step], "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _hang_up(receive: Receive, send: Send) -> None:
    """Close the connection under the server's hands.

    ASGI has no word for it, and a server answers an app that returns early with a 500. uvicorn's
    ``send`` is a method of the object that holds the transport; where there is none (in-process), the
    app raises.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise Dropped("the stand-in dropped the connection, as it was told to")
    transport.close()
    while (await receive())["type"] != "http.disconnect":
        pass
