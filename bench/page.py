"""Puts what was measured where its page has a place for it."""

from collections.abc import Iterable
from pathlib import Path


def put(page: Path, begin: str, end: str, lines: Iterable[str]) -> None:
    """These lines between the two markers, instead of what is there. Raises ``ValueError`` if the page has no such."""
    before, found, rest = page.read_text().partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{page.name} has no place for the table: {begin} … {end}")
    page.write_text("\n".join([before + begin, *lines, end + after]))
