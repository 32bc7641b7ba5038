"""What all tests share."""

import os

import pytest

# The contracts' assertions explain themselves, although their modules are no test modules.
for suite in ("contract", "lease_contract", "counter_contract"):
    pytest.register_assert_rewrite(f"cache_proxy.backends.{suite}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def a_home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What has no place of its own is kept in the user's home, and that of whoever runs the tests is none of ours."""
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))
    os.environ.pop("XDG_CACHE_HOME", None)
