"""The code on the middleware's page does what the page says."""

import logging
import re
import sys
from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from starlette.types import ASGIApp

from cache_proxy import CacheProxyMiddleware
from cache_proxy.asgi.auth import Auth
from cache_proxy.asgi.inner import FORWARDED
from cache_proxy.asgi.middleware import BESIDE_THE_APP
from cache_proxy.settings import parse
from tests.hosts import django_host
from tests.hosts.conftest import EMBED
from tests.hosts.model_apps import Works, infinity, vllm

pytestmark = pytest.mark.anyio

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs" / "middleware.md").read_text()
KEY = {"authorization": "Bearer sk-page"}


def block(language: str, mark: str) -> str:
    """The one block that holds this mark."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) if mark in code]
    return str(found)


def run(mark: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(block("python", mark), "middleware.md", "exec"), names)  # noqa: S102  it is our own page
    return names


@pytest.fixture(autouse=True)
def config(jina: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The ``config.yaml`` of the page, where the apps of the page look for it."""
    handlers, level = logging.root.handlers[:], logging.root.level
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JINA_AI_API_BASE", jina)
    monkeypatch.setenv("JINA_AI_API_KEY", "jina_test")
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "mysite.settings")
    Path("config.yaml").write_text("general_settings: {master_key: sk-page}\n")
    django_host.build()
    yield
    # Litestar sets up logging for the whole process.
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


async def answer(app: ASGIApp, path: str, headers: dict[str, str], body: dict[str, Any] = EMBED) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        return await client.post(path, json=body)


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("app = FastAPI()", "app"),
        ("CacheProxyMiddleware(Starlette(), config=\"config.yaml\", prefix=\"/jina\")", "app"),
        ("get_asgi_application", "application"),
        ("Litestar([])", "app"),
    ],
)  # fmt: skip
async def test_each_host_on_the_page_serves_ours_under_its_prefix(mark: str, name: str) -> None:
    app = run(mark)[name]
    assert (await answer(app, "/jina/v1/embeddings", KEY)).status_code == 200
    assert (await answer(app, "/jina/v1/embeddings", {})).status_code == 401
    assert (await answer(app, "/embeddings", KEY)).status_code in (404, 405)


async def test_the_callable_on_the_page_lets_in_whom_it_knows() -> None:
    app = run("def who(scope)")["app"]
    assert (await answer(app, "/jina/embeddings", {"x-team": "reports"})).status_code == 200
    assert (await answer(app, "/jina/embeddings", {"x-team": "others"})).status_code == 401
    assert (await answer(app, "/jina/embeddings", KEY)).status_code == 200


async def test_infinity_on_the_page_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever names a store must name the app, too; the page says so.
    monkeypatch.delenv("CACHE_PROXY_DIR")
    works, made = Works(), []

    def create_server(engine_args_list: list[Any]) -> FastAPI:
        made.extend(engine_args_list)
        return infinity(works)

    _pretend(monkeypatch, "infinity_emb", EngineArgs=dict)
    _pretend(monkeypatch, "infinity_emb.infinity_server", create_server=create_server)
    app = run("infinity_emb")["app"]
    for _ in range(2):
        asked = {"model": made[0]["model_name_or_path"], "input": ["a"]}
        assert (await answer(app, "/embeddings", {}, asked)).status_code == 200
    assert len(works.asked) == 1


def _pretend(monkeypatch: pytest.MonkeyPatch, name: str, **names: Callable[..., Any]) -> None:
    module = ModuleType(name)
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, name, module)


async def test_vllm_on_the_page_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CACHE_PROXY_DIR")
    works = Works()
    app = vllm(works, "sk-page")
    # As its --middleware does: a class, and nothing else.
    app.add_middleware(run("class Cached")["Cached"])
    for _ in range(2):
        assert (await answer(app, "/v1/embeddings", KEY, {"model": "m", "input": ["a"]})).status_code == 200
    assert len(works.asked) == 1
    assert (await answer(app, "/v1/embeddings", {}, {"model": "m", "input": ["a"]})).status_code == 401


async def test_the_list_of_models_on_the_page_sends_each_where_it_says(jina: str, tmp_path: Path) -> None:
    works = Works()
    document = yaml.safe_load(block("yaml", "api_base: app"))
    settings = parse(document, {"JINA_AI_API_BASE": jina, "HOME": str(tmp_path)})
    auth: Auth = "open"
    app = CacheProxyMiddleware(infinity(works), settings=settings, upstream="app", auth=auth)
    ranked = await answer(app, "/rerank", {}, {"model": "ranker", "query": "q", "documents": ["a", "b"]})
    assert (ranked.status_code, works.bodies[0]["model"]) == (200, "BAAI/bge-reranker-base")
    # Without a key the stand-in for Jina refuses, as Jina would; the app was not asked.
    assert (await answer(app, "/embeddings", {})).status_code == 401
    assert len(works.asked) == 1
    await app.wired.close()


def test_every_argument_and_every_header_is_on_the_page() -> None:
    names = set(signature(CacheProxyMiddleware).parameters) - {"app", "wired"}
    assert len(names) == 5
    assert sorted(name for name in names if f"| `{name}` |" not in PAGE) == []
    assert sorted(name.decode() for name in FORWARDED if f"`{name.decode()}`" not in PAGE) == []
    assert f"`{BESIDE_THE_APP}/health`" in PAGE
