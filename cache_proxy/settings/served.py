"""Which entries of ``model_list`` can be served here; the others are noted and left out.

A LiteLLM file is mostly about chat. An entry may be a chat model, or an embedding on somebody's own server: nothing in
it need say which. So what can not be obeyed of an entry stops the start only where the entry is certainly for this
proxy. Any other is left out with a line that says why.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from cache_proxy.errors import ConfigError
from cache_proxy.settings.credentials import refuse_unknown
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.providers import APP, JINA_HOST, embeds, upstream_of
from cache_proxy.settings.references import peek

SERVED_MODES = ("embedding", "rerank")
OURS = ("identity", "items", "documents", "harmless_params")
"""Keys of ``model_info`` that mean something to this proxy alone."""
ADDRESSES = ("api_base", "base_url")
ENVIRONMENT_VARIABLE = "LITELLM_ENVIRONMENT"


class Place(NamedTuple):
    """An entry of ``model_list``."""

    name: str
    at: int
    """Its position in the file."""
    certain: bool
    """Whether it is certainly for this proxy."""


def without_others(raw: dict[str, Any], environ: Mapping[str, str], notes: Notes) -> tuple[dict[str, Any], list[Place]]:
    """The document without the deployments that are not served, and the places in the file of those that are.

    Raises ``ConfigError`` where one that is certainly served names a credential that is not there.
    """
    entries = raw.get("model_list")
    if not isinstance(entries, list):
        return raw, []
    kept = []
    for at, entry in enumerate(entries):
        place = _place(entry, at, environ)
        why = _why_not(entry, environ)
        if why is not None:
            notes.add(f"model_list: {place.name} {why} and is skipped")
            continue
        try:
            refuse_unknown(entry, f"model_list[{at}]")
        except ConfigError as error:
            leave_out(place.name, error, notes, certain=place.certain)
        else:
            kept.append(place)
    return {**raw, "model_list": [entries[place.at] for place in kept]}, kept


def leave_out(name: str, error: ConfigError, notes: Notes, *, certain: bool, unset: bool = False) -> None:
    """Note that what has this name is left out for this reason. Raises it where that is certainly for this proxy.

    ``unset`` says that the reason is a variable that is not set.
    """
    if certain:
        raise error
    why = str(error).partition("\n")[0].removeprefix("model_list: ")
    line = f"model_list: {name} can not be used as it is written and is skipped ({why})"
    if unset:
        notes.lacking(line)
    else:
        notes.add(line)


def _place(entry: Any, at: int, environ: Mapping[str, str]) -> Place:
    name = peek(entry.get("model_name"), environ) if isinstance(entry, Mapping) else None
    return Place(name or f"model_list[{at}]", at, _is_certain(entry, environ))


def _info(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    info = entry.get("model_info")
    return info if isinstance(info, Mapping) else {}


def _why_not(entry: Any, environ: Mapping[str, str]) -> str | None:
    """Why this deployment is not served. What can not be made out is left for the validation."""
    if not isinstance(entry, Mapping):
        return None
    info = _info(entry)
    if _is_foreign(entry, info, environ):
        return "can not be served here"
    if str(info.get("blocked")).lower() == "true":
        return "is blocked"
    environments = info.get("supported_environments")
    if isinstance(environments, list) and environ.get(ENVIRONMENT_VARIABLE) not in environments:
        return f"is for another {ENVIRONMENT_VARIABLE}"
    return None


def _is_foreign(entry: Mapping[str, Any], info: Mapping[str, Any], environ: Mapping[str, str]) -> bool:
    """Whether this is a deployment for another API."""
    params = entry.get("litellm_params")
    model = peek(params.get("model"), environ) if isinstance(params, Mapping) else None
    if not isinstance(params, Mapping) or model is None:
        return False
    mode = peek(info.get("mode"), environ)
    if mode is not None and mode not in SERVED_MODES:
        return True
    provider = peek(params.get("custom_llm_provider"), environ)
    # A bare * takes whatever the name of a request says.
    return model != "*" and upstream_of(model, provider=provider, has_base=_has_address(params)) is None


def _has_address(params: Mapping[str, Any]) -> bool:
    """As it is written: one whose variable is not set was meant all the same."""
    return any(params.get(key) is not None for key in ADDRESSES)


def _is_certain(entry: Any, environ: Mapping[str, str]) -> bool:
    """Whether this deployment is Jina's, or says that it is for embeddings or rerank."""
    params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
    if not isinstance(params, Mapping) or not isinstance(params.get("model"), str):
        return True  # No program can make anything of it.
    info = _info(entry)
    if peek(info.get("mode"), environ) in SERVED_MODES or any(info.get(key) is not None for key in OURS):
        return True
    address = next((text for key in ADDRESSES if (text := peek(params.get(key), environ))), "").strip()
    if address == APP or JINA_HOST in address:
        return True
    model = peek(params["model"], environ) or ""
    if model == "*":
        return not _has_address(params)
    return embeds(model, peek(params.get("custom_llm_provider"), environ))
