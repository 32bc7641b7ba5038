"""The requests whose keys, and the entries whose bytes, are pinned in ``keys.json`` and ``frames.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cache_proxy.core import numbers
from cache_proxy.core.catalog import Model, look_up
from cache_proxy.models import Entry, Form, Group, Json, Key, Numbers, Policy, Ranking, Spelling, Text
from tests.core.asking import JINA, V2_RERANKER, ask

V3, V4, V5 = "jina-embeddings-v3", "jina-embeddings-v4", "jina-embeddings-v5-text-small"
LIST_RERANKER = "jina-reranker-v3"
PDF = "JVBERi0xLjQK"
PNG = "iVBORw0KGgo="


@dataclass(frozen=True, slots=True)
class Case:
    """A request, where it is sent, and in which namespaces."""

    body: Mapping[str, Json]
    identity: str = JINA
    own_server: bool = False
    spec: Model | None = None
    namespace: str = ""

    def keys(self) -> list[str]:
        """The hexadecimal key of each of its seats."""
        asked = ask(
            self.body,
            identity=self.identity,
            own_server=self.own_server,
            spec=self.spec,
            policy=Policy(namespace=self.namespace),
        )
        return [seat.hex() for seat in asked.seats]


def _embed(given: Json, model: str = V3, **fields: Json) -> Case:
    return Case({"model": model, "input": given, **fields})


def _rank(documents: Json, model: str = V2_RERANKER, query: Json = "q", **fields: Json) -> Case:
    return Case({"model": model, "query": query, "documents": documents, **fields})


REQUESTS: Mapping[str, Case] = {
    "one text": _embed("hello world"),
    "one text by its alias, as an object, with harmless fields": _embed(
        {"text": "hello world"}, f"jina_ai/{V3}", user="u", encoding_format="base64", metadata={"a": 1}
    ),
    "three texts, one twice": _embed(["a", "b", "a"]),
    "the empty text": _embed(""),
    "a text of spaces, capitals, a NUL and a combining accent": _embed(" Cafe\u0301\x00 "),
    "the same with a composed accent": _embed(" Caf\u00e9\x00 "),
    "v3 with every default spelled out": _embed(
        "x", truncate=False, normalized=True, dimensions=1024, late_chunking=False, task=None
    ),
    "v3 with a task": _embed("x", task="text-matching"),
    "v3 with a smaller size": _embed("x", dimensions=256),
    "v3 not normalized, cut": _embed("x", normalized=False, truncation=True),
    "v3 late chunking": _embed(["a", "b"], late_chunking=True),
    "v4": _embed("x", V4),
    "v4 with every default spelled out": _embed(
        "x", V4, task="text-matching", dimensions=2048, truncate=False, return_multivector=False
    ),
    "v4 with a vector per token": _embed("x", V4, return_multivector=True, return_tokenized_input=True),
    "v4 with a vector per token and a size": _embed("x", V4, return_multivector=True, dimensions=2048),
    "v4 an image": _embed({"image": PNG}, V4),
    "v4 an image in LiteLLM's spelling": _embed(f"data:image/png;base64,{PNG}", V4),
    "v4 an image by URL": _embed([{"image": "https://example.org/a.png"}], V4),
    "v4 a PDF": _embed({"pdf": PDF}, V4),
    "v5": _embed("x", V5),
    "v5 with an instruction": _embed("x", V5, task="clustering", output_dimension=64),
    "omni, fused parts": _embed([{"content": [{"text": "a"}, {"image": PNG}]}], "jina-embeddings-v5-omni-small"),
    "omni, audio and video": _embed([{"audio": "QQ=="}, {"video": "QQ=="}], "jina-embeddings-v5-omni-nano"),
    "code": _embed("def f(): ...", "jina-code-embeddings-0.5b", task="code2code.query"),
    "clip": _embed([{"url": "https://example.org/b.jpg"}, {"bytes": PNG}, "a cat"], "jina-clip-v2"),
    "colbert, a query": _embed("x", "jina-colbert-v2", input_type="query"),
    "v2": _embed("x", "jina-embeddings-v2-base-en"),
    "sparse": _embed("x", "elser-v2", task="retrieval.query"),
    "a list of encodings": _embed("x", embedding_type=["float", "binary"]),
    "a field nobody knows": _embed(["a", "b"], my_custom_param={"deep": [1, 1.0, True, None, "1"]}),
    "a field nobody knows, declared harmless": replace(
        _embed(["a", "b"], my_custom_param="x"),
        spec=replace(look_up(V3, own_server=False), harmless=frozenset({"my_custom_param"})),
    ),
    "a model nobody knows, at Jina": _embed(["a", "b"], "jina-embeddings-v9"),
    "a model nobody knows, on an own server": replace(
        _embed(["a", "b"], "bge-m3"), identity="http://gpu:7997", own_server=True
    ),
    "token ids, on an own server": replace(
        _embed([[1, 2], [3]], "bge-m3"), identity="http://gpu:7997", own_server=True
    ),
    "an object nobody knows": _embed({"thing": 1}, V4),
    "another upstream": replace(_embed("x"), identity="http://127.0.0.1:8080/v1"),
    "a namespace of the operator": replace(_embed("x"), namespace="team"),
    "a namespace of the caller": _embed("x", cache={"namespace": "mine"}),
    "both namespaces": replace(_embed("x", cache={"namespace": "mine"}), namespace="team"),
    "pairs": _rank(["a", "b", {"text": "a"}]),
    "pairs, cut, by Cohere's fields": _rank(
        ["a", "b"], top_n=1, return_documents=False, rank_fields=["text"], max_tokens_per_doc=4096
    ),
    "pairs with truncation": _rank(["a"], truncate=True),
    "pairs of an image and a text": _rank([{"image": PNG}, "a"], "jina-reranker-m0", query={"image": PNG}),
    "pairs by colbert": _rank(["a"], "jina-colbert-v2"),
    "a full ranking": _rank(["a", "b"], LIST_RERANKER),
    "a full ranking with its defaults spelled out": _rank(["a", "b"], LIST_RERANKER, max_doc_length=2048, top_k=1),
    "a full ranking with embeddings": _rank(["b", "a"], LIST_RERANKER, return_embeddings=True, max_tokens_per_doc=9),
    "documents with fields of their own": _rank([{"text": "a", "id": 7}], top_k=1),
    "a reranker nobody knows": _rank(["a", "b"], "some-reranker", top_n=1, return_documents=False),
}


def _vector(form: Form, spelling: Spelling = Spelling.RUST) -> Numbers:
    received = {
        Form.FLOAT32: [0.0086874915, -1.234567e-06, 3.0],
        Form.WIDENED: [0.0164794921875, 2.7418136596679688e-05, -0.0],
        Form.DECIMALS8: [0.0348047, 4e-08, -0.10468651],
        Form.FLOAT64: [0.1234567890123456, 1e300, -5e-324],
    }[form]
    parsed = numbers.parse(received, spelling)
    assert parsed is not None
    assert parsed.form is form
    return parsed


def _matrix(tokenized: bytes | None = None) -> Numbers:
    rows = np.array([[0.5, -0.25], [1.0, 0.0], [3.0, 4.0]], "<f4")
    return Numbers(rows, Form.WIDENED, Spelling.PYTHON, tokenized)


def _ranking(embeddings: Numbers | None) -> Ranking:
    scores = Numbers(np.array([0.9, 0.5, -0.003], "<f4"), Form.FLOAT32)
    return Ranking(np.array([2, 0, 1], "<u4"), scores, embeddings)


def _entry(value: Any, **facts: Any) -> Entry:
    return Entry(value, **{"tokens": 11, "created_at": 1_767_225_600.25, **facts})


ENTRIES: Mapping[str, Entry] = {
    **{
        f"a vector: {form.name.lower()}, {spelling.name.lower()}": _entry(_vector(form, spelling))
        for form in Form
        for spelling in Spelling
    },
    "a vector that expires, with another model's name, estimated": _entry(
        _vector(Form.FLOAT32), model="modèle", query_tokens=3, expires_at=1_767_229_200.5, estimated=True
    ),
    "a matrix": _entry(_matrix()),
    "a matrix with its tokens": _entry(_matrix(b'["a","b","c"]')),
    "a text": _entry(Text(b'[{"index":0,"embedding":{"cat":1.5}}]')),
    "a ranking": _entry(_ranking(None)),
    "a ranking with embeddings": _entry(_ranking(_matrix())),
    "a group": _entry(Group((_vector(Form.WIDENED), _matrix(b'["a"]'), Text(b'{"cat":1.5}')))),
}

FRAME_KEY: Key = bytes(range(100, 132))
