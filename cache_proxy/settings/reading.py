"""The file: YAML with its ``include`` files merged in, as one plain document."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cache_proxy.errors import ConfigError

MAX_DEPTH = 40
"""Deeper than any real file; a YAML anchor that holds itself is found by it."""


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The document in this file and all it includes, each file once. Raises ``ConfigError``.

    What a file includes is merged after all that was named before it, as at LiteLLM.
    """
    root = Path(path)
    document = _parse(root)
    seen = {root.resolve()}
    pending = [(name, root) for name in _includes(document, root)]
    while pending:
        name, includer = pending.pop(0)
        found = _beside(includer, name, root)
        if found.resolve() in seen:
            continue
        seen.add(found.resolve())
        included = _parse(found)
        pending += [(more, found) for more in _includes(included, found)]
        _merge(document, included)
    return document


def _beside(includer: Path, name: str, root: Path) -> Path:
    """The file of this name beside the one that includes it; one that is only beside the first file is found, too."""
    found, other = includer.parent / name, root.parent / name
    return other if other.exists() and not found.exists() else found


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} can not be read: {error.strerror}; check the path and its permissions") from None
    except yaml.YAMLError as error:
        # The error's own text quotes the line, and the line may hold a secret.
        raise ConfigError(f"{path} is not valid YAML{_place(error)}; check indentation and quotes there") from None
    except (ValueError, RecursionError):
        raise ConfigError(f"{path} is not valid YAML; check it with a YAML linter") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected sections such as `model_list:` at the top level")
    return document


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _includes(document: dict[str, Any], path: Path) -> list[str]:
    names = document.pop("include", None) or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"include in {path}: expected a list of file names, relative to this file")
    return names


def _merge(document: dict[str, Any], included: Mapping[str, Any]) -> None:
    """Lists are appended to, sections merged key by key; the included file wins.

    LiteLLM replaces whole sections. That would lose, say, the master key when a file with another key of
    ``general_settings`` is included, so here sections merge.
    """
    for key, value in included.items():
        held = document.get(key)
        if isinstance(value, list) and isinstance(held, list):
            document[key] = [*held, *value]
        elif isinstance(value, dict) and isinstance(held, dict):
            document[key] = {**held}
            _merge(document[key], value)
        elif value is not None or key not in document:
            document[key] = value
