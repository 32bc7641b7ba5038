"""For any sequence of requests, the answer through the proxy equals the answer without it (``usage`` and ids aside)."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_proxy.standin import StandIn
from tests.bodies import MODELS, Step, sequences
from tests.support import UPSTREAM, proxy

Respell = Callable[[bytes], bytes]

KEY = {"authorization": "Bearer jina_test"}
STORES: dict[str, dict[str, Any]] = {
    "memory": {"litellm_settings": {"cache": True, "cache_params": {"type": "local"}}},
    "a memory that forgets": {
        "litellm_settings": {"cache": True, "cache_params": {"type": "local"}},
        "cache_proxy_settings": {"memory_mib": 1},
    },
    "disk behind memory": {},
    "disk alone": {"cache_proxy_settings": {"memory_mib": 0}},
    "disk, and URLs are cached": {"cache_proxy_settings": {"cache_urls": 3600}},
    "no cache": {"litellm_settings": {"cache": False}},
}


def _widened(value: Any) -> Any:
    """Every number as the double that its float32 is."""
    if isinstance(value, float):
        return float(np.float32(value))
    if isinstance(value, list):
        return [_widened(member) for member in value]
    if isinstance(value, dict):
        return {name: _widened(member) for name, member in value.items()}
    return value


def _python(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


FORMS: dict[str, Respell] = {
    "as it is": lambda raw: raw,
    "python's exponents": lambda raw: _python(orjson.loads(raw)),
    "float32 as double": lambda raw: orjson.dumps(_widened(orjson.loads(raw))),
    "float32 as double by python": lambda raw: _python(_widened(orjson.loads(raw))),
}


class Respelled:
    """An upstream whose 200s are written by another serializer, and with its embeddings in any order."""

    def __init__(self, app: ASGIApp, respell: Respell, *, backwards: bool = False) -> None:
        self._app = app
        self._respell = respell
        self._backwards = backwards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = []

        async def hold(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, hold)
        start, body = messages[0], b"".join(message["body"] for message in messages[1:])
        if start["status"] == 200:
            body = self._rewritten(body)
        headers = [pair for pair in start["headers"] if pair[0] != b"content-length"]
        await send({**start, "headers": [*headers, (b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    def _rewritten(self, body: bytes) -> bytes:
        if self._backwards:
            body = _backwards(body)
        return self._respell(body)


def _backwards(body: bytes) -> bytes:
    """The rows of vectors in reverse, each with its index. What is no vector, nobody here would put in order again."""
    head, found, data = body.partition(b'"data":[')
    if not found or b'"embedding":{' in data:
        return body
    rows = data.removesuffix(b"]}").split(b',{"object"')
    rows[1:] = [b'{"object"' + row for row in rows[1:]]
    return head + found + b",".join(reversed(rows)) + b"]}"


@dataclass
class Totals:
    """What was asked and how it was answered, so that a run can show that it was worth something."""

    requests: int = 0
    answers: int = 0
    items: int = 0
    hits: int = 0
    joined: int = 0
    billed: int = 0
    in_vain: int = 0
    """The most that was billed for requests that failed all the same: another part of them was refused."""

    def add(self, answer: httpx.Response) -> None:
        billed = int(answer.headers.get("x-tokens-billed", 0))
        counts = dict(_COUNT.findall(answer.headers.get("cache-status", "")))
        self.requests += 1
        self.answers += answer.status_code == 200
        self.items += int(counts.get("items", 0))
        self.hits += int(counts.get("hit", 0))
        self.joined += int(counts.get("joined", 0))
        self.billed += billed

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))


_COUNT = re.compile(r"(\w+)=(\d+)")


_PARTS = {"input", "content", "texts", "documents"}


@dataclass
class Pair:
    """The two ways to one answer."""

    through: httpx.AsyncClient
    direct: httpx.AsyncClient
    apart: httpx.AsyncClient
    behind: StandIn
    alone: StandIn
    totals: Totals = field(default_factory=Totals)
    failures: list[str] = field(default_factory=list)

    async def compare(self, step: Step) -> None:
        expected = await self.direct.post(step.path, json=step.bare)
        answer = await self.through.post(step.path, json=step.body, headers=step.headers)
        self.totals.add(answer)
        if answer.status_code != 200 and answer.headers.get("x-tokens-billed", "0") != "0":
            self.totals.in_vain += await self._parts_of(step)
        complaint = differs(answer, expected)
        if complaint is not None:
            self.failures.append(f"{complaint}: {step.path} {shortened(step.body)} {step.headers}")

    async def _parts_of(self, step: Step) -> int:
        """What the parts of a request cost, each by itself. In a call with others' items they are billed together, and
        a request's share of it is an estimate.
        """
        cost = 0
        for name in _PARTS & step.bare.keys():
            for part in step.bare[name] if isinstance(step.bare[name], list) else ():
                answer = await self.apart.post(step.path, json={**step.bare, name: [part]})
                cost += answer.json()["usage"]["total_tokens"] if answer.status_code == 200 else 0
        return cost

    def check(self) -> None:
        """Everything was equal, every token is accounted for, and none was spent that a bare client would have kept."""
        assert self.failures == []
        assert self.totals.billed == self.behind.billed_tokens
        assert self.behind.billed_tokens <= self.alone.billed_tokens + self.totals.in_vain


def differs(answer: httpx.Response, expected: httpx.Response) -> str | None:
    """What is wrong with an answer through the proxy, or ``None``."""
    told = f"{answer.status_code} for {expected.status_code}"
    if expected.status_code == 200 == answer.status_code:
        return None if is_same(answer, expected) else "another answer"
    if answer.status_code == 504 and "only-if-cached" in answer.request.headers.get("cache-control", ""):
        return None if answer.json()["error"]["code"] == "not_cached" else told
    if 200 in (answer.status_code, expected.status_code):
        return f"{told} ({answer.text[:200]})"
    if is_ours(answer):
        return None if 400 <= answer.status_code < 500 and 400 <= expected.status_code < 500 else told
    return None if answer.status_code == expected.status_code else told


def is_ours(answer: httpx.Response) -> bool:
    """Whether the proxy itself refused, before the upstream saw anything."""
    return bool(answer.json().get("error", {}).get("type") == "invalid_request_error")


_USAGE = re.compile(rb'"usage":\{[^{}]*\}')
"""It is in no text: there its quotes would be escaped."""


def is_same(answer: httpx.Response, expected: httpx.Response) -> bool:
    """Whether these say the same, but for what may differ."""
    # Large ones are vectors, whose numbers take long to be read one by one; and nearly all are the same to the byte.
    bare = [_USAGE.sub(b"", each.content, count=1) for each in (answer, expected)]
    return bare[0] == bare[1] or substance(answer) == substance(expected)


def substance(answer: httpx.Response) -> Any:
    """The answer without what may differ. Numbers are their text: equal doubles that are spelled apart differ."""
    body = json.loads(answer.content, parse_float=_Written, parse_int=_Written)
    return {name: value for name, value in body.items() if name not in ("usage", "id", "meta")}


class _Written(str):
    """A number as it was written; no string of the answer equals it."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Written) and str.__eq__(self, other)


def shortened(body: Any) -> str:
    text = repr(body)
    return text if len(text) < 600 else f"{text[:600]}…"


@asynccontextmanager
async def both(store: str, form: str, *, backwards: bool, delay: float = 0.0) -> AsyncIterator[Pair]:
    """A proxy before one stand-in, and a second stand-in of the same kind to be asked directly."""
    behind, alone = StandIn(delay=delay), StandIn()
    document = {**STORES[store]}
    # A refusal is not worth another try here: the same request would be refused again, after a pause.
    document["litellm_settings"] = {**document.get("litellm_settings", {}), "num_retries": 0}
    upstream = Respelled(behind, FORMS[form], backwards=backwards)
    plain, bare = httpx.ASGITransport(Respelled(alone, FORMS[form])), httpx.ASGITransport(StandIn())
    with TemporaryDirectory() as folder:
        async with (
            proxy(upstream, Path(folder), document) as through,
            httpx.AsyncClient(transport=plain, base_url=UPSTREAM, headers=KEY) as direct,
            httpx.AsyncClient(transport=bare, base_url=UPSTREAM, headers=KEY) as apart,
        ):
            yield Pair(through, direct, apart, behind, alone)


async def one_after_the_other(steps: Sequence[Step], store: str, form: str, backwards: bool) -> Totals:
    async with both(store, form, backwards=backwards) as pair:
        for step in steps:
            await pair.compare(step)
    pair.check()
    return pair.totals


async def all_at_once(steps: Sequence[Step], store: str, form: str, backwards: bool) -> Totals:
    async with both(store, form, backwards=backwards, delay=0.001) as pair:
        await asyncio.gather(*map(pair.compare, steps))
    pair.check()
    return pair.totals


PARTS = 4
"""A long run is one of several, so that they may run beside each other."""

Run = Callable[[Sequence[Step], str, str, bool], Coroutine[None, None, Totals]]


def generated(run: Run, path: str, model: str, examples: int, part: int = 0) -> Totals:
    """Run so many sequences round this model, each with a store and a form of numbers of its own. Always the same, and
    others for another part.
    """
    total = Totals()

    @seed(part)
    @given(sequences(path, model), st.sampled_from(list(STORES)), st.sampled_from(list(FORMS)), st.booleans())
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        print_blob=True,
        # A sequence is large on purpose.
        suppress_health_check=list(HealthCheck),
    )
    def sequence(steps: list[Step], store: str, form: str, backwards: bool) -> None:
        nonlocal total
        total += asyncio.run(run(steps, store, form, backwards))

    sequence()
    return total


@pytest.mark.parametrize(("path", "model"), MODELS)
def test_any_sequence_of_requests_is_answered_as_without_the_proxy(path: str, model: str) -> None:
    total = generated(one_after_the_other, path, model, examples=5)
    assert total.requests >= 40
    assert total.answers > 0


@pytest.mark.parametrize(("path", "model"), MODELS)
def test_requests_fired_all_at_once_are_answered_as_without_the_proxy(path: str, model: str) -> None:
    assert generated(all_at_once, path, model, examples=2).answers > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(1, PARTS + 1))
@pytest.mark.parametrize(
    ("run", "examples", "least"), [(one_after_the_other, 15, 20_000 / PARTS), (all_at_once, 5, 5_000 / PARTS)]
)
def test_twenty_thousand_requests_are_answered_as_without_the_proxy(
    run: Run, examples: int, least: float, part: int
) -> None:
    total = sum((generated(run, path, model, examples, part) for path, model in MODELS), Totals())
    print(total)
    assert total.requests >= least
    assert total.answers > total.requests / 2
    assert total.hits + total.joined > total.items / 10
