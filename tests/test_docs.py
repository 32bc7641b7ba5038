"""The docs are tested: every setting, route, header, error code, command and dependency is on its page."""

import re
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import click
import pytest

from cache_proxy.asgi import errors as asgi_errors
from cache_proxy.asgi import middleware
from cache_proxy.backends import Backend
from cache_proxy.cli import main
from cache_proxy.core.wire import controls, embeddings, rerank
from cache_proxy.receipts import Story
from cache_proxy.reporting.logs import fields
from cache_proxy.settings import OwnSettings
from cache_proxy.standin import Fault
from cache_proxy.standin.faults import Kind
from tests.backends.contract import StoreContract

ROOT = Path(__file__).parent.parent


def page(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("setting", list(OwnSettings.model_fields))
def test_every_setting_of_ours_is_described(setting: str) -> None:
    assert f"`{setting}`" in page("docs/config.md")
    assert re.search(rf"#{setting}:", page("config/config.yaml"))


def test_every_route_is_on_the_servers_page() -> None:
    paths = [
        *middleware.EMBEDDINGS,
        *middleware.RERANK,
        *middleware.MODELS,
        *middleware.LIVENESS,
        *middleware.READINESS,
    ]
    paths += ["/health", "/cache/ping", "/cache/delete", "/cache/flushall", "/openapi.json"]
    missing = [path for path in paths if f"{path}`" not in page("docs/server.md")]
    assert missing == []


def test_every_header_of_an_answer_is_on_the_servers_page() -> None:
    source = page("cache_proxy/asgi/told.py")
    names = re.findall(r'\(b"([a-z-]+)"', source)
    assert len(names) > 5
    assert [
        name for name in names if f"`{name}`" not in page("docs/server.md").replace("Cache-Status", "cache-status")
    ] == []


def test_every_error_code_is_on_the_servers_page() -> None:
    codes = set()
    for path in (ROOT / "cache_proxy").rglob("*.py"):
        if "standin" in path.parts:
            continue
        codes |= set(re.findall(r'\bcode="([a-z_]+)"', path.read_text()))
    codes |= set(re.findall(r'_error", "([a-z_]+)"', page("cache_proxy/asgi/errors.py")))
    assert len(codes) > 15
    assert sorted(code for code in codes if f"`{code}`" not in page("docs/server.md")) == []
    assert asgi_errors.unexpected(ValueError(), "id").word in codes


def test_every_alias_and_ignored_field_is_on_the_servers_page() -> None:
    names = [*embeddings.INPUT, *embeddings.ENCODING, *rerank.TOP_N, *rerank.IGNORED]
    for aliases in (embeddings.ALIASES, rerank.ALIASES):
        names += [name for spellings in aliases.values() for name in spellings]
    assert sorted({name for name in names if f"`{name}`" not in page("docs/server.md")}) == []


def test_every_cache_control_is_on_the_servers_page() -> None:
    assert [word for word in controls.KNOWN if word not in page("docs/server.md")] == []


def test_every_field_of_the_log_line_is_on_the_operations_page() -> None:
    receipt = Story("id", "embeddings", "master", 0.0, outcome_unknown=1, user="u", tags=("t",)).end(
        status=200, latency=0.1, bytes_out=1, error="internal"
    )
    assert [name for name in fields(receipt) if f"`{name}`" not in page("docs/operations.md")] == []


def test_every_option_of_serve_is_on_the_servers_page() -> None:
    options = [option for param in main.commands["serve"].params for option in param.opts if option.startswith("--")]
    assert [option for option in options if option not in page("docs/server.md")] == []
    variables = [param.envvar for param in main.commands["serve"].params if isinstance(param, click.Option)]
    assert [name for name in variables if f"`{name}`" not in page("docs/server.md")] == []


def test_every_variable_of_redis_is_on_the_configuration_page() -> None:
    parts = ("URL", "HOST", "PORT", "USERNAME", "PASSWORD", "DB", "SSL", "NAMESPACE")
    assert [part for part in parts if f"`REDIS_{part}`" not in page("docs/config.md")] == []


def test_every_fault_of_the_stand_in_and_its_routes_are_on_its_page() -> None:
    names = [*get_args(Kind), *Fault.__dataclass_fields__]
    assert [name for name in names if f"`{name}`" not in page("docs/demo.md")] == []
    routes = set(re.findall(r'Route\("([^"]+)"', page("cache_proxy/standin/app.py")))
    assert len(routes) == 5
    assert [route for route in sorted(routes) if route not in page("docs/demo.md")] == []


def test_every_option_of_the_demo_and_the_stand_in_is_on_their_page() -> None:
    params = [param for command in ("demo", "standin") for param in main.commands[command].params]
    options = [option for param in params for option in param.opts if option.startswith("--")]
    assert [option for option in options if f"`{option} " not in page("docs/demo.md")] == []


def test_every_page_is_linked_from_the_readme() -> None:
    pages = [path.relative_to(ROOT) for path in (ROOT / "docs").glob("*.md")]
    assert [str(path) for path in pages if f"({path})" not in page("README.md")] == []


def test_every_room_is_named_by_the_architecture() -> None:
    rooms = [path.name for path in (ROOT / "cache_proxy").iterdir() if (path / "__init__.py").exists()]
    assert [
        room for room in [*rooms, "tests", "bench", "config", "docs"] if f"`{room}/`" not in page("ARCHITECTURE.md")
    ] == []


def test_every_dependency_has_a_line_that_says_why() -> None:
    project = tomllib.loads(page("pyproject.toml"))
    named = [*project["project"]["dependencies"]]
    named += [name for group in project["dependency-groups"].values() for name in group]
    packages = [re.split(r"[<>=;\[ ]", name)[0] for name in named]
    assert [package for package in packages if f"`{package}`" not in page("docs/dependencies.md")] == []


def test_every_link_between_the_pages_leads_somewhere() -> None:
    for path in [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def backend_on_the_page() -> type[Backend]:
    (code,) = re.findall(r"```python\n(.*?)```", page("docs/writing-a-backend.md"), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(code, "writing-a-backend.md", "exec"), namespace)  # noqa: S102  it is our own page
    found: type[Backend] = namespace["DictBackend"]
    return found


class TestTheBackendOnThePage(StoreContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Backend]:
        store = backend_on_the_page()()
        await store.open()
        yield store
        await store.close()
