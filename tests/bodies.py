"""Requests as hypothesis draws them: small alphabets, so that hits, misses and duplicates mix.

What is drawn for one sequence comes from a few *themes* (a model and some fields): requests of one theme share items.
"""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

from hypothesis import strategies as st

from cache_proxy.standin import models as tables

Body = dict[str, Any]

EMBEDDERS = (
    "jina-embeddings-v5-omni-small",
    "jina-embeddings-v5-omni-nano",
    "jina-embeddings-v5-text-small",
    "jina-embeddings-v5-text-nano",
    "jina-embeddings-v4",
    "jina-code-embeddings-1.5b",
    "jina-code-embeddings-0.5b",
    "jina-embeddings-v3",
    "jina-clip-v2",
    "jina-clip-v1",
    "jina-colbert-v2",
    "jina-colbert-v1-en",
    "jina-embeddings-v2-base-en",
    "jina-embeddings-v2-base-zh",
    "jina-embeddings-v2-base-de",
    "jina-embeddings-v2-base-es",
    "jina-embeddings-v2-base-code",
    "elser-v2",
)
RERANKERS = (
    "jina-reranker-v3.5",
    "jina-reranker-v3",
    "jina-reranker-m0",
    "jina-reranker-v2-base-multilingual",
    "jina-reranker-v1-turbo-en",
    "jina-reranker-v1-tiny-en",
    "jina-reranker-v1-base-en",
    "jina-colbert-v2",
    "jina-colbert-v1-en",
)
UNKNOWN = ("jina-embeddings-v99", "gpt-4")
SEEING = frozenset({"jina-embeddings-v4", "jina-clip-v1", "jina-clip-v2", "jina-reranker-m0"})

NATIVE = (32, 64, 96, 128, 768, 896, 1024, 1536, 2048)
OVERLONG = "word " * 9000
TEXTS = ("a", "b", "A", "a ", "", "é", "e\u0301", "alpha beta", "le-05 0.5", "日本語 \u2028", '"\\', "\u0000")
PICTURES = ("aW1hZ2U=", "data:image/png;base64,aW1hZ2U=", "https://img.test/1.png", "https://img.test/2.png")

FLAGS = (True, False, None)

EMBEDDING_OPTIONS: dict[str, tuple[Any, ...]] = {
    "task": (None, "retrieval.query", "text-matching", "nl2code.query", "code.query", "classification", "clustering"),
    "task_type": ("retrieval.query", None),
    "dimensions": (None, 64, 96, 128),
    "output_dimensionality": (64, 128, None),
    "output_dimension": (64,),
    "normalized": FLAGS,
    "truncate": FLAGS,
    "truncation": (True, None),
    "late_chunking": FLAGS,
    "return_multivector": FLAGS,
    "return_tokenized_input": (False, None),
    "input_type": ("query", "document", None),
    "my_custom_param": ("x", "y", None, {"deep": [1, 1.0, True]}),
    "priority": (1,),
}
RARE_EMBEDDING_OPTIONS: dict[str, tuple[Any, ...]] = {
    "task": ("retrieval", "qa.query", "separation", "", 5),
    "dimensions": (*NATIVE, 7, 0, -1, 5000, "64", 64.5, True),
    "normalized": ("yes",),
    "truncate": (1,),
    "late_chunking": ("yes",),
    "return_tokenized_input": (True,),
    "input_type": ("bogus",),
}
ENCODINGS: tuple[Body, ...] = (
    {},
    {},
    {},
    {"embedding_type": "float"},
    {"embedding_type": "base64"},
    {"embedding_type": "binary"},
    {"embedding_type": "ubinary"},
    {"encoding_format": "base64"},
    {"encoding_format": "float"},
    {"encoding_type": "ubinary"},
    {"embedding_types": "binary"},
    {"embedding_type": None, "encoding_format": "base64"},
    {"embedding_type": "binary", "encoding_format": "base64"},
)
RARE_ENCODINGS: tuple[Body, ...] = (
    {"embedding_type": ["float", "base64"]},
    {"embedding_type": "hex"},
    {"embedding_type": 5},
)
RERANK_OPTIONS: dict[str, tuple[Any, ...]] = {
    "truncation": FLAGS,
    "truncate": (True,),
    "max_doc_length": (None, 2048, 100, 8192),
    "max_tokens_per_doc": (4096, 2048, None),
    "return_embeddings": FLAGS,
    "rank_fields": (["text"],),
    "max_chunks_per_doc": (10,),
    "priority": (1,),
    "my_custom_param": ("x", None),
}
RERANK_VIEWS: dict[str, tuple[Any, ...]] = {
    "top_n": (1, 2, 3, 100, None),
    "top_k": (1, None),
    "return_documents": FLAGS,
}
RARE_RERANK_OPTIONS: dict[str, tuple[Any, ...]] = {
    "truncation": (False, "yes"),
    "max_doc_length": (1, 2, 0, "x"),
    "top_n": (0, "x"),
    "return_documents": ("yes",),
}
ABOUT_THE_CALLER: tuple[Body, ...] = ({}, {}, {"user": "u"}, {"metadata": {"tags": ["t"]}}, {"litellm_metadata": {}})
CONTROLS: tuple[Body, ...] = (
    {"no-cache": True},
    {"no-store": True},
    {"no-cache": True, "no-store": True},
    {"no-cache": False},
    {"ttl": 3600},
    {"ttl": 0},
    {"s-maxage": 0},
    {"s-maxage": 3600},
    {"namespace": "n"},
    {"namespace": "m", "ttl": 0.0},
)
HEADERS = ("no-cache", "no-store", "max-age=0", "max-age=3600", "only-if-cached", "only-if-cached", "x=,")


@dataclass(frozen=True)
class Step:
    """One request: to the proxy as it stands here, and to the upstream without what speaks to the proxy alone."""

    path: str
    body: Body
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def bare(self) -> Body:
        ours = ("cache", "metadata", "litellm_metadata", "rank_fields", "max_chunks_per_doc")
        body = {name: value for name, value in self.body.items() if name not in ours}
        return {**body, "model": self.body["model"].removeprefix("jina_ai/")}


def options(table: dict[str, tuple[Any, ...]], least: int, most: int) -> st.SearchStrategy[Body]:
    """Some fields of a table, each as likely as any other, and each with one of its values."""
    fields = [st.tuples(st.just(name), st.sampled_from(values)) for name, values in table.items()]
    return st.lists(st.one_of(fields), min_size=least, max_size=most).map(dict)


def mostly(usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any], once_in: int) -> st.SearchStrategy[Any]:
    """``usual``, and ``rare`` about once in so many draws."""
    return st.integers(0, once_in - 1).flatmap(lambda at: rare if at == once_in - 1 else usual)


def _spellings(text: str) -> list[Any]:
    return [text, text, text, {"text": text}]


texts = st.sampled_from([spelled for text in TEXTS for spelled in (text, text, text, {"text": text})])
pictures = st.sampled_from([{"image": one} for one in PICTURES] + [{"url": PICTURES[2]}, {"bytes": PICTURES[0]}])
fused = st.lists(texts.filter(lambda text: isinstance(text, dict)) | pictures, max_size=2).map(
    lambda parts: {"content": parts}
)
odd = st.sampled_from(
    [
        {"text": "a", "image": None}, {"text": "a", "note": 1}, {"text": "b", "note": None}, {"audio": "c291bmQ="},
        {"video": "https://film.test/1"}, {"text": "a", "image": PICTURES[0]}, OVERLONG, {"image": PICTURES[0]},
        5, None, {}, [], {"text": 5}, {"image": None}, [1, 2], {"pdf": "cGRm"}, {"content": [{"text": "a"}]},
    ]
)  # fmt: skip
documents_alone = st.sampled_from([{"pdf": "cGRm"}, {"pdf": "https://doc.test/1.pdf"}])
no_inputs = st.sampled_from([[], None, [[1, 2], [3]], [None]])


@cache
def items(model: str) -> st.SearchStrategy[Any]:
    """What this model takes, and now and then what hardly any does."""
    if "omni" in model:
        usual = st.one_of(texts, pictures, fused)
    elif model in SEEING:
        usual = st.one_of(texts, texts, pictures)
    else:
        usual = texts
    return mostly(usual, odd, 40)


@cache
def inputs(model: str) -> st.SearchStrategy[Any]:
    several = st.lists(items(model), min_size=1, max_size=4)
    one = mostly(items(model), documents_alone, 4) if model in SEEING or "omni" in model else items(model)
    return mostly(st.one_of(several, several, one), no_inputs | documents_alone, 40)


@cache
def documents(model: str) -> st.SearchStrategy[Any]:
    return mostly(st.lists(items(model), min_size=1, max_size=5), no_inputs, 40)


@cache
def queries(model: str) -> st.SearchStrategy[Any]:
    return mostly(st.sampled_from(["alpha", {"text": "alpha"}]), items(model), 6)


@dataclass(frozen=True)
class Theme:
    """What the requests of a sequence have in common: the model, and some sets of fields."""

    path: str
    model: str
    choices: tuple[Body, ...]


ALSO_CALLED = {
    "task_type": "task",
    "output_dimensionality": "dimensions",
    "output_dimension": "dimensions",
    "truncate": "truncation",
    "truncation": "truncate",
    "max_tokens_per_doc": "max_doc_length",
}
DANGERS: tuple[Body, ...] = (
    {"late_chunking": True},
    {"late_chunking": True, "dimensions": 64},
    {"return_multivector": True, "return_tokenized_input": True},
    {"return_embeddings": True},
    {"input_type": "query"},
    {"my_custom_param": "x"},
)
"""What ties items together or changes the shape of the answer: it comes up more often than by chance."""


@cache
def choices(path: str, model: str) -> st.SearchStrategy[list[Body]]:
    """Sets of fields: mostly the model's own, now and then any, and now and then wrong ones."""
    if path == "/embeddings":
        table, rare = EMBEDDING_OPTIONS, RARE_EMBEDDING_OPTIONS
        taken = tables.EMBEDDERS[model].fields if model in tables.EMBEDDERS else frozenset()
    else:
        table, rare = RERANK_OPTIONS, RARE_RERANK_OPTIONS
        taken = tables.RERANKERS[model].fields if model in tables.RERANKERS else frozenset()
    own = {name: values for name, values in table.items() if {name, ALSO_CALLED.get(name)} & taken}
    known = taken | {"my_custom_param"}
    usual = options(own or table, 1, 3) | st.sampled_from([danger for danger in DANGERS if danger.keys() <= known])
    return st.lists(mostly(mostly(usual, options(table, 1, 2), 4), options(rare, 1, 2), 10), min_size=1, max_size=2)


_embedders = mostly(st.sampled_from(EMBEDDERS), st.sampled_from((*UNKNOWN, *RERANKERS)), 40)
_rerankers = mostly(st.sampled_from(RERANKERS), st.sampled_from((*UNKNOWN, *EMBEDDERS)), 40)


def themes(path: str, model: str) -> st.SearchStrategy[Theme]:
    return choices(path, model).map(lambda drawn: Theme(path, model, ({}, *drawn, *drawn)))


_other_themes = st.lists(
    st.one_of(
        _embedders.flatmap(lambda model: themes("/embeddings", model)),
        _rerankers.flatmap(lambda model: themes("/rerank", model)),
    ),
    max_size=1,
)
_spelled_models = st.sampled_from(("", "", "jina_ai/"))
_input_names = st.sampled_from(["input"] * 6 + ["content", "texts"])
_encodings = mostly(st.sampled_from(ENCODINGS), st.sampled_from(RARE_ENCODINGS), 30)
_rerank_views = options(RERANK_VIEWS, 0, 2)
_callers = st.sampled_from(ABOUT_THE_CALLER)
_controls = mostly(st.none(), st.sampled_from(CONTROLS), 5)
_headers = mostly(st.none(), st.sampled_from(HEADERS), 8)


@st.composite
def steps(draw: st.DrawFn, chosen: list[Theme]) -> Step:
    theme = chosen[draw(st.integers(0, len(chosen) - 1))]
    body: Body = {"model": draw(_spelled_models) + theme.model}
    if theme.path == "/embeddings":
        body[draw(_input_names)] = draw(inputs(theme.model))
        body |= draw(_encodings)
    else:
        body["query"] = draw(queries(theme.model))
        body["documents"] = draw(documents(theme.model))
        body |= draw(_rerank_views)
    body |= theme.choices[draw(st.integers(0, len(theme.choices) - 1))]
    body |= draw(_callers)
    controls, header = draw(_controls), draw(_headers)
    if controls is not None:
        body["cache"] = controls
    return Step(theme.path, body, {} if header is None else {"cache-control": header})


MODELS = tuple([("/embeddings", model) for model in EMBEDDERS] + [("/rerank", model) for model in RERANKERS])


@st.composite
def sequences(draw: st.DrawFn, path: str, model: str, least: int = 8, most: int = 24) -> list[Step]:
    """Requests for this model in one or two ways, and now and then for another between them."""
    chosen = [*draw(st.lists(themes(path, model), min_size=1, max_size=2)), *draw(_other_themes)]
    return draw(st.lists(steps(chosen), min_size=least, max_size=most))
