"""``cache-proxy demo``: a real corpus through a real proxy, twice, against the stand-in for Jina."""

import ast
import http.client
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from rich.console import Console
from rich.table import Table

from cache_proxy.asgi.standalone import build
from cache_proxy.reporting.usage import table as usage_table
from cache_proxy.serving import hosted
from cache_proxy.settings import Settings, parse
from cache_proxy.standin import StandIn
from cache_proxy.wiring.reading import Reader

EMBEDDER = "jina-embeddings-v5-text-small"
RERANKER = "jina-reranker-v2-base-multilingual"
QUERY = "read a file line by line"
BATCH = 256
CANDIDATES = 100
TOP_N = 3


@dataclass
class Step:
    """One row of the table: sums over the step's requests."""

    name: str
    items: int = 0
    hits: int = 0
    billed: int = 0
    saved: int = 0
    seconds: float = 0.0


def run(texts: int, edited: int) -> None:
    """Run the demo and print its table."""
    console = Console()
    corpus = list(islice(docstrings(), texts))
    console.print(f"{len(corpus)} docstrings of Python's standard library; the second time {edited} are edited.")
    standin = StandIn()
    with tempfile.TemporaryDirectory(prefix="cache-proxy-demo-") as folder, hosted(standin) as upstream:
        used = settings(upstream, folder)
        with hosted(build(used)) as proxy, closing(Visitor(proxy)) as visitor:
            steps = list(walk(visitor, corpus, edited))
        with closing(Reader(used.ledger)) as reader:
            usage = reader.usage("tag", None, None) or []
    console.print(table(steps))
    billed = sum(step.billed for step in steps)
    console.print(f"The stand-in's own books: {standin.billed_tokens} tokens billed; the table's rows: {billed}.")
    console.print("\nWhat the ledger says of it, as `cache-proxy usage --by tag` prints it:")
    console.print(usage_table(usage, "tag"))


def settings(upstream: str, folder: str) -> Settings:
    """A server like ``make run``'s, but for the upstream and the folder."""
    environ = {"JINA_AI_API_KEY": "jina_demo", "JINA_AI_API_BASE": f"{upstream}/v1", "CACHE_PROXY_DIR": folder}
    return parse({"cache_proxy_settings": {"log_format": "off"}}, environ)


def docstrings() -> Iterator[str]:
    """The distinct docstrings of the standard library, in the order of its files."""
    seen = set()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for text in _docstrings_of(path):
            if text not in seen:
                seen.add(text)
                yield text


def _docstrings_of(path: Path) -> Iterator[str]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(path.read_bytes())):
        text = ast.get_docstring(node) if isinstance(node, kinds) else None
        if text:
            yield text


def walk(visitor: "Visitor", corpus: Sequence[str], edited: int) -> Iterator[Step]:
    """What a team does all day."""
    yield visitor.embed("embed everything", corpus)
    stride = max(1, len(corpus) // max(1, edited))
    places = set(range(0, len(corpus), stride)[:edited] if edited else ())
    again = [text + "\n\nEdited." if place in places else text for place, text in enumerate(corpus)]
    yield visitor.embed(f"again, {len(places)} edited", again)
    yield visitor.rerank(f"rerank {min(CANDIDATES, len(corpus))}", corpus[:CANDIDATES], None)
    yield visitor.rerank(f"again, top {TOP_N} only", corpus[:CANDIDATES], TOP_N)


class Visitor:
    """A client of the proxy that reads what its headers tell."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def embed(self, name: str, texts: Sequence[str]) -> Step:
        """Embed these texts in batches."""
        step = Step(name)
        for start in range(0, len(texts), BATCH):
            body = {"model": EMBEDDER, "input": list(texts[start : start + BATCH])}
            self._post("/v1/embeddings", body, step, tag="index")
        return step

    def rerank(self, name: str, documents: Sequence[str], top_n: int | None) -> Step:
        """Rank these documents."""
        step = Step(name)
        body = {"model": RERANKER, "query": QUERY, "documents": list(documents), "top_n": top_n}
        self._post("/v1/rerank", body, step, tag="search")
        return step

    def _post(self, path: str, body: dict[str, Any], step: Step, tag: str) -> None:
        began = time.perf_counter()
        headers = {"content-type": "application/json", "x-litellm-tags": tag}
        self._connection.request("POST", path, orjson.dumps(body), headers)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(f"{path} answered {response.status}: {answer[:200]!r}")
        step.seconds += time.perf_counter() - began
        step.billed += int(response.headers["x-tokens-billed"])
        step.saved += int(response.headers["x-tokens-saved"])
        counts = _detail(response.headers["cache-status"])
        step.items += counts["items"]
        step.hits += counts["hit"]


def _detail(cache_status: str) -> dict[str, int]:
    words = cache_status.partition('detail="')[2].rstrip('"').split()
    return {name: int(count) for name, _, count in (word.partition("=") for word in words)}


def table(steps: Sequence[Step]) -> Table:
    """What the steps cost and saved."""
    shown = Table()
    for name in ("step", "items", "hits", "tokens billed", "tokens saved", "time"):
        shown.add_column(name, justify="left" if name == "step" else "right")
    for step in steps:
        numbers = (step.items, step.hits, step.billed, step.saved)
        shown.add_row(step.name, *(f"{number:,}" for number in numbers), f"{step.seconds * 1000:,.0f} ms")
    return shown
