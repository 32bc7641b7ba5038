"""Inputs and documents: JSON in any of the accepted spellings to :class:`~cache_proxy.models.Item`.

Spellings: a string; ``{"text"}``; ``{"image"}``, ``{"audio"}``, ``{"video"}``, ``{"pdf"}`` with a URL or base64; the
``{"url"}`` and ``{"bytes"}`` of images that Jina's 2024 schema had and LangChain and LlamaIndex still send;
``{"content": […]}``, several parts that make one embedding (v5-omni); a list of token ids (other servers).
"""

import re
from collections.abc import Iterable

from cache_proxy.core.catalog import Model
from cache_proxy.core.keys import encode
from cache_proxy.errors import RequestError
from cache_proxy.models import Item, Json, Kind

_MEDIA = {"image": Kind.IMAGE, "audio": Kind.AUDIO, "video": Kind.VIDEO, "pdf": Kind.PDF}
# Looking a member up in its enum is slow on Python 3.11, and these are looked up for every item.
_TEXT, _PDF, _OTHER = Kind.TEXT, Kind.PDF, Kind.OTHER
_BASE64 = re.compile(r"[A-Za-z0-9+/=_\-\s]*")
_ENOUGH = 2048
"""Characters in which a URL shows itself."""
_OLD_IMAGE_FIELDS = ("url", "bytes")


def read_list(value: Json, name: str, model: Model) -> tuple[Item, ...]:
    """The items of a list. Raises ``RequestError`` if it is empty or holds what no item can be."""
    if not value:
        raise RequestError(f"`{name}` list cannot be empty.", param=name, code="empty_list")
    return tuple([read_item(member, name, place, model) for place, member in enumerate(value)])


def takes_images(model: Model) -> bool:
    """Whether the catalog knows that this model takes images."""
    return model.known and "image" in model.inputs


def image_in(value: Json) -> Json:
    """LiteLLM's spelling of an image, a bare ``data:image/…;base64,`` string, as Jina's; anything else as it is."""
    if type(value) is not str or not value.startswith("data:image/"):
        return value
    head, comma, data = value.partition(",")
    return {"image": data} if comma and head.endswith(";base64") else value


def has_several(items: Iterable[Item]) -> bool:
    """Whether an item may have several values (a PDF has one a page), or nobody here knows how many."""
    for item in items:  # noqa: SIM110  a plain loop takes half the time, on every request
        if item.kind is _PDF or item.kind is _OTHER:
            return True
    return False


def read_item(value: Json, name: str, place: int | None, model: Model) -> Item:
    """One item; ``name`` and ``place`` say where it stood, for the complaint."""
    if type(value) is str:
        return _text(value, name, place)
    if type(value) is dict and value:
        return _object(value, name, place, model)
    if type(value) is list and value and all(type(token) is int for token in value):
        return Item(Kind.TOKENS, encode(value), value)
    raise _not_an_item(name, place)


def _text(value: str, name: str, place: int | None) -> Item:
    try:
        return Item(_TEXT, value.encode(), value)
    except UnicodeEncodeError:
        field = _field(name, place)
        raise RequestError(f"`{field}` holds a lone surrogate: it is not text.", param=field) from None


def _object(value: dict[str, Json], name: str, place: int | None, model: Model) -> Item:
    if model.known:
        value = {field: content for field, content in value.items() if content is not None}
    if len(value) == 1:
        ((field, content),) = value.items()
        if field == "text":
            if type(content) is not str:
                raise _not_a_string(name, place, field)
            return _text(content, name, place)
        if field in _MEDIA or (field in _OLD_IMAGE_FIELDS and takes_images(model)):
            if type(content) is not str:
                raise _not_a_string(name, place, field)
            return _media(field if field in _MEDIA else "image", content, is_url=field == "url")
        if field == "content" and type(content) is list:
            return Item(Kind.FUSED, encode(content), value, any(map(_is_remote, content)))
    return as_it_is(value)


def as_it_is(value: Json) -> Item:
    """An item of a form that is the upstream's to understand."""
    return Item(Kind.OTHER, encode(value), value, _is_remote(value))


def _media(field: str, content: str, *, is_url: bool) -> Item:
    return Item(_MEDIA[field], content.encode(), {field: content}, is_url or not _is_inline(content))


def _is_inline(content: str) -> bool:
    """Whether this is the content itself. A URL always has a dot or a colon, and neither is in base64."""
    return content.startswith("data:") or _BASE64.fullmatch(content[:_ENOUGH]) is not None


def _is_remote(value: Json) -> bool:
    """Whether anything in this object only points at its content."""
    if isinstance(value, dict):
        return any(map(_is_remote, (content for field, content in value.items() if field != "text")))
    if isinstance(value, list):
        return any(map(_is_remote, value))
    return isinstance(value, str) and _is_url(value)


def _is_url(value: str) -> bool:
    # Neither base64 nor a data URI has it.
    return "://" in value


def _field(name: str, place: int | None) -> str:
    return name if place is None else f"{name}[{place}]"


def _not_an_item(name: str, place: int | None) -> RequestError:
    field = _field(name, place)
    return RequestError(
        f'`{field}` must be a string or an object such as {{"text": …}} or {{"image": …}}.',
        param=field,
        code="wrong_type",
    )


def _not_a_string(name: str, place: int | None, field: str) -> RequestError:
    where = f"{_field(name, place)}.{field}"
    return RequestError(f"`{where}` must be a string.", param=where, code="wrong_type")
