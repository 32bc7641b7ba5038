"""The leases of a store (see ``base``), as tests. Imported by tests only, as ``contract`` is.

Give the suite the fixture ``store`` of ``contract.StoreContract``: an open, empty store, here with leases; and
``word_seconds``: for how long these tell a word. Where several processes may share a store, override the fixture
``beside``: another open store at the same place, as another process has it.
"""
# ruff: noqa: RUF012, S101, S311

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Set

import pytest

from cache_proxy.backends.base import WORDS_MOST, Backend, Key, Leases, Owner, Turn
from cache_proxy.backends.contract import MANY, A, B, C, odd_keys
from cache_proxy.errors import StoreError

OURS, THEIRS, NOBODY = b"ours", b"theirs", b""

SOON, LONG = 0.2, 60.0
"""A lease that a test waits for to end, and one that holds for all of the test. In seconds."""

MINE = Turn(mine=True)

PATIENCE = 30.0
"""Seconds after which what is waited for will not come about any more."""


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for the store to come to something."""
    give_up_at = time.monotonic() + PATIENCE
    while not await condition():
        assert time.monotonic() < give_up_at, f"{what} did not come about"
        await asyncio.sleep(0.005)


class SecondContract:
    """What the suites of leases and of counters have in common."""

    pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="session")]

    @pytest.fixture
    def beside(self, store: Backend) -> Backend:
        """Another open store at the same place; if there can be none, the same."""
        return store


class LeasesContract(SecondContract):
    """Subclass it under a name that pytest collects."""

    @pytest.fixture
    def leases(self, store: Backend) -> Leases:
        assert store.leases is not None
        return store.leases

    @pytest.fixture
    def others(self, beside: Backend) -> Leases:
        """The same leases, as another process has them."""
        assert beside.leases is not None
        return beside.leases

    # One owner at a time ---------------------------------------------------------------------------------------------

    async def test_the_lease_of_a_key_that_nobody_holds_is_given(self, leases: Leases) -> None:
        assert await leases.acquire({A: NOBODY, B: NOBODY}, OURS, LONG) == {A: MINE, B: MINE}

    async def test_a_lease_that_is_held_is_told_with_its_owner(self, leases: Leases, others: Leases) -> None:
        await take(leases, A, OURS)
        for waited_for in (NOBODY, OURS, b"another"):
            assert await others.acquire({A: waited_for, B: NOBODY}, THEIRS, LONG) == {
                A: Turn(mine=False, owner=OURS),
                B: MINE,
            }

    async def test_what_comes_back_is_bytes(self, leases: Leases) -> None:
        await take(leases, A, OURS)
        await leases.release({A: OURS}, b"word")
        await take(leases, B, OURS)
        turns = await leases.acquire({A: OURS, B: NOBODY}, THEIRS, LONG)
        assert {type(key) for key in turns} | {type(turns[B].owner), type(turns[A].word)} == {bytes}
        assert {type(key) for key in await leases.renew({B: OURS}, LONG)} == {bytes}

    async def test_who_has_a_lease_keeps_it_when_he_asks_again(self, leases: Leases, others: Leases) -> None:
        async def lengthened() -> bool:
            await leases.acquire({A: NOBODY}, OURS, SOON)
            # On a machine that stood still in between it was lost, and is taken anew: which is not what is asked here.
            return bool(await leases.renew({A: OURS}, SOON)) and (await take(leases, A, OURS, LONG)).mine

        await until(lengthened, "a lease taken twice")
        await passed(others, SOON)
        assert await take(others, A, THEIRS) == Turn(mine=False, owner=OURS)

    async def test_a_lease_ends_with_its_time(self, leases: Leases, others: Leases) -> None:
        await take(leases, A, OURS, SOON)
        await until(lambda: is_mine(others, A, THEIRS), "the end of a lease")
        assert await leases.renew({A: OURS}, LONG) == set()
        assert await take(leases, A, OURS) == Turn(mine=False, owner=THEIRS)

    async def test_overlapping_claims_give_each_key_one_owner(self, leases: Leases, others: Leases) -> None:
        keys = [os.urandom(32) for _ in range(60)]
        chance = random.Random(7)
        claims = {bytes([at]) * 16: chance.sample(keys, 30) for at in range(50)}
        calls = [
            (leases, others)[at % 2].acquire(dict.fromkeys(some, NOBODY), owner, LONG)
            for at, (owner, some) in enumerate(claims.items())
        ]
        told = dict(zip(claims, await asyncio.gather(*calls), strict=True))
        owners: dict[Key, set[Owner]] = {}
        for owner, turns in told.items():
            assert turns.keys() == set(claims[owner])
            for key, turn in turns.items():
                owners.setdefault(key, set()).add(owner if turn.mine else turn.owner)
        assert {len(each) for each in owners.values()} == {1}
        held = {key: owner for key, (owner,) in owners.items()}
        assert await leases.renew(held, LONG) == set(held)

    # Only its owner ---------------------------------------------------------------------------------------------------

    async def test_a_lease_that_is_renewed_holds_from_then_on(self, leases: Leases, others: Leases) -> None:
        async def renewed() -> bool:
            await take(leases, A, OURS, SOON)
            return await leases.renew({A: OURS}, LONG) == {A}

        await until(renewed, "a renewal in time")
        await passed(others, SOON)
        assert await take(others, A, THEIRS) == Turn(mine=False, owner=OURS)

    async def test_a_renewal_may_be_shorter_than_what_was_left(self, leases: Leases, others: Leases) -> None:
        await take(leases, A, OURS)
        assert await leases.renew({A: OURS}, SOON) == {A}
        await until(lambda: is_mine(others, A, THEIRS), "the end of a lease")

    async def test_only_the_owner_renews(self, leases: Leases, others: Leases) -> None:
        await take(leases, A, OURS, SOON)
        assert await others.renew({A: THEIRS, B: THEIRS}, LONG) == set()
        assert await take(others, B, OURS) == MINE, "it was nobody's, and still is"
        await until(lambda: is_mine(others, A, THEIRS), "the end of a lease that another wanted to renew")

    async def test_one_renewal_may_be_for_several_owners(self, leases: Leases) -> None:
        await take(leases, A, OURS)
        await take(leases, B, THEIRS)
        assert await leases.renew({A: OURS, B: THEIRS, C: OURS}, LONG) == {A, B}

    async def test_a_lease_that_is_released_is_the_next_ones(self, leases: Leases, others: Leases) -> None:
        await take(leases, A, OURS)
        await take(leases, B, THEIRS)
        await leases.release({A: OURS, B: THEIRS})
        assert await leases.renew({A: OURS, B: THEIRS}, LONG) == set()
        assert await others.acquire({A: OURS, B: NOBODY}, b"next", LONG) == {A: MINE, B: MINE}

    @pytest.mark.parametrize("word", [None, b"word"])
    async def test_only_the_owner_releases(self, leases: Leases, others: Leases, word: bytes | None) -> None:
        await take(leases, A, OURS)
        await others.release({A: THEIRS, B: THEIRS}, word)
        assert await take(others, A, THEIRS, waited_for=THEIRS) == Turn(mine=False, owner=OURS)
        assert await take(others, B, OURS, waited_for=THEIRS) == MINE, "nobody held it, so there is nothing to tell"
        assert await leases.renew({A: OURS}, LONG) == {A}

    # The word that is left with a lease -------------------------------------------------------------------------------

    async def test_a_word_is_told_to_all_who_waited_for_this_owner(self, leases: Leases, others: Leases) -> None:
        await take(leases, A, OURS)
        await leases.release({A: OURS}, b"429")
        told = Turn(mine=False, word=b"429")
        for each in (others, leases, others):
            assert await take(each, A, os.urandom(16), waited_for=OURS) == told
        assert await leases.renew({A: OURS}, LONG) == set(), "a word is no lease"

    @pytest.mark.parametrize("waited_for", [NOBODY, b"another", OURS + b"s", OURS[:-1]])
    async def test_for_everybody_else_a_word_is_no_lease(self, leases: Leases, waited_for: Owner) -> None:
        await take(leases, A, OURS)
        await leases.release({A: OURS}, b"429")
        assert await take(leases, A, THEIRS, waited_for=waited_for) == MINE
        assert await take(leases, A, b"late", waited_for=waited_for) == Turn(mine=False, owner=THEIRS)

    async def test_a_word_outlives_the_next_lease_for_those_who_waited(self, leases: Leases, others: Leases) -> None:
        await take(leases, A, OURS)
        await leases.release({A: OURS}, b"429")
        await take(others, A, THEIRS)
        assert await others.renew({A: THEIRS}, LONG) == {A}
        told = Turn(mine=False, word=b"429")
        assert await take(leases, A, b"late", waited_for=OURS) == told
        assert await take(leases, A, b"late", waited_for=THEIRS) == Turn(mine=False, owner=THEIRS)
        assert await take(others, A, THEIRS, waited_for=OURS) == MINE, "who has the lease keeps it"
        await others.release({A: THEIRS})
        assert await take(leases, A, b"late", waited_for=OURS) == told
        assert await take(leases, A, b"late", waited_for=THEIRS) == MINE, "that one left none"

    async def test_each_of_several_owners_words_is_told_to_those_who_waited_for_him(self, leases: Leases) -> None:
        words = {b"owner %d" % number: b"word %d" % number for number in range(WORDS_MOST)}
        for owner, word in words.items():
            assert await take(leases, A, owner) == MINE
            await leases.release({A: owner}, word)
        await take(leases, A, THEIRS)
        for owner, word in words.items():
            assert await take(leases, A, b"late", waited_for=owner) == Turn(mine=False, word=word)

    async def test_who_left_a_word_may_begin_anew(self, leases: Leases) -> None:
        await take(leases, A, OURS)
        await leases.release({A: OURS}, b"429")
        assert await take(leases, A, OURS) == MINE
        await leases.release({A: OURS}, b"503")
        assert await take(leases, A, THEIRS, waited_for=OURS) == Turn(mine=False, word=b"503")

    @pytest.mark.parametrize("word", [b"", bytes(range(200)), b"\xff" * 200], ids=["empty", "any bytes", "long"])
    async def test_words_come_back_as_they_are(self, leases: Leases, word: bytes) -> None:
        await take(leases, A, OURS)
        await leases.release({A: OURS}, word)
        assert await take(leases, A, THEIRS, waited_for=OURS) == Turn(mine=False, word=word)

    async def test_a_word_is_told_for_its_time(self, leases: Leases, others: Leases, word_seconds: float) -> None:
        await leases.acquire({A: NOBODY, B: NOBODY}, OURS, LONG)
        left_at = time.monotonic()
        await leases.release({B: OURS}, b"429")
        await take(leases, B, THEIRS)
        await leases.release({A: OURS}, b"429")
        await until(lambda: is_mine(others, A, THEIRS, waited_for=OURS), "the end of a word")
        assert time.monotonic() - left_at > 0.8 * word_seconds
        assert (await take(others, B, b"late", waited_for=OURS)).owner == THEIRS, "nor longer under another's lease"

    # Beside the values ------------------------------------------------------------------------------------------------

    async def test_whether_a_value_is_held_is_told_with_every_turn(self, store: Backend, leases: Leases) -> None:
        async def stored(keys: Set[Key]) -> None:
            turns = await leases.acquire({A: NOBODY, B: OURS, C: OURS}, THEIRS, LONG)
            assert {key for key, turn in turns.items() if turn.stored} == keys
            assert (turns[A].owner, turns[B].mine, turns[C].word) == (OURS, True, b"429")

        await leases.acquire({A: NOBODY, C: NOBODY}, OURS, LONG)
        await leases.release({C: OURS}, b"429")
        await stored(set())
        await store.set_many({A: b"1", B: b"", C: b"3"})
        await stored({A, B, C})
        await store.delete_many([A])
        await stored({B, C})
        await store.clear()
        await stored(set())

    async def test_leases_are_no_values(self, store: Backend, leases: Leases) -> None:
        await leases.acquire({A: NOBODY, B: NOBODY}, OURS, LONG)
        await leases.release({B: OURS}, b"word")
        assert await store.get_many([A, B]) == {}
        assert await store.delete_many([A, B]) == 0
        assert await leases.renew({A: OURS}, LONG) == {A}
        await store.set_many({A: b"1"})
        await leases.release({A: OURS})
        assert await store.get_many([A]) == {A: b"1"}

    async def test_leases_and_words_outlive_a_purge(self, store: Backend, leases: Leases) -> None:
        await leases.acquire({A: NOBODY, B: NOBODY}, OURS, LONG)
        await leases.release({B: OURS}, b"429")
        await store.set_many({A: b"1", C: b"3"})
        await store.clear()
        assert await leases.acquire({A: NOBODY, B: OURS}, THEIRS, LONG) == {
            A: Turn(mine=False, owner=OURS),
            B: Turn(mine=False, word=b"429"),
        }
        assert await leases.renew({A: OURS}, LONG) == {A}

    # Many at a time ---------------------------------------------------------------------------------------------------

    async def test_thousands_of_keys_are_one_call(self, store: Backend, leases: Leases, others: Leases) -> None:
        keys = [os.urandom(32) for _ in range(MANY)]
        ours, rest = dict.fromkeys(keys[::2], OURS), dict.fromkeys(keys[1::2], NOBODY)
        await store.set_many(dict.fromkeys(keys[::5], b"1"))
        assert all(turn.mine for turn in (await leases.acquire(dict.fromkeys(ours, NOBODY), OURS, LONG)).values())
        expected = {
            key: Turn(mine=key in rest, stored=at % 5 == 0, owner=NOBODY if key in rest else OURS)
            for at, key in enumerate(keys)
        }
        assert dict(await others.acquire(dict.fromkeys(keys, NOBODY), THEIRS, LONG)) == expected
        assert await leases.renew(dict.fromkeys(keys, OURS), LONG) == set(ours)
        await leases.release(dict.fromkeys(keys, OURS), b"word")
        turns = await others.acquire(dict.fromkeys(keys, OURS), THEIRS, LONG)
        assert {key for key, turn in turns.items() if turn.word == b"word"} == set(ours)

    async def test_no_keys_are_no_trouble(self, leases: Leases) -> None:
        assert await leases.acquire({}, OURS, LONG) == {}
        assert await leases.renew({}, LONG) == set()
        await leases.release({})
        await leases.release({}, b"word")

    async def test_keys_and_owners_of_every_byte_and_length_are_told_apart(self, leases: Leases) -> None:
        owners = {key: key or b"none" for key in odd_keys()}
        for key, owner in owners.items():
            assert await take(leases, key, owner) == MINE
        turns = await leases.acquire(dict.fromkeys(owners, NOBODY), b"nobody before", LONG)
        assert {key: turn.owner for key, turn in turns.items()} == owners
        assert await leases.renew(owners, LONG) == set(owners)

    # Opened and closed ------------------------------------------------------------------------------------------------

    async def test_once_closed_they_answer_or_raise_store_error(self, store: Backend, leases: Leases) -> None:
        await take(leases, A, OURS)
        await store.close()
        calls = (leases.acquire({A: NOBODY}, OURS, LONG), leases.renew({A: OURS}, LONG), leases.release({A: OURS}))
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in ended if isinstance(each, BaseException)} <= {StoreError}
        await store.open()
        assert await take(leases, B, OURS) == MINE


async def take(leases: Leases, key: Key, owner: Owner, ttl: float = LONG, *, waited_for: Owner = NOBODY) -> Turn:
    """What comes of asking for one lease."""
    return (await leases.acquire({key: waited_for}, owner, ttl))[key]


async def is_mine(leases: Leases, key: Key, owner: Owner, *, waited_for: Owner = NOBODY) -> bool:
    """Whether this lease can be had; if so, it is held."""
    return (await take(leases, key, owner, waited_for=waited_for)).mine


async def passed(leases: Leases, seconds: float) -> None:
    """Wait for so many seconds of the store's own clock to pass."""
    key = os.urandom(32)
    await take(leases, key, b"before", seconds)
    await until(lambda: is_mine(leases, key, b"after"), "the end of a lease")
