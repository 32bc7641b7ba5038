"""The backend on its page, as a user gets it: installed, configured, and used by a server that is started again."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_proxy.settings.plugins import GROUP
from cache_proxy.standin import StandIn
from tests.installed import install
from tests.integration.test_server import EMBED, KEY, cache_status, serving, standin, upstream
from tests.pages import blocks

__all__ = ["standin", "upstream"]

PAGE = "writing-a-backend.md"


def sections(folder: Path) -> dict[str, Any]:
    """The configuration on the page, for a folder that the test may write to, and without the memory tier."""
    (text,) = blocks(PAGE, "yaml")
    document: dict[str, Any] = yaml.safe_load(text)
    document["litellm_settings"]["cache_params"] |= {"directory": str(folder / "lmdb"), "max_mib": 64}
    return document | {"cache_proxy_settings": {"memory_mib": 0}}


@pytest.fixture
def installed(tmp_path: Path) -> None:
    """The module and the entry point on the page, where the server finds them: in the folder that it starts in."""
    (entry_points,) = blocks(PAGE, "toml")
    points = tomllib.loads(entry_points)["project"]["entry-points"][GROUP]
    install(tmp_path, "lmdb-store", points, {"lmdb_store": blocks(PAGE, "python")[0]})


def test_what_was_paid_for_is_in_the_installed_backend_when_the_server_is_started_again(
    tmp_path: Path, standin: StandIn, upstream: str, installed: None
) -> None:
    with serving(tmp_path, upstream, sections(tmp_path)) as server:
        first = server.post("/embeddings", EMBED)
        assert cache_status(first) == "fwd=miss; stored"
        assert "store: the backend lmdb of lmdb-store" in server.told()
    assert (tmp_path / "lmdb" / "data.mdb").exists()
    with serving(tmp_path, upstream, sections(tmp_path)) as server:
        second = server.post("/embeddings", EMBED)
        assert cache_status(second) == "hit"
        assert second.json()["data"] == first.json()["data"]
        store = server.client.get("/health", headers=KEY).json()["store"]
        assert (store["type"], store["status"]) == ("lmdb", "healthy")
        assert server.client.post("/cache/flushall", headers=KEY).status_code == 200
        assert cache_status(server.post("/embeddings", EMBED)) == "fwd=miss; stored"
    assert standin.call_count == 2
