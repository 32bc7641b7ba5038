"""The docs are tested: every setting, route, header, error code, command and dependency is on its page."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import orjson
import pytest

from bench.economy.kills import table as kills
from bench.economy.kills.fleet import STORES
from cache_proxy.access import CONTROLS
from cache_proxy.asgi import errors as asgi_errors
from cache_proxy.asgi import middleware, openapi_spend, spend
from cache_proxy.backends import Backend
from cache_proxy.backends.contract import random_entries
from cache_proxy.calls import Account, Call
from cache_proxy.cli import main
from cache_proxy.core.wire import access, controls, embeddings, rerank
from cache_proxy.errors import StoreError
from cache_proxy.models import Endpoint
from cache_proxy.receipts import Story
from cache_proxy.reporting.logs import fields
from cache_proxy.reporting.measures import MEASURES, OTHER
from cache_proxy.reporting.metrics import RESULTS, TIMED
from cache_proxy.reporting.unsettled import UnsettledLog
from cache_proxy.settings import OwnSettings, redis
from cache_proxy.settings.caching import TYPES
from cache_proxy.settings.keys import KeyEntry
from cache_proxy.settings.plugins import GROUP, OURS
from cache_proxy.standin import Fault
from cache_proxy.standin.faults import Kind
from tests.faults.registry import SCENARIOS
from tests.faults.table import BEGIN, END
from tests.pages import blocks, module

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
    paths += ["/key/generate", "/key/update", "/key/delete", "/key/info", "/key/list"]
    paths += ["/health", "/cache/ping", "/cache/stats", "/cache/delete", "/cache/flushall", "/metrics", "/openapi.json"]
    paths += ["/spend/report", "/spend/logs", "/spend/logs/v2"]
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
    for name in ("keys", "rights"):
        codes |= set(re.findall(r'forbidden\([^)]*?"([a-z_]+)"', page(f"cache_proxy/asgi/{name}.py")))
    codes |= set(re.findall(r'"budget_exceeded", "([a-z_]+)"', page("cache_proxy/asgi/errors.py")))
    codes |= set(re.findall(r'_error", "([a-z_]+)"', page("cache_proxy/asgi/errors.py")))
    assert len(codes) > 15
    assert sorted(code for code in codes if f"`{code}`" not in page("docs/server.md")) == []
    assert asgi_errors.unexpected(ValueError(), "id").word in codes


def test_every_field_of_a_key_is_on_its_page() -> None:
    fields = {*access.FIELDS, *KeyEntry.model_fields} - {"key"}
    assert [name for name in sorted(fields) if f"`{name}`" not in page("docs/keys.md")] == []
    assert [word for word in CONTROLS if f"`{word}`" not in page("docs/keys.md")] == []


def test_every_alias_and_ignored_field_is_on_the_servers_page() -> None:
    names = [*embeddings.INPUT, *embeddings.ENCODING, *rerank.TOP_N, *rerank.IGNORED]
    for aliases in (embeddings.ALIASES, rerank.ALIASES):
        names += [name for spellings in aliases.values() for name in spellings]
    assert sorted({name for name in names if f"`{name}`" not in page("docs/server.md")}) == []


def test_every_cache_control_is_on_the_servers_page() -> None:
    assert [word for word in controls.KNOWN if word not in page("docs/server.md")] == []


def test_every_field_of_the_log_line_is_on_the_operations_page() -> None:
    receipt = Story(
        "id",
        "embeddings",
        Account("master", "", "t", "u"),
        0.0,
        outcome_unknown=1,
        tokens_unsettled=1,
        user="u",
        tags=("t",),
    ).end(status=200, latency=0.1, bytes_out=1, error="internal")
    assert [name for name in fields(receipt) if f"`{name}`" not in page("docs/operations.md")] == []


@pytest.mark.anyio
async def test_every_field_of_an_unsettled_calls_line_is_on_the_operations_page() -> None:
    lines: list[str] = []
    UnsettledLog("json", lines.append).unsettled(Call("id", "one", "m", Endpoint.RERANK, 1, 0.0, ()))
    assert [name for name in orjson.loads(lines[0]) if f"`{name}`" not in page("docs/operations.md")] == []


PAGES = {"demo": "demo", "standin": "demo", "usage": "usage", "keys": "keys"}
"""The page of a command, where it is not the server's."""


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command, by its whole name."""
    for name, command in main.commands.items():
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {below}", each) for below, each in command.commands.items())


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=str)
def test_every_command_is_on_its_page_with_its_options_their_words_and_their_variables(
    name: str, command: click.Command
) -> None:
    told = page(f"docs/{PAGES.get(name.partition(' ')[0], 'server')}.md")
    assert re.search(rf"cache-proxy {name}\b", told)
    for param in command.params:
        assert [option for option in param.opts if option.startswith("--") and option not in told] == []
        assert [word for word in getattr(param.type, "choices", ()) if word not in told] == []
        variables = [param.envvar] if isinstance(param.envvar, str) else param.envvar or ()
        assert [name for name in variables if f"`{name}`" not in told] == []


def test_every_field_of_usage_and_of_a_query_about_it_is_on_its_page() -> None:
    told = page("docs/usage.md")
    schemas = openapi_spend.SCHEMAS
    row = schemas["SpendReport"]["properties"]["rows"]["items"]["properties"]
    log = schemas["SpendLog"]["properties"]
    names = [*row, *log, *log["metadata"]["properties"], *spend.REPORT_FIELDS, *spend.LOGS_FIELDS]
    assert sorted({name for name in names if f"`{name}`" not in told}) == []
    assert [name for name in schemas["SpendLogs"]["properties"] if f'"{name}"' not in told] == []
    assert [word for word in spend.GROUPINGS if f"`{word}`" not in told] == []


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `cache_proxy_(\w+)` \| (\w+) \| (.*?) \| (.+) \|$", page("docs/metrics.md"), re.MULTILINE)
    written = [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), told) for name, kind, labels, told in rows]
    kinds = {"told": "gauge"}
    assert written == [(one.name, kinds.get(one.kind, one.kind), tuple(one.labels), one.help) for one in MEASURES]


def test_every_label_and_its_fixed_words_are_on_the_page_of_metrics() -> None:
    told = page("docs/metrics.md")
    labels = {label for one in MEASURES for label in one.labels}
    words = [*RESULTS, OTHER, *(word for found in TIMED.values() for word in found)]
    assert [label for label in sorted(labels) if f"| `{label}` |" not in told] == []
    assert [word for word in words if f"`{word}`" not in told] == []
    assert set(re.findall(r"cache_proxy_(\w+?)(?:_bucket)?\b", told)) <= {one.name for one in MEASURES}


def test_every_variable_of_redis_is_on_the_configuration_page() -> None:
    told = page("docs/config.md")
    aliases = {"redis_url", "startup_nodes", "default_in_redis_ttl"}
    assert [key for key in redis.KEYS - aliases if not re.search(rf"\b{redis.variable(key)}\b", told)] == []
    assert "`REDIS_NAMESPACE`" in told


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


def test_every_fault_has_its_measured_row_on_the_operations_page() -> None:
    written = page("docs/operations.md").partition(BEGIN)[2].partition(END)[0]
    assert re.findall(r"^\| `([a-z_]+)` \|", written, re.MULTILINE) == list(SCENARIOS)


def test_every_store_has_its_row_of_kills_and_none_of_them_a_flaw() -> None:
    written = page("docs/economy.md").partition(kills.BEGIN)[2].partition(kills.END)[0]
    rows = [line.strip("| ").split(" | ") for line in written.splitlines() if line.startswith("|")]
    measured = [dict(zip(kills.COLUMNS, row, strict=True)) for row in rows[2:]]
    assert [row["store"] for row in measured] == [store.told for store in STORES.values()]
    faultless = {"kills": "100", "wrong": "0", "not 200": "0", "without the unavoidable": "1.000"}
    assert [{name: row[name] for name in faultless} for row in measured] == [faultless] * len(STORES)


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


STORE, SUITE = blocks("writing-a-backend.md", "python")
LmdbBackend = module("lmdb_store", STORE).LmdbBackend
TestTheBackendOnThePage = module("test_lmdb_store", SUITE).TestLmdbStore


@pytest.mark.anyio
async def test_the_backend_on_the_page_keeps_its_bound_and_goes_on_when_it_is_reached(tmp_path: Path) -> None:
    store = LmdbBackend(str(tmp_path), max_mib=1)
    await store.open()
    written = 0
    for _ in range(60):
        entries = random_entries(25, 4145)
        assert await store.set_many(entries) is True
        assert await store.get_many(list(entries)) == entries
        written += sum(map(len, entries.values()))
    assert written > 4 * 2**20
    assert (tmp_path / "data.mdb").stat().st_size <= 2 * 2**20
    await store.close()


@pytest.mark.anyio
async def test_a_failure_of_the_backend_on_the_page_is_a_store_error_without_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    store = LmdbBackend(str(tmp_path / "file"))
    with pytest.raises(StoreError, match=r"^lmdb: FileExistsError$"):
        await store.open()
    with pytest.raises(StoreError, match="not open"):
        await store.get_many([b"key"])
    await store.close()


def test_what_can_be_asked_of_every_backend_is_on_its_page() -> None:
    text = page("docs/writing-a-backend.md")
    verbs = [name for name in vars(Backend) if not name.startswith("_") and callable(getattr(Backend, name))]
    assert len(verbs) > 6
    inner = {"get_strict", "set_strict", "forget"}  # only a wrapper of ours has more to say here than the default
    assert [name for name in verbs if name not in inner and f"`{name}`" not in text] == []
    assert [key for key in OURS - {"type"} if f"`{key}`" not in text] == []
    assert [word for word in TYPES if f"`{word}`" not in text] == []
    (entry_points,) = blocks("writing-a-backend.md", "toml")
    assert tomllib.loads(entry_points)["project"]["entry-points"] == {GROUP: {"lmdb": "lmdb_store:LmdbBackend"}}
