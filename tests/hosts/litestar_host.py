"""A host in Litestar."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from litestar import Litestar, Request, Response, WebSocket, get, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.response import Stream

from tests.hosts.record import HELLO, STATE, gates, later, noted, pieces

AnyRequest = Request[Any, Any, Any]


@get("/hello", media_type="text/plain")
async def hello() -> Response[str]:
    return Response(HELLO, headers={"x-host": "yes"})


@post("/echo", status_code=200)
async def echo(request: AnyRequest) -> Response[bytes]:
    parts = [part async for part in request.stream()]
    length = request.headers.get("content-length", "none")
    return Response(b"".join(parts), media_type="application/octet-stream", headers={"x-length": length})


@get("/stream/{token:str}")
async def stream(request: AnyRequest) -> Stream:
    return Stream(pieces(request.path_params["token"]), media_type="text/plain")


@post("/release/{token:str}")
async def release(request: AnyRequest) -> None:
    gates[request.path_params["token"]].set()


@get("/noted")
async def told() -> list[str]:
    return noted


@get("/boom")
async def boom() -> None:
    raise LookupError("of the host")


@get("/state", media_type="text/plain")
async def state(request: AnyRequest) -> str:
    found: str = request.app.state.word
    return found


@post("/background/{token:str}", status_code=202)
async def background(request: AnyRequest) -> Response[None]:
    return Response(None, background=BackgroundTask(later, request.path_params["token"]))


@websocket("/ws")
async def talk(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept(subprotocols="parrot")
    await socket.send_text(f"{socket.app.state.word}: {await socket.receive_text()}")
    await socket.close(4001, "enough")


def caught(request: AnyRequest, error: Exception) -> Response[str]:
    return Response(f"caught {type(error).__name__}", status_code=418, media_type="text/plain")


@asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    app.state.word = STATE
    yield


def build() -> Litestar:
    return Litestar(
        [hello, echo, stream, release, told, boom, state, background, talk],
        lifespan=[lifespan],
        exception_handlers={LookupError: caught},
        openapi_config=None,
        logging_config=None,
    )
