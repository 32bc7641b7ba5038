"""Reading fields: aliases, types, defaults. Every complaint names the field and the remedy, and echoes no value."""

from collections.abc import Mapping, Sequence

import orjson

from cache_proxy.core.catalog import EMBEDDING_FIELDS, RERANK_FIELDS, Model, Param
from cache_proxy.errors import RequestError
from cache_proxy.models import Json

Body = Mapping[str, Json]

OURS = frozenset({"model", "user", "metadata", "litellm_metadata", "cache"})
"""Fields that speak to the proxy or about the caller. They change no answer: never keyed, never sent."""

REFUSED = ("api_key", "api_base", "base_url")
"""LiteLLM's SDK takes these as arguments; in a request body they would be a way to spend or to send elsewhere."""

_LONGEST_NAME = 256
_NAMES = {bool: "true or false", int: "a whole number", str: "a string"}


def parse_body(raw: bytes) -> dict[str, Json]:
    """A request's JSON object. Raises ``RequestError`` for anything else.

    orjson is strict where Python's parser is not: no NaN, no lone surrogates, no UTF-16, a bounded depth.
    """
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestError(
            f"The body is not valid JSON (at character {error.pos}). Send one JSON object in UTF-8.",
            code="invalid_json",
            malformed=True,
        ) from None
    if type(body) is not dict:
        raise RequestError("The body must be a JSON object.", code="invalid_json", malformed=True)
    return body


def refuse_secrets(body: Body) -> None:
    """Raise ``RequestError`` if the body tries to say where to or with whose key."""
    for name in REFUSED:
        if body.get(name) is not None:
            raise RequestError(
                f"`{name}` can not be set in a request body. Configure it for the model instead.",
                param=name,
                code="not_in_a_body",
                malformed=True,
            )


def model_name(body: Body) -> str:
    """The model that is asked for."""
    name = body.get("model")
    if name is None or name == "":
        raise RequestError("`model` is required.", param="model", code="missing_field")
    if type(name) is not str or len(name) > _LONGEST_NAME or not name.isprintable():
        raise RequestError(
            f"`model` must be a string of at most {_LONGEST_NAME} printable characters.",
            param="model",
            code="wrong_type",
        )
    return name


def pick(body: Body, names: Sequence[str]) -> tuple[str, Json]:
    """The first of these spellings that is there and not null, with its value; else the first and ``None``."""
    for name in names:
        value = body.get(name)
        if value is not None:
            return name, value
    return names[0], None


def filled(body: Body, defaults: Body, spellings: Sequence[Sequence[str]]) -> dict[str, Json]:
    """The body, with the operator's defaults where the caller said nothing; ``null``, too, says nothing.

    ``spellings`` are the names that mean one thing: who says ``output_dimension`` has said ``dimensions``.
    """
    said = {other for names in spellings if pick(body, names)[1] is not None for other in names}
    left = {name: value for name, value in defaults.items() if name not in said}
    return {**left, **{name: value for name, value in body.items() if value is not None or name not in left}}


def check_type(name: str, value: Json, expected: type) -> None:
    """Raise ``RequestError`` unless the value is exactly of this type (``true`` is no number)."""
    if type(value) is not expected:
        raise RequestError(f"`{name}` must be {_NAMES[expected]}.", param=name, code="wrong_type")


def rename(body: Body, aliases: Mapping[str, Sequence[str]]) -> dict[str, Json]:
    """The body with each alias under its canonical name; the first one that is there and not null wins."""
    renamed = dict(body)
    for canonical, names in aliases.items():
        if any(name in renamed for name in names):
            _, value = pick(renamed, names)
            for name in names:
                renamed.pop(name, None)
            renamed[canonical] = value
    return renamed


def resolve(given: Body, known: Mapping[str, Param], model: Model) -> dict[str, Json]:
    """The parameters that can change the answer, with every spelled-out default left out.

    A field the catalog does not list for this model stays as it is: keyed, and the upstream's to judge.
    """
    if not model.known:
        return dict(given)
    return {name: value for name, value in given.items() if not _says_nothing(name, value, known)}


def _says_nothing(name: str, value: Json, known: Mapping[str, Param]) -> bool:
    if value is None:
        return name in EMBEDDING_FIELDS or name in RERANK_FIELDS
    if name not in known:
        return False
    check_type(name, value, known[name].type)
    return bool(value == known[name].default)


def ties_items(params: Body, known: frozenset[str], model: Model) -> bool:
    """Whether a field is there whose meaning for a single item nobody here knows: it may tie the items together."""
    return any(name not in known and name not in model.harmless for name in params)
