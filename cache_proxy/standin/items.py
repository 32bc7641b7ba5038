"""What is embedded or ranked: a text, a picture, a page, or several parts fused into one."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from . import tokens
from .checks import Bad
from .errors import too_long

_KIND_OF = {
    "text": "text",
    "image": "image",
    "url": "image",  # the schemas of 2024 and 2025, which LangChain and LlamaIndex still send
    "bytes": "image",
    "audio": "audio",
    "video": "video",
    "pdf": "pdf",
    "content": "content",
}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing with one vector. ``content`` tells items of a kind apart; ``parts`` is for the fused only."""

    kind: str
    content: str
    parts: tuple["Item", ...] = ()

    @property
    def tokens(self) -> int:
        if self.parts:
            return sum(part.tokens for part in self.parts)
        return tokens.text_tokens(self.content) if self.kind == "text" else tokens.media_tokens(self.content)

    @property
    def identity(self) -> list[str]:
        return [self.kind, self.content]


def read_item(value: Any, kinds: Collection[str]) -> Item:
    """A string is a text; an object names exactly one kind that the model takes. Other keys are dropped."""
    if isinstance(value, str):
        return Item("text", value)
    if not isinstance(value, dict):
        raise Bad("Input should be a valid string or object", "string_type")
    named = [name for name in _KIND_OF if value.get(name) is not None and _KIND_OF[name] in kinds]
    if len(named) != 1:
        raise Bad(f"Input should have exactly one of {', '.join(sorted(kinds))}", "value_error")
    kind, content = _KIND_OF[named[0]], value[named[0]]
    if kind == "content":
        return _fuse(content, set(kinds) - {"content", "pdf"})
    if not isinstance(content, str):
        raise Bad("Input should be a valid string", "string_type")
    return Item(kind, content)


def _fuse(value: Any, kinds: Collection[str]) -> Item:
    """``{"content": [part, …]}``: several parts, one embedding (jina-embeddings-v5-omni, 2026-05)."""
    if not isinstance(value, list) or not value:
        raise Bad("Input should be a valid, non-empty list", "list_type")
    parts = tuple(read_item(each, kinds) for each in value)
    return fused(parts)


def fused(parts: tuple[Item, ...]) -> Item:
    return Item("content", orjson.dumps([part.identity for part in parts]).decode(), parts)


def pages_of(pdf: Item) -> tuple[Item, ...]:
    """A PDF gives one embedding a page (seen on the hosted API with 2 to 41 pages, 2026-09)."""
    return tuple(Item("pdf", f"{page} {pdf.content}") for page in range(tokens.pages(pdf.content)))


def fit(item: Item, limit: int, *, truncate: bool) -> Item:
    """The item within the limit of tokens: cut if ``truncate``, else refused with 400 if it is longer."""
    if item.parts:
        return fused(tuple(fit(part, limit, truncate=truncate) for part in item.parts))
    short = tokens.cut(item.content, limit) if item.kind == "text" else None
    if short is None:
        return item
    if not truncate:
        raise too_long(limit)
    return Item("text", short)
