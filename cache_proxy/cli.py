"""The command ``cache-proxy``. The work is elsewhere."""

import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Any, BinaryIO

import click

from cache_proxy import __version__
from cache_proxy.errors import ConfigError, LedgerError, RequestError, StoreError
from cache_proxy.keys_command import CONFIG_VARIABLES, keys
from cache_proxy.ledger.found import GROUPS

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 4000
PORT = click.IntRange(0, 65535)
"""0 is one that is free."""


class ServeByDefault(click.Group):
    """A group whose options alone mean ``serve``: ``cache-proxy --config PATH`` is how LiteLLM is started."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``serve`` before options that are not the group's own."""
        own = {"--help", "--version"}
        if args and args[0].startswith("-") and args[0] not in own:
            args = ["serve", *args]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a configuration that can not be obeyed, or a ledger that can not be read, is one line and
        exit code 2; a store that is down one line and 1.
        """
        try:
            return super().invoke(ctx)
        except (ConfigError, LedgerError, RequestError) as error:
            raise click.UsageError(str(error)) from None
        except StoreError as error:
            raise click.ClickException(str(error)) from None


@click.group(cls=ServeByDefault)
@click.version_option(__version__, prog_name="cache-proxy")
def main() -> None:
    """A caching proxy for Jina AI's /embeddings and /rerank."""


@main.command()
@click.option("--config", "-c", envvar=CONFIG_VARIABLES, help="A LiteLLM config.yaml. Without: the environment.")
@click.option(
    "--host", default=DEFAULT_HOST, show_default=True, envvar="CACHE_PROXY_HOST", help="Address to listen on."
)
@click.option(
    "--port", default=DEFAULT_PORT, show_default=True, envvar="CACHE_PROXY_PORT", type=PORT, help="Port to listen on."
)
@click.option(
    "--workers", "--num_workers", default=1, show_default=True, envvar="CACHE_PROXY_WORKERS",
    type=click.IntRange(min=1), help="Worker processes. They share the store.",
)  # fmt: skip
def serve(config: str | None, host: str, port: int, workers: int) -> None:
    """Start the server."""
    with _ended_by_sigterm() as end_if_told:
        from cache_proxy import serving

        serving.serve(config, host, port, workers, ready=end_if_told)


_TOLD_AGAIN_AFTER = 0.25
"""Seconds."""


@contextmanager
def _ended_by_sigterm() -> Iterator[Callable[[], None]]:
    """SIGTERM ends the process with 0: while it starts, and once uvicorn, which sends it on when it is done, has ended.

    Without a handler, the first process of a container would not even notice a SIGTERM that comes while it starts.
    Python drops what is raised while it tidies up memory: so what is yielded ends the process if it was told to before,
    and whoever is told is told again until somebody obeys.
    """
    told, over = False, threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            threading.Thread(target=tell_again, name="cache-proxy-end", daemon=True).start()
        raise SystemExit(0)

    def tell_again() -> None:
        while not over.wait(_TOLD_AGAIN_AFTER):
            heard = signal.getsignal(signal.SIGTERM) is not end
            os.kill(os.getpid(), signal.SIGTERM)
            if heard:
                return

    def end_if_told() -> None:
        if told:
            raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield end_if_told
    finally:
        over.set()
        signal.signal(signal.SIGTERM, before)


@main.command()
@click.option("--config", "-c", envvar=CONFIG_VARIABLES, help="A LiteLLM config.yaml. Without: the environment.")
@click.option("--format", "form", default="text", type=click.Choice(["text", "json"]), help="For people or programs.")
@click.option("--offline", is_flag=True, help="Connect to nothing, open no folder.")
@click.pass_context
def check(ctx: click.Context, config: str | None, form: str, offline: bool) -> None:
    """Say what a configuration would do. Ends with 0, with 1 if something is missing, with 2 if it is refused."""
    from cache_proxy import check as checking
    from cache_proxy.check import output

    found = checking.check(config, offline=offline)
    if form == "json":
        click.echo(output.as_json(found))
    else:
        output.show(found)
    ctx.exit(found.exit_code)


def _as_keys(_ctx: click.Context, _param: click.Parameter, words: Sequence[str]) -> list[bytes]:
    """Keys, as ``x-litellm-cache-key`` gives them."""
    for word in words:
        if not re.fullmatch("[0-9a-fA-F]{64}", word):
            # Not the word itself: it may be a text in the wrong place.
            raise click.BadParameter("a key is 64 hexadecimal digits; for a text give its request, with --request")
    return [bytes.fromhex(word) for word in words]


@main.group()
def cache() -> None:
    """Look at the configured store, or purge it. Every running worker obeys a purge within a second."""


@cache.command()
@click.option("--config", "-c", envvar=CONFIG_VARIABLES, help="A LiteLLM config.yaml. Without: the environment.")
@click.option("--format", "form", default="text", type=click.Choice(["text", "json"]), help="For people or programs.")
def stats(config: str | None, form: str) -> None:
    """Say what the store holds, as far as it knows."""
    import json

    found = _upkeep().stats(_loaded(config))
    if form == "json":
        click.echo(json.dumps(found))
    else:
        for name, value in found.items():
            click.echo(f"{name:<12} {'not known' if value is None else value}")


@cache.command()
@click.option("--config", "-c", envvar=CONFIG_VARIABLES, help="A LiteLLM config.yaml. Without: the environment.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clear(config: str | None, yes: bool) -> None:
    """Forget everything of ours in the store, and nothing else."""
    settings = _loaded(config)
    if not yes:
        click.confirm("Forget every answer that is kept? They have to be paid for again.", abort=True, err=True)
    _upkeep().clear(settings)
    click.echo("forgotten: everything")


@cache.command()
@click.argument("keys", nargs=-1, metavar="KEY...", callback=_as_keys)
@click.option("--config", "-c", envvar=CONFIG_VARIABLES, help="A LiteLLM config.yaml. Without: the environment.")
@click.option("--request", type=click.File("rb"), help="A file with a request's body (- for standard input).")
def delete(keys: list[bytes], config: str | None, request: BinaryIO | None) -> None:
    """Forget these entries: by key, 64 hexadecimal digits each, or all that answer one request."""
    if bool(keys) == (request is not None):
        raise click.UsageError("give keys, or --request with a file, and not both")
    settings = _loaded(config)
    wanted = keys if request is None else _upkeep().keys_of(settings, request.read())
    click.echo(f"forgotten: {_upkeep().delete(settings, wanted)} of {len(set(wanted))}")


def _upkeep() -> ModuleType:
    from cache_proxy import upkeep

    # What goes wrong is said once, in one line, and not in the log's words before.
    logging.getLogger("cache_proxy").addHandler(logging.NullHandler())
    return upkeep


def _loaded(config: str | None) -> Any:
    from cache_proxy.settings import load

    return load(config)


@main.command()
@click.option("--config", "-c", envvar=CONFIG_VARIABLES, help="A LiteLLM config.yaml. Without: the environment.")
@click.option("--since", metavar="TIME", help="From when on: 7d, 24h, 30m, 2026-11-01, 2026-11-01T09:30:00Z.")
@click.option("--until", metavar="TIME", help="Until before when, in the same words. Without: now.")
@click.option("--by", type=click.Choice(GROUPS), help="A row for each. Without: one row.")
@click.option("--key", metavar="ALIAS|HASH", help="Of one key alone, by its alias or its hash.")
@click.option("--limit", type=click.IntRange(min=1), help="The most rows; all others are one more. Without: all.")
@click.option(
    "--format", "form", default="table", type=click.Choice(["table", "json", "csv"]), help="For people or programs."
)
def usage(
    config: str | None,
    since: str | None,
    until: str | None,
    by: str | None,
    key: str | None,
    limit: int | None,
    form: str,
) -> None:
    """Say what was paid and what was saved. Reads the ledger; servers may be running."""
    from cache_proxy import spending

    spending.show(config, since, until, by, key, limit, form)


@main.command()
@click.option("--format", "form", default="json", type=click.Choice(["json", "markdown"]), help="Which of the two.")
def schema(form: str) -> None:
    """Print what the file may hold: a JSON Schema for editors, or the tables of docs/config.md."""
    from cache_proxy.settings import schema as schemas
    from cache_proxy.settings import table

    click.echo(schemas.text() if form == "json" else table.markdown(), nl=False)


main.add_command(keys)


@main.command()
@click.option("--texts", default=2000, show_default=True, type=click.IntRange(min=10), help="Docstrings to embed.")
@click.option("--edited", default=25, show_default=True, type=click.IntRange(min=0), help="How many are edited.")
def demo(texts: int, edited: int) -> None:
    """Show what the cache saves, against a stand-in for Jina on this machine. Needs no key."""
    from cache_proxy import demo as show

    show.run(texts, min(edited, texts))


@main.command()
@click.option("--port", default=9000, show_default=True, type=PORT, help="Port to listen on, on this machine only.")
@click.option(
    "--delay", nargs=2, type=float, metavar="SHORTEST LONGEST", help="Seconds before an answer. Without: at once."
)
@click.option("--seed", default=0, show_default=True, help="Another seed, other delays.")
def standin(port: int, delay: tuple[float, float] | None, seed: int) -> None:
    """Serve the stand-in for Jina: its limits, errors and shapes, made-up vectors. For trying things out."""
    import uvicorn

    from cache_proxy.standin import Delays, StandIn

    try:
        app = StandIn(delay=Delays(*delay, seed) if delay else 0.0)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--delay") from None
    click.echo(f"A stand-in for Jina on http://127.0.0.1:{port}/v1; any key will do.", err=True)
    uvicorn.run(app, host=DEFAULT_HOST, port=port, log_level="warning", ws="none")


if __name__ == "__main__":
    sys.exit(main())
