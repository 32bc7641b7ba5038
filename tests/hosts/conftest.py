"""A stand-in for Jina behind a server, and settings that lead to it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cache_proxy.serving import hosted
from cache_proxy.settings import Settings, parse
from cache_proxy.standin import StandIn

EMBED: dict[str, Any] = {"model": "jina-embeddings-v3", "input": "a", "dimensions": 8}

MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="session")
def jina() -> Iterator[str]:
    """The base URL of a stand-in."""
    with hosted(StandIn()) as url:
        yield f"{url}/v1"


@pytest.fixture(scope="session")
def client() -> Iterator[httpx.Client]:
    # Without TLS there is nothing to verify, and loading certificates takes longer than any test here.
    with httpx.Client(verify=False, trust_env=False) as client:  # noqa: S501
        yield client


@pytest.fixture
def settings(jina: str, tmp_path: Path) -> MakeSettings:
    """Makes the settings of a document: on a disk store in that folder, or in memory."""

    def make(document: dict[str, Any] | None = None, folder: str | None = None) -> Settings:
        store = {"type": "disk", "disk_cache_dir": str(tmp_path / folder)} if folder else {"type": "local"}
        base: dict[str, dict[str, Any]] = {
            "cache_proxy_settings": {"log_format": "off"},
            "litellm_settings": {"cache": True, "cache_params": store},
        }
        for section, content in (document or {}).items():
            base[section] = {**base.get(section, {}), **content} if isinstance(content, dict) else content
        return parse(base, {"JINA_AI_API_KEY": "jina_test", "JINA_AI_API_BASE": jina})

    return make
