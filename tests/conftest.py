"""What all tests share."""

import pytest

# The contract's assertions explain themselves, although its module is no test module.
pytest.register_assert_rewrite("cache_proxy.backends.contract")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
