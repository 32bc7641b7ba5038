"""What a batch of notes leaves in the database."""

from collections.abc import Sequence
from itertools import count

import pytest

from cache_proxy.calls import Account
from cache_proxy.errors import LedgerError
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.notes import Ending, Intent, Note, Prune, Told
from cache_proxy.ledger.posting import Batch
from tests.ledger.money import ME, NOON, PRICE, YOU, call, paid, receipt, rows, sums

_batches = count()


def post(database: Database, notes: Sequence[Note]) -> None:
    """Write these notes as a writer does."""
    with database.writing() as connection:
        intents = Batch(str(next(_batches)), notes).post(connection, "w", NOON)
    for intent in intents:
        intent.written = True


def test_a_call_counts_with_its_bound_until_it_is_settled(database: Database) -> None:
    intent = Intent(call((ME, 60), (YOU, 40)))
    post(database, [intent])
    (row,) = rows(database, "calls")
    assert (row["settled_at"], row["tokens"], row["tokens_bound"], row["status"]) == (None, None, 100, None)
    assert sums(database)[""]["tokens_unsettled"] == 100
    assert sums(database)[""]["tokens_billed"] == 0

    post(database, [Ending(intent, paid(7, 5), NOON + 1)])
    (row,) = rows(database, "calls")
    assert (row["settled_at"], row["tokens"], row["status"]) == (NOON + 1, 12, 200)
    assert [(share["key_alias"], share["tokens"]) for share in rows(database, "shares")] == [("me", 7), ("you", 5)]
    total = sums(database)[""]
    assert (total["tokens_unsettled"], total["tokens_billed"], total["cost"]) == (0, 12, 12 * PRICE)
    assert {name: row["tokens_billed"] for name, row in sums(database, "key").items()} == {ME.key: 7, YOU.key: 5}


def test_a_call_of_which_nobody_knows_what_it_cost_stays_with_its_bound(database: Database) -> None:
    intent = Intent(call((ME, 60)))
    post(database, [intent, Ending(intent, None, NOON)])
    (row,) = rows(database, "calls")
    assert row["settled_at"] is None
    assert sums(database)[""]["tokens_unsettled"] == 60


def test_what_was_lost_before_its_ending_is_written_with_it(database: Database) -> None:
    lost = Intent(call((ME, 60)))
    post(database, [Ending(lost, paid(5), NOON)])
    assert [(row["tokens"], row["tokens_bound"]) for row in rows(database, "calls")] == [(5, 60)]
    assert (sums(database)[""]["tokens_unsettled"], sums(database)[""]["tokens_billed"]) == (0, 5)


def test_what_was_never_sent_is_not_written(database: Database) -> None:
    void = Intent(call((ME, 60)), void=True)
    post(database, [void, Ending(void, paid(0), NOON)])
    assert rows(database, "calls") == []
    assert sums(database) == {}


def test_what_was_written_and_never_sent_cost_nothing(database: Database) -> None:
    intent = Intent(call((ME, 60)))
    post(database, [intent])
    intent.void = True
    post(database, [Ending(intent, paid(0), NOON)])
    assert (sums(database)[""]["tokens_unsettled"], sums(database)[""]["tokens_billed"]) == (0, 0)


def test_a_batch_whose_commit_was_not_heard_of_is_not_written_twice(database: Database) -> None:
    intent = Intent(call((ME, 60)))
    batch = Batch("b", [intent, Ending(intent, paid(5), NOON), Told("one", receipt())])
    for _ in range(2):
        with database.writing() as connection:
            assert batch.post(connection, "w", NOON) == [intent]
    assert sums(database)[""]["tokens_billed"] == 5
    assert sums(database)[""]["requests"] == 1


def test_one_that_was_rolled_back_is_written_with_the_next_try(database: Database) -> None:
    intent = Intent(call((ME, 60)))
    batch = Batch("b", [intent])

    def fail_at_the_end() -> None:
        with database.writing() as connection:
            batch.post(connection, "w", NOON)
            connection.exec_driver_sql("nonsense")

    with pytest.raises(LedgerError):
        fail_at_the_end()
    assert rows(database, "calls") == []
    intent.void = True  # whoever wanted it was refused meanwhile
    with database.writing() as connection:
        assert batch.post(connection, "w", NOON) == []
    assert rows(database, "calls") == []


def test_a_request_is_told_with_everything_but_its_texts(database: Database) -> None:
    post(database, [Told("id", receipt(tokens_billed=5, tokens_saved=40, cache_status="cache-proxy; fwd=partial"))])
    (row,) = rows(database, "requests")
    assert row == {
        "id": "id", "started_at": NOON, "latency": 0.25, "request_id": "a-request", "key_alias": "me",
        "key_hash": "a" * 64, "team": "search", "user": "ada@example.com", "end_user": "reader", "tags": '["nightly"]',
        "endpoint": "embeddings", "model_group": "embed", "model": "v3", "items": 3, "hits": 2, "misses": 1,
        "duplicates": 0, "joined": 0, "tokens_billed": 5, "tokens_unsettled": 0, "tokens_saved": 40,
        "cost": 5 * PRICE, "saved": 40 * PRICE, "status": 200, "cache_status": "cache-proxy; fwd=partial",
        "cache_key": None, "error": None, "bytes_out": 4_000,
    }  # fmt: skip


def test_an_unknown_price_is_unknown_and_not_zero(database: Database) -> None:
    intent = Intent(call((ME, 60), price=None))
    told = Told("id", receipt(price=None, tokens_saved=40))
    post(database, [intent, Ending(intent, paid(5), NOON), told])
    total = sums(database)[""]
    assert (total["cost"], total["cost_unpriced"], total["saved"], total["saved_unpriced"]) == (0, 5, 0, 40)
    assert [row["price"] for row in rows(database, "calls")] == [None]
    assert [row["saved"] for row in rows(database, "requests")] == [None]


def test_sums_are_kept_by_day_and_by_all_that_reports_are_grouped_by(database: Database) -> None:
    post(database, [Told("1", receipt(tags=("a", "b"))), Told("2", receipt(YOU, NOON + 86_400, tags=(), user=None))])
    names = {kind: set(sums(database, kind)) for kind in ("all", "key", "team", "user", "tag", "model", "endpoint")}
    assert names == {
        "all": {""}, "key": {ME.key, YOU.key}, "team": {"search", ""}, "user": {"ada@example.com", ""},
        "tag": {"a", "b", ""}, "model": {"v3"}, "endpoint": {"embeddings"},
    }  # fmt: skip
    assert len({row["day"] for row in rows(database, "days")}) == 2
    assert {row["label"] for row in rows(database, "days") if row["kind"] == "key"} == {"me", "you"}


def test_what_is_old_goes_and_its_sums_stay(database: Database) -> None:
    old, new = Intent(call((ME, 60), at=NOON - 1_000)), Intent(call((ME, 60)))
    told = [Told("old", receipt(at=NOON - 1_000)), Told("new", receipt())]
    post(database, [old, new, *told])
    before = sums(database)
    post(database, [Prune(NOON - 500)])
    assert [row["id"] for row in rows(database, "calls")] == [new.call.id]
    assert [row["call_id"] for row in rows(database, "shares")] == [new.call.id]
    assert [row["id"] for row in rows(database, "requests")] == ["new"]
    assert sums(database) == before


def test_words_that_a_database_does_not_take_are_written_as_far_as_they_can_be(database: Database) -> None:
    odd = receipt(Account("a\0lias"), user="us\0er", tags=("t\0ag", "half \ud800"))
    intent = Intent(call((Account("a\0lias"), 60)))
    post(database, [intent, Ending(intent, paid(5), NOON), Told("id", odd)])
    (row,) = rows(database, "requests")
    assert (row["key_alias"], row["end_user"], row["tags"]) == ("a\ufffdlias", "us\ufffder", '["t\ufffdag","half ?"]')
    assert set(sums(database, "tag")) >= {"t\ufffdag", "half ?"}
