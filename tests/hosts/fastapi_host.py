"""A host in FastAPI."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse

from tests.hosts.record import HELLO, STATE, gates, later, noted, pieces


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"word": STATE}


async def word(request: Request) -> str:
    found: str = request.state.word
    return found


router = APIRouter()


@router.get("/hello")
async def hello() -> Response:
    return PlainTextResponse(HELLO, headers={"x-host": "yes"})


@router.post("/echo")
async def echo(request: Request) -> Response:
    parts = [part async for part in request.stream()]
    return Response(b"".join(parts), headers={"x-length": request.headers.get("content-length", "none")})


@router.get("/stream/{token}")
async def stream(token: str) -> Response:
    return StreamingResponse(pieces(token), media_type="text/plain")


@router.post("/release/{token}")
async def release(token: str) -> None:
    gates[token].set()


@router.get("/noted")
async def told() -> list[str]:
    return noted


@router.get("/boom")
async def boom() -> None:
    raise LookupError("of the host")


@router.get("/state")
async def state(found: Annotated[str, Depends(word)]) -> Response:
    return PlainTextResponse(found)


@router.post("/background/{token}", status_code=202)
async def background(token: str, tasks: BackgroundTasks) -> None:
    tasks.add_task(later, token)


@router.websocket("/ws")
async def talk(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="parrot")
    await websocket.send_text(f"{websocket.state.word}: {await websocket.receive_text()}")
    await websocket.close(4001, "enough")


async def caught(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"caught {type(error).__name__}", status_code=418)


def build(**options: Any) -> FastAPI:
    app = FastAPI(lifespan=lifespan, exception_handlers={LookupError: caught}, **options)
    app.include_router(router)
    return app
