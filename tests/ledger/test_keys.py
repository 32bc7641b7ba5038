"""Keys in the database: what is written is read again, changes are counted, and no key is in any row."""

from dataclasses import replace

import pytest
from sqlalchemy import Connection, event

from cache_proxy.access import AccessKey, hashed
from cache_proxy.errors import NoSuchKey, RequestError
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.keys import KeyTable
from cache_proxy.ledger.notes import Ending, Intent
from cache_proxy.wiring.keys import KeyDesk
from tests.ledger.money import ME, NOON, PRICE, call, paid, rows
from tests.ledger.test_posting import post

KEY = AccessKey(
    hash=hashed("sk-CANARY"), alias="search", team="t", user="u", models=("a", "b-*"), max_budget=5 * 10**12,
    budget_duration="30d", rpm_limit=60, tpm_limit=1000, expires_at=NOON, blocked=True, namespace="n",
    allowed_cache_controls=("ttl",), metadata={"ticket": [1, {"deep": None}]}, created_at=NOON - 10, updated_at=NOON,
)  # fmt: skip


@pytest.fixture
def table(database: Database) -> KeyTable:
    return KeyTable(database)


def test_a_key_is_read_as_it_was_written(table: KeyTable) -> None:
    table.add(KEY)
    assert table.find(KEY.hash) == (1, KEY)
    assert table.all() == [KEY]
    assert table.find(hashed("sk-other")) == (1, None)


def test_every_change_is_counted_so_that_others_hear_of_it(table: KeyTable) -> None:
    counted = [table.changes()]
    table.add(KEY)
    counted.append(table.changes())
    table.change(KEY.hash, lambda key: replace(key, blocked=False))
    counted.append(table.changes())
    assert table.remove([KEY.hash]) == 1
    counted.append(table.changes())
    assert counted == [0, 1, 2, 3]
    assert table.find(KEY.hash) == (3, None)


def test_a_change_that_is_refused_changes_and_counts_nothing(table: KeyTable) -> None:
    table.add(KEY)
    table.add(replace(KEY, hash="f" * 64, alias="other"))
    with pytest.raises(RequestError, match="key_alias"):
        table.change("f" * 64, lambda key: replace(key, alias="search"))
    with pytest.raises(RequestError, match="key_alias"):
        table.add(replace(KEY, hash="e" * 64))
    with pytest.raises(RequestError, match="already"):
        table.add(replace(KEY, alias="again"))
    assert table.changes() == 2
    assert table.change("0" * 64, lambda key: key) is None


def test_several_keys_may_have_no_alias(table: KeyTable) -> None:
    for letter in "abc":
        table.add(replace(KEY, hash=letter * 64, alias=""))
    assert len(table.all()) == 3


def test_the_newest_is_told_first(table: KeyTable) -> None:
    for at, letter in enumerate("abc"):
        table.add(replace(KEY, hash=letter * 64, alias="", created_at=NOON + at))
    assert [key.hash[0] for key in table.all()] == ["c", "b", "a"]


def test_no_key_is_in_any_row(table: KeyTable, database: Database) -> None:
    table.add(KEY)
    assert "CANARY" not in str(rows(database, "keys"))


@pytest.mark.parametrize("word", ["z" * 64, "\0" * 64, "a\0b", "\ud800", "", "nobody"])
def test_a_word_that_names_no_key_is_told_as_one_whatever_is_in_it(table: KeyTable, word: str) -> None:
    table.add(replace(KEY, alias=""))
    with pytest.raises(NoSuchKey):
        KeyDesk(table, ()).find(word)


def test_the_levels_of_many_keys_are_asked_for_together(table: KeyTable, database: Database) -> None:
    table.changes()
    many = [replace(KEY, hash=f"{at:064x}", budget_duration=("1d", "1mo")[at % 2]) for at in range(200)]
    asked: list[str] = []

    def listen(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(database._engine, "before_cursor_execute", listen)
    assert table.levels(many, NOON) == {key.hash: (0, 0) for key in many}
    assert len(asked) < 10


def test_what_was_spent_with_a_key_is_what_its_calls_cost(table: KeyTable, database: Database) -> None:
    for tokens in (5, 7):
        intent = Intent(call((ME, 60)))
        post(database, [intent, Ending(intent, paid(tokens), NOON)])
    assert table.spent([ME.key, "f" * 64]) == {ME.key: 12 * PRICE}
