"""Ledgers to test: the file, and a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cache_proxy.ledger.database import Database
from tests.postgres import Postgres, shared_postgres

__all__ = ["database", "server", "shared_postgres"]


@pytest.fixture(scope="session")
def server(shared_postgres: Postgres) -> Postgres:
    return shared_postgres


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of either kind."""
    if request.param == "sqlite":
        made = Database.in_folder(tmp_path / "ledger")
    else:
        made = Database.of_postgres(request.getfixturevalue("server").database())
    yield made
    made.close()
