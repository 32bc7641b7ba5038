"""``os.environ/NAME`` in the values of a document."""

import re
from collections.abc import Mapping
from typing import Any

from cache_proxy.errors import ConfigError
from cache_proxy.settings.notes import Notes, Path, dotted
from cache_proxy.settings.reading import MAX_DEPTH

PREFIX = "os.environ/"
_WHOLE = re.compile(r"os\.environ/([^\s/:@]+)")
_PART = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")
_ORDINARY = re.compile(r"[A-Z_][A-Z0-9_]*")

FAIL_CLOSED = frozenset({"master_key", "api_base", "base_url", "namespace", "identity", "litellm_credential_name"})
"""Settings whose absence would open a door or send texts elsewhere: a missing variable refuses the start."""

CLOSED_SECTION = ("cache_proxy_settings", "keys")
"""The same holds for all that is said of keys: a limit that is left out is none."""

_UNSET = object()


def environment(document: Mapping[str, Any], environ: Mapping[str, str], notes: Notes) -> Mapping[str, str]:
    """The process's environment with the document's ``environment_variables`` laid over it, one after the other: each
    may refer to those before it.

    ``os.environ`` itself is left alone: two configurations can live in one process.
    """
    section = document.get("environment_variables")
    if section is None:
        return environ
    if not isinstance(section, Mapping):
        raise ConfigError("environment_variables: expected names with their values")
    found = dict(environ)
    for name, given in section.items():
        value = resolve(given, found, ("environment_variables", str(name)), notes)
        if value is not None:
            found[str(name)] = str(value)
    return found


def resolve(value: Any, environ: Mapping[str, str], path: Path, notes: Notes) -> Any:
    """The same value with every reference replaced.

    What refers to a variable that is not set (or empty) is left out, with a warning; where that would be dangerous
    (``FAIL_CLOSED``) it raises ``ConfigError``.
    """
    resolved = _resolve(value, environ, path, notes)
    return None if resolved is _UNSET else resolved


def _resolve(value: Any, environ: Mapping[str, str], path: Path, notes: Notes) -> Any:
    if len(path) > MAX_DEPTH:
        raise ConfigError(f"{dotted(path[:2])}: nested too deeply; take out anchors that hold themselves")
    if isinstance(value, Mapping):
        members = ((str(key), _resolve(item, environ, (*path, str(key)), notes)) for key, item in value.items())
        return {key: item for key, item in members if item is not _UNSET}
    if isinstance(value, list):
        items = [_resolve(item, environ, (*path, at), notes) for at, item in enumerate(value)]
        return [item for item in items if item is not _UNSET]
    if isinstance(value, str) and PREFIX in value:
        return _resolve_text(value, environ, path, notes)
    return value


def _resolve_text(text: str, environ: Mapping[str, str], path: Path, notes: Notes) -> Any:
    missing = [name for name in _names(text) if not environ.get(name, "").strip()]
    if missing:
        _report(missing[0], path, notes)
        return _UNSET
    if whole := _WHOLE.fullmatch(text):
        return environ[whole[1]]
    return _PART.sub(lambda found: environ[found[1]], text)


def _names(text: str) -> list[str]:
    whole = _WHOLE.fullmatch(text)
    return [whole[1]] if whole else _PART.findall(text)


def _report(variable: str, path: Path, notes: Notes) -> None:
    # Somebody may have written the secret itself where its name belongs.
    name = (
        f"the environment variable {variable}" if _ORDINARY.fullmatch(variable) else "the environment variable it names"
    )
    # In a list within a list ([host, port]) the others would move up into its place.
    by_position = len(path) > 1 and isinstance(path[-1], int) and isinstance(path[-2], int)
    if path[-1] in FAIL_CLOSED or by_position or path[: len(CLOSED_SECTION)] == CLOSED_SECTION:
        raise ConfigError(f"{dotted(path)}: {name} is not set or empty; set it, or take this key out")
    notes.unset(path, name)


def peek(value: Any, environ: Mapping[str, str]) -> str | None:
    """The text this value stands for, quietly; ``None`` if it is none or its variable is not set."""
    resolved = _resolve(value, environ, ("",), Notes())
    return resolved if isinstance(resolved, str) and resolved.strip() else None
