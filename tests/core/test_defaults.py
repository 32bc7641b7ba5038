"""Defaults: spelled out, left out and null are one key exactly where Jina was shown to treat them so.

``LEFT_OUT`` is what leaving a field out means, written down here a second time, from Jina's OpenAPI of 2026-04-02 and
what its on-prem server measured on the hosted API: a slip in the catalog would otherwise pass unseen.
"""

from collections.abc import Iterator

import pytest

from cache_proxy.core.asked import Asked
from cache_proxy.core.catalog import EMBEDDING_FIELDS, MODELS, RERANK_FIELDS
from cache_proxy.errors import RequestError
from cache_proxy.models import Endpoint, Json
from tests.core.asking import embed, key, rank

COMMON: dict[str, Json] = {"truncate": False}
V5 = {"task": "text-matching", "normalized": True, **COMMON}
CODE = {"task": "nl2code.query", **COMMON}
V2 = {"normalized": True, **COMMON}
PAIRWISE: dict[str, Json] = {"truncation": None}
LISTWISE: dict[str, Json] = {"truncation": None, "max_doc_length": 2048, "return_embeddings": None}

LEFT_OUT: dict[Endpoint, dict[str, dict[str, Json]]] = {
    Endpoint.EMBEDDINGS: {
        "jina-embeddings-v5-omni-small": {**V5, "dimensions": 1024},
        "jina-embeddings-v5-omni-nano": {**V5, "dimensions": 768},
        "jina-embeddings-v5-text-small": {**V5, "dimensions": 1024},
        "jina-embeddings-v5-text-nano": {**V5, "dimensions": 768},
        "jina-embeddings-v4": {
            "task": "text-matching",
            "dimensions": 2048,
            "late_chunking": False,
            "return_multivector": False,
            "return_tokenized_input": False,
            **COMMON,
        },
        "jina-code-embeddings-1.5b": {**CODE, "dimensions": 1536},
        "jina-code-embeddings-0.5b": {**CODE, "dimensions": 896},
        "jina-embeddings-v3": {"task": None, "dimensions": 1024, "late_chunking": False, **V2},
        "jina-clip-v2": {"task": None, "dimensions": 1024, **V2},
        "jina-clip-v1": V2,
        "jina-colbert-v2": {"input_type": "document", "dimensions": 128},
        "jina-colbert-v1-en": {"input_type": "document"},
        **{f"jina-embeddings-v2-base-{language}": V2 for language in ("en", "zh", "de", "es", "code")},
        "elser-v2": {"task": None},
    },
    Endpoint.RERANK: {
        "jina-reranker-v3.5": LISTWISE,
        "jina-reranker-v3": LISTWISE,
        "jina-reranker-m0": PAIRWISE,
        "jina-reranker-v2-base-multilingual": PAIRWISE,
        "jina-reranker-v1-turbo-en": PAIRWISE,
        "jina-reranker-v1-tiny-en": PAIRWISE,
        "jina-reranker-v1-base-en": PAIRWISE,
        "jina-colbert-v2": PAIRWISE,
        "jina-colbert-v1-en": PAIRWISE,
    },
}

OTHERS: dict[str, tuple[Json, Json]] = {
    "task": ("retrieval.query", "retrieval.passage"),
    "dimensions": (64, 96),
    "truncate": (True, True),
    "normalized": (False, False),
    "late_chunking": (True, True),
    "return_multivector": (True, True),
    "return_tokenized_input": (True, True),
    "input_type": ("query", "query"),
    "truncation": (True, False),
    "max_doc_length": (9, 10),
    "return_embeddings": (True, False),
}
"""Two values of each field that are nobody's default (one, where the type has no more)."""

FIELDS = {Endpoint.EMBEDDINGS: EMBEDDING_FIELDS, Endpoint.RERANK: RERANK_FIELDS}


def asked(endpoint: Endpoint, model: str, **fields: Json) -> Asked:
    return embed("x", model, **fields) if endpoint is Endpoint.EMBEDDINGS else rank(["x"], model, **fields)


def served() -> Iterator[tuple[Endpoint, str]]:
    for endpoint, models in LEFT_OUT.items():
        for model in models:
            yield endpoint, model


def takes() -> Iterator[tuple[Endpoint, str, str, Json]]:
    for endpoint, model in served():
        for name, default in LEFT_OUT[endpoint][model].items():
            yield endpoint, model, name, default


def lacks() -> Iterator[tuple[Endpoint, str, str]]:
    for endpoint, model in served():
        for name in sorted(FIELDS[endpoint] - set(LEFT_OUT[endpoint][model])):
            yield endpoint, model, name


def test_the_catalog_is_the_table() -> None:
    fields = {
        Endpoint.EMBEDDINGS: {name: model.embedding for name, model in MODELS.items() if model.embedding},
        Endpoint.RERANK: {name: model.rerank for name, model in MODELS.items() if model.rerank},
    }
    assert {
        endpoint: {model: {name: param.default for name, param in params.items()} for model, params in by_model.items()}
        for endpoint, by_model in fields.items()
    } == LEFT_OUT
    assert set(OTHERS) == EMBEDDING_FIELDS | RERANK_FIELDS


@pytest.mark.parametrize(("endpoint", "model", "name", "default"), list(takes()))
def test_a_default_spelled_out_is_the_same_as_left_out_and_as_null(
    endpoint: Endpoint, model: str, name: str, default: Json
) -> None:
    assert key(asked(endpoint, model, **{name: None})) == key(asked(endpoint, model))
    if default is not None:
        assert key(asked(endpoint, model, **{name: default})) == key(asked(endpoint, model))


@pytest.mark.parametrize(("endpoint", "model", "name", "default"), list(takes()))
def test_any_other_value_has_a_key_of_its_own(endpoint: Endpoint, model: str, name: str, default: Json) -> None:
    others = set(OTHERS[name])
    assert default not in others
    keys = {key(asked(endpoint, model, **{name: value})) for value in others}
    assert len(keys) == len(others)
    assert key(asked(endpoint, model)) not in keys


@pytest.mark.parametrize(("endpoint", "model", "name"), list(lacks()))
def test_a_field_that_the_model_does_not_list_is_in_the_key_unless_null(
    endpoint: Endpoint, model: str, name: str
) -> None:
    plain = key(asked(endpoint, model))
    keys = {key(asked(endpoint, model, **{name: value})) for value in set(OTHERS[name])}
    assert plain not in keys
    assert len(keys) == len(set(OTHERS[name]))
    assert key(asked(endpoint, model, **{name: None})) == plain


@pytest.mark.parametrize(("endpoint", "model"), list(served()))
def test_all_defaults_at_once_are_nothing_and_go_to_no_upstream(endpoint: Endpoint, model: str) -> None:
    full = asked(endpoint, model, **LEFT_OUT[endpoint][model])
    assert key(full) == key(asked(endpoint, model))
    assert full.ask.params == {}


@pytest.mark.parametrize("model", ["jina-embeddings-v3", "jina-clip-v2", "elser-v2"])
def test_a_missing_task_is_a_mode_of_its_own_where_no_task_was_shown_to_mean_it(model: str) -> None:
    tasks = ["retrieval.query", "retrieval.passage", "text-matching", "classification", "separation"]
    keys = {key(embed("x", model, task=task)) for task in tasks} | {key(embed("x", model))}
    assert len(keys) == 6


def test_v2_has_no_task_by_default_and_one_that_is_sent_is_in_the_key() -> None:
    model = "jina-embeddings-v2-base-en"
    assert key(embed("x", model, task="text-matching")) != key(embed("x", model))


def test_v4_with_a_vector_per_token_keeps_a_size_that_is_spelled_out() -> None:
    def v4(**fields: Json) -> Asked:
        return embed("x", "jina-embeddings-v4", **fields)

    many = v4(return_multivector=True)
    both = v4(return_multivector=True, dimensions=2048)
    assert key(both) != key(many)
    assert both.ask.params == {"return_multivector": True, "dimensions": 2048}
    assert key(v4(return_multivector=True, output_dimension=2048)) != key(many)
    assert key(v4(return_multivector=True, dimensions=None)) == key(many)
    assert key(v4(return_multivector=False, dimensions=2048)) == key(v4())


def test_a_null_that_the_catalog_does_not_know_is_in_the_key() -> None:
    assert key(embed(my_param=None)) != key(embed())
    assert key(rank(["d"], my_param=None)) != key(rank(["d"]))


def test_nothing_is_a_default_of_a_model_that_nobody_knows() -> None:
    for name, value in {"task": "text-matching", "truncate": False, "normalized": True, "dimensions": None}.items():
        assert key(embed("x", "bge-m3", **{name: value})) != key(embed("x", "bge-m3"))


@pytest.mark.parametrize(("endpoint", "model", "name", "default"), list(takes()))
def test_a_value_of_the_wrong_type_is_refused_by_name(endpoint: Endpoint, model: str, name: str, default: Json) -> None:
    kind = type(next(iter(OTHERS[name])))
    for wrong in ("SECRET", 17, 17.5, True, ["SECRET"], {"a": "SECRET"}):
        if type(wrong) is kind:
            continue
        with pytest.raises(RequestError) as error:
            asked(endpoint, model, **{name: wrong})
        assert (error.value.param, error.value.code) == (name, "wrong_type")
        assert "SECRET" not in error.value.message
        assert "17" not in error.value.message
