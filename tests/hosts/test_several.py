"""Two middlewares in one process, and an app that has a package called ``backends``."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp

from cache_proxy import CacheProxyMiddleware
from tests.hosts.alone import how
from tests.hosts.conftest import EMBED, MakeSettings
from tests.hosts.test_lifespans import lived, types

ROOT = Path(__file__).resolve().parent.parent.parent


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")


def keyed(key: str) -> dict[str, Any]:
    return {"general_settings": {"master_key": key}}


@pytest.mark.anyio
@pytest.mark.parametrize("folders", [("one", "two"), ("shared", "shared")])
async def test_two_with_their_own_configurations_do_not_disturb_each_other(
    settings: MakeSettings, folders: tuple[str, str]
) -> None:
    cache = settings(folder=folders[1]).cache
    apart = replace(settings(keyed("sk-two")), cache=replace(cache, namespace="apart"))
    first = CacheProxyMiddleware(Starlette(), settings=settings(keyed("sk-one"), folders[0]), prefix="/one")
    app = CacheProxyMiddleware(first, settings=apart, prefix="/two")
    async with client_of(app) as client:
        for prefix, key, other in (("/one", "sk-one", "sk-two"), ("/two", "sk-two", "sk-one")):
            refused = await client.post(f"{prefix}/embeddings", json=EMBED, headers={"x-api-key": other})
            assert refused.status_code == 401
            asked = [await client.post(f"{prefix}/embeddings", json=EMBED, headers={"x-api-key": key}) for _ in "12"]
            # Neither finds what the other has stored: their namespaces differ.
            assert [how(answer) for answer in asked] == ["fwd=miss", "hit"]
        await first.wired.close()
        again = await client.post("/two/embeddings", json=EMBED, headers={"x-api-key": "sk-two"})
        assert how(again) == "hit"
    await app.wired.close()


@pytest.mark.anyio
async def test_two_on_one_store_find_each_others_answers(settings: MakeSettings) -> None:
    first = CacheProxyMiddleware(Starlette(), settings=settings(folder="shared"), prefix="/one", auth="open")
    app = CacheProxyMiddleware(first, settings=settings(folder="shared"), prefix="/two", auth="open")
    async with client_of(app) as client:
        await client.post("/one/embeddings", json=EMBED)
        await first.wired.close()
        assert how(await client.post("/two/embeddings", json=EMBED)) == "hit"
    await app.wired.close()


@pytest.mark.anyio
async def test_two_live_through_one_lifespan(settings: MakeSettings) -> None:
    first = CacheProxyMiddleware(Starlette(), settings=settings(folder="one"), prefix="/one", auth="open")
    app = CacheProxyMiddleware(first, settings=settings(folder="two"), prefix="/two", auth="open")
    heard = await lived(app)
    assert types(heard) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert (first.wired.running, app.wired.running) == (None, None)


APP = """
import asyncio, sys
import backends
from backends.local import ANSWER
from cache_proxy import CacheProxyMiddleware
from cache_proxy.settings import parse

async def host(scope, receive, send):
    from backends.late import WORD
    print(ANSWER, WORD)

app = CacheProxyMiddleware(host, settings=parse({}, {"CACHE_PROXY_DIR": sys.argv[1]}), auth="open")

async def send(message):
    print(message.get("status") or message["body"].decode()[:18])

async def main():
    for path in ("/theirs", "/health/readiness"):
        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        await app(scope, None, send)

asyncio.run(main())
print(backends.__file__)
"""


@pytest.mark.parametrize("place", ["a checkout", "an installation"])
def test_an_app_with_a_package_called_backends_is_not_shadowed(tmp_path: Path, place: str) -> None:
    own = tmp_path / "app" / "backends"
    own.mkdir(parents=True)
    (own / "__init__.py").write_text("")
    (own / "local.py").write_text("ANSWER = 'of the app'\n")
    (own / "late.py").write_text("WORD = 'as ever'\n")
    (tmp_path / "app" / "app.py").write_text(APP)
    ours = ROOT
    if place == "an installation":
        ours = tmp_path / "site"
        ours.mkdir()
        (ours / "cache_proxy").symlink_to(ROOT / "cache_proxy")
    else:
        assert (ours / "backends").is_dir()
    ended = subprocess.run(
        [sys.executable, "app.py", str(tmp_path / "store")],
        cwd=tmp_path / "app",
        env={**os.environ, "PYTHONPATH": str(ours)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines() == ["of the app as ever", "200", '{"status":"healthy', str(own / "__init__.py")]
