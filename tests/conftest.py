"""What all tests share."""

import os
import tempfile
from pathlib import Path

import pytest

# The contracts' assertions explain themselves, although their modules are no test modules.
for suite in ("contract", "lease_contract", "counter_contract"):
    pytest.register_assert_rewrite(f"cache_proxy.backends.{suite}")


MEMORY = Path("/dev/shm")  # noqa: S108
NEEDED = 4 * 2**30
"""Bytes that all tests may keep at a time, amply."""


def pytest_configure() -> None:
    """Let temporary folders be in memory, where that has room and lets programs run: what is written for good is waited
    for thousands of times here, and no test cuts the power.
    """
    if "TMPDIR" not in os.environ and MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
        place = os.statvfs(MEMORY)
        if place.f_bavail * place.f_frsize >= NEEDED and not place.f_flag & os.ST_NOEXEC:
            os.environ["TMPDIR"] = str(MEMORY)
            tempfile.tempdir = None


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Twice as many as there are cores: much of what takes long is waiting, for servers to start and time to pass."""
    return 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest comes first, so that none is left that runs alone at the end."""
    items.sort(key=_longest, reverse=True)


def _longest(item: pytest.Item) -> tuple[float, bool]:
    allowed = item.get_closest_marker("timeout")
    return (float(allowed.args[0]) if allowed else 0.0, item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def a_home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What has no place of its own is kept in the user's home, and that of whoever runs the tests is none of ours."""
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ.pop("XDG_CACHE_HOME", None)
