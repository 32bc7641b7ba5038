"""Tokens and money: integers only, and parts that add up exactly."""

from collections.abc import Sequence
from functools import lru_cache

from cache_proxy.models import PICO, Item, Json, Kind

IMAGE_ESTIMATE = 4000
"""About what a picture cost on CLIP in 2024 and 2025; only used to share out a total that is known."""

TEXT_EXTRA = 32
"""Tokens of a text that are not in it: marks, a task's words, the fixed length of a ColBERT query."""

CONTEXT = 32768
"""The most tokens that any model of the catalog which takes pictures reads as one input: one picture, page, sound or
film can not cost more. Whether a mixture of them can, nobody has measured, so its parts are added up."""

_MEDIA = frozenset({"image", "audio", "video"})

PDF_PAGES = 100
"""As many pages as a PDF may be taken to have; the longest that was seen had 41."""


def estimate(item: Item) -> int:
    """A rough count of an item's tokens, at least 1: four bytes of UTF-8 text a token, a flat rate for a picture.

    It decides only how a call's total is shared between its items, and stands in where an upstream gives no total.
    """
    if item.kind is Kind.TEXT:
        return len(item.content) // 4 + 2
    if item.kind is Kind.TOKENS:
        return max(1, len(item.content) // 8)
    return IMAGE_ESTIMATE


def bound(item: Item) -> int:
    """The most tokens that an item can cost, for calls of which nobody knows what they did.

    No tokenizer makes more tokens of a text than it has bytes. What is not text has a flat rate, as far as is known.
    """
    if item.kind is Kind.TEXT:
        return len(item.content) + TEXT_EXTRA
    if item.kind is Kind.TOKENS:
        return len(item.wire) + TEXT_EXTRA
    if item.kind is Kind.PDF:
        return PDF_PAGES * CONTEXT
    if item.kind is Kind.FUSED:
        return _most(item.wire, "")
    if item.kind is Kind.OTHER:
        # Nobody here knows its form.
        return max(CONTEXT + len(item.content), _most(item.wire, ""))
    return CONTEXT


def _most(value: Json, field: str) -> int:
    """The most that the parts of such a value can cost together; ``field`` is where it stands."""
    if isinstance(value, dict):
        return sum(_most(part, name) for name, part in value.items())
    if isinstance(value, list):
        return sum(_most(part, field) for part in value)
    if not isinstance(value, str) or field == "text":
        return len(str(value).encode()) + TEXT_EXTRA
    if field in _MEDIA:
        return CONTEXT
    # A text, or something to be looked at.
    return PDF_PAGES * CONTEXT if field == "pdf" else CONTEXT + len(value.encode())


def split(total: int, weights: Sequence[int], bounds: Sequence[int] | None = None) -> list[int]:
    """Share ``total`` in proportion to positive ``weights``; the parts add up to it exactly (largest remainder).

    No part is above its bound, unless ``total`` is above all of them together: then nobody knows whose fault that is.
    """
    if bounds is None or total > sum(bounds):
        return _split(total, weights)
    parts = _split(total, weights)
    if all(part <= most for part, most in zip(parts, bounds, strict=True)):
        return parts
    # Whoever would be above is at his bound, and the others share what is left, until nobody is.
    capped: dict[int, int] = {}
    while True:
        free = [i for i in range(len(weights)) if i not in capped]
        found = dict(zip(free, _split(total - sum(capped.values()), [weights[i] for i in free]), strict=True))
        above = {i: bounds[i] for i, part in found.items() if part > bounds[i]}
        if not above:
            found |= capped
            return [found[i] for i in range(len(weights))]
        capped |= above


def _split(total: int, weights: Sequence[int]) -> list[int]:
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: total * weights[i] % whole, reverse=True)
    for i in by_remainder[: total - sum(parts)]:
        parts[i] += 1
    return parts


@lru_cache(maxsize=4096)
def usd(pico: int | None) -> str:
    """An amount of pico-USD as a plain decimal, unrounded: ``0.00000005``. ``unknown`` where there is none."""
    if pico is None:
        return "unknown"
    whole, fraction = divmod(pico, PICO)
    return f"{whole}.{fraction:012d}".rstrip("0").rstrip(".")
