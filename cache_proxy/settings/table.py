"""The tables of docs/config.md: every key that is known, and what it does here."""

from collections.abc import Iterator

from pydantic import BaseModel

from cache_proxy.settings.base import RequestParams
from cache_proxy.settings.ignored import IGNORED
from cache_proxy.settings.walk import by_model

HEAD = "| key | what it does here |\n| --- | --- |"


def markdown() -> str:
    """All of them, one below the other, each under the place of its section in the file."""
    return "\n\n".join(_section(model, paths) for model, paths in by_model().items()) + "\n"


def _section(model: type[BaseModel], paths: list[str]) -> str:
    title = ", ".join(f"`{path}`" for path in paths if path) or "The file"
    return f"### {title}\n\n" + "\n".join([HEAD, *_rows(model, paths[0])])


def _rows(model: type[BaseModel], path: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"| `{name}` | {_cell(field.description or '')} |"
    if issubclass(model, RequestParams):
        yield "| any other | A default parameter of the request. |"
    for why, keys in IGNORED.get(path, {}).items():
        yield f"| {' '.join(f'`{key}`' for key in keys)} | *warns:* {_cell(why)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
