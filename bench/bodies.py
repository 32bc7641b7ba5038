"""The requests that are made, and files of them for the load."""

from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import orjson

MODEL = "jina-embeddings-v3"
"""1024 dimensions, written as the shortest text of a float32."""

WIDENED = "jina-embeddings-v5-text-small"
"""1024 dimensions, written as bfloat16 widened to doubles, with Python's exponents."""

WORDS = "the quick brown fox jumps over the lazy dog and on it goes from there to somewhere else for a while "

_fresh = count()


def texts(number: int, topic: str) -> list[str]:
    """Distinct texts of some 200 characters, the same for the same topic."""
    return [f"{topic} {place}: {WORDS * 2}" for place in range(number)]


def fresh_topic() -> str:
    """A topic that no text of this run had yet."""
    return f"topic {next(_fresh)}"


def body(texts: list[str], model: str = MODEL, encoding: str | None = None) -> bytes:
    """A request for the embeddings of these texts."""
    asked: dict[str, Any] = {"model": model, "input": texts}
    return orjson.dumps(asked | ({"embedding_type": encoding} if encoding else {}))


def singles(texts: Iterable[str], model: str = MODEL) -> Iterator[bytes]:
    """A request for each of these texts."""
    return (body([text], model) for text in texts)


def file_of(folder: Path, bodies: Iterable[bytes]) -> Path:
    """A file of these bodies, one a line."""
    path = folder / f"bodies-{next(_fresh)}"
    path.write_bytes(b"\n".join(bodies))
    return path
