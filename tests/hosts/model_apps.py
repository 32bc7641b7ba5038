"""Small apps that serve models themselves, as infinity and vLLM do: their routes, shapes, errors and key checks."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


class Embed(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str
    input: list[str]


class Rank(BaseModel):
    model_config = ConfigDict(extra="allow")

    model: str
    query: str
    documents: list[str]
    top_n: int | None = None


class Works:
    """What the model does and what it was asked, seen from inside the app."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.bodies: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.takes = 0.0
        """Seconds for each call, after the gate."""

    @property
    def paths(self) -> list[str]:
        return [request.url.path for request in self.asked]

    async def begin(self, request: Request, data: BaseModel) -> None:
        """Take note; wait at the gate; fail as the model's name says."""
        self.asked.append(request)
        self.bodies.append(data.model_dump(exclude_unset=True))
        try:
            await self.gate.wait()
            await asyncio.sleep(self.takes)
        except asyncio.CancelledError:
            self.told.append("cancelled")
            raise
        match getattr(data, "model", None):
            case "broken":
                raise LookupError(str(data))
            case "unknown":
                raise HTTPException(400, f"Invalid model for {getattr(data, 'input', '')}")
            case "busy":
                raise HTTPException(503, "overloaded", headers={"retry-after": "0"})


def _embeddings(works: Works, data: Embed) -> dict[str, Any]:
    rows = [{"object": "embedding", "index": at, "embedding": vector(text)} for at, text in enumerate(data.input)]
    tokens = sum(map(len, data.input))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0}
    return {"id": "embd-1", "object": "list", "created": 1, "model": data.model, "data": rows, "usage": usage}


def vector(text: str) -> list[float]:
    """What the model makes of a text."""
    return [len(text) + 0.25, float(sum(text.encode()))]


def _ranking(data: Rank) -> dict[str, Any]:
    scored = [(float(len(text)), at, text) for at, text in enumerate(data.documents)]
    best = sorted(scored, key=lambda one: (-one[0], one[1]))[: data.top_n]
    rows = [{"index": at, "document": {"text": text}, "relevance_score": score} for score, at, text in best]
    return {"id": "rank-1", "model": data.model, "usage": {"total_tokens": 7}, "results": rows}


def routes_of(works: Works, embeddings: list[str], rerank: list[str], **options: Any) -> APIRouter:
    router = APIRouter(**options)

    async def embed(request: Request, data: Embed, tasks: BackgroundTasks) -> Response:
        await works.begin(request, data)
        tasks.add_task(_afterwards, works)
        return StreamingResponse(_in_pieces(JSONResponse(_embeddings(works, data)).body), media_type="application/json")

    async def rank(request: Request, data: Rank) -> dict[str, Any]:
        await works.begin(request, data)
        return _ranking(data)

    for path in embeddings:
        router.post(path)(embed)
    for path in rerank:
        router.post(path)(rank)
    return router


def _in_pieces(body: bytes | memoryview) -> Iterator[bytes]:
    yield from (bytes(body[at : at + 50]) for at in range(0, len(body), 50))


async def _afterwards(works: Works) -> None:
    await asyncio.sleep(0.01)
    works.told.append("background")


def _lifespan(works: Works) -> Any:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        works.told.append("loaded")
        yield {"device": "cpu"}
        works.told.append("unloaded")

    return lifespan


def infinity(works: Works, key: str | None = None) -> FastAPI:
    """Its routes have no version; its key check belongs to the routes."""
    app = FastAPI(lifespan=_lifespan(works))

    async def checked(request: Request) -> None:
        if key is not None and request.headers.get("authorization") != f"Bearer {key}":
            raise HTTPException(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})

    app.include_router(routes_of(works, ["/embeddings"], ["/rerank"], dependencies=[Depends(checked)]))

    @app.get("/models")
    async def models() -> dict[str, Any]:
        return {"data": [{"id": "its own", "stats": {}}]}

    @app.get("/health")
    async def health() -> dict[str, float]:
        return {"unix": 1.0}

    @app.post("/open")
    async def gate() -> None:
        works.gate.set()

    return app


class Keys:
    """vLLM's key check: a middleware, for what is below /v1."""

    def __init__(self, app: ASGIApp, key: str) -> None:
        self.app = app
        self.key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
        if scope["type"] == "http" and scope["path"].startswith("/v1") and given != f"Bearer {self.key}":
            await JSONResponse({"error": "Unauthorized"}, status_code=401)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


def vllm(works: Works, key: str | None = None) -> FastAPI:
    """Versioned routes, several spellings of rerank, middlewares inside."""
    app = FastAPI(lifespan=_lifespan(works))
    app.include_router(routes_of(works, ["/v1/embeddings"], ["/rerank", "/v1/rerank", "/v2/rerank"]))
    app.add_middleware(GZipMiddleware, minimum_size=1)
    if key is not None:
        app.add_middleware(Keys, key=key)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": "its own", "object": "model"}]}

    @app.get("/health")
    async def health() -> Response:
        return Response()

    return app
