"""Which entries of ``model_list`` can be served here; the others are noted and left out."""

from collections.abc import Mapping
from typing import Any

from cache_proxy.settings.credentials import refuse_unknown
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.providers import upstream_of
from cache_proxy.settings.references import peek

SERVED_MODES = ("embedding", "rerank")
ENVIRONMENT_VARIABLE = "LITELLM_ENVIRONMENT"


def without_others(raw: dict[str, Any], environ: Mapping[str, str], notes: Notes) -> tuple[dict[str, Any], list[int]]:
    """The document without the deployments that are not served, and the places in the file of those that are.

    Raises ``ConfigError`` where one of these names a credential that is not there.
    """
    entries = raw.get("model_list")
    if not isinstance(entries, list):
        return raw, []
    kept = []
    for at, entry in enumerate(entries):
        why = _why_not(entry, environ)
        if why is None:
            refuse_unknown(entry, f"model_list[{at}]")
            kept.append(at)
        else:
            name = peek(entry.get("model_name"), environ) or f"model_list[{at}]"
            notes.add(f"model_list: {name} {why} and is skipped")
    return {**raw, "model_list": [entries[at] for at in kept]}, kept


def _why_not(entry: Any, environ: Mapping[str, str]) -> str | None:
    """Why this deployment is not served. What can not be made out is left for the validation."""
    if not isinstance(entry, Mapping):
        return None
    given = entry.get("model_info")
    info: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
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
    has_base = any(peek(params.get(key), environ) is not None for key in ("api_base", "base_url"))
    # A bare * takes whatever the name of a request says.
    return model != "*" and upstream_of(model, provider=provider, has_base=has_base) is None
