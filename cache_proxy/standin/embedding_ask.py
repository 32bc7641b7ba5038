"""Reads the body of ``POST /v1/embeddings`` by Jina's OpenAPI (2026-04), which is told apart by ``model``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import checks
from .errors import internal, too_long
from .fields import Dialect, Fields, Manners
from .items import Item, fit, pages_of, read_item
from .models import EMBEDDERS, MULTIVECTOR_WIDTH, Embedder
from .tokens import COLBERT_QUERY, SPECIAL

MOST_ITEMS = 512

DIALECT = Dialect(
    required=frozenset({"input"}),
    optional=frozenset().union(*(model.fields for model in EMBEDDERS.values())),
    aliases={
        "input": ("content", "texts"),
        "task": ("task_type",),
        "dimensions": ("output_dimensionality", "output_dimension"),
        "truncate": ("truncation",),
        "embedding_type": ("encoding_type", "encoding_format", "embedding_types"),
    },
)


@dataclass(frozen=True, slots=True)
class EmbeddingAsk:
    """A valid request with every default resolved: all that its answer depends on."""

    model: Embedder
    items: tuple[Item, ...]
    encoding: str
    mode: str | None
    normalized: bool
    width: int
    late_chunking: bool
    rows: bool
    tokenized: bool
    salt: bytes

    @property
    def inputs(self) -> int:
        """How many things were sent: the pages of a PDF are one."""
        return 1 if self.items[0].kind == "pdf" else len(self.items)

    @property
    def tokens(self) -> int:
        """What the request is billed: the sum over its items, after any cut."""
        if self.model.shape == "rows" and self.mode == "query":
            return COLBERT_QUERY * len(self.items)
        total = sum(item.tokens for item in self.items)
        most = self.model.max_tokens + SPECIAL * len(self.items)
        return min(total, most) if self.late_chunking else total


def read_embedding(model: Embedder, body: Mapping[str, Any], manners: Manners) -> EmbeddingAsk:
    """The request, or `Refusal` as Jina refuses it: 422 for fields, then 400 for length, then 500 for a known
    defect.
    """
    fields = Fields(model.name, model.fields, body, DIALECT)
    encoding = fields.take("embedding_type", checks.embedding_type, "float")
    truncate = fields.take("truncate", checks.boolean, default=_always_cuts(model))
    given = _read_input(fields, model)
    width, asked_width = _width(fields, model)
    rows, tokenized = _rows(fields, model, asked_width=asked_width)
    ask = EmbeddingAsk(
        model=model,
        items=given,
        encoding=str(encoding),
        mode=_mode(fields, model),
        normalized=fields.take("normalized", checks.boolean, default=True),
        width=MULTIVECTOR_WIDTH if rows and model.shape == "vector" else width,
        late_chunking=_late(fields, given),
        rows=rows,
        tokenized=tokenized,
        salt=fields.settle(manners),
    )
    ask = replace(ask, items=_fitted(ask, truncate=truncate))
    if isinstance(encoding, list):
        raise internal()  # a list is in the schema, but the hosted API answers it with 500 (2026-07)
    return ask


def _always_cuts(model: Embedder) -> bool:
    """colbert and elser have no ``truncate``: they cut."""
    return "truncate" not in model.fields


def _mode(fields: Fields, model: Embedder) -> str | None:
    """The task after default resolution, or colbert's ``input_type``.

    jina-embeddings-v3 and jina-clip-v2 have no default task: without one they are in a mode of their
    own (v3 is the raw model then, measured 2026-07). v4, v5 and code resolve to their default. v2 and
    clip-v1 ignore a task.
    """
    if model.shape == "rows":
        return str(fields.take("input_type", checks.one_of("query", "document"), "document"))
    task: str | None = fields.take("task", checks.one_of(*model.tasks or ("",)), model.default_task)
    return task


def _width(fields: Fields, model: Embedder) -> tuple[int, bool]:
    """The size of the vectors, and whether it was asked for."""
    check = checks.one_of(*model.widths) if model.widths else checks.whole(1, model.max_dimensions, exclusive=True)
    asked = fields.take("dimensions", check)
    return (model.width, False) if asked is None else (min(int(asked), model.width), True)


def _rows(fields: Fields, model: Embedder, *, asked_width: bool) -> tuple[bool, bool]:
    """Whether there is a vector for each token, and whether the tokens are told as well."""
    multivector = fields.take("return_multivector", checks.boolean, default=False)
    tokenized = fields.take("return_tokenized_input", checks.boolean, default=False)
    if multivector and asked_width:
        message = "dimensions can not be used with return_multivector"
        fields.find(("return_multivector",), message, "value_error", True)
    if tokenized and not multivector:
        message = "return_tokenized_input requires return_multivector"
        fields.find(("return_tokenized_input",), message, "value_error", True)
    return multivector or model.shape == "rows", tokenized


def _late(fields: Fields, given: tuple[Item | None, ...]) -> bool:
    late = bool(fields.take("late_chunking", checks.boolean, default=False))
    if late and any(item and item.kind != "text" for item in given):
        fields.find(("late_chunking",), "late_chunking takes texts only", "value_error", True)
    return late


def _read_input(fields: Fields, model: Embedder) -> tuple[Item, ...]:
    """One thing or a list of them. A PDF goes alone, not in a list."""
    values = fields.given("input")
    if not isinstance(values, list):
        return (fields.need("input", lambda one: read_item(one, model.kinds)),)
    if not values:
        fields.find(("input",), "Input list cannot be empty", "value_error", values)
    if len(values) > MOST_ITEMS:
        message = f"Each input list can contain at most {MOST_ITEMS} items."
        fields.find(("input",), message, "too_long", values)
        return ()
    return fields.each("input", values, lambda one: read_item(one, model.kinds - {"pdf"}))


def _fitted(ask: EmbeddingAsk, *, truncate: bool) -> tuple[Item, ...]:
    """The items within the model's limit.

    Late chunking joins the texts, so there the limit is on all of them.
    """
    limit = ask.model.max_tokens
    if ask.items[0].kind == "pdf":
        return pages_of(ask.items[0])
    if not ask.late_chunking:
        return tuple(fit(item, limit, truncate=truncate) for item in ask.items)
    if not truncate and sum(item.tokens - SPECIAL for item in ask.items) > limit:
        raise too_long(limit)
    return ask.items
