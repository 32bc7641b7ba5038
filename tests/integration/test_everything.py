"""A LiteLLM config with every key at once starts the real server, which does what it says of the keys it acts on."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_proxy.serving import hosted
from cache_proxy.settings.base import RequestParams
from cache_proxy.settings.checking import is_request_param
from cache_proxy.settings.ignored import IGNORED, reason
from cache_proxy.settings.walk import sections
from cache_proxy.standin import Fault, StandIn
from tests.integration.test_server import DOCUMENTS, Server, cache_status, serving
from tests.postgres import Postgres

FILE = Path(__file__).parents[1] / "settings" / "litellm_everything.yaml"
MODELS = {path: model for path, model in sections()}  # noqa: C416  the names say what is what


def everything() -> dict[str, Any]:
    document = yaml.safe_load(FILE.read_text())
    assert isinstance(document, dict)
    return document


def keys(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every key of every section of this document, as (path of the section, key)."""
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict) or path not in MODELS:
            continue
        for key, inner in item.items():
            yield path, key
            here = f"{path}.{key}".removeprefix(".")
            if f"{here}.*" in MODELS:
                for named in inner.values():
                    yield from keys(named, f"{here}.*")
            else:
                yield from keys(inner, f"{here}[]" if isinstance(inner, list) else here)


def test_the_file_has_every_key_that_is_acted_on_and_one_of_each_that_is_not() -> None:
    shown = list(keys(everything()))
    assert {(model, name) for model in MODELS.values() for name in model.model_fields} - {
        (MODELS[path], key) for path, key in shown
    } == set()
    reasons = {(path, why) for path, found in IGNORED.items() for why in found}
    assert reasons - {(path, reason(path, key)) for path, key in shown} == set()


def not_acted_on() -> set[str]:
    """The names of the keys of the file that are not acted on."""
    found = set()
    for path, key in keys(everything()):
        a_parameter = issubclass(MODELS[path], RequestParams) and is_request_param(key)
        if key not in MODELS[path].model_fields and not a_parameter:
            found.add(f"{path}.{key}".removeprefix("."))
    return found


@pytest.fixture
def standin() -> StandIn:
    return StandIn()


@pytest.fixture
def database(shared_postgres: Postgres) -> str:
    return shared_postgres.database()


@pytest.fixture
def server(tmp_path: Path, standin: StandIn, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    (tmp_path / "everything_more.yaml").write_text("cache_proxy_settings: {max_items: 5}\n")
    with hosted(standin) as url:
        monkeypatch.setenv("EVERYTHING_UPSTREAM", f"{url}/v1")
        monkeypatch.setenv("EVERYTHING_DATABASE", database)
        monkeypatch.setenv("LITELLM_ENVIRONMENT", "production")
        with serving(tmp_path, url, everything()) as server:
            yield server


def embed(*texts: str, model: str = "embedding-model", **more: Any) -> dict[str, Any]:
    return {"model": model, "input": list(texts), **more}


def test_a_configuration_with_every_key_starts_the_server_and_behaves(server: Server, standin: StandIn) -> None:
    first = server.post("/embeddings", embed("one", "two", "three", normalized=False))
    assert cache_status(first) == "fwd=miss; stored"
    assert len(first.json()["data"][0]["embedding"]) == 64, "extra_body"
    assert sorted(len(call.body["input"]) for call in standin.calls) == [1, 2], "max_embedding_batch_size"
    for call in standin.calls:
        assert call.body.keys() == {"model", "input", "task", "dimensions", "truncate"}, "defaults; a field dropped"
    for name in ("embedding-model", "text-embedding-3-small", "hidden-name"):
        assert cache_status(server.post("/embeddings", embed("three", "one", model=name))) == "hit"
    assert standin.call_count == 2

    ranked = {"model": "rerank-model", "query": "What is the capital?", "documents": DOCUMENTS}
    assert [cache_status(server.post("/rerank", ranked)) for _ in range(2)] == ["fwd=miss; stored", "hit"]
    wild = embed("one", model="jina_ai/jina-embeddings-v2-base-en")
    assert [cache_status(server.post("/embeddings", wild)) for _ in range(2)] == ["fwd=miss; stored", "hit"]
    listed = {model["id"] for model in server.client.get("/v1/models", headers=_KEY).json()["data"]}
    assert {"embedding-model", "text-embedding-3-small", "jina_ai/jina-clip-v2"} <= listed
    assert not {"hidden-name", "gpt-4o", "staged"} & listed
    assert server.post("/embeddings", embed("one", model="gpt-4o")).status_code == 404
    assert server.post("/embeddings", embed(*"abcdef")).status_code == 422, "max_items of the included file"
    own = server.client.post("/embeddings", json=embed("one"), headers={"Authorization": "Bearer jina_own"})
    assert cache_status(own) == "hit"
    assert own.headers["cache-status"].endswith("key-proof"), "pass_through_keys"
    check_retries(server, standin)
    check_log(server)


_KEY = {"Authorization": "Bearer sk-1234"}


@pytest.mark.slow
def test_several_workers_warn_once(tmp_path: Path, standin: StandIn) -> None:
    with hosted(standin) as url, serving(tmp_path, url, {"guardrails": []}, workers=2) as server:
        assert cache_status(server.post("/embeddings", embed("one"))) == "fwd=miss; stored"
        assert server.told().count("guardrails is not acted on here") == 1


def check_retries(server: Server, standin: StandIn) -> None:
    """As often as the policy of the model's name says, and not at all where it is another name's."""
    paid = standin.call_count
    standin.fail_next(Fault("status", status=429, times=3))
    assert cache_status(server.post("/embeddings", embed("again"))) == "fwd=miss; stored"
    assert standin.call_count == paid + 4
    standin.fail_next(Fault("status", status=429))
    assert server.post("/embeddings", embed("again", model="jina_ai/jina-embeddings-v2-base-en")).status_code == 429
    assert standin.call_count == paid + 5


def check_log(server: Server) -> None:
    """Each key that is not acted on is named once, and no value is ever seen."""
    told = server.told()
    assert "planted" not in told.replace("jina_ai", "")
    assert "Traceback" not in told
    named = Counter(re.findall(r"([\w.*\[\]-]+) is not acted on here", told))
    assert {name: times for name, times in named.items() if times > 1} == {}
    assert not_acted_on() - set(named) == set()
