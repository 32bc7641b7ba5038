"""Where the ledger is: what the file says, and what the environment says if it is meant for us."""

from pathlib import Path

import pytest

from cache_proxy.errors import ConfigError
from cache_proxy.settings import ledger as module
from cache_proxy.settings import parse

BARE = {"HOME": "/home/someone", "JINA_AI_API_KEY": "jina_x"}


def test_it_is_a_file_beside_the_disk_store() -> None:
    found = parse({}, BARE).ledger
    assert (found.enabled, found.url, found.refusing, found.days) == (True, None, True, 0)
    assert found.directory == Path("/home/someone/.cache/cache-proxy")


@pytest.mark.parametrize("url", ["postgresql://h/l", "postgres://h/l"])
def test_a_postgresql_of_the_environment_is_used(url: str) -> None:
    settings = parse({}, {**BARE, "DATABASE_URL": url})
    assert settings.ledger.url is not None
    assert settings.warnings == ()


@pytest.mark.parametrize("url", ["postgresql+asyncpg://h/l", "mysql://h/l", "sqlite:///x", "nonsense"])
def test_a_database_of_the_app_that_we_are_in_is_left_alone(url: str) -> None:
    settings = parse({}, {**BARE, "DATABASE_URL": url})
    assert settings.ledger.url is None
    assert [line for line in settings.warnings if "DATABASE_URL" in line]


def test_where_the_driver_is_missing_the_environments_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    settings = parse({}, {**BARE, "DATABASE_URL": "postgresql://h/l"})
    assert settings.ledger.url is None
    assert any("cache-proxy[postgres]" in line for line in settings.warnings)


def test_another_kind_in_the_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"general_settings\.database_url") as raised:
        parse({"general_settings": {"database_url": "mysql://CANARY@h/l"}}, BARE)
    assert "CANARY" not in str(raised.value)
