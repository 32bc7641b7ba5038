"""One run: a load, servers, a stand-in behind them, and the audit afterwards."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import httpx
import orjson

from bench import servers
from bench.economy.answers import is_right
from bench.economy.books import Audit, audit
from bench.economy.clients import Note, ask_all
from bench.economy.load import requests
from bench.economy.spellings import Request
from cache_proxy.standin import Call

OK = 200
SHORTEST, LONGEST = 0.005, 0.5
"""Seconds in which the upstream answers."""

Serving = Callable[[str], AbstractContextManager[list[str]]]
"""Servers before the upstream at this URL. Gives their URLs."""


@dataclass(frozen=True)
class Load:
    """What is asked: ``count`` requests by ``callers`` at a time, and the upstream's delays, all from one seed."""

    seed: int
    count: int
    callers: int

    @cached_property
    def requests(self) -> Sequence[Request]:
        return requests(self.seed, self.count)


@dataclass(frozen=True)
class Outcome:
    """What a run came to. ``told`` is the sum of what the answers' headers say was billed; latencies are seconds."""

    audit: Audit
    requests: int
    items: int
    told: int
    p50: float
    p99: float
    wrong: int
    failed: int

    @property
    def flawless(self) -> bool:
        """Whether every answer was a right one, and what the callers were told is what was billed."""
        return not (self.wrong or self.failed or self.audit.unpaid or self.audit.unasked) and (
            self.told == self.audit.billed
        )


def measure(load: Load, serving: Serving, requests: Sequence[Request] | None = None) -> Outcome:
    """Put the load (or only these of its requests) on the servers, and hold what it cost against what it had to."""
    with servers.slow_standin(SHORTEST, LONGEST, load.seed) as upstream, serving(upstream) as urls:
        notes = ask_all(urls, load.requests if requests is None else requests, load.callers)
        calls = books_of(upstream)
    return outcome(notes, calls)


def books_of(upstream: str) -> list[Call]:
    """Every call that the stand-in has answered. Raises ``RuntimeError`` if it has forgotten some."""
    log = orjson.loads(httpx.get(f"{upstream}/_standin/log", timeout=servers.PATIENCE, trust_env=False).content)
    calls = [Call(**call) for call in log["calls"]]
    if len(calls) != log["count"] or sum(call.tokens for call in calls) != log["billed_tokens"]:
        raise RuntimeError("the stand-in has not kept all its books: put a smaller load on it")
    return calls


def outcome(notes: Sequence[Note], calls: Sequence[Call]) -> Outcome:
    """What these answers and these books come to."""
    answered = [note for note in notes if note.status == OK]
    right = [note for note in answered if is_right(note.request, note.content)]
    seconds = sorted(note.seconds for note in notes)
    return Outcome(
        audit=audit([note.request.ask for note in notes], [note.request.ask for note in right], calls),
        requests=len(notes),
        items=sum(len(note.request.ask.items) for note in notes),
        told=sum(note.billed or 0 for note in notes),
        p50=seconds[len(seconds) // 2],
        p99=seconds[len(seconds) * 99 // 100],
        wrong=len(answered) - len(right),
        failed=len(notes) - len(answered),
    )
