"""From a document as written to one that is validated: unknown keys are named, wrong ones refused."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from cache_proxy.errors import ConfigError
from cache_proxy.settings.notes import Notes, Path, dotted
from cache_proxy.settings.own import OwnSettings
from cache_proxy.settings.sections import Document, LiteLLMParams

SHOWN = 5

LITELLM_ONLY = frozenset(
    {
        "additional_drop_params", "allowed_openai_params", "api_version", "base_model", "budget_duration",
        "cache_control_injection_points", "caching", "client_id", "client_secret",
        "configurable_clientside_auth_params", "context_window_fallbacks", "cooldown_time", "fallbacks", "guardrails",
        "headers", "litellm_credential_name", "litellm_session_id", "litellm_trace_id", "max_budget",
        "max_file_size_mb", "merge_reasoning_content_in_choices", "mock_response", "mock_timeout", "model_info",
        "no-log", "organization", "prompt_id", "prompt_variables", "region_name", "ssl_verify", "stream",
        "stream_timeout", "tags", "tenant_id", "use_chat_completions_api", "use_in_pass_through",
        "use_litellm_proxy",
    }
)  # fmt: skip
"""Keys of ``litellm_params`` that LiteLLM keeps for itself; every other unknown one goes into the request."""

_LITELLM_PREFIXES = ("auto_router_", "aws_", "azure_", "gcs_", "langfuse_", "s3_", "vertex_", "watsonx_")


def is_request_param(name: str) -> bool:
    """Whether LiteLLM would send this unknown key of ``litellm_params`` along with the request."""
    return name not in LITELLM_ONLY and not name.startswith(_LITELLM_PREFIXES) and "cost_per_" not in name


def prune(raw: Any, model: type[BaseModel], path: Path, notes: Notes) -> Any:
    """The same section without the keys that are not acted on, each noted, and without empty ones.

    A misspelt key of our own section raises ``ConfigError``: no LiteLLM file has that section, so it can only be one.
    """
    if not isinstance(raw, Mapping):
        return raw
    kept = {}
    for name, value in raw.items():
        here = (*path, str(name))
        field = model.model_fields.get(str(name))
        if field is not None:
            if value is not None:
                kept[str(name)] = _prune_value(value, field.annotation, here, notes)
        elif issubclass(model, OwnSettings):
            raise ConfigError(_misspelt(here))
        elif issubclass(model, LiteLLMParams) and is_request_param(str(name)):
            kept[str(name)] = value
        else:
            notes.ignored(here)
    return kept


def _prune_value(value: Any, annotation: Any, path: Path, notes: Notes) -> Any:
    section = _section_in(annotation)
    if section is None:
        return value
    if isinstance(value, list):
        return [prune(item, section, (*path, at), notes) for at, item in enumerate(value)]
    return prune(value, section, path, notes)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: ``Section``, ``Section | None`` or ``tuple[Section, ...]``."""
    for candidate in (annotation, *get_args(annotation)):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _misspelt(path: Path) -> str:
    known = list(OwnSettings.model_fields)
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"{dotted(path)} is not a setting; {remedy}"


def validate(pruned: Mapping[str, Any], places: Sequence[int]) -> Document:
    """The document, typed. ``places`` are the positions its deployments have in the file, for error messages."""
    try:
        return Document.model_validate(pruned)
    except ValidationError as error:
        # Neither the error nor its cause is passed on: they hold the values, and a value may be a secret.
        lines = [_line(fault["loc"], fault["type"], fault["msg"], places) for fault in error.errors()]
    more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    raise ConfigError("\n".join(lines[:SHOWN] + more))


def _line(loc: Path, kind: str, message: str, places: Sequence[int]) -> str:
    if len(loc) > 1 and loc[0] == "model_list" and isinstance(loc[1], int):
        loc = ("model_list", places[loc[1]], *loc[2:])
    path = dotted(loc)
    if kind == "missing":
        return f"{path} is missing; write it, or take its entry out"
    if kind in {"model_type", "model_attributes_type", "dict_type", "mapping_type"}:
        return f"{path}: expected keys with their values; indent them below it"
    text = message.removeprefix("Value error, ").replace("Input should", "the value should", 1)
    return f"{path}: {text}; correct it, or take it out to get the default"
