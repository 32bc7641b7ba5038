"""The SDK of this process before a stand-in of its own, as a fresh script would find it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cache_proxy.sdk.calls import portal
from cache_proxy.serving import hosted
from cache_proxy.standin import StandIn


@dataclass
class Upstream:
    """A stand-in, and the base URL it is found at."""

    standin: StandIn
    base: str


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    standin = StandIn()
    for name in ("CACHE_PROXY_CONFIG", "REDIS_URL", "JINA_API_KEY", "JINA_AI_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JINA_AI_API_KEY", "jina_sdk")
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path / "store"))
    with hosted(standin) as url:
        monkeypatch.setenv("JINA_AI_API_BASE", f"{url}/v1")
        yield Upstream(standin, f"{url}/v1")
        portal.close()


@pytest.fixture
def standin(upstream: Upstream) -> StandIn:
    return upstream.standin
