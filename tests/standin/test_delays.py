"""Answers that take their time: how long, and that it can be foretold."""

import asyncio
from statistics import median

import httpx
import pytest
from click.testing import CliRunner

from cache_proxy.cli import main
from cache_proxy.standin import Delays, StandIn
from tests.standin.conftest import client_of

BODY = {"model": "jina-embeddings-v3", "input": "a", "dimensions": 4}


def waits(delays: Delays, count: int = 500) -> list[float]:
    return [delays.of(call) for call in range(count)]


def test_waits_lie_between_the_two_and_as_many_below_their_geometric_mean_as_above() -> None:
    taken = waits(Delays(0.005, 0.5))
    assert 0.005 <= min(taken) < 0.006
    assert 0.4 < max(taken) <= 0.5
    assert median(taken) == pytest.approx(0.05, rel=0.3)


def test_the_same_seed_gives_the_same_waits_and_another_one_others() -> None:
    assert waits(Delays(0.005, 0.5, 1)) == waits(Delays(0.005, 0.5, 1))
    assert waits(Delays(0.005, 0.5, 1)) != waits(Delays(0.005, 0.5, 2))
    assert waits(Delays(0.1, 0.1), 3) == [0.1, 0.1, 0.1]


@pytest.mark.parametrize(("shortest", "longest"), [(0.0, 1.0), (-1.0, 1.0), (0.2, 0.1)])
def test_a_range_that_is_none_is_refused(shortest: float, longest: float) -> None:
    with pytest.raises(ValueError, match="shortest"):
        Delays(shortest, longest)
    refused = CliRunner().invoke(main, ["standin", "--delay", str(shortest), str(longest)])
    assert refused.exit_code == 2
    assert "--delay" in refused.output


@pytest.mark.anyio
async def test_each_call_waits_its_own_time_and_a_cleared_log_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def note(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", note)
    delays = Delays(0.005, 0.5, 3)
    standin = StandIn(delay=delays)
    async with client_of(standin) as client:
        for _ in range(3):
            await ask(client)
        standin.clear_log()
        await ask(client)
    assert slept == [delays.of(0), delays.of(1), delays.of(2), delays.of(0)]


async def ask(client: httpx.AsyncClient) -> None:
    assert (await client.post("/v1/embeddings", json=BODY)).status_code == 200
