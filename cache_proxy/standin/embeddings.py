"""Answers ``POST /v1/embeddings``. Keys are in the order of the recorded answers (2024-10 to 2026-07)."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import orjson

from .embedding_ask import EmbeddingAsk
from .items import Item
from .models import Embedder
from .tokens import COLBERT_QUERY, media_tokens, pieces
from .vectors import matrix, seed, share, vector
from .writing import encode, shaped


@dataclass(frozen=True, slots=True)
class Answer:
    """A 200: its bytes, how many things were asked about, and what they cost."""

    body: bytes
    items: int
    tokens: int


def answer_embedding(ask: EmbeddingAsk) -> Answer:
    tokens = ask.tokens
    head = {"model": ask.model.name, "object": "list", "usage": _usage(ask, tokens)}
    data = b",".join(_data(ask))
    body = orjson.dumps(head)[:-1] + b',"data":[' + data + b"]}"
    return Answer(body, ask.inputs, tokens)


def _usage(ask: EmbeddingAsk, tokens: int) -> dict[str, int]:
    """Both counts for most, one for colbert and v4, and elser's own three."""
    return {name: 0 if name == "output_tokens" else tokens for name in ask.model.usage}


def _data(ask: EmbeddingAsk) -> Iterator[bytes]:
    whole = seed([item.identity for item in ask.items]).hex() if ask.late_chunking else None
    for index, item in enumerate(ask.items):
        # Late chunking reads all texts as one, so a vector depends on all of them and on its place.
        context = [whole, index] if ask.late_chunking else None
        seeded = seed(ask.model.name, item.identity, ask.mode, ask.rows, context, ask.salt.decode())
        yield _datum(ask, index, item, seeded)


def _datum(ask: EmbeddingAsk, index: int, item: Item, seeded: bytes) -> bytes:
    if ask.model.shape == "sparse":
        return b'{"object":"embedding","index":%d,"embedding":%b}' % (index, _sparse(item, seeded))
    if ask.rows:
        return _multi(ask, index, item, seeded)
    written = _written(seeded, ask.model, ask.width, ask.normalized, ask.encoding)
    return b'{"object":"embedding","index":%d,"embedding":%b}' % (index, written)


@lru_cache(maxsize=2048)
def _written(seeded: bytes, model: Embedder, width: int, normalized: bool, encoding: str) -> bytes:
    """A vector as JSON, kept because a bench asks for the same ones again and again."""
    return encode(shaped(vector(seeded, model.width, width, normalized=normalized), model.form), encoding)


def _multi(ask: EmbeddingAsk, index: int, item: Item, seeded: bytes) -> bytes:
    count = _row_count(ask, item)
    native = ask.model.width if ask.model.shape == "rows" else ask.width
    values = shaped(matrix(seeded, count, native, ask.width), ask.model.form)
    written = b",".join(encode(row, ask.encoding) for row in values)
    tail = b',"tokenized_input":' + orjson.dumps(_pieces(item, count)) if ask.tokenized else b""
    return b'{"object":"embeddings","index":%d,"embeddings":[%b]%b}' % (index, written, tail)


def _row_count(ask: EmbeddingAsk, item: Item) -> int:
    """A row a token; a ColBERT query always has 32, and a picture a few patches."""
    if ask.model.shape == "rows" and ask.mode == "query":
        return COLBERT_QUERY
    return item.tokens if item.kind == "text" else 16 + media_tokens(item.content) % 16


def _pieces(item: Item, count: int) -> list[str]:
    if item.kind != "text":
        return [f"<{item.kind}>"] * count
    return ["<s>", *pieces(item.content), "</s>"]


def _sparse(item: Item, seeded: bytes) -> bytes:
    """elser-v2: a dictionary from token to score. The words of the text, and one that it did not say."""
    words = sorted({piece.lower() for piece in pieces(item.content)})
    names = [*words, f"expansion{seeded[0] % 10}"]
    return orjson.dumps({name: float(np.round(0.1 + 2 * share(seed(seeded.hex(), name)), 6)) for name in names})
