"""Where money is written down: ``general_settings.database_url``, and our own section's ``ledger*``."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from cache_proxy.errors import ConfigError
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.own import OwnSettings

DATABASE_VARIABLE = "DATABASE_URL"
SCHEMES = ("postgresql", "postgres")


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """Whether there is a ledger, and where."""

    enabled: bool
    directory: Path
    """Of the SQLite file, where there is no ``url``."""
    url: SecretStr | None = None
    """A PostgreSQL."""
    refusing: bool = True
    """Whether nothing is spent while it can not be written."""
    days: int = 0
    """For how many days single calls and requests are kept; 0: for good."""
    names_days: int = 0
    """For how many days the sums of single users and tags are kept apart; 0: for good."""


def build(
    own: OwnSettings, url: SecretStr | None, directory: Path, environ: Mapping[str, str], notes: Notes
) -> LedgerSettings:
    """The ledger of this configuration; ``directory`` is where the disk store is. Raises ``ConfigError``."""
    if url is not None and not _is_postgres(url.get_secret_value()):
        raise ConfigError("general_settings.database_url must be a postgresql:// URL; without it, SQLite is used")
    return LedgerSettings(
        enabled=own.ledger,
        directory=directory if own.ledger_dir is None else Path(own.ledger_dir).expanduser(),
        url=url if url is not None or not own.ledger else _of_environment(environ, notes),
        refusing=own.ledger_failure == "refuse",
        days=own.ledger_days,
        names_days=own.ledger_names_days,
    )


def _of_environment(environ: Mapping[str, str], notes: Notes) -> SecretStr | None:
    """The variable may well be of the app that the middleware is in, and mean another kind of database."""
    given = environ.get(DATABASE_VARIABLE)
    if not given:
        return None
    if given.partition("://")[0] not in SCHEMES:
        notes.add(f"{DATABASE_VARIABLE} is not acted on here: it is no postgresql:// URL")
        return None
    if find_spec("psycopg") is None:
        notes.add(
            f"{DATABASE_VARIABLE} is not acted on here, for PostgreSQL's driver is missing: "
            "pip install 'cache-proxy[postgres]'"
        )
        return None
    return SecretStr(given)


def _is_postgres(url: str) -> bool:
    scheme, _, rest = url.partition("://")
    return bool(rest) and scheme.partition("+")[0] in SCHEMES
