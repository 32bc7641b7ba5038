"""What the load asks, and the right answer to it: the one that a stand-in of its own gives to the very same body."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import orjson

from cache_proxy.standin.embedding_ask import read_embedding
from cache_proxy.standin.embeddings import answer_embedding
from cache_proxy.standin.fields import Manners
from cache_proxy.standin.models import EMBEDDERS, RERANKERS
from cache_proxy.standin.ranking import answer_rank, read_rank

EMBEDDER = "jina-embeddings-v3"
RERANKER = "jina-reranker-v2-base-multilingual"
TEXTS = 60


@dataclass(frozen=True)
class Question:
    """A request: ``path`` and JSON ``body``."""

    path: str
    body: bytes

    @cached_property
    def right(self) -> Any:
        """The numbers that answer it, each at its index."""
        body = orjson.loads(self.body)
        if self.path == "/v1/rerank":
            answer = answer_rank(read_rank(RERANKERS[body["model"]], body, Manners()))
        else:
            answer = answer_embedding(read_embedding(EMBEDDERS[body["model"]], body, Manners()))
        return numbers(answer.body)

    def is_answered_by(self, content: bytes) -> bool:
        """Whether these are the right numbers, every one of them, in the right order."""
        try:
            return bool(numbers(content) == self.right)
        except (KeyError, TypeError, orjson.JSONDecodeError):
            return False


def numbers(content: bytes) -> list[tuple[int, Any]]:
    """Index and vector, or index and score, of every item of an answer."""
    answer = orjson.loads(content)
    if "results" in answer:
        return [(item["index"], item["relevance_score"]) for item in answer["results"]]
    return [(item["index"], item["embedding"]) for item in answer["data"]]


def embed(*texts: str, width: int = 64, **more: Any) -> Question:
    """The vectors of these texts, ``width`` numbers each."""
    return Question("/v1/embeddings", orjson.dumps({"model": EMBEDDER, "input": texts, "dimensions": width, **more}))


def rank(query: str, *documents: str) -> Question:
    """The documents in the order of their scores."""
    return Question("/v1/rerank", orjson.dumps({"model": RERANKER, "query": query, "documents": documents}))


def warm() -> list[Question]:
    """Questions that share texts in many ways: other neighbours, another order, another width, another task."""
    asked = [embed(*_texts(place), width=(32, 64)[place % 2]) for place in range(TEXTS)]
    asked += [embed(*_texts(place), task="text-matching") for place in range(0, TEXTS, 4)]
    asked += [rank(f"query {place % 3}", *_texts(place), f"text {place + 1}") for place in range(0, TEXTS, 4)]
    return asked


def fresh(name: str, width: int = 64) -> Iterator[Question]:
    """Questions without end that hold one text nobody has asked for before, and one that is known."""
    for turn in count():
        yield embed(f"fresh {name} {turn}", f"text {turn % TEXTS}", width=width)


def _texts(place: int) -> list[str]:
    return [f"text {number % TEXTS}" for number in dict.fromkeys((place, place * 7 + 1, place * 13 + 2))]
