"""Whether an answer is right: it has the very numbers that the stand-in gives to the very same request."""

from functools import cache
from hashlib import blake2b

import orjson

from bench.economy.asks import Embedding
from bench.economy.spellings import Request
from cache_proxy.standin.embedding_ask import read_embedding
from cache_proxy.standin.embeddings import answer_embedding
from cache_proxy.standin.fields import Manners
from cache_proxy.standin.models import EMBEDDERS, RERANKERS
from cache_proxy.standin.ranking import answer_rank, read_rank


def is_right(request: Request, content: bytes) -> bool:
    """Whether every number is there, the right one, at its index, and in the right order."""
    try:
        return _numbers(content) == _right(request.body, embedding=isinstance(request.ask, Embedding))
    except (KeyError, TypeError, orjson.JSONDecodeError):
        return False


@cache  # the same load is asked of every topology
def _right(raw: bytes, *, embedding: bool) -> bytes:
    body = orjson.loads(raw)
    name = body["model"].removeprefix("jina_ai/")
    if embedding:
        answer = answer_embedding(read_embedding(EMBEDDERS[name], body, Manners()))
    else:
        answer = answer_rank(read_rank(RERANKERS[name], body, Manners()))
    return _numbers(answer.body)


def _numbers(content: bytes) -> bytes:
    """A digest of index and vector, or index and score, of every item of an answer."""
    answer = orjson.loads(content)
    if "results" in answer:
        found = [(item["index"], item["relevance_score"]) for item in answer["results"]]
    else:
        found = [(item["index"], item["embedding"]) for item in answer["data"]]
    return blake2b(orjson.dumps(found)).digest()
