"""A host in Starlette."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.hosts.record import HELLO, STATE, gates, later, noted, pieces


async def hello(request: Request) -> Response:
    return PlainTextResponse(HELLO, headers={"x-host": "yes"})


async def echo(request: Request) -> Response:
    parts = [part async for part in request.stream()]
    return Response(b"".join(parts), headers={"x-length": request.headers.get("content-length", "none")})


async def stream(request: Request) -> Response:
    return StreamingResponse(pieces(request.path_params["token"]), media_type="text/plain")


async def release(request: Request) -> Response:
    gates[request.path_params["token"]].set()
    return Response()


async def told(request: Request) -> Response:
    return JSONResponse(noted)


async def boom(request: Request) -> Response:
    raise LookupError("of the host")


async def state(request: Request) -> Response:
    return PlainTextResponse(request.state.word)


async def background(request: Request) -> Response:
    return Response(status_code=202, background=BackgroundTask(later, request.path_params["token"]))


async def talk(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="parrot")
    await websocket.send_text(f"{websocket.state.word}: {await websocket.receive_text()}")
    await websocket.close(4001, "enough")


async def caught(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"caught {type(error).__name__}", status_code=418)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    yield {"word": STATE}


def build() -> Starlette:
    return Starlette(
        routes=[
            Route("/hello", hello),
            Route("/echo", echo, methods=["POST"]),
            Route("/stream/{token}", stream),
            Route("/release/{token}", release, methods=["POST"]),
            Route("/noted", told),
            Route("/boom", boom),
            Route("/state", state),
            Route("/background/{token}", background, methods=["POST"]),
            WebSocketRoute("/ws", talk),
        ],
        lifespan=lifespan,
        exception_handlers={LookupError: caught},
    )
