"""A JSON Schema of the file, for editors: what each key means, what it may hold, and what is not acted on.

It follows the models, with what is true of every value: it may be ``os.environ/NAME``, a number or a truth may be
written as a string, and nothing (``null``) is as good as leaving the key out.
"""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel

from cache_proxy.settings.base import Section
from cache_proxy.settings.ignored import IGNORED
from cache_proxy.settings.limits import (
    DEFAULT_COOLDOWN,
    DEFAULT_FAILS,
    DEFAULT_PARALLEL,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT,
)
from cache_proxy.settings.sections import File
from cache_proxy.settings.walk import by_model

ANYTHING = re.escape("*")
BELOW = "#/definitions/"
DRAFT = "http://json-schema.org/draft-07/schema#"
NOTHING = {"type": "null"}
NEVER_NOTHING = ("master_key",)
"""An empty one is a mistake, not a wish to let everybody in."""

DEFAULTS: dict[str, Any] = {
    "allowed_fails": DEFAULT_FAILS,
    "cooldown_time": DEFAULT_COOLDOWN,
    "default_max_parallel_requests": DEFAULT_PARALLEL,
    "max_parallel_requests": DEFAULT_PARALLEL,
    "max_retries": DEFAULT_RETRIES,
    "num_retries": DEFAULT_RETRIES,
    "request_timeout": DEFAULT_TIMEOUT,
    "routing_strategy": "simple-shuffle",
    "timeout": DEFAULT_TIMEOUT,
}
"""What the keys of LiteLLM's sections are if nobody says anything."""

_REFERENCE = "os\\.environ/."
_TEXTS = {
    "boolean": "^([Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF|0|1)$",
    "integer": "^[+-]?[0-9]+$",
    "number": "^[+-]?([0-9]+\\.?[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?$",
    "word": _REFERENCE,
}
"""How a value that is no string, or one of a few words, may be written as another string."""

_NOISE = ("title", "format", "writeOnly")
_ASIDE = ("description", "default")


def schema() -> dict[str, Any]:
    """The schema, as JSON values."""
    made = File.model_json_schema(ref_template=f"{BELOW}{{model}}")
    definitions: dict[str, Any] = made.pop("$defs")
    sections = definitions | {File.__name__: made}
    for model, paths in by_model().items():
        if model.__name__ in sections:  # others are only ever written in another form
            _complete(sections[model.__name__], model, paths[0])
    texts = {f"{kind}_as_text": _text(pattern) for kind, pattern in _TEXTS.items()}
    head = {"$schema": DRAFT, "title": "A LiteLLM config.yaml, as cache-proxy obeys it"}
    return {**head, **made, "definitions": {**dict(sorted(definitions.items())), **texts}}


def text() -> str:
    """The schema, as the file that editors read."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _text(pattern: str) -> dict[str, Any]:
    whole = pattern if pattern == _REFERENCE else f"{pattern}|{_REFERENCE}"
    return {"type": "string", "pattern": whole}


def _complete(section: dict[str, Any], model: type[BaseModel], path: str) -> None:
    """Make a section as pydantic describes it into one as people write it."""
    section.pop("title", None)
    section.pop("description", None)
    required = section.get("required", ())
    section["properties"] = {
        name: _member(name, described, model, may_be_nothing=name not in required)
        for name, described in section["properties"].items()
    }
    _add_ignored(section, path)


def _member(name: str, described: dict[str, Any], model: type[BaseModel], *, may_be_nothing: bool) -> dict[str, Any]:
    member = _value(described)
    if name in NEVER_NOTHING:
        member["anyOf"].remove(NOTHING)
    elif may_be_nothing:
        member = _or_nothing(member)
    if not issubclass(model, Section):
        return member
    member.pop("default", None)  # in LiteLLM's sections it says only that the key may be left out
    return member | ({"default": DEFAULTS[name]} if name in DEFAULTS else {})


def _value(described: dict[str, Any]) -> dict[str, Any]:
    """A value with everything that may be written in its place."""
    described = {key: value for key, value in described.items() if key not in _NOISE}
    for key in ("anyOf", "oneOf"):
        if key in described:
            members = [_value(member) for member in described[key]]
            described[key] = _distinct(member for each in members for member in each.get("anyOf", [each]))
    for key in ("items", "additionalProperties"):
        if isinstance(described.get(key), dict):
            described[key] = _value(described[key])
    if "prefixItems" in described:
        described["items"] = [_value(item) for item in described.pop("prefixItems")]
    return _told(described) | _alternatives(_bare(described))


def _told(described: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in described.items() if key in _ASIDE}


def _bare(described: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in described.items() if key not in _ASIDE}


def _alternatives(described: dict[str, Any]) -> dict[str, Any]:
    kind = described.get("type", "")
    if "$ref" in described:
        return {"allOf": [described]}  # what stands beside a $ref is not read in this draft
    if kind in _TEXTS:
        return {"anyOf": [described, {"$ref": f"{BELOW}{kind}_as_text"}]}
    if "enum" in described or "const" in described:
        return {"anyOf": [described, {"$ref": f"{BELOW}word_as_text"}]}
    return described


def _distinct(members: Any) -> list[Any]:
    found: list[Any] = []
    for member in members:
        if member not in found:
            found.append(member)
    return found


def _or_nothing(member: dict[str, Any]) -> dict[str, Any]:
    bare = _bare(member)
    if not bare:
        return member  # it may be anything as it is
    return _told(member) | {"anyOf": _distinct([*bare.get("anyOf", [bare]), NOTHING])}


def _add_ignored(section: dict[str, Any], path: str) -> None:
    """The keys that are known and not acted on: an editor says why, and proposes none of them."""
    patterns = {
        _pattern(keys, section["properties"]): {"description": f"Not acted on here: {why}.", "deprecated": True}
        for why, keys in IGNORED.get(path, {}).items()
    }
    if patterns:
        section["patternProperties"] = patterns


def _pattern(keys: Sequence[str], known: Iterable[str]) -> str:
    """A pattern for all of these keys, but for those that are acted on."""
    either = "|".join(_escape(key).replace(ANYTHING, ".*") for key in keys)
    acted_on = "|".join(_escape(name) for name in known if re.fullmatch(either, name))
    return f"^(?!({acted_on})$)({either})$" if acted_on else f"^({either})$"


def _escape(key: str) -> str:
    """For JavaScript's expressions, too, which know no escaped hyphen."""
    return re.escape(key).replace(r"\-", "-")
