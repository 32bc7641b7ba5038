"""The package from outside: cheap to import, typed, whole, and in nobody's way."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import cache_proxy

ROOT = Path(__file__).resolve().parent.parent

COSTLY = {
    "asyncio", "click", "diskcache", "httpx", "numpy", "orjson", "pydantic", "redis", "rich", "starlette", "tenacity",
    "uvicorn", "yaml",
}  # fmt: skip


def python(code: str, folder: Path) -> str:
    """What this code prints, run in ``folder`` by an interpreter that finds the package."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_importing_the_package_imports_nothing_that_costs(tmp_path: Path) -> None:
    told = python("import sys, cache_proxy; print(*{name.partition('.')[0] for name in sys.modules})", tmp_path)
    assert "cache_proxy" in told.split()
    assert COSTLY & set(told.split()) == set()


def test_the_version_is_there_without_loading_anything(tmp_path: Path) -> None:
    told = python("import sys, cache_proxy; print(cache_proxy.__version__, 'pydantic' in sys.modules)", tmp_path)
    assert told == f"{cache_proxy.__version__} False"


@pytest.mark.parametrize("name", cache_proxy.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(cache_proxy, name) is not None
    assert name in dir(cache_proxy)


def test_the_public_names_are_the_promised_ones() -> None:
    promised = {"embedding", "aembedding", "rerank", "arerank", "CacheProxyMiddleware", "Settings", "__version__"}
    assert promised <= set(cache_proxy.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = cache_proxy.nonsense


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "cache_proxy" / "py.typed").is_file()


def test_backends_at_the_root_is_a_link_to_the_stores_of_the_package() -> None:
    link = ROOT / "backends"
    assert link.is_symlink()
    assert link.resolve() == ROOT / "cache_proxy" / "backends"
    assert not link.readlink().is_absolute(), "a clone must find it too"


def test_nothing_imports_the_link() -> None:
    for folder in ("cache_proxy", "tests", "bench"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_bytes())):
                if isinstance(node, ast.ImportFrom):
                    named = [node.module or ""] if node.level == 0 else []
                else:
                    named = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                assert not [name for name in named if name.partition(".")[0] == "backends"], path


def test_only_the_package_itself_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["cache_proxy"]


def test_an_app_with_a_backends_package_of_its_own_keeps_it(tmp_path: Path) -> None:
    (tmp_path / "backends").mkdir()
    (tmp_path / "backends" / "__init__.py").write_text("OWNER = 'the app'\n")
    code = (
        "from cache_proxy import CacheProxyMiddleware\n"
        "from cache_proxy.backends import MemoryBackend\n"
        "import backends\n"
        "print(backends.OWNER, MemoryBackend.__module__)"
    )
    assert python(code, tmp_path) == "the app cache_proxy.backends.memory"
