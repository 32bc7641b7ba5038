"""What is known of Jina's models: limits, sizes, parameters and their defaults, how items hang together, prices.

Sources: Jina's OpenAPI 2026.04.02 (parameters, defaults), its on-prem server's catalog, measured against the hosted API
in 2026-07 (token limits, sizes, what a missing ``task`` means), ``GET /v1/models`` of 2026-09-17 (prices).
A default stands here only where leaving the field out was shown to mean the same; the keys depend on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, NamedTuple

from cache_proxy.models import PICO, Endpoint

USUAL_PRICE = 5 * PICO // 10**8  # 0.05 USD per million tokens
NANO_PRICE = 2 * PICO // 10**8

BATCH_LIMIT = 512
"""Items a call may hold (Jina answers 422 above it)."""

BATCH_TOKENS = 1_000_000
"""Estimated tokens a call may hold. Jina documents no limit for a call; this is what its Free plan allows in a minute,
so that a larger call could only be refused."""


class Ranking(Enum):
    """Whether a document's score depends on the other documents."""

    PAIRS = "pairs"
    """One (query, document) pair at a time."""
    LIST = "list"
    """On the whole ordered list."""
    UNKNOWN = "unknown"


class Param(NamedTuple):
    """A field of a request: its type, and the value that leaving it out means (``None``: nothing else means that)."""

    type: type
    default: Any = None


@dataclass(frozen=True, slots=True)
class Model:
    """One model, as far as a cache must know it.

    ``embedding`` and ``rerank`` map the fields it takes on each endpoint (empty: it does not serve that endpoint);
    ``price`` is pico-USD per token or ``None`` if unknown; ``separate`` says that each item has a value of its own.
    """

    name: str
    max_tokens: int | None = None
    dimensions: int | None = None
    truncations: tuple[int, ...] = ()
    """The smaller Matryoshka sizes it was trained for. Jina takes any size up to ``dimensions``."""
    inputs: frozenset[str] = frozenset({"text"})
    embedding: Mapping[str, Param] = field(default_factory=dict)
    rerank: Mapping[str, Param] = field(default_factory=dict)
    ranking: Ranking = Ranking.UNKNOWN
    documents_as_objects: bool = False
    """Rerank echoes every document as ``{"text": …}``; the others echo what the caller sent."""
    sparse: bool = False
    """An embedding is a score for each of some tokens, not a vector."""
    rows: bool = False
    """An embedding is a vector for each token."""
    price: int | None = USUAL_PRICE
    known: bool = True
    separate: bool = True
    harmless: frozenset[str] = frozenset()
    """Fields unknown to the catalog that the operator declared not to tie items together."""
    only: Endpoint | None = None
    """The one endpoint the operator lets it serve (``model_info.mode``)."""

    def serves(self, endpoint: Endpoint) -> bool:
        """Whether asking this endpoint for it makes sense; an unknown model may serve anything."""
        fields = self.embedding if endpoint is Endpoint.EMBEDDINGS else self.rerank
        return (bool(fields) or not self.known) and self.only in (None, endpoint)


TRUNCATE = {"truncate": Param(bool, False)}
NORMALIZED = {"normalized": Param(bool, True)}
CHUNKING = {"late_chunking": Param(bool, False)}
RERANK = {"truncation": Param(bool)}
LIST_RERANK = RERANK | {"max_doc_length": Param(int, 2048), "return_embeddings": Param(bool)}
COLBERT = {"input_type": Param(str, "document")}

TEXT = frozenset({"text"})
VISION = frozenset({"text", "image", "pdf"})
OMNI = frozenset({"text", "image", "audio", "video", "pdf"})


def _task(default: str | None = None) -> dict[str, Param]:
    return {"task": Param(str, default)}


def _size(native: int) -> dict[str, Param]:
    return {"dimensions": Param(int, native)}


def _v5(name: str, tokens: int, size: int, inputs: frozenset[str], price: int) -> Model:
    fields = _task("text-matching") | _size(size) | NORMALIZED | TRUNCATE
    smaller = tuple(n for n in (32, 64, 128, 256, 512) if n < size)
    return Model(name, tokens, size, smaller, inputs, fields, price=price)


def _code(name: str, size: int, smaller: tuple[int, ...]) -> Model:
    return Model(name, 32768, size, smaller, embedding=_task("nl2code.query") | _size(size) | TRUNCATE)


def _v2(language: str) -> Model:
    # ``task`` is ignored by these models today and was refused a year ago, so it has no default here.
    return Model(f"jina-embeddings-v2-base-{language}", 8192, 768, embedding=NORMALIZED | TRUNCATE)


def _pairwise(name: str, tokens: int, inputs: frozenset[str] = TEXT) -> Model:
    return Model(name, tokens, inputs=inputs, rerank=RERANK, ranking=Ranking.PAIRS)


def _listwise(name: str, tokens: int) -> Model:
    return Model(name, tokens, rerank=LIST_RERANK, ranking=Ranking.LIST, documents_as_objects=True)


def _colbert(name: str, size: dict[str, Param], smaller: tuple[int, ...]) -> Model:
    fields = COLBERT | size
    return Model(name, 8192, 128, smaller, embedding=fields, rerank=RERANK, ranking=Ranking.PAIRS, rows=True)


MODELS: Mapping[str, Model] = MappingProxyType(
    {
        model.name: model
        for model in (
            _v5("jina-embeddings-v5-omni-small", 32768, 1024, OMNI, USUAL_PRICE),
            _v5("jina-embeddings-v5-omni-nano", 8192, 768, OMNI, NANO_PRICE),
            _v5("jina-embeddings-v5-text-small", 32768, 1024, TEXT, USUAL_PRICE),
            _v5("jina-embeddings-v5-text-nano", 8192, 768, TEXT, NANO_PRICE),
            Model(
                "jina-embeddings-v4",
                32768,
                2048,
                (128, 256, 512, 1024),
                VISION,
                _task("text-matching")
                | _size(2048)
                | TRUNCATE
                | CHUNKING
                | {"return_multivector": Param(bool, False), "return_tokenized_input": Param(bool, False)},
            ),
            _code("jina-code-embeddings-1.5b", 1536, (128, 256, 512, 1024)),
            _code("jina-code-embeddings-0.5b", 896, (64, 128, 256, 512)),
            Model(
                "jina-embeddings-v3",
                8192,
                1024,
                (32, 64, 128, 256, 512, 768),
                embedding=_task() | _size(1024) | NORMALIZED | TRUNCATE | CHUNKING,
            ),
            Model(
                "jina-clip-v2",
                8192,
                1024,
                (64, 128, 256, 512, 768),
                VISION,
                _task() | _size(1024) | NORMALIZED | TRUNCATE,
            ),
            Model("jina-clip-v1", 8192, 768, inputs=VISION, embedding=NORMALIZED | TRUNCATE),
            _colbert("jina-colbert-v2", _size(128), (64, 96)),
            _colbert("jina-colbert-v1-en", {}, ()),
            _v2("en"),
            _v2("zh"),
            _v2("de"),
            _v2("es"),
            _v2("code"),
            # What a missing ``task`` means, and what it costs, is not public.
            Model("elser-v2", embedding=_task(), sparse=True, price=None),
            _listwise("jina-reranker-v3.5", 131072),
            _listwise("jina-reranker-v3", 131072),
            _pairwise("jina-reranker-m0", 10240, frozenset({"text", "image"})),
            _pairwise("jina-reranker-v2-base-multilingual", 1024),
            _pairwise("jina-reranker-v1-turbo-en", 8192),
            _pairwise("jina-reranker-v1-tiny-en", 8192),
            _pairwise("jina-reranker-v1-base-en", 8192),
        )
    }
)

EMBEDDING_FIELDS: frozenset[str] = frozenset(name for model in MODELS.values() for name in model.embedding)
RERANK_FIELDS: frozenset[str] = frozenset(name for model in MODELS.values() for name in model.rerank)
"""Every field that some model of the catalog takes on an endpoint: what each means for one item is known."""

TYING_FIELDS = frozenset({"late_chunking"})
"""Known fields that, when true, make every vector depend on all inputs and their order."""


def look_up(name: str, *, own_server: bool) -> Model:
    """The catalog's model of this name, or what may be assumed of one nobody here has heard of.

    An unknown embedding model has a value per item on anybody's own server, but is kept whole on Jina's host, where a
    new kind of model would appear first.
    """
    model = MODELS.get(name)
    return model if model is not None else Model(name, price=None, known=False, separate=own_server)
