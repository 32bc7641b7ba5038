"""What each model takes and gives, from Jina's OpenAPI (2026-04) and its model pages (2026-09)."""

from dataclasses import dataclass
from typing import Literal

NumberForm = Literal["float32", "bfloat16", "decimals"]


@dataclass(frozen=True, slots=True)
class Embedder:
    """A model on ``/v1/embeddings``.

    ``width`` is the native size of a vector (of one row, if it gives rows).
    """

    name: str
    width: int
    max_tokens: int
    fields: frozenset[str]
    form: NumberForm = "float32"
    tasks: tuple[str, ...] = ()
    default_task: str | None = None
    max_dimensions: int = 0
    widths: tuple[int, ...] = ()
    kinds: frozenset[str] = frozenset({"text"})
    usage: tuple[str, ...] = ("total_tokens", "prompt_tokens")
    shape: Literal["vector", "rows", "sparse"] = "vector"


@dataclass(frozen=True, slots=True)
class Reranker:
    """A model on ``/v1/rerank``.

    A listwise one reads the whole ordered list before it scores anything in it.
    """

    name: str
    max_tokens: int
    fields: frozenset[str]
    kinds: frozenset[str] = frozenset({"text"})
    scale: Literal["sigmoid", "maxsim", "cosine"] = "sigmoid"

    @property
    def listwise(self) -> bool:
        return self.scale == "cosine"


MULTIVECTOR_WIDTH = 128
"""Size of one row of jina-embeddings-v4 with ``return_multivector``."""

RANK_EMBEDDING_WIDTH = 512
"""Size of the vectors of ``return_embeddings`` (Jina's on-premises server, 2026-08)."""

_V3_TASKS = ("retrieval.query", "retrieval.passage", "text-matching", "classification", "separation")
_V4_TASKS = ("text-matching", "retrieval.query", "retrieval.passage", "code.query", "code.passage")
_V5_TASKS = ("retrieval.query", "retrieval.passage", "text-matching", "clustering", "classification")
_CODE_TASKS = tuple(
    f"{pair}.{side}"
    for pair in ("nl2code", "qa", "code2code", "code2nl", "code2completion")
    for side in ("query", "passage")
)

_BASIC = frozenset({"embedding_type", "truncate"})
_NORMAL = _BASIC | {"normalized"}
_V5_FIELDS = _NORMAL | {"task", "dimensions"}
_V4_FIELDS = _BASIC | {
    "task",
    "dimensions",
    "late_chunking",
    "return_multivector",
    "return_tokenized_input",
}
_PICTURES = frozenset({"text", "image", "pdf"})
_OMNI = frozenset({"text", "image", "audio", "video", "pdf", "content"})


def _v2(language: str) -> Embedder:
    return Embedder(f"jina-embeddings-v2-base-{language}", 768, 8192, _NORMAL)


def _v5(name: str, width: int, max_tokens: int, kinds: frozenset[str] = frozenset({"text"})) -> Embedder:
    # The schema allows 1024 dimensions for nano as well, whose native size is 768.
    return Embedder(
        f"jina-embeddings-v5-{name}",
        width,
        max_tokens,
        _V5_FIELDS,
        form="bfloat16",
        tasks=_V5_TASKS,
        default_task="text-matching",
        max_dimensions=1024,
        kinds=kinds,
    )


def _code(size: str, width: int) -> Embedder:
    return Embedder(
        f"jina-code-embeddings-{size}",
        width,
        32768,
        _BASIC | {"task", "dimensions"},
        form="decimals",
        tasks=_CODE_TASKS,
        default_task="nl2code.query",
        max_dimensions=width,
    )


def _colbert(name: str, *, widths: tuple[int, ...] = ()) -> Embedder:
    fields = frozenset({"embedding_type", "input_type"}) | ({"dimensions"} if widths else set())
    return Embedder(name, 128, 8192, fields, widths=widths, usage=("total_tokens",), shape="rows")


_EMBEDDERS = (
    *(_v2(language) for language in ("en", "zh", "de", "es", "code")),
    Embedder(
        "jina-embeddings-v3",
        1024,
        8192,
        _V5_FIELDS | {"late_chunking"},
        tasks=_V3_TASKS,
        max_dimensions=1024,
    ),
    Embedder(
        "jina-embeddings-v4",
        2048,
        32768,
        _V4_FIELDS,
        form="bfloat16",
        tasks=_V4_TASKS,
        default_task="text-matching",
        max_dimensions=2048,
        kinds=_PICTURES,
        usage=("total_tokens",),
    ),
    _v5("text-small", 1024, 32768),
    _v5("text-nano", 768, 8192),
    _v5("omni-small", 1024, 32768, _OMNI),
    _v5("omni-nano", 768, 8192, _OMNI),
    _code("0.5b", 896),
    _code("1.5b", 1536),
    Embedder("jina-clip-v1", 768, 8192, _NORMAL, kinds=_PICTURES),
    Embedder(
        "jina-clip-v2",
        1024,
        8192,
        _V5_FIELDS,
        tasks=("retrieval.query",),
        max_dimensions=1024,
        kinds=_PICTURES,
    ),
    _colbert("jina-colbert-v1-en"),
    _colbert("jina-colbert-v2", widths=(64, 96, 128)),
    Embedder(
        "elser-v2",
        0,
        8192,
        frozenset({"embedding_type", "task"}),
        tasks=("retrieval.query", "retrieval.passage"),
        usage=("input_tokens", "output_tokens", "total_tokens"),
        shape="sparse",
    ),
)

_PLAIN = frozenset({"top_n", "return_documents", "truncation"})
_LISTWISE = _PLAIN | {"max_doc_length", "return_embeddings"}

_RERANKERS = (
    *(Reranker(f"jina-reranker-v1-{size}-en", 8192, _PLAIN) for size in ("tiny", "turbo", "base")),
    Reranker("jina-reranker-v2-base-multilingual", 1024, _PLAIN),
    Reranker("jina-colbert-v1-en", 8192, _PLAIN, scale="maxsim"),
    Reranker("jina-colbert-v2", 8192, _PLAIN, scale="maxsim"),
    Reranker("jina-reranker-m0", 10240, _PLAIN, kinds=frozenset({"text", "image"})),
    Reranker("jina-reranker-v3", 131072, _LISTWISE, scale="cosine"),
    Reranker("jina-reranker-v3.5", 131072, _LISTWISE, scale="cosine"),
)

EMBEDDERS = {model.name: model for model in _EMBEDDERS}
RERANKERS = {model.name: model for model in _RERANKERS}
