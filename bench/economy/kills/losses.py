"""What the dead had paid for and never stored: told by the upstream's books, and by the store right after each kill."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from bench.economy.books import billed_items, part_of
from bench.economy.items import Item
from bench.economy.kills.fleet import Server
from bench.economy.kills.upstream import Sale, Upstream
from cache_proxy.standin import Call

RECENT = 0.5
"""Seconds before a kill within which the dead may have been answered without having stored it. What they were answered
earlier counts as stored, so that paying for it again is a fault.
"""

Ask = Callable[[str, Any], Awaitable[httpx.Response]]
"""POSTs this JSON to this path of a server that lives, with ``only-if-cached``."""


@dataclass(frozen=True)
class Loss:
    """Items of a call (by its number), bought by a server that was dead from ``since`` on and never stored them."""

    number: int
    items: frozenset[Item]
    since: float


def cut_off(dead: Iterable[Server], sales: Iterable[Sale], calls: Sequence[Call]) -> list[Loss]:
    """The calls that were under way when their server died: its answer had not begun."""
    died_at = {server.key: server.dead_at for server in dead}
    return [
        Loss(sale.number, frozenset(billed_items(calls[sale.number])), died_at[sale.key])
        for sale in sales
        if sale.key in died_at and sale.answered_at >= died_at[sale.key]
    ]


async def unkept(dead: Server, upstream: Upstream, ask: Ask, lease: float) -> list[Loss]:
    """What had just been answered to this server when it died, and is not in the store.

    ``ask`` asks servers that live. Raises ``RuntimeError`` if that took so long (``lease`` is seconds) that others have
    taken over meanwhile: then nobody can tell whose the values in the store are.
    """
    calls = upstream.calls
    doubtful = [
        sale
        for sale in reversed(upstream.sales)  # the last one first: the longer ago, the surer is it stored
        if sale.key == dead.key and dead.killed_at - RECENT <= sale.answered_at < dead.dead_at
    ]
    found = await asyncio.gather(*(_unkept(calls[sale.number], ask) for sale in doubtful))
    if time.monotonic() > dead.killed_at + lease / 2:
        bought = {item for sale in doubtful for item in billed_items(calls[sale.number])}
        if bought & _bought_since(dead.dead_at, upstream):
            raise RuntimeError("it took too long to ask what the dead had stored: the machine is too busy")
    return [Loss(sale.number, gone, dead.dead_at) for sale, gone in zip(doubtful, found, strict=True) if gone]


def _bought_since(moment: float, upstream: Upstream) -> set[Item]:
    sales, calls = list(upstream.sales), upstream.calls
    # What was answered is in the log for certain; what was not can not have been stored.
    return {
        item
        for sale in sales
        if sale.at >= moment and sale.answered_at < math.inf
        for item in billed_items(calls[sale.number])
    }


async def _unkept(call: Call, ask: Ask) -> frozenset[Item]:
    items = billed_items(call)
    return frozenset(items[place] for place in await _missing(call, range(len(items)), ask))


async def _missing(call: Call, places: Sequence[int], ask: Ask) -> list[int]:
    """Those of these places of a call whose items are not in the store."""
    if not places:
        return []
    body = part_of(call, places).body
    reply = await ask(f"/v1/{call.endpoint}", body)
    if reply.status_code == httpx.codes.OK:
        return []
    if reply.status_code != httpx.codes.GATEWAY_TIMEOUT:
        raise RuntimeError(f"a look at the store was answered {reply.status_code}: {reply.text}")
    if len(places) == 1 or " hit=0 " in reply.headers["cache-status"]:
        return list(places)
    middle = len(places) // 2
    return await _missing(call, places[:middle], ask) + await _missing(call, places[middle:], ask)


def strike(calls: Sequence[Call], sales: Sequence[Sale], losses: Iterable[Loss]) -> list[Call]:
    """The books without what was lost and had to be bought again: what could not be helped.

    Bought again counts only from the moment on in which the first buyer was dead. What was lost and nobody ever bought
    again stays: it was paid for once.
    """
    bought: dict[Item, list[Sale]] = {}
    for sale in sales:
        for item in billed_items(calls[sale.number]):
            bought.setdefault(item, []).append(sale)
    struck = list(calls)
    for loss in losses:
        gone = {
            item
            for item in loss.items
            if any(sale.number != loss.number and sale.at >= loss.since for sale in bought[item])
        }
        struck[loss.number] = _without(struck[loss.number], gone)
    return struck


def _without(call: Call, gone: set[Item]) -> Call:
    """The call, had these items not been in it; an item that was in it twice stays once, for it was paid twice."""
    left = set(gone)
    kept = []
    for place, item in enumerate(billed_items(call)):
        if item in left:
            left.remove(item)
        else:
            kept.append(place)
    return part_of(call, kept)
