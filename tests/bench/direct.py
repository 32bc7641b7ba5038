"""A stand-in that is asked without anything in between, and its books."""

from collections.abc import Sequence

import httpx

from bench.economy.spellings import Request
from cache_proxy.standin import StandIn
from tests.standin.conftest import client_of


async def bought(standin: StandIn, *requests: Request) -> Sequence[httpx.Response]:
    """The stand-in's answers, each to the request as it is."""
    async with client_of(standin) as client:
        return [await client.post(request.path, content=request.body) for request in requests]
