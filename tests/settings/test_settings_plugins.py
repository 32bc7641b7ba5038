"""``cache_params.type`` may name a backend that somebody else installed: found, checked, and told apart from ours."""

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import pytest

from cache_proxy.backends import Backend, DiskBackend, GuardedBackend, MemoryBackend, RedisBackend, TieredBackend
from cache_proxy.errors import ConfigError
from cache_proxy.serving import serve, store_of
from cache_proxy.settings import Settings, parse
from cache_proxy.settings.plugins import OURS
from cache_proxy.standin import StandIn
from cache_proxy.wiring import build_store
from tests.installed import install
from tests.support import proxy

MODULE = "a_backend_of_others"
TEXT = {"model": "jina-embeddings-v3", "input": ["text"]}

STORE = """
from cache_proxy.backends.memory import MemoryBackend
from cache_proxy.errors import ConfigError, StoreError

class Store(MemoryBackend):
    name = "its own word for itself"

    def __init__(self, place, *, port=1, password=None, options=None, more=None):
        super().__init__(2**20)
        self.told = {"place": place, "port": port, "password": password, "options": options, "more": more}

class Anything(MemoryBackend):
    def __init__(self, **told):
        super().__init__(2**20)
        self.told = told

class Unreachable(MemoryBackend):
    def __init__(self, place):
        super().__init__(2**20)
    async def open(self):
        raise ConnectionError(f"nobody at hunter2")

def by_position(place, /): pass
def of_ours(namespace): pass
def of_everybody(place, namespace="x"): return Anything(place=place)
def nothing(): return None
def a_type(place): return MemoryBackend
def failing(place): raise ValueError(f"can not connect to {place}")
def refusing(place): raise ConfigError("place must be a folder")
async def later(place): return Store(place)
not_callable = "Store"
"""

Installed = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    """Installs a backend under the name ``other``, or under these."""
    monkeypatch.syspath_prepend(tmp_path)

    def put(value: str = f"{MODULE}:Store", source: str = STORE, names: tuple[str, ...] = ("other",)) -> None:
        install(tmp_path, "a-backend", dict.fromkeys(names, value), {MODULE: source})

    yield put
    sys.modules.pop(MODULE, None)


def read(params: Mapping[str, Any], environ: Mapping[str, str] | None = None, **section: Any) -> Settings:
    document = {"litellm_settings": {"cache": True, "cache_params": params, **section}}
    return parse(document, {"HOME": "/h", **(environ or {})})


def refusal(params: Mapping[str, Any]) -> str:
    """Why this is refused. Neither the error nor what it came from may show a value: somebody may print it whole."""
    with pytest.raises(ConfigError) as refused:
        build_store(read(params))
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)
    assert "hunter2" not in str(refused.value)
    return str(refused.value)


def inner(store: Backend) -> Any:
    assert isinstance(store, TieredBackend)
    assert isinstance(store.lower, GuardedBackend)
    return store.lower.inner


def test_what_is_not_ours_goes_to_the_backend_as_it_is_written(installed: Installed) -> None:
    installed()
    params = {
        "type": "other",
        "place": "/p",
        "port": 7,
        "options": {"a": [1, True]},
        "password": "hunter2",
        "more": None,
    }
    settings = read(params)
    assert settings.warnings == ()
    told = {"place": "/p", "port": 7, "options": {"a": [1, True]}, "password": "hunter2", "more": None}
    assert inner(build_store(settings)).told == told


def test_a_key_without_a_value_counts_as_left_out(installed: Installed) -> None:
    installed()
    assert inner(build_store(read({"type": "other", "place": "/p", "port": None}))).told["port"] == 1


def test_the_keys_that_mean_the_same_everywhere_are_obeyed_here_and_not_passed_on(installed: Installed) -> None:
    installed(f"{MODULE}:Anything")
    ours = {"ttl": 60, "namespace": "team", "mode": "default_off", "supported_call_types": ["rerank"]}
    assert {"type", *ours} == OURS
    settings = read({"type": "other", "host": "h", "db": 3, "disk_cache_dir": "d", **ours})
    cache = settings.cache
    assert (cache.ttl, cache.namespace, cache.default_off) == (60, "team", True)
    assert (cache.rerank, cache.embeddings) == (True, False)
    assert settings.warnings == ()
    assert inner(build_store(settings)).told == {"host": "h", "db": 3, "disk_cache_dir": "d"}


def test_it_stands_behind_the_guard_and_the_memory_tier_under_the_name_of_the_configuration(
    installed: Installed,
) -> None:
    installed()
    settings = read({"type": "other", "place": "/p"})
    store = build_store(settings)
    assert type(inner(store)).__name__ == "Store"
    assert store.name == settings.cache.kind == "other"
    assert store_of(settings) == f"the backend other of a-backend (cache_proxy.backends: {MODULE}:Store)"


def test_references_to_the_environment_are_replaced_and_shown_nowhere(
    installed: Installed, caplog: pytest.LogCaptureFixture
) -> None:
    installed()
    caplog.set_level(logging.DEBUG)
    environ = {"KIND": "other", "PASSWORD": "hunter2", "HOST": "there"}
    options = {"servers": ["os.environ/HOST", "os.environ/PASSWORD"]}
    params = {"type": "os.environ/KIND", "place": "//os.environ/HOST/x", "password": "os.environ/PASSWORD"}
    settings = read({**params, "options": options}, environ)
    told = inner(build_store(settings)).told
    assert told["place"] == "//there/x"
    assert (told["password"], told["options"]) == ("hunter2", {"servers": ["there", "hunter2"]})
    assert repr(settings.cache.plugin) == f"Plugin(name='other', origin={store_of(settings)!r})"
    assert "hunter2" not in repr(settings) + str(settings.warnings) + caplog.text + store_of(settings)


def test_a_variable_that_is_not_set_warns_by_its_key_and_is_left_out(installed: Installed) -> None:
    installed()
    settings = read({"type": "other", "place": "/p", "password": "os.environ/NO_SUCH"})
    expected = "litellm_settings.cache_params.password: the environment variable NO_SUCH is not set or empty"
    assert settings.warnings == (expected,)
    assert inner(build_store(settings)).told["password"] is None


def test_an_unknown_type_lists_ours_and_the_installed_ones(installed: Installed) -> None:
    installed(names=("other", "another"))
    with pytest.raises(
        ConfigError, match=r"expected one of disk, .*local.*, or of the installed backends another, other"
    ):
        read({"type": "s3", "place": "/p"})


@pytest.mark.parametrize(
    ("word", "kind"),
    [("disk", DiskBackend), ("local", MemoryBackend), ("memory", MemoryBackend), ("redis", RedisBackend)],
)
def test_no_plugin_takes_the_place_of_a_word_of_ours(installed: Installed, word: str, kind: type[Backend]) -> None:
    installed(source="1 / 0", names=("disk", "local", "memory", "redis"))
    settings = read({"type": word, **({"host": "h"} if word == "redis" else {})})
    store = build_store(settings)
    assert isinstance(inner(store) if isinstance(store, TieredBackend) else store, kind)


def test_where_the_cache_is_off_nothing_is_imported(installed: Installed) -> None:
    installed(source="1 / 0")
    assert not read({"type": "other"}, cache=False).cache.enabled


BROKEN = {
    "raise RuntimeError('hunter2')": "RuntimeError",
    "import no_such_module_of_theirs": "ModuleNotFoundError: no_such_module_of_theirs",
    "raise ImportError('hunter2')": "ImportError",
    "this is no Python": "SyntaxError",
    "": "AttributeError",
}


@pytest.mark.parametrize("source", BROKEN)
def test_one_that_can_not_be_imported_is_named_with_its_distribution(installed: Installed, source: str) -> None:
    installed(source=source)
    said = refusal({"type": "other", "place": "hunter2"})
    assert f"the backend other of a-backend (cache_proxy.backends: {MODULE}:Store)" in said
    assert f"can not be imported ({BROKEN[source]})" in said


WRONG_KEYS: dict[str, tuple[str, dict[str, Any], str]] = {
    "unknown": ("Store", {"place": "/p", "pasword": "hunter2"}, "cache_params.pasword is not known"),
    "missing": ("Store", {"port": 7}, "cache_params.place is missing"),
    "of several": ("Store", {"place": "/p", "host": "hunter2", "x": 1}, "cache_params.host is not known"),
}
TAKES = "the backend other takes place, port, password, options, more"


@pytest.mark.parametrize("case", WRONG_KEYS)
def test_a_wrong_key_is_named_with_those_that_it_takes(installed: Installed, case: str) -> None:
    name, params, expected = WRONG_KEYS[case]
    installed(f"{MODULE}:{name}")
    assert refusal({"type": "other", **params}) == f"litellm_settings.{expected}: {TAKES}"


def test_one_that_takes_no_keys_says_so(installed: Installed) -> None:
    installed(f"{MODULE}:nothing")
    assert refusal({"type": "other", "place": "/p"}).endswith("is not known: the backend other takes no keys")


def test_one_that_takes_any_key_gets_any_key(installed: Installed) -> None:
    installed(f"{MODULE}:Anything")
    assert inner(build_store(read({"type": "other", "what": 1, "ever": 2}))).told == {"what": 1, "ever": 2}


def test_a_key_of_ours_is_not_among_those_that_it_takes(installed: Installed) -> None:
    installed(f"{MODULE}:of_everybody")
    assert refusal({"type": "other", "x": 1}).endswith("the backend other takes place")
    assert inner(build_store(read({"type": "other", "place": "/p", "namespace": "team"}))).told == {"place": "/p"}


MISMADE = {
    "by_position": "needs place, which is never passed on",
    "of_ours": "needs namespace, which is never passed on",
    "not_callable": "can not be called",
    "nothing": "returned NoneType, not a Backend of cache_proxy.backends.base",
    "a_type": "returned ABCMeta, not a Backend of cache_proxy.backends.base",
    "later": "can not be called",
    "failing": "failed with ValueError; check the keys of litellm_settings.cache_params",
}


@pytest.mark.parametrize("name", MISMADE)
def test_one_that_is_not_made_as_it_should_be_is_refused(installed: Installed, name: str) -> None:
    installed(f"{MODULE}:{name}")
    said = refusal({"type": "other", **({} if name == "nothing" else {"place": "hunter2"})})
    assert said.startswith(f"the backend other of a-backend (cache_proxy.backends: {MODULE}:{name}) {MISMADE[name]}")


def test_one_that_refuses_its_configuration_is_heard(installed: Installed) -> None:
    installed(f"{MODULE}:refusing")
    with pytest.raises(ConfigError, match=r"^place must be a folder$"):
        build_store(read({"type": "other", "place": "/p"}))


def test_two_of_the_same_name_are_refused(installed: Installed, tmp_path: Path) -> None:
    installed()
    install(tmp_path, "b-backend", {"other": f"{MODULE}:Anything"}, {})
    assert "other is registered by a-backend, b-backend; uninstall all but one" in refusal({"type": "other"})


@pytest.mark.anyio
async def test_one_that_can_not_be_opened_costs_money_and_no_answer(
    installed: Installed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    installed(f"{MODULE}:Unreachable")
    document = {"litellm_settings": {"cache": True, "cache_params": {"type": "other", "place": "/p"}}}
    async with proxy(StandIn(), tmp_path, document) as client:
        assert (await client.post("/embeddings", json=TEXT)).status_code == 200
        state = cast("dict[str, Any]", (await client.get("/health")).json()["store"])
        assert (state["type"], state["status"], state["breaker"]) == ("other", "degraded", "open")
    assert "hunter2" not in caplog.text


def test_the_server_refuses_it_before_any_worker_is_started(
    installed: Installed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uvicorn.run", lambda *_, **__: pytest.fail("it was started"))
    installed(f"{MODULE}:nothing")
    config = tmp_path / "config.yaml"
    config.write_text("litellm_settings: {cache: true, cache_params: {type: other}}")
    with pytest.raises(ConfigError, match="returned NoneType"):
        serve(str(config), "127.0.0.1", 4000, 2)
