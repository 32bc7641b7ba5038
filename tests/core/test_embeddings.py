"""``/embeddings``: what is read, what is sent upstream, and what makes a complaint."""

from typing import Any

import pytest

from cache_proxy.core.wire.fields import parse_body
from cache_proxy.errors import ModelNotFound, RequestError
from cache_proxy.models import Json, Policy, View
from tests.core.asking import ask, embed, sent

V3, V4 = "jina-embeddings-v3", "jina-embeddings-v4"
SECRET = "Zq7"
"""Stands wherever a value is: no complaint may echo it."""


def test_the_upstream_gets_the_canonical_body_only() -> None:
    asked = embed(
        ["a", {"text": "b"}],
        model=f"jina_ai/{V3}",
        task_type="text-matching",
        output_dimension=64,
        truncation=True,
        encoding_format="base64",
        normalized=True,
        late_chunking=None,
        user="u",
        metadata={"tags": ["t"]},
        litellm_metadata={},
        cache={"ttl": 5},
    )
    assert sent(asked) == {
        "model": V3,
        "input": ["a", "b"],
        "task": "text-matching",
        "dimensions": 64,
        "truncate": True,
    }
    assert asked.view == View(encoding="base64")


@pytest.mark.parametrize("model", [V3, V4, "jina-embeddings-v9"])
@pytest.mark.parametrize("name", ["embedding_type", "encoding_type", "encoding_format", "embedding_types"])
@pytest.mark.parametrize("encoding", ["float", "base64", "binary", "ubinary"])
def test_the_upstream_is_never_told_how_we_write_floats(model: str, name: str, encoding: str) -> None:
    asked = embed("x", model, **{name: encoding})
    assert set(sent(asked)) == {"model", "input"}
    assert asked.view.encoding == encoding


def test_encodings_that_only_the_upstream_understands_are_sent_under_jinas_name_for_them() -> None:
    assert sent(embed("x", encoding_format=["float", "binary"]))["embedding_type"] == ["float", "binary"]
    assert sent(embed("x", encoding_type="int8"))["embedding_type"] == "int8"


@pytest.mark.parametrize(
    ("fields", "encoding"),
    [
        ({}, "float"),
        ({"embedding_type": "binary", "encoding_format": "base64"}, "binary"),
        ({"embedding_type": None, "encoding_format": "base64"}, "base64"),
        ({"encoding_type": "ubinary", "encoding_format": "float"}, "ubinary"),
        ({"embedding_types": "binary"}, "binary"),
    ],
)
def test_the_first_spelling_of_the_encoding_wins(fields: dict[str, Json], encoding: str) -> None:
    assert embed(**fields).view.encoding == encoding


def test_the_first_spelling_of_the_input_and_of_a_parameter_wins() -> None:
    asked = ask({"model": V3, "texts": ["t"], "content": "c", "dimensions": 64, "output_dimension": 32})
    assert sent(asked) == {"model": V3, "input": ["c"], "dimensions": 64}


def test_sizes_beyond_the_catalog_go_to_jina() -> None:
    assert sent(embed(dimensions=4096))["dimensions"] == 4096
    assert sent(embed("x", "jina-embeddings-v2-base-en", dimensions=0))["dimensions"] == 0


def test_a_model_that_nobody_knows_gets_its_parameters_as_they_came() -> None:
    fields: dict[str, Json] = {"dimensions": "many", "truncation": None, "task_type": 1, "normalized": True}
    assert sent(embed("x", "bge-m3", **fields)) == {"model": "bge-m3", "input": ["x"], **fields}


def complaint(body: Any) -> RequestError:
    with pytest.raises(RequestError) as error:
        ask(body, policy=Policy(max_items=3))
    assert SECRET not in error.value.message
    return error.value


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"model": None}, "model", "missing_field"),
        ({"model": ""}, "model", "missing_field"),
        ({"model": [SECRET]}, "model", "wrong_type"),
        ({"model": SECRET * 100}, "model", "wrong_type"),
        ({"model": f"{SECRET}\n"}, "model", "wrong_type"),
        ({"input": None}, "input", "missing_field"),
        ({"input": []}, "input", "empty_list"),
        ({"input": None, "texts": []}, "texts", "empty_list"),
        ({"input": 7}, "input", "wrong_type"),
        ({"input": True}, "input", "wrong_type"),
        ({"input": {}}, "input", "wrong_type"),
        ({"input": [SECRET, 7]}, "input[1]", "wrong_type"),
        ({"input": [SECRET, None]}, "input[1]", "wrong_type"),
        ({"input": [SECRET, []]}, "input[1]", "wrong_type"),
        ({"input": [[1, SECRET]]}, "input[0]", "wrong_type"),
        ({"input": [1, SECRET]}, "input", "wrong_type"),
        ({"input": [[1, True]]}, "input[0]", "wrong_type"),
        ({"input": {"text": 7}}, "input.text", "wrong_type"),
        ({"input": [{"image": [SECRET]}]}, "input[0].image", "wrong_type"),
        ({"input": f"{SECRET}\ud800"}, "input", "invalid_request"),
        ({"input": ["a", {"text": f"{SECRET}\udfff"}]}, "input[1]", "invalid_request"),
        ({"input": [SECRET] * 4}, "input", "too_many_items"),
        ({"dimensions": 0}, "dimensions", "out_of_range"),
        ({"dimensions": -1}, "dimensions", "out_of_range"),
        ({"output_dimension": SECRET}, "dimensions", "wrong_type"),
        ({"truncation": SECRET}, "truncate", "wrong_type"),
        ({"embedding_type": 7}, "embedding_type", "wrong_type"),
        ({"encoding_format": {"a": SECRET}}, "encoding_format", "wrong_type"),
        ({"cache": SECRET}, "cache", "wrong_type"),
    ],
)
def test_a_complaint_names_the_field_and_echoes_no_value(fields: dict[str, Json], param: str, code: str) -> None:
    error = complaint({"model": V3, "input": "x", **fields})
    assert (error.param, error.code, error.malformed) == (param, code, False)
    assert f"`{param.split('[')[0].split('.')[0]}" in error.message


@pytest.mark.parametrize("field", ["api_key", "api_base", "base_url"])
def test_whose_key_and_where_to_are_not_for_a_body_to_say(field: str) -> None:
    error = complaint({"model": V3, "input": "x", field: SECRET})
    assert (error.param, error.code, error.malformed) == (field, "not_in_a_body", True)
    assert SECRET not in error.message


def test_json_nested_too_deep_is_a_complaint_wherever_it_stands() -> None:
    deep: Json = SECRET
    for _ in range(40):
        deep = {"a": deep}
    for fields in ({"my_param": deep}, {"input": deep}, {"input": [{"content": [deep]}]}):
        assert complaint({"model": V3, "input": "x", **fields}).code == "nested_too_deep"


def test_a_name_that_no_deployment_answers_to_is_its_own_error() -> None:
    error = ModelNotFound("No deployment answers.")
    assert isinstance(error, RequestError)
    assert (error.param, error.code) == ("model", "model_not_found")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"Zq7"',
        b'{"input": NaN}',
        b'{"input": 1e999}',
        b'{"input": "\\ud800"}',
        b'{"input": "\xff"}',
        '{"input": "x"}'.encode("utf-16"),
        b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"<html>Zq7</html>",
    ],
)
def test_a_body_that_is_no_json_object_is_malformed(raw: bytes) -> None:
    with pytest.raises(RequestError) as error:
        parse_body(raw)
    assert error.value.malformed
    assert error.value.code == "invalid_json"
    assert SECRET not in error.value.message


def test_the_operators_defaults_count_where_the_caller_says_nothing_in_any_spelling() -> None:
    def told(**fields: Json) -> dict[str, Json]:
        defaults: dict[str, Json] = {"dimensions": 64, "task": "text-matching", "embedding_type": "base64"}
        asked = ask({"model": V3, "input": "x", **fields}, defaults=defaults)
        return {**sent(asked), "written": asked.view.encoding}

    plain = {"model": V3, "input": ["x"], "dimensions": 64, "task": "text-matching", "written": "base64"}
    assert told() == told(dimensions=None, task_type=None, encoding_format=None) == plain
    assert told(dimensions=32) == told(output_dimension=32) == {**plain, "dimensions": 32}
    assert told(task_type="separation") == {**plain, "task": "separation"}
    assert told(encoding_format="float") == {**plain, "written": "float"}
    assert told(my_param=None) == {**plain, "my_param": None}
