"""What the ledger refuses is its caller's alone: nobody else is told, and whoever joined tries for himself."""

import asyncio
from pathlib import Path
from typing import cast

import pytest

from cache_proxy.calls import Account, Call
from cache_proxy.errand import words
from cache_proxy.errors import LedgerUnavailable, NotPaid
from cache_proxy.ledger.books import SqlLedger
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Story
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.support import connect_to, settings_for

pytestmark = pytest.mark.anyio

BODY = {"model": "jina-embeddings-v3", "input": ["a", "b"]}


class Ledger:
    """Says no to the intents of one caller, once somebody else waits for his flights."""

    def __init__(self, refused: str) -> None:
        self.joined = asyncio.Event()
        self._refused = refused

    async def intend(self, call: Call) -> None:
        if any(share.payer.account.alias == self._refused for share in call.shares):
            await self.joined.wait()
            raise LedgerUnavailable

    def settle(self, *_: object) -> "asyncio.Future[None]":
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    unsettled = settle


async def test_who_joined_a_call_that_could_not_be_paid_pays_for_himself(tmp_path: Path) -> None:
    standin, ledger = StandIn(), Ledger("poor")
    wired = Wired(settings_for(tmp_path), connect=connect_to(standin))
    engine = wired._build(cast("SqlLedger", ledger))
    await engine.means.store.open()
    asked = engine.understand(Endpoint.EMBEDDINGS, BODY)
    stories = {name: Story(name, "embeddings", Account(name), 0.0) for name in ("poor", "rich")}
    poor = asyncio.create_task(engine.answer(asked, stories["poor"]))
    while not engine.means.flights.under_way(asked.seats[0]):
        await asyncio.sleep(0)
    rich = asyncio.create_task(engine.answer(asked, stories["rich"]))
    await asyncio.sleep(0.1)
    ledger.joined.set()
    with pytest.raises(NotPaid):
        await poor
    await rich
    assert stories["rich"].tokens_billed == standin.billed_tokens > 0
    assert stories["poor"].tokens_billed == 0
    await engine.close(5)


def test_other_processes_are_not_told_that_it_could_not_be_paid_here() -> None:
    assert words.write(LedgerUnavailable(), ()) is None


async def test_what_has_expired_does_not_stand_in_for_what_could_not_be_paid(tmp_path: Path) -> None:
    document = {
        "litellm_settings": {"cache": True, "cache_params": {"type": "local", "ttl": 0.05}},
        "cache_proxy_settings": {"stale_if_error": 100},
    }
    ledger = Ledger("poor")
    ledger.joined.set()
    wired = Wired(settings_for(tmp_path, document), connect=connect_to(StandIn()))
    engine = wired._build(cast("SqlLedger", ledger))
    asked = engine.understand(Endpoint.EMBEDDINGS, BODY)
    await engine.answer(asked, Story("id", "embeddings", Account("rich"), 0.0))
    await asyncio.sleep(0.1)
    with pytest.raises(NotPaid):
        await engine.answer(asked, Story("id", "embeddings", Account("poor"), 0.0))
    await engine.close(5)
