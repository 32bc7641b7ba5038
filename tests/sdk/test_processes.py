"""The SDK where processes begin and end: forked children, and scripts that are over at once."""

import multiprocessing
import os
import subprocess
import sys

import pytest

from cache_proxy import embedding
from cache_proxy.standin import Fault, StandIn
from tests.sdk.conftest import Upstream

MODEL = "jina_ai/jina-embeddings-v3"

# Python 3.12 and later say so whenever a process with threads forks.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def _ask_for_two(results: "multiprocessing.SimpleQueue[tuple[int, int]]") -> None:
    counts = embedding(MODEL, ["a", "b"]).receipt.counts
    results.put((counts.hits, counts.misses))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system can not fork")
def test_a_forked_child_can_call_and_its_parent_goes_on(standin: StandIn) -> None:
    embedding(MODEL, ["a"])
    context = multiprocessing.get_context("fork")
    results: multiprocessing.SimpleQueue[tuple[int, int]] = context.SimpleQueue()
    child = context.Process(target=_ask_for_two, args=(results,))
    child.start()
    child.join(20)
    hung = child.is_alive()
    if hung:
        child.kill()
        child.join()
    assert not hung, "the child waited for threads that only its parent has"
    assert child.exitcode == 0
    assert results.get() == (1, 1)
    after = embedding(MODEL, ["a", "b", "c"])
    assert (after.receipt.counts.hits, after.receipt.counts.misses) == (2, 1)
    assert standin.call_count == 3


def run(code: str) -> "subprocess.CompletedProcess[str]":
    options = ["-W", "error", "-c", code]
    return subprocess.run([sys.executable, *options], capture_output=True, text=True, timeout=30, check=False)


def test_a_script_ends_at_once_and_in_silence(upstream: Upstream) -> None:
    ended = run(
        "import logging; logging.disable(); import cache_proxy\n"
        f"print(cache_proxy.embedding({MODEL!r}, ['a']).usage.total_tokens)"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "3\n", "")


def test_a_script_that_gave_up_waiting_still_stores_what_it_paid_for(upstream: Upstream) -> None:
    upstream.standin.fail_next(Fault("delay", seconds=0.5, contains="slow one"))
    ended = run(
        "import asyncio, logging; logging.disable(); import cache_proxy\n"
        "async def main():\n"
        f"    await cache_proxy.aembedding({MODEL!r}, ['first'])\n"
        "    try:\n"
        f"        await asyncio.wait_for(cache_proxy.aembedding({MODEL!r}, ['slow one']), 0.2)\n"
        "    except TimeoutError:\n"
        "        print('gave up')\n"
        "asyncio.run(main())"
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "gave up\n", "")
    assert embedding(MODEL, ["slow one"]).receipt.counts.hits == 1
    assert upstream.standin.call_count == 2
