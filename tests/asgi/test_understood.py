"""Requests that came before are remembered byte for byte, and never taken for another."""

from pathlib import Path

import orjson
import pytest

from cache_proxy.core.asked import Asked, understand
from cache_proxy.core.understood import Memory, Understood
from cache_proxy.models import Endpoint, Policy
from cache_proxy.standin import StandIn
from cache_proxy.wiring import names
from tests.support import proxy, settings_for

MODEL = "jina-embeddings-v3"


def asked(tmp_path: Path, *texts: str) -> Asked:
    body = {"model": MODEL, "input": list(texts)}
    policy = Policy(endpoints=frozenset(Endpoint))
    return understand(Endpoint.EMBEDDINGS, body, None, names(settings_for(tmp_path)), policy)


def test_only_the_very_same_bytes_with_the_same_cache_control_are_recalled(tmp_path: Path) -> None:
    memory = Memory(100_000)
    understood = Understood(asked(tmp_path, "a"), None, ())
    memory.remember((b"{}", None, ""), understood)
    assert memory.recall((b"{}", None, "")) is understood
    assert memory.recall((b"{} ", None, "")) is None
    assert memory.recall((b"{}", "no-cache", "")) is None
    assert memory.recall((b"{}", None, "room")) is None


def test_the_least_recently_used_request_is_forgotten_first(tmp_path: Path) -> None:
    memory = Memory(20_000)
    understood = Understood(asked(tmp_path, "a"), None, ())
    bodies = [b"%d" % number for number in range(30)]
    for body in bodies:
        memory.remember((body, None, ""), understood)
        memory.recall((bodies[0], None, ""))
    kept = [body for body in bodies if memory.recall((body, None, ""))]
    assert bodies[0] in kept
    assert bodies[1] not in kept
    assert bodies[-1] in kept
    assert 10 < len(kept) < 20


def test_a_request_that_would_crowd_out_the_others_is_not_kept(tmp_path: Path) -> None:
    memory = Memory(20_000)
    memory.remember((b"small", None, ""), Understood(asked(tmp_path, "a"), None, ()))
    memory.remember((b"x" * 1000, None, ""), Understood(asked(tmp_path, "a"), None, ()))
    memory.remember((b"many", None, ""), Understood(asked(tmp_path, *"abcdefgh"), None, ()))
    assert memory.recall((b"small", None, ""))
    assert memory.recall((b"x" * 1000, None, "")) is None
    assert memory.recall((b"many", None, "")) is None


def test_no_room_remembers_nothing(tmp_path: Path) -> None:
    memory = Memory(0)
    memory.remember((b"", None, ""), Understood(asked(tmp_path, "a"), None, ()))
    assert memory.recall((b"", None, "")) is None


@pytest.mark.anyio
@pytest.mark.parametrize("memory_mib", [0, 128])
async def test_the_same_bytes_again_tell_the_same_story(tmp_path: Path, memory_mib: int) -> None:
    body = orjson.dumps({"model": MODEL, "input": ["a", "b", "a"], "user": "ann", "metadata": {"tags": ["t"]}})
    async with proxy(StandIn(), tmp_path, {"cache_proxy_settings": {"memory_mib": memory_mib}}) as client:
        first, second = [await client.post("/embeddings", content=body) for _ in range(2)]
        bypassed = await client.post("/embeddings", content=body, headers={"cache-control": "no-cache"})
        third = await client.post("/embeddings", content=body)
    assert second.json()["data"] == first.json()["data"]
    assert 'fwd=miss; stored; detail="items=3 hit=0 miss=2 dup=1 joined=0"' in first.headers["cache-status"]
    assert 'hit; detail="items=3 hit=3' in second.headers["cache-status"]
    assert "fwd=bypass" in bypassed.headers["cache-status"]
    assert third.headers["cache-status"] == second.headers["cache-status"]


@pytest.mark.anyio
async def test_a_request_that_was_refused_is_refused_again(tmp_path: Path) -> None:
    body = orjson.dumps({"model": MODEL, "input": []})
    async with proxy(StandIn(), tmp_path) as client:
        replies = [await client.post("/embeddings", content=body) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [422, 422]
    assert replies[0].json()["error"]["param"] == replies[1].json()["error"]["param"] == "input"


@pytest.mark.anyio
async def test_one_endpoint_never_answers_with_what_another_was_asked(tmp_path: Path) -> None:
    body = orjson.dumps({"model": "jina-reranker-m0", "query": "q", "documents": ["d"], "input": ["x"]})
    async with proxy(StandIn(), tmp_path) as client:
        ranked = await client.post("/rerank", content=body)
        embedded = await client.post("/embeddings", content=body)
    assert ranked.status_code == 200
    assert embedded.status_code != 200
