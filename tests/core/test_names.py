"""Names of models: found once, remembered within bounds, and never guessed."""

from dataclasses import replace

import pytest

from cache_proxy.core.asked import endpoint_of
from cache_proxy.core.catalog import MODELS, look_up
from cache_proxy.core.names import Names, Target
from cache_proxy.errors import ModelNotFound
from cache_proxy.models import Deployment, Endpoint

TARGET = Target("jina-embeddings-v3", look_up("jina-embeddings-v3", own_server=False), "http://a", ())


def test_a_name_is_looked_up_once() -> None:
    asked: list[str] = []

    def find(name: str) -> Target:
        asked.append(name)
        return replace(TARGET, model=name)

    names = Names(find)
    assert names.resolve("a") is names.resolve("a")
    assert names.resolve("b").model == "b"
    assert asked == ["a", "b"]


def test_a_flood_of_names_does_not_grow_the_memo_without_end() -> None:
    names = Names(lambda name: replace(TARGET, model=name))
    first = names.resolve("name 0")
    assert names.resolve("name 0") is first
    for number in range(5000):
        assert names.resolve(f"name {number}").model == f"name {number}"
    assert names.resolve("name 0") is not first, "the names that are asked for now are the ones remembered"
    assert names.resolve("name 4999") is names.resolve("name 4999")


def test_a_name_that_nobody_answers_to_is_not_found_and_not_echoed() -> None:
    names = Names(lambda _: None, ["a", "b"])
    for _ in range(2):
        with pytest.raises(ModelNotFound) as error:
            names.resolve("sk-secret")
        assert "sk-secret" not in str(error.value)
    assert names.listed == ("a", "b")


def test_the_endpoint_of_a_body_is_told_by_its_documents() -> None:
    assert endpoint_of({"model": "m", "query": "q", "documents": []}) is Endpoint.RERANK
    assert endpoint_of({"model": "m", "input": "documents"}) is Endpoint.EMBEDDINGS


def test_the_catalog_finds_a_model_under_its_own_name_only() -> None:
    for name, model in MODELS.items():
        assert model.name == name
        assert look_up(name, own_server=True) is look_up(name, own_server=False) is model
        assert model.known
        assert model.serves(Endpoint.EMBEDDINGS) or model.serves(Endpoint.RERANK)
        assert all(size < (model.dimensions or 0) for size in model.truncations)
    for name in ("Jina-Embeddings-V3", "jina-embeddings-v3 ", "jina-embeddings", ""):
        unknown = look_up(name, own_server=True)
        assert (unknown.known, unknown.separate, unknown.price) == (False, True, None)
        assert not look_up(name, own_server=False).separate
        assert unknown.serves(Endpoint.EMBEDDINGS)
        assert unknown.serves(Endpoint.RERANK)


def test_a_model_that_the_operator_gave_one_mode_serves_no_other() -> None:
    only = replace(look_up("jina-colbert-v2", own_server=False), only=Endpoint.RERANK)
    assert only.serves(Endpoint.RERANK)
    assert not only.serves(Endpoint.EMBEDDINGS)


def test_an_api_key_never_shows() -> None:
    deployment = Deployment("d", "http://a", api_key="sk-secret", headers={"Authorization": "sk-secret"})
    assert "sk-secret" not in repr(deployment)
    assert "sk-secret" not in repr(replace(TARGET, deployments=(deployment,)))
