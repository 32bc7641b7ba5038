"""From a document as written to one that is validated: unknown keys are named, wrong ones refused."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cache_proxy.errors import ConfigError
from cache_proxy.settings.base import RequestParams, Section
from cache_proxy.settings.entries import LiteLLMParams
from cache_proxy.settings.ignored import PARAMS, reason
from cache_proxy.settings.keys import KeyEntry
from cache_proxy.settings.notes import Notes, Path, dotted
from cache_proxy.settings.own import OwnSettings
from cache_proxy.settings.sections import Document

SHOWN = 5
_UNION = ("bool", "str")
"""How pydantic tells the members of a union apart at the end of a fault's place."""

ANY_NAME = "*"
"""Stands in a path for a key that the operator made up."""

Model = TypeVar("Model", bound=BaseModel)


def is_request_param(name: str) -> bool:
    """Whether LiteLLM would send this key of ``litellm_params`` along with the request."""
    return name not in LiteLLMParams.model_fields and not name.startswith("_") and reason(PARAMS, name) is None


def prune(raw: Any, model: type[BaseModel], path: Path, notes: Notes) -> Any:
    """The same section without the keys that are not acted on, each noted, and without empty ones.

    A misspelt key of our own sections raises ``ConfigError``: no LiteLLM file has them, so it can only be one.
    """
    if not isinstance(raw, Mapping):
        return raw
    kept = {}
    for name, value in raw.items():
        here = (*path, str(name))
        field = model.model_fields.get(str(name))
        if field is not None:
            if value is not None or (issubclass(model, Section) and name in model.NULLS):
                kept[str(name)] = _prune_value(value, field.annotation, here, notes)
        elif issubclass(model, OwnSettings | KeyEntry):
            raise ConfigError(_misspelt(here, list(model.model_fields)))
        elif issubclass(model, RequestParams) and is_request_param(str(name)):
            kept[str(name)] = value
        else:
            notes.ignored(here)
    return kept


def _prune_value(value: Any, annotation: Any, path: Path, notes: Notes) -> Any:
    section = section_in(annotation)
    if section is None:
        return value
    if isinstance(value, list):
        return [prune(item, section, (*path, at), notes) for at, item in enumerate(value)]
    if isinstance(value, Mapping) and is_by_name(annotation):
        return {name: prune(item, section, (*path, ANY_NAME), notes) for name, item in value.items()}
    return prune(value, section, path, notes)


def section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds, alone, in a list (``tuple[Section, ...]``) or by name (``Mapping``)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (section_in(argument) for argument in get_args(annotation))
    return next((section for section in found if section is not None), None)


def is_by_name(annotation: Any) -> bool:
    """Whether a field holds sections under names that the operator makes up."""
    return get_origin(annotation) is Mapping


def _misspelt(path: Path, known: list[str]) -> str:
    close = difflib.get_close_matches(str(path[-1]), known, n=1)
    remedy = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"{dotted(path)} is not a setting; {remedy}"


def validate(pruned: Mapping[str, Any], places: Sequence[int]) -> Document:
    """The document, typed. ``places`` are the positions its deployments have in the file, for error messages."""

    return typed(Document, pruned, (), places)


def typed(model: type[Model], data: Any, path: Path, places: Sequence[int] = ()) -> Model:
    """The data, which stands at this path of the file, as a section. Raises ``ConfigError``."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        # Neither the error nor its cause is passed on: they hold the values, and a value may be a secret.
        faults = [(_place((*path, *fault["loc"]), places), fault["type"], fault["msg"]) for fault in error.errors()]
    lines = list({where: _line(where, kind, message) for where, kind, message in reversed(faults)}.values())[::-1]
    more = [f"… and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    raise ConfigError("\n".join(lines[:SHOWN] + more))


def _place(loc: Path, places: Sequence[int]) -> str:
    if places and len(loc) > 1 and loc[0] == "model_list" and isinstance(loc[1], int):
        loc = ("model_list", places[loc[1]], *loc[2:])
    return dotted(loc[:-1] if loc[-1] in _UNION else loc)


def _line(path: str, kind: str, message: str) -> str:
    if kind == "missing":
        return f"{path} is missing; write it, or take its entry out"
    if kind in {"model_type", "model_attributes_type", "dict_type", "mapping_type"}:
        return f"{path}: expected keys with their values; indent them below it"
    if kind in {"tuple_type", "list_type"}:
        return f"{path}: expected a list; write each of its entries after a hyphen"
    text = message.removeprefix("Value error, ").replace("Input should", "the value should", 1)
    return f"{path}: {text}; correct it, or take it out to get the default"
