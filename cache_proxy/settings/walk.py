"""Every section of the file and where it stands, for those who describe it: the JSON Schema and the page's tables."""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from cache_proxy.settings.checking import ANY_NAME, is_by_name, section_in
from cache_proxy.settings.sections import File


def sections(model: type[BaseModel] = File, path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """The path of each section, as warnings write it, with its model: ``model_list[].litellm_params``."""
    yield path, model
    for name, field in model.model_fields.items():
        inner = section_in(field.annotation)
        if inner is not None:
            here = f"{path}.{name}" if path else name
            yield from sections(inner, here + _form(field.annotation))


def _form(annotation: Any) -> str:
    """What stands in the path between a field and a section in it: nothing, a list's ``[]`` or a name."""
    if is_by_name(annotation):
        return f".{ANY_NAME}"
    if get_origin(annotation) in (tuple, list):
        return "[]"
    return next((_form(argument) for argument in get_args(annotation) if section_in(argument)), "")


def by_model() -> dict[type[BaseModel], list[str]]:
    """The paths of each kind of section, in the order of the file."""
    found: dict[type[BaseModel], list[str]] = {}
    for path, model in sections():
        found.setdefault(model, []).append(path)
    return found
