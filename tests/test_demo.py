"""The demo, small: what its table says is what the stand-in's own books say."""

import json
from contextlib import closing
from itertools import islice
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from cache_proxy.asgi.standalone import build
from cache_proxy.cli import main
from cache_proxy.demo import Step, Visitor, docstrings, settings, walk
from cache_proxy.serving import hosted
from cache_proxy.standin import StandIn
from cache_proxy.standin.tokens import text_tokens

TEXTS, EDITED = 60, 7


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[StandIn, list[str], list[Step]]:
    standin = StandIn()
    corpus = list(islice(docstrings(), TEXTS))
    folder = str(tmp_path_factory.mktemp("demo"))
    with hosted(standin) as upstream, hosted(build(settings(upstream, folder))) as proxy:
        with closing(Visitor(proxy)) as visitor:
            steps = list(walk(visitor, corpus, EDITED))
    return standin, corpus, steps


def test_the_corpus_is_real_and_has_no_text_twice() -> None:
    corpus = list(islice(docstrings(), 300))
    assert len(set(corpus)) == 300
    assert sum(map(len, corpus)) > 10_000


def test_the_second_pass_bills_the_edited_texts_only(shown: tuple[StandIn, list[str], list[Step]]) -> None:
    standin, corpus, (first, second, _, _) = shown
    assert (first.items, first.hits) == (TEXTS, 0)
    assert (second.items, second.hits) == (TEXTS, TEXTS - EDITED)
    (again,) = [call for call in standin.calls if call.endpoint == "embeddings"][1:]
    assert len(again.body["input"]) == EDITED
    assert all(text.endswith("\n\nEdited.") for text in again.body["input"])
    assert second.billed == again.tokens == sum(map(text_tokens, again.body["input"]))
    assert first.billed == sum(map(text_tokens, corpus))


def test_the_second_ranking_costs_nothing(shown: tuple[StandIn, list[str], list[Step]]) -> None:
    _, _, (_, _, ranked, top) = shown
    assert ranked.billed > 0
    assert (top.billed, top.hits) == (0, TEXTS)
    assert top.saved == ranked.billed


def test_the_books_agree(shown: tuple[StandIn, list[str], list[Step]]) -> None:
    standin, _, steps = shown
    assert standin.billed_tokens == sum(step.billed for step in steps)


def test_the_command_prints_its_table() -> None:
    ended = CliRunner().invoke(main, ["demo", "--texts", str(TEXTS), "--edited", str(EDITED)])
    assert ended.exit_code == 0, ended.output
    for word in ("items", "hits", "tokens billed", "tokens saved", "embed everything", f"again, {EDITED} edited"):
        assert word in ended.output
    for word in ("usage --by tag", "index", "search"):
        assert word in ended.output
    books = ended.output.partition("own books:")[2].partition("\n")[0]
    in_the_books, in_the_table = [int(word.strip(".;")) for word in books.split() if word.strip(".;").isdigit()]
    assert in_the_books == in_the_table > 0


def test_the_ledger_the_metrics_the_answers_and_the_upstream_agree_to_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standin = StandIn()
    with hosted(standin) as upstream:
        with hosted(build(settings(upstream, str(tmp_path)))) as proxy:
            with closing(Visitor(proxy)) as visitor:
                steps = list(walk(visitor, list(islice(docstrings(), TEXTS)), EDITED))
            metrics = httpx.get(f"{proxy}/metrics", headers={"content-type": "application/json"}).text
    families = {family.name: family for family in text_string_to_metric_families(metrics)}
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path))
    for by in ("key", "team", "user", "tag", "model", "endpoint", "day"):
        ended = CliRunner().invoke(main, ["usage", "--by", by, "--format", "json"])
        rows = json.loads(ended.stdout)["rows"]
        told = {
            "billed": sum(row["tokens_billed"] for row in rows),
            "saved": sum(row["tokens_saved"] for row in rows),
            "unsettled": sum(row["tokens_unsettled"] for row in rows),
            "items": sum(row["items"] for row in rows),
        }
        assert told == {
            "billed": standin.billed_tokens,
            "saved": sum(step.saved for step in steps),
            "unsettled": 0,
            "items": sum(step.items for step in steps),
        }
    assert sum(sample.value for sample in families["cache_proxy_tokens_billed"].samples) == standin.billed_tokens
    assert sum(sample.value for sample in families["cache_proxy_tokens_saved"].samples) == sum(
        step.saved for step in steps
    )


def test_nothing_edited_bills_nothing_the_second_time(tmp_path: Path) -> None:
    with hosted(StandIn()) as upstream, hosted(build(settings(upstream, str(tmp_path)))) as proxy:
        with closing(Visitor(proxy)) as visitor:
            first, second, _, _ = walk(visitor, ["one", "two"], 0)
    assert first.billed > 0
    assert second.billed == 0
