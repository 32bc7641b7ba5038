"""A stand-in, and a proxy before it that lets everybody in."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from cache_proxy.standin import StandIn
from tests.postgres import shared_postgres
from tests.support import proxy

__all__ = ["client", "shared_postgres", "standin"]


@pytest.fixture
def standin() -> StandIn:
    return StandIn()


@pytest.fixture
async def client(standin: StandIn, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with proxy(standin, tmp_path, {"litellm_settings": {"num_retries": 0}}) as client:
        yield client
