"""A stand-in, and a client that talks to it in this process."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from cache_proxy.standin import StandIn

Post = Callable[..., Awaitable[httpx.Response]]


def client_of(standin: StandIn) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(standin),
        base_url="http://jina.test",
        headers={"Authorization": "Bearer jina_test"},
    )


@pytest.fixture
def standin() -> StandIn:
    return StandIn()


@pytest.fixture
async def client(standin: StandIn) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(standin) as client:
        yield client


@pytest.fixture
def embed(client: httpx.AsyncClient) -> Post:
    async def post(**body: Any) -> httpx.Response:
        return await client.post("/v1/embeddings", json=body)

    return post


@pytest.fixture
def rank(client: httpx.AsyncClient) -> Post:
    async def post(**body: Any) -> httpx.Response:
        return await client.post("/v1/rerank", json=body)

    return post
