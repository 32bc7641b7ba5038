"""``credential_list``: what several deployments share, laid into the ``litellm_params`` that name it."""

from collections.abc import Mapping
from typing import Any

from cache_proxy.errors import ConfigError
from cache_proxy.settings.checking import prune, typed
from cache_proxy.settings.entries import Credential
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.references import peek

LIST = "credential_list"
NAME = "litellm_credential_name"

Values = Mapping[str, Any]


def laid_in(raw: Mapping[str, Any], environ: Mapping[str, str], notes: Notes) -> dict[str, Any]:
    """The document without its ``credential_list``; what a deployment says itself wins. Raises ``ConfigError``.

    A deployment keeps a name that nobody has, and :func:`refuse_unknown` is for those that are served.
    """
    known = _known(raw.get(LIST), environ, notes)
    document = {key: value for key, value in raw.items() if key != LIST}
    entries = raw.get("model_list")
    if known and isinstance(entries, list):
        document["model_list"] = [_entry(entry, known, environ) for entry in entries]
    return document


def refuse_unknown(entry: object, path: str) -> None:
    """Raise ``ConfigError`` for a name that ``credential_list`` does not have: its ``api_base`` may be what matters."""
    params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
    if isinstance(params, Mapping) and params.get(NAME) is not None:
        raise ConfigError(f"{path}.litellm_params.{NAME} names no entry of {LIST}; add it there, or correct the name")


def _known(listed: object, environ: Mapping[str, str], notes: Notes) -> dict[str, Values]:
    if listed is None:
        return {}
    if not isinstance(listed, list):
        raise ConfigError(f"{LIST}: expected a list of entries with credential_name and credential_values")
    known: dict[str, Values] = {}
    for at, item in enumerate(listed):
        found = typed(Credential, prune(item, Credential, (LIST, at), notes), (LIST, at))
        known[peek(found.credential_name, environ) or found.credential_name] = found.credential_values
    return known


def _entry(entry: object, known: Mapping[str, Values], environ: Mapping[str, str]) -> object:
    params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(params, Mapping):
        return entry
    values = known.get(peek(params.get(NAME), environ) or "")
    if values is None:
        return entry
    own = {key: value for key, value in params.items() if key != NAME}
    return {**entry, "litellm_params": {**values, **own}}
