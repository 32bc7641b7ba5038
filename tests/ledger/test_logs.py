"""Single requests are found by what was asked for, when, and for whom; each once, whatever the pages."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cache_proxy.ledger import logs
from cache_proxy.ledger.database import Database
from cache_proxy.ledger.found import Filters, is_tag_ambiguous
from cache_proxy.ledger.logs import page
from tests.ledger.writing import JOB, LOCAL, clear, post, receipt


def ids(database: Database, filters: Filters) -> list[str]:
    return [row.request_id for row in page(database, filters, 0, 100).rows]


@pytest.fixture
def written(database: Database) -> Database:
    post(
        database,
        receipt(10.0, request_id="first", tags=("a", "b"), end_user="ben"),
        receipt(20.0, request_id="second", account=JOB, model="jina-reranker-m0", status=500),
        receipt(30.0, request_id="third", account=LOCAL, tags=("A",), price=None, billed=7),
    )
    return database


def test_the_newest_come_first_unless_the_oldest_are_asked_for(written: Database) -> None:
    assert ids(written, Filters()) == ["third", "second", "first"]
    assert [row.request_id for row in page(written, Filters(), 0, 2, newest=False).rows] == ["first", "second"]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(since=20.0), ["third", "second"]),
        (Filters(until=20.0), ["first"]),
        (Filters(since=20.0, until=30.0), ["second"]),
        (Filters(key_hashes=("a" * 64,)), ["first"]),
        (Filters(key_hashes=("f" * 64,), key_alias="job"), ["second"]),
        (Filters(key_hashes=("f" * 64,), key_alias="anna"), []),
        (Filters(request_id="third"), ["third"]),
        (Filters(user="anna"), ["first"]),
        (Filters(user=""), ["third", "second"]),
        (Filters(team="search"), ["second", "first"]),
        (Filters(team=""), ["third"]),
        (Filters(end_user="ben"), ["first"]),
        (Filters(tag="b"), ["first"]),
        (Filters(tag="A"), ["third"]),
        (Filters(tag=""), ["second"]),
        (Filters(model="jina-reranker-m0"), ["second"]),
        (Filters(model="jina_ai/jina-reranker-m0"), ["second"]),
        (Filters(succeeded=False), ["second"]),
        (Filters(succeeded=True), ["third", "first"]),
        (Filters(succeeded=True, team="search"), ["first"]),
    ],
)
def test_what_is_looked_for_is_found_and_nothing_else(written: Database, filters: Filters, found: list[str]) -> None:
    assert ids(written, filters) == found


def test_a_row_is_what_the_receipt_said(written: Database) -> None:
    (row,) = page(written, Filters(request_id="third"), 0, 1).rows
    assert (row.key_alias, row.key_hash, row.tags, row.tokens_billed, row.cost) == ("local", "", ("A",), 7, None)
    assert (row.started_at, row.latency, row.status, row.model_group) == (30.0, 0.25, 200, "jina_ai/jina-embeddings-v3")


texts = st.text(st.sampled_from(',"[]\\a%_é '), max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.lists(texts, max_size=3).map(tuple), max_size=5), wanted=texts)
def test_a_tag_is_found_in_exactly_the_requests_that_have_it(
    database: Database, rows: Sequence[tuple[str, ...]], wanted: str
) -> None:
    clear(database)
    post(database, *(receipt(float(at), tags=tags) for at, tags in enumerate(rows)))
    for tag in {wanted, *(tag for tags in rows for tag in tags)}:
        if tag and not is_tag_ambiguous(tag):
            found = [row.started_at for row in page(database, Filters(tag=tag), 0, 100, newest=False).rows]
            assert found == [at for at, tags in enumerate(rows) if tag in tags]


def test_pages_have_each_row_once_though_many_are_of_the_same_moment(database: Database) -> None:
    post(database, *(receipt(float(at % 3), request_id=str(at)) for at in range(25)))
    pages = [page(database, Filters(), offset, 10, counted=True) for offset in (0, 10, 20)]
    assert sorted(int(row.request_id) for found in pages for row in found.rows) == list(range(25))
    assert {(found.total, found.is_capped) for found in pages} == {(25, False)}


def test_counting_ends_where_it_would_take_long(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "COUNTED", 5)
    post(database, *(receipt(float(at)) for at in range(6)))
    assert page(database, Filters(), 0, 1, counted=True)[1:] == (5, True)
    assert page(database, Filters(since=1.0), 0, 1, counted=True)[1:] == (5, False)
