"""Token counts: not any model's tokenizer, but with the properties of their bills.

A text costs two special tokens and one for each word of up to six letters or mark, so counts add up over
items (the recorded answers: 6 + 7 = 13) and nothing is free. The limit of a model is on the text alone: 60
000 characters sent to jina-embeddings-v3 with ``truncate`` were billed 8194 = 8192 + 2 (hosted, 2026-07).
"""

import re
from hashlib import blake2b

SPECIAL = 2
COLBERT_QUERY = 32
"""A ColBERT query counts its fixed length, whatever its text (recorded 2024-10: 5 queries, 160 tokens)."""

_PIECE = re.compile(r"\w{1,6}|[^\w\s]")


def pieces(text: str) -> list[str]:
    return _PIECE.findall(text)


def text_tokens(text: str) -> int:
    return SPECIAL + len(_PIECE.findall(text))


def cut(text: str, limit: int) -> str | None:
    """The first ``limit`` pieces of the text, or None where the text is within the limit."""
    if len(text) <= limit:
        return None
    end = 0
    for number, piece in enumerate(_PIECE.finditer(text)):
        if number == limit:
            return text[:end]
        end = piece.end()
    return None


def media_tokens(content: str) -> int:
    """A picture, page, sound or film: up to 4000, as on jina-clip (recorded 2024-10)."""
    return 500 + _number(content) % 3500


def pages(content: str) -> int:
    """How many pages, so how many embeddings, a PDF has."""
    return 2 + _number(content) % 4


def _number(content: str) -> int:
    return int.from_bytes(blake2b(content.encode(), digest_size=4).digest())
