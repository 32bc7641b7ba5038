"""``cache-proxy keys``: what the routes about keys do, on the database of a configuration."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cache_proxy.errors import LedgerError, RequestError

if TYPE_CHECKING:
    from cache_proxy.wiring.keys import KeyDesk

CONFIG_VARIABLES = ("CACHE_PROXY_CONFIG", "CONFIG_FILE_PATH")
"""Ours, and LiteLLM's."""

F = TypeVar("F", bound=Callable[..., Any])

_LISTS = ("models", "allowed_cache_controls")
_NONE = "none"

_config = click.option(
    "--config", "-c", envvar=CONFIG_VARIABLES, help="A LiteLLM config.yaml. Without: the environment."
)
_FIELDS = (
    click.option("--alias", "key_alias", help="What it is called in logs and reports."),
    click.option("--team", "team_id", help="The team that it is counted for."),
    click.option("--user", "user_id", help="The user that it is counted for."),
    click.option("--model", "models", multiple=True, help="A model it may use; again for more. All, if left out."),
    click.option("--max-budget", help="The most USD that may be spent with it."),
    click.option("--budget-duration", help="In what time: 24h, 7d, 30d, 1mo. For good, if left out."),
    click.option("--rpm-limit", help="The most requests a minute."),
    click.option("--tpm-limit", help="The most tokens a minute that are to be paid for."),
    click.option("--duration", help="After what time it expires, such as 30d."),
    click.option("--namespace", help="A room of its own in the cache."),
    click.option(
        "--cache-control", "allowed_cache_controls", multiple=True,
        help="A cache control it may use; again for more. All, if left out.",
    ),
)  # fmt: skip


def _with_fields(command: F) -> F:
    for option in reversed(_FIELDS):
        command = option(command)
    return command


@click.group()
def keys() -> None:
    """Keys for people and jobs. A KEY is named by itself, by its hash or by its alias."""


@keys.command()
@_config
@_with_fields
def generate(config: str | None, **fields: Any) -> None:
    """Make a key. It is printed this once, and nobody can tell it again."""
    with _desk(config) as desk:
        made = desk.generate(_said(fields))
        _print({"key": made.secret, **desk.told([made.key])[0]})


@keys.command("list")
@_config
@click.option("--format", "form", default="table", type=click.Choice(["table", "json"]), help="For people or programs.")
def list_(config: str | None, form: str) -> None:
    """Show the keys there are."""
    with _desk(config) as desk:
        found = desk.told(desk.all())
    if form == "json":
        _print({"keys": found})
        return
    for one in found:
        state = "blocked" if one["blocked"] else f"until {one['expires']}" if one["expires"] else "good"
        told = (one["token"][:16], one["key_alias"], one["team_id"], one["user_id"], f"{one['spend']} USD", state)
        click.echo("  ".join(str(each or "-") for each in told))


@keys.command()
@_config
@click.argument("key")
def info(config: str | None, key: str) -> None:
    """Show what a key may do and has spent."""
    with _desk(config) as desk:
        _print(desk.told([desk.find(key)])[0])


@keys.command()
@_config
@_with_fields
@click.option("--block/--unblock", "blocked", default=None, help="Whether it lets nobody in.")
@click.argument("key")
def update(config: str | None, key: str, **fields: Any) -> None:
    """Change what a key may do; what is not said stays, and `none` takes a limit away."""
    with _desk(config) as desk:
        _print(desk.told([desk.update(key, _said(fields))])[0])


@keys.command()
@_config
@click.argument("key", nargs=-1, required=True)
def delete(config: str | None, key: tuple[str, ...]) -> None:
    """Take keys back. They let nobody in any more, anywhere, within a second."""
    with _desk(config) as desk:
        _print({"deleted_keys": desk.delete(key)})


@contextmanager
def _desk(config: str | None) -> "Iterator[KeyDesk]":
    # Here, for they load much that other commands do not need.
    from cache_proxy.settings import load
    from cache_proxy.wiring.keys import key_desk

    desk = key_desk(load(config))
    try:
        yield desk
    except (RequestError, LedgerError) as error:
        raise click.ClickException(str(error)) from None
    finally:
        desk.close()


def _said(fields: dict[str, Any]) -> dict[str, Any]:
    """The options that were given, as a request of LiteLLM's would say them."""
    given = {name: value for name, value in fields.items() if value is not None and value != ()}
    return {name: _value(name, value) for name, value in given.items()}


def _value(name: str, value: Any) -> Any:
    if value == _NONE or value == (_NONE,):
        return None
    if name in _LISTS:
        return list(value)
    if name in ("rpm_limit", "tpm_limit", "max_budget"):
        try:
            return float(value) if name == "max_budget" else int(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is no number", param_hint=f"--{name.replace('_', '-')}") from None
    return value


def _print(told: dict[str, Any]) -> None:
    click.echo(json.dumps(told, indent=2, ensure_ascii=False))
