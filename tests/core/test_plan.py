"""The plan: hits and misses, what is fresh, how tokens are shared out, and what is told about it."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cache_proxy.core.asked import Asked, keeping, store_ttl
from cache_proxy.core.plan import (
    batches,
    cache_status,
    count,
    entries,
    is_fresh,
    is_outage,
    items_of,
    plan,
    stale_status,
    stand_ins,
    usage,
)
from cache_proxy.core.spend import estimate, split
from cache_proxy.errors import UpstreamBusy, UpstreamError, UpstreamLost, UpstreamNonsense, UpstreamRefused
from cache_proxy.models import Controls, Endpoint, Entry, Kind, Policy, Reply, Text
from cache_proxy.receipts import Counts
from tests.core.asking import ask, embed, rank

PLAIN = Controls()
VALUE = Text(b"{}")
ENTRY = Entry(VALUE, 5, created_at=100.0)
A, B, C = b"a", b"b", b"c"


def test_each_missing_key_is_paid_once_in_asked_order() -> None:
    planned = plan((C, A, B, A, C), {B: ENTRY}, PLAIN, now=100.0)
    assert planned.seats == (C, A, B, A, C)
    assert (planned.hits, planned.misses) == ({B: ENTRY}, (C, A))
    assert planned == plan((C, A, B, A, C), {B: ENTRY}, PLAIN, now=100.0)


@pytest.mark.parametrize(
    ("expires_at", "max_age", "now", "fresh"),
    [
        (None, None, 1e12, True),
        (150.0, None, 149.9, True),
        (150.0, None, 150.0, False),
        (150.0, None, 200.0, False),
        (None, 10.0, 110.0, True),
        (None, 10.0, 110.1, False),
        (None, 0.0, 100.0, True),
        (None, 0.0, 100.1, False),
        (150.0, 1000.0, 151.0, False),
        # The clock was set back: the entry comes from the future.
        (None, 10.0, 50.0, True),
        (150.0, 10.0, 50.0, True),
    ],
)
def test_an_entry_is_fresh_until_it_expires_or_is_older_than_asked(
    expires_at: float | None, max_age: float | None, now: float, fresh: bool
) -> None:
    entry, controls = replace(ENTRY, expires_at=expires_at), Controls(max_age=max_age)
    assert is_fresh(entry, controls, now) is fresh
    planned = plan((A,), {A: entry}, controls, now)
    assert (planned.hits, planned.misses) == (({A: entry}, ()) if fresh else ({}, (A,)))


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=40), st.integers(1, 9), st.integers(1, 30))
def test_batches_hold_all_things_in_order_and_none_too_many(things: list[bytes], limit: int, most: int) -> None:
    made = list(batches(things, len, limit, most))
    assert [thing for batch in made for thing in batch] == things
    assert all(1 <= len(batch) <= limit for batch in made)
    assert all(len(batch) == 1 or sum(map(len, batch)) <= most for batch in made)
    for batch, following in pairwise(made):
        assert len(batch) == limit or sum(map(len, [*batch, following[0]])) > most, "no batch is cut short"


@given(st.integers(0, 10**12), st.lists(st.integers(1, 10**6), min_size=1, max_size=30))
def test_the_parts_of_a_total_add_up_exactly_and_are_in_proportion(total: int, weights: list[int]) -> None:
    parts = split(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    assert all(abs(part * whole - total * weight) < whole for part, weight in zip(parts, weights, strict=True))


def test_a_share_is_split_by_the_largest_remainder_and_then_by_order() -> None:
    assert split(10, [1, 1, 1]) == [4, 3, 3]
    assert split(10, [2, 3, 3]) == [2, 4, 4]
    assert split(0, [5, 7]) == [0, 0]


def kept(asked: Asked, tokens: int, *, counted: bool = True, ttl: float | None = None) -> list[Entry]:
    items = [item for members in items_of(asked.ask, asked.seats).values() for item in members]
    values = tuple(VALUE for _ in items_of(asked.ask, asked.seats))
    return entries(Reply(values, "named", tokens, counted), asked.ask, items, now=100.0, ttl=ttl)


@given(st.lists(st.text(max_size=50), min_size=1, max_size=8, unique=True), st.integers(0, 10_000))
def test_the_tokens_of_a_call_are_shared_out_exactly(texts: list[str], tokens: int) -> None:
    found = kept(embed(texts), tokens)
    assert sum(entry.tokens for entry in found) == usage(found) == tokens
    assert all(entry.estimated == (len(texts) > 1) for entry in found)
    pairs = kept(rank(texts), tokens)
    assert len({entry.query_tokens for entry in pairs}) == 1
    assert sum(entry.tokens for entry in pairs) + pairs[0].query_tokens == usage(pairs) == tokens
    assert all(entry.estimated for entry in pairs)
    whole = kept(rank(texts, "jina-reranker-v3"), tokens)
    assert [(entry.tokens, entry.query_tokens, entry.estimated) for entry in whole] == [(tokens, 0, False)]


def test_an_entry_keeps_when_it_was_made_when_it_expires_and_what_was_guessed() -> None:
    (entry,) = kept(embed("a"), 5, ttl=60.0)
    assert (entry.created_at, entry.expires_at, entry.model, entry.estimated) == (100.0, 160.0, "named", False)
    (guessed,) = kept(embed("a"), 5, counted=False)
    assert (guessed.expires_at, guessed.estimated) == (None, True)
    assert [entry.estimated for entry in kept(embed("a", late_chunking=True), 5, counted=False)] == [True]


def test_usage_is_every_position_and_the_query_once() -> None:
    one, two = replace(ENTRY, tokens=3, query_tokens=2), replace(ENTRY, tokens=4, query_tokens=7)
    assert usage([one, two, one]) == 3 + 4 + 3 + 7


def test_estimates_are_never_zero() -> None:
    for kind in Kind:
        (item,) = embed("").ask.items
        assert estimate(item._replace(kind=kind)) >= 1


SEATS = st.lists(st.sampled_from([bytes([letter]) for letter in range(8)]), min_size=1, max_size=12)


@given(SEATS, st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)))
def test_the_counts_add_up_to_the_items(letters: list[bytes], held: set[int], joined: set[int]) -> None:
    asked = embed([letter.hex() for letter in letters])
    seats = dict(zip(letters, asked.seats, strict=True))
    found = {seats[key]: ENTRY for key in letters if key[0] in held}
    planned = plan(asked.seats, found, PLAIN, now=100.0)
    others = {key for key in planned.misses if key in {seats[letter] for letter in letters if letter[0] in joined}}
    counts = count(planned, asked.ask, others)
    assert counts.hits + counts.misses + counts.duplicates + counts.joined == counts.items == len(letters)
    assert counts.hits == sum(key in found for key in asked.seats)
    assert counts.misses == len(set(planned.misses) - others)
    assert counts.joined == sum(key in others for key in asked.seats)


@pytest.mark.parametrize(
    ("held", "joined", "counts"),
    [
        (True, False, Counts(2, hits=2)),
        (False, False, Counts(2, misses=2)),
        (False, True, Counts(2, joined=2)),
    ],
)
def test_a_request_kept_whole_is_counted_by_its_items(held: bool, joined: bool, counts: Counts) -> None:
    asked = embed(["a", "b"], late_chunking=True)
    planned = plan(asked.seats, {asked.seats[0]: ENTRY} if held else {}, PLAIN, now=100.0)
    assert count(planned, asked.ask, asked.seats if joined else ()) == counts


@pytest.mark.parametrize(
    ("counts", "controls", "stored", "told"),
    [
        (Counts(3, hits=3), PLAIN, False, 'hit; detail="items=3 hit=3 miss=0 dup=0 joined=0"'),
        (Counts(3, misses=3), PLAIN, True, 'fwd=miss; stored; detail="items=3 hit=0 miss=3 dup=0 joined=0"'),
        (Counts(3, misses=3), PLAIN, False, 'fwd=miss; detail="items=3 hit=0 miss=3 dup=0 joined=0"'),
        (
            Counts(512, 480, 30, 2),
            PLAIN,
            True,
            'fwd=partial; stored; detail="items=512 hit=480 miss=30 dup=2 joined=0"',
        ),
        (Counts(2, joined=2), PLAIN, False, 'fwd=miss; collapsed; detail="items=2 hit=0 miss=0 dup=0 joined=2"'),
        (Counts(2, 1, joined=1), PLAIN, False, 'fwd=partial; collapsed; detail="items=2 hit=1 miss=0 dup=0 joined=1"'),
        (Counts(2, misses=1, joined=1), PLAIN, True, 'fwd=miss; stored; detail="items=2 hit=0 miss=1 dup=0 joined=1"'),
        (
            Counts(1, misses=1),
            Controls(read=False),
            True,
            'fwd=bypass; stored; detail="items=1 hit=0 miss=1 dup=0 joined=0"',
        ),
        (
            Counts(1, misses=1),
            Controls(read=False, store=False),
            False,
            'fwd=bypass; detail="items=1 hit=0 miss=1 dup=0 joined=0"',
        ),
    ],
)
def test_the_cache_status_tells_where_the_answer_came_from(
    counts: Counts, controls: Controls, stored: bool, told: str
) -> None:
    assert cache_status(counts, controls, stored=stored) == f"cache-proxy; {told}"


@pytest.mark.parametrize(
    ("policy", "cache", "remote", "ttl"),
    [
        (Policy(), None, False, None),
        (Policy(ttl=60.0), None, False, 60.0),
        (Policy(ttl=60.0), {"ttl": 5}, False, 5),
        (Policy(), {"ttl": 0}, False, 0),
        (Policy(ttl=60.0), {"no-store": True}, False, 0.0),
        (Policy(), None, True, 0.0),
        (Policy(ttl=60.0), {"ttl": 5}, True, 0.0),
        (Policy(url_ttl=30.0), None, True, 30.0),
        (Policy(url_ttl=30.0), {"ttl": 5}, True, 5),
        (Policy(url_ttl=30.0, ttl=60.0), None, True, 30.0),
        (Policy(url_ttl=30.0), {"no-store": True}, True, 0.0),
        (Policy(endpoints=frozenset()), {"ttl": 5}, False, 0.0),
        (Policy(endpoints=frozenset({Endpoint.RERANK})), None, False, 0.0),
        (Policy(endpoints=frozenset({Endpoint.EMBEDDINGS})), None, False, None),
    ],
)
def test_how_long_an_answer_may_be_kept(policy: Policy, cache: object, remote: bool, ttl: float | None) -> None:
    asked = ask({"model": "jina-embeddings-v3", "input": "x", "cache": cache}, policy=policy)
    assert keeping(asked, policy, remote=remote) == ttl


def test_an_endpoint_that_is_not_cached_is_passed_on_but_nothing_is_spent_against_the_callers_word() -> None:
    body = {"model": "jina-embeddings-v3", "input": "x"}
    off = Policy(endpoints=frozenset({Endpoint.RERANK}))
    assert ask(body, policy=off).controls == Controls(read=False, store=False)
    careful = ask(body, policy=off, cache_control="only-if-cached").controls
    assert careful == Controls(read=False, store=False, only_if_cached=True)


# Expired entries in place of an upstream that fails ------------------------------------------------------------------

EXPIRED = replace(ENTRY, expires_at=150.0)


@pytest.mark.parametrize(
    ("found", "allowed", "now", "controls", "served"),
    [
        ({A: EXPIRED}, 60.0, 150.0, PLAIN, True),
        ({A: EXPIRED}, 60.0, 210.0, PLAIN, True),
        ({A: EXPIRED}, 60.0, 210.1, PLAIN, False),
        ({A: EXPIRED}, 0.0, 150.0, PLAIN, False),
        ({}, 60.0, 150.0, PLAIN, False),
        # Who limits the age does not wish for a stale answer, however young it is.
        ({A: EXPIRED}, 60.0, 150.0, Controls(max_age=1000.0), False),
        ({A: ENTRY}, 60.0, 150.0, Controls(max_age=10.0), False),
        ({A: EXPIRED}, 60.0, 150.0, Controls(store=False), True),
    ],
)
def test_an_expired_entry_stands_in_for_as_long_as_the_operator_says(
    found: dict[bytes, Entry], allowed: float, now: float, controls: Controls, served: bool
) -> None:
    planned = plan((A,), found, controls, now)
    assert planned.misses == (A,)
    assert stand_ins(planned, found, controls, allowed, now) == (found if served else {})


def test_expired_entries_stand_in_for_all_that_is_missing_or_for_nothing() -> None:
    found = {A: EXPIRED, B: ENTRY}
    assert stand_ins(plan((A, B, A), found, PLAIN, 200.0), found, PLAIN, 60.0, 200.0) == {A: EXPIRED}
    assert stand_ins(plan((A, B, C), found, PLAIN, 200.0), found, PLAIN, 60.0, 200.0) == {}
    found[C] = replace(EXPIRED, expires_at=100.0)
    assert stand_ins(plan((A, B, C), found, PLAIN, 200.0), found, PLAIN, 60.0, 200.0) == {}, "one is too old"


LOST, BUSY = UpstreamLost("x", outcome_unknown=False), UpstreamBusy("x", retry_after=1.0)


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        *((UpstreamRefused(status, b""), True) for status in (402, 403, 429, 500, 502, 503, 504, 520, 524)),
        *((UpstreamRefused(status, b""), False) for status in (400, 401, 404, 413, 418, 422)),
        (LOST, True),
        (BUSY, True),
        (UpstreamNonsense("x"), True),
    ],
)
def test_an_upstream_that_fails_is_told_from_one_that_refuses(error: UpstreamError, outage: bool) -> None:
    assert is_outage(error) is outage


def test_what_is_about_the_caller_himself_is_no_failure_whoever_hears_of_it() -> None:
    error = UpstreamRefused(403, b"not you")
    error.personal = True
    assert not is_outage(error)
    assert not is_outage(error.without_body())


def test_a_stale_answer_is_told_with_the_status_that_it_stands_in_for() -> None:
    told = 'detail="items=2 hit=2 miss=0 dup=0 joined=0"'
    counts = Counts(2, hits=2)
    assert stale_status(counts, UpstreamRefused(503, b"")) == f"cache-proxy; fwd=stale; fwd-status=503; {told}"
    assert stale_status(counts, LOST) == stale_status(counts, BUSY) == f"cache-proxy; fwd=stale; {told}"


@pytest.mark.parametrize(("kept", "held"), [(None, None), (0.0, 0.0), (60.0, 150.0), (0.5, 90.5)])
def test_a_store_holds_what_may_yet_stand_in(kept: float | None, held: float | None) -> None:
    assert store_ttl(kept, Policy(stale_if_error=90.0)) == held
    assert store_ttl(kept, Policy()) == kept
