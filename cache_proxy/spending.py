"""What ``cache-proxy usage`` does: reads the ledger that a configuration names, and writes down what it says."""

import time

import click

from cache_proxy.errors import ConfigError, LedgerError
from cache_proxy.ledger.found import Usage, beginning, whose
from cache_proxy.reporting import moments
from cache_proxy.reporting import usage as written
from cache_proxy.reporting.logs import at
from cache_proxy.settings import load
from cache_proxy.wiring.reading import Reader

OFF = "cache_proxy_settings.ledger is false: nothing is written down, so there is nothing to read"

NOWHERE_NARROW = 200
"""Columns where nobody looks at a terminal: a file has room."""


def show(
    config: str | None,
    since: str | None,
    until: str | None,
    by: str | None,
    key: str | None,
    limit: int | None,
    form: str,
) -> None:
    """Print the usage of this period. Raises ``ConfigError`` and ``LedgerError``, ready to be read by people."""
    settings = load(config)
    if not settings.ledger.enabled:
        raise ConfigError(OFF)
    now = time.time()
    first, last = _moment("--since", since, now), _moment("--until", until, now)
    if first is not None and first >= (now if last is None else last):
        raise ConfigError("--since is not before --until")
    asked = None if key is None else whose(key)
    began = beginning(by, asked, first, now if last is None else last)
    reader = Reader(settings.ledger)
    try:
        rows = reader.usage(by, began, last, asked, limit)
    except LedgerError as error:
        raise LedgerError(f"{error}; it is {reader.place}") from None
    if rows is None:
        click.echo(f"Nothing has been written yet: there is no ledger in {reader.place}.", err=True)
    if began != first and began is not None:
        click.echo(f"Since {at(began)}: give --since for more, or leave out --by.", err=True)
    _print(rows or [], by, form, began if began != first else None)


def _moment(option: str, text: str | None, now: float) -> float | None:
    try:
        return None if text is None else moments.moment(text, now)
    except ValueError as error:
        raise ConfigError(f"{option} {error}") from None


def _print(rows: list[Usage], by: str | None, form: str, since: float | None) -> None:
    if form == "json":
        click.echo(written.as_json(rows, by, since))
    elif form == "csv":
        click.echo(written.as_csv(rows, by), nl=False)
    else:
        from rich.console import Console

        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=NOWHERE_NARROW)
        console.print(written.table(rows, by))
