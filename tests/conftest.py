"""What all tests share."""

import pytest

# The contracts' assertions explain themselves, although their modules are no test modules.
for suite in ("contract", "lease_contract", "counter_contract"):
    pytest.register_assert_rewrite(f"cache_proxy.backends.{suite}")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
