"""Tokens and money: integers only, and parts that add up exactly."""

from collections.abc import Sequence
from functools import lru_cache

from cache_proxy.models import PICO, Item, Kind

IMAGE_ESTIMATE = 4000
"""About what a picture cost on CLIP in 2024 and 2025; only used to share out a total that is known."""


def estimate(item: Item) -> int:
    """A rough count of an item's tokens, at least 1: four bytes of UTF-8 text a token, a flat rate for a picture.

    It decides only how a call's total is shared between its items, and stands in where an upstream gives no total.
    """
    if item.kind is Kind.TEXT:
        return len(item.content) // 4 + 2
    if item.kind is Kind.TOKENS:
        return max(1, len(item.content) // 8)
    return IMAGE_ESTIMATE


def split(total: int, weights: Sequence[int]) -> list[int]:
    """Share ``total`` in proportion to positive ``weights``; the parts add up to it exactly (largest remainder)."""
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
