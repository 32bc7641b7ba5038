"""Lanes and connections that are made for single callers: as many as there are callers, and no more than are needed."""

import asyncio
from pathlib import Path

import httpx
import pytest

from cache_proxy.core.reach import PROOFS_AT_ONCE, proving, remade, with_key
from cache_proxy.errors import UpstreamRefused
from cache_proxy.models import Deployment, Endpoint
from cache_proxy.upstream import lanes as module
from cache_proxy.upstream.books import Load
from cache_proxy.upstream.client import Clients
from cache_proxy.upstream.lanes import Lanes, Rules
from tests.upstream.fakes import LOST, Scripted, Time, refused

pytestmark = pytest.mark.anyio

JINA = Deployment(
    "jina", "https://jina.test/v1", "jina_OPERATOR", headers={"Authorization": "x", "X-Gate": "y"}, rpm=5, tpm=5,
    max_parallel=4,
)  # fmt: skip


def of(caller: object) -> Deployment:
    return with_key(JINA, f"jina_{caller}")


class Ways:
    """Makes a connection for each lane, and remembers it."""

    def __init__(self) -> None:
        self.made: dict[str, Scripted] = {}
        self.next: Scripted | None = None

    def __call__(self, deployment: Deployment) -> Scripted:
        made = self.made[deployment.id] = self.next or Scripted()
        return made

    @property
    def open(self) -> int:
        return sum(not connection.closed for connection in self.made.values())


@pytest.fixture
def ways() -> Ways:
    return Ways()


@pytest.fixture
def lanes(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> Lanes:
    monkeypatch.setattr(module, "MOST_PASSING", 3)
    time = Time()
    return Lanes(ways, Rules(), time, time.sleep)


async def send(lanes: Lanes, deployment: Deployment) -> None:
    await lanes.send((deployment,), Load(Endpoint.EMBEDDINGS, {}, 10, 1))


def test_each_key_has_a_lane_and_nothing_of_the_operators_travels_with_it() -> None:
    mine, other = of("a"), of("b")
    assert len({JINA.id, mine.id, other.id}) == 3
    assert mine == of("a")
    assert mine.headers == {}
    assert (mine.rpm, mine.tpm, mine.max_parallel) == (None, None, JINA.max_parallel)
    assert "jina_a" not in mine.id + mine.account + repr(mine)


async def test_what_callers_have_under_way_is_bounded_for_all_of_them_together(ways: Ways) -> None:
    lanes, gate = Lanes(ways, Rules(), asyncio.get_running_loop().time), asyncio.Event()
    ways.next = Scripted(gate=gate)
    calls = [asyncio.create_task(send(lanes, of(caller))) for caller in range(10)]
    await asyncio.sleep(0.01)
    assert ways.next.in_flight == JINA.max_parallel == 4
    gate.set()
    await asyncio.gather(*calls)
    await lanes.close()


async def test_keys_that_are_to_be_proved_hold_up_nobody_but_each_other(ways: Ways) -> None:
    lanes, gate = Lanes(ways, Rules(), asyncio.get_running_loop().time), asyncio.Event()
    ways.next = stuck = Scripted(gate=gate)
    strangers = [asyncio.create_task(send(lanes, proving(of(caller)))) for caller in range(40)]
    await asyncio.sleep(0.01)
    assert stuck.in_flight == min(PROOFS_AT_ONCE, JINA.max_parallel)
    ways.next = None
    await asyncio.wait_for(send(lanes, of("good")), 1)
    gate.set()
    await asyncio.gather(*strangers)
    await lanes.close()


async def test_whose_account_is_used_up_hears_it_at_once(lanes: Lanes, ways: Ways) -> None:
    ways.next = Scripted(refused(429, retry_after=8.0))
    with pytest.raises(UpstreamRefused):
        await send(lanes, of("poor"))
    assert ways.next.calls == 1
    await lanes.close()


def test_another_patience_alone_is_the_same_account() -> None:
    assert remade(JINA, timeout=1.0).account == "jina"


async def test_lanes_of_single_callers_are_bounded_and_the_operators_stays(lanes: Lanes, ways: Ways) -> None:
    await send(lanes, JINA)
    for caller in range(10):
        await send(lanes, of(caller))
    await asyncio.sleep(0)
    assert ways.open == 1 + 3
    assert not ways.made["jina"].closed
    await send(lanes, of(9))
    assert len(ways.made) == 11, "the last used are kept"
    await lanes.close()
    assert ways.open == 0


async def test_a_lane_in_use_is_not_closed_not_even_between_two_tries(lanes: Lanes, ways: Ways) -> None:
    gate = asyncio.Event()
    ways.next = Scripted(LOST, gate=gate)
    busy = asyncio.create_task(send(lanes, of("busy")))
    await asyncio.sleep(0)
    ways.next = None
    for caller in range(10):
        await send(lanes, of(caller))
    assert not ways.made[of("busy").id].closed
    gate.set()
    await busy
    assert ways.made[of("busy").id].calls == 2
    await lanes.close()


async def test_clients_of_one_loop_share_their_connections_until_the_last_is_closed() -> None:
    seen: list[tuple[str, str]] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers["authorization"], request.headers.get("cookie", "")))
        return httpx.Response(200, content=b"{}", headers={"set-cookie": "session=a; Path=/"})

    clients = Clients(transport=httpx.MockTransport(answer))
    one, two = clients(of("a")), clients(of("b"))
    assert one._http is two._http
    await one.post(Endpoint.EMBEDDINGS, {})
    await one.close()
    await one.close()
    await two.post(Endpoint.EMBEDDINGS, {})
    assert seen == [("Bearer jina_a", ""), ("Bearer jina_b", "")], "no cookie goes from one caller to another"
    await two.close()
    assert two._http.is_closed
    three = clients(of("c"))
    await three.post(Endpoint.EMBEDDINGS, {})
    await three.close()


async def test_what_is_trusted_differently_is_not_shared(tmp_path: Path) -> None:
    clients = Clients()
    plain, blind = (
        clients(Deployment("a", "http://jina.test")),
        clients(Deployment("b", "https://jina.test", verify=False)),
    )
    sure = clients(Deployment("c", "https://jina.test"))
    assert plain._http is blind._http, "neither looks at certificates"
    assert sure._http is not blind._http
    for client in (plain, blind, sure):
        await client.close()
