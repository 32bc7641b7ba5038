"""The decisions over a request, as plain functions of plain values: what is a hit, what must be paid, what was told."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TypeVar

from cache_proxy.core.spend import bound, estimate, split
from cache_proxy.errors import NotPaid, UpstreamError, UpstreamRefused
from cache_proxy.models import Ask, Controls, Entry, Item, Key, Plan, Reply, Shape
from cache_proxy.receipts import Counts

T = TypeVar("T")

_OUTAGES = frozenset({402, 403, 429})


def plan(seats: tuple[Key, ...], found: Mapping[Key, Entry], controls: Controls, now: float) -> Plan:
    """Which seats the store answers and which must be paid, each distinct key once, in asked order."""
    hits: dict[Key, Entry] = {}
    misses: dict[Key, None] = {}
    for key in seats:
        entry = found.get(key)
        if entry is not None and is_fresh(entry, controls, now):
            hits[key] = entry
        else:
            misses[key] = None
    return Plan(seats, hits, tuple(misses))


def with_these(plan: Plan, entries: Mapping[Key, Entry]) -> Plan:
    """The same decision with these entries at hand, which are good whatever their age."""
    misses = tuple(key for key in plan.misses if key not in entries)
    return plan._replace(hits={**plan.hits, **entries}, misses=misses)


def is_fresh(entry: Entry, controls: Controls, now: float) -> bool:
    """Whether this entry may answer. An entry from the future (a clock was set back) has age zero."""
    if entry.expires_at is not None and now >= entry.expires_at:
        return False
    return controls.max_age is None or now - entry.created_at <= controls.max_age


def is_outage(error: UpstreamError) -> bool:
    """Whether the upstream failed, and did not refuse what was asked of it or who asked.

    RFC 5861 section 4 means 500, 502, 503 and 504. 402, 403 and 429 are what Jina says where the account has no money
    or too many calls were made: nothing that this caller has done or can mend.
    """
    if isinstance(error, NotPaid):
        return False
    if isinstance(error, UpstreamRefused):
        return not error.personal and (error.status in _OUTAGES or error.status >= 500)
    return True


def stand_ins(
    plan: Plan, found: Mapping[Key, Entry], controls: Controls, allowed: float, now: float
) -> Mapping[Key, Entry]:
    """Entries in place of all misses that expired at most ``allowed`` seconds ago. Empty unless every miss has one.

    A cache may serve stale answers where its configuration says so (RFC 9111 section 4.2.4), and where an error would
    be the answer otherwise (RFC 5861 section 4). Who sends ``max-age`` does not wish for a stale one (RFC 9111 section
    5.2.1.1; LiteLLM's ``s-maxage`` says the same here); for who sends ``no-cache`` (5.2.1.4) nothing was looked up.
    """
    if not allowed or controls.max_age is not None:
        return {}
    stale = {key: found[key] for key in plan.misses if key in found and _is_within(found[key], allowed, now)}
    return stale if len(stale) == len(plan.misses) else {}


def _is_within(entry: Entry, allowed: float, now: float) -> bool:
    return entry.expires_at is None or now <= entry.expires_at + allowed


def items_of(ask: Ask, seats: Sequence[Key]) -> dict[Key, tuple[Item, ...]]:
    """The items behind each key: one, or all of them where they must be kept together."""
    if ask.shape is Shape.EACH:
        return {key: (item,) for key, item in zip(seats, ask.items, strict=True)}
    return {seats[0]: ask.items}


def batches(things: Iterable[T], weigh: Callable[[T], int], limit: int, most: int) -> Iterator[list[T]]:
    """These things in order, in batches of at most ``limit`` that weigh at most ``most`` together. One that weighs more
    by itself is alone.
    """
    batch: list[T] = []
    weight = 0
    for thing in things:
        heavy = weigh(thing)
        if batch and (len(batch) >= limit or weight + heavy > most):
            yield batch
            batch, weight = [], 0
        batch.append(thing)
        weight += heavy
    if batch:
        yield batch


def entries(reply: Reply, ask: Ask, items: Sequence[Item], now: float, ttl: float | None) -> list[Entry]:
    """What to keep of a reply, one entry a seat. The call's tokens are shared out exactly."""
    expires_at = None if ttl is None else now + ttl
    blank = Entry(reply.values[0], 0, now, reply.model, expires_at=expires_at)
    if ask.shape is not Shape.EACH:
        return [replace(blank, tokens=reply.tokens, estimated=not reply.counted)]
    billed = [*(() if ask.query is None else (ask.query,)), *items]
    shares = split(reply.tokens, [estimate(item) for item in billed], [bound(item) for item in billed])
    estimated = not reply.counted or len(shares) > 1
    query_tokens = 0 if ask.query is None else shares.pop(0)
    return [
        replace(blank, value=value, tokens=tokens, query_tokens=query_tokens, estimated=estimated)
        for value, tokens in zip(reply.values, shares, strict=True)
    ]


def usage(entries: Sequence[Entry]) -> int:
    """What the request would have cost without a cache: every position, and the query once."""
    return sum([entry.tokens for entry in entries]) + max([entry.query_tokens for entry in entries])


def count(plan: Plan, ask: Ask, joined: Iterable[Key] = ()) -> Counts:
    """Where each position came from."""
    if ask.shape is not Shape.EACH:
        return _count_whole(plan, len(ask.items), bool(joined))
    items = len(plan.seats)
    if not plan.misses:
        return Counts(items, hits=items)
    others = frozenset(joined)
    hits = sum(key in plan.hits for key in plan.seats)
    by_others = sum(key in others for key in plan.seats)
    misses = len(plan.misses) - len(others)
    return Counts(items, hits, misses, items - hits - misses - by_others, by_others)


def _count_whole(plan: Plan, items: int, joined: bool) -> Counts:
    if plan.hits:
        return Counts(items, hits=items)
    return Counts(items, joined=items) if joined else Counts(items, misses=items)


@lru_cache(maxsize=4096)
def cache_status(counts: Counts, controls: Controls, *, stored: bool) -> str:
    """The ``Cache-Status`` of a request (RFC 9211 section 2)."""
    if counts.hits == counts.items and controls.read:
        told = "hit"
    elif not controls.read:
        told = "fwd=bypass"
    elif counts.hits:
        told = "fwd=partial"
    else:
        told = "fwd=miss"
    if stored:
        told += "; stored"
    if counts.joined and not counts.misses:
        told += "; collapsed"
    return f"cache-proxy; {told}; {detail(counts)}"


def stale_status(counts: Counts, error: UpstreamError) -> str:
    """The ``Cache-Status`` of a request that expired entries answer, for the upstream failed (RFC 9211 section 2.2)."""
    status = f"; fwd-status={error.status}" if isinstance(error, UpstreamRefused) else ""
    return f"cache-proxy; fwd=stale{status}; {detail(counts)}"


def detail(counts: Counts) -> str:
    """Where the items came from, in the words of the ``detail`` parameter."""
    return (
        f'detail="items={counts.items} hit={counts.hits} miss={counts.misses} '
        f'dup={counts.duplicates} joined={counts.joined}"'
    )
