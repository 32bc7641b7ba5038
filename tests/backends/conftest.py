"""The contract's assertions explain themselves, although its module is no test module."""

import pytest

pytest.register_assert_rewrite("tests.backends.contract")
