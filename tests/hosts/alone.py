"""For programs that run alone: an app with the middleware round it, and its callers. Imports little."""

import asyncio
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

from cache_proxy.asgi.middleware import CacheProxyMiddleware
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.support import connect_to, settings_for

__all__ = ["app_of", "asyncio", "embed", "is_open", "leave", "made", "os", "sys", "threading", "warnings"]

BODY: dict[str, Any] = {"model": "jina-embeddings-v3", "input": "a", "dimensions": 8}


def app_of(folder: Path, standin: StandIn, **options: Any) -> CacheProxyMiddleware:
    wired = Wired(settings_for(folder), connect=connect_to(standin), **options)
    return CacheProxyMiddleware(Starlette(), wired=wired, auth="open")


def how(answer: httpx.Response) -> str:
    """How the cache came to this answer: ``hit``, ``fwd=miss`` and so on."""
    return answer.headers["cache-status"].split("; ")[1]


async def embed(app: CacheProxyMiddleware, **fields: Any) -> str:
    """How the cache came to the answer."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        answer = await client.post("/embeddings", json={**BODY, **fields})
        assert answer.status_code == 200
        return how(answer)


async def is_open(app: CacheProxyMiddleware) -> bool:
    """Whether something is open on this loop."""
    return app.wired.running is not None


async def leave(standin: StandIn, app: CacheProxyMiddleware) -> None:
    """Ask, and leave when the call is on its way."""
    leaving = asyncio.create_task(embed(app))
    while standin.call_count == 0:
        await asyncio.sleep(0)
    leaving.cancel()


def made(folder: str) -> tuple[StandIn, CacheProxyMiddleware]:
    """A slow upstream and an app before it, with its store below the folder that the command line names."""
    standin = StandIn(delay=0.2)
    return standin, app_of(Path(sys.argv[1]) / folder, standin)
