"""``cache-proxy cache``: the configured store, looked at and purged from the command line."""

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cache_proxy import upkeep
from cache_proxy.backends import GENERATION, DiskBackend, Key
from cache_proxy.cli import main
from cache_proxy.settings import load

KEY = "ab" * 32
SECRET = "hunter2"


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in list(os.environ):
        if name.startswith(("CACHE_PROXY_", "JINA_", "REDIS_", "LITELLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


def invoke(*args: str, given: str = "") -> Result:
    return CliRunner().invoke(main, ["cache", *args], input=given)


def fill(folder: Path, *keys: str) -> None:
    asyncio.run(_with(folder, {bytes.fromhex(key): b"value" for key in keys}))


def held(folder: Path, *keys: str) -> list[bool]:
    found = asyncio.run(_with(folder, {}, *map(bytes.fromhex, keys)))
    return [bytes.fromhex(key) in found for key in keys]


async def _with(folder: Path, entries: Mapping[Key, bytes], *keys: Key) -> Mapping[Key, bytes]:
    store = DiskBackend(folder)
    await store.open()
    await store.set_many(entries)
    found = await store.get_many(keys)
    await store.close()
    return found


def test_the_stats_are_those_of_the_store(store: Path) -> None:
    fill(store, KEY, "cd" * 32)
    told = invoke("stats").stdout
    assert [line.split(maxsplit=1)[0] for line in told.splitlines()] == ["store", "entries", "bytes", "limit_bytes"]
    found = json.loads(invoke("stats", "--format", "json").stdout)
    assert (found["store"], found["entries"]) == (f"disk in {store}", 2)
    assert 0 < found["bytes"] < found["limit_bytes"]


def test_keys_are_deleted_and_the_others_told_of_it(store: Path) -> None:
    fill(store, KEY, "cd" * 32)
    ended = invoke("delete", KEY.upper(), KEY, "00" * 32)
    assert (ended.exit_code, ended.stdout) == (0, "forgotten: 1 of 2\n")
    assert held(store, KEY, "cd" * 32) == [False, True]
    assert held(store, GENERATION.hex()) == [True], "the word that every memory looks for"


def test_a_purge_is_told_of_even_where_this_configuration_has_no_memory(store: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("cache_proxy_settings: {memory_mib: 0}")
    fill(store, KEY)
    assert invoke("clear", "--yes", "--config", str(config)).exit_code == 0
    assert held(store, KEY, GENERATION.hex()) == [False, True]


def test_all_that_answers_a_request_is_deleted(store: Path, tmp_path: Path) -> None:
    body = {"model": "jina-embeddings-v3", "input": ["a", "b"]}
    keys = [key.hex() for key in upkeep.keys_of(load(None), json.dumps(body).encode())]
    fill(store, *keys, KEY)
    path = tmp_path / "request.json"
    path.write_text(json.dumps(body | {"model": "jina_ai/jina-embeddings-v3", "user": "u"}))
    ended = invoke("delete", "--request", str(path))
    assert (ended.exit_code, ended.stdout) == (0, "forgotten: 2 of 2\n")
    assert held(store, *keys, KEY) == [False, False, True]


def test_everything_is_forgotten_only_if_somebody_says_yes(store: Path) -> None:
    fill(store, KEY)
    for given in ("", "n\n", "\n"):
        assert invoke("clear", given=given).exit_code == 1
        assert held(store, KEY) == [True]
    assert invoke("clear", given="y\n").exit_code == 0
    assert held(store, KEY) == [False]


@pytest.mark.parametrize(
    ("args", "given", "word"),
    [
        (["delete"], "", "--request"),
        (["delete", KEY, "--request", "-"], "{}", "not both"),
        (["delete", f"{SECRET} text"], "", "64 hexadecimal digits"),
        (["delete", KEY[:-1]], "", "64 hexadecimal digits"),
        (["delete", "--request", "-"], "{", "JSON"),
        (["delete", "--request", "-"], "{}", "model"),
        (["delete", "--request", "-"], f'{{"model": "{SECRET}", "input": ["a"]}}', "No deployment answers"),
        (["delete", "--request", "/nowhere/request.json"], "", "No such file"),
    ],
)
def test_what_can_not_be_understood_is_refused_with_2_and_not_echoed(args: list[str], given: str, word: str) -> None:
    ended = invoke(*args, given=given)
    assert ended.exit_code == 2
    assert word in ended.output
    assert SECRET not in ended.output
    assert "Traceback" not in ended.output


@pytest.mark.parametrize("command", [["stats"], ["clear", "--yes"], ["delete", KEY]], ids=lambda words: words[0])
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("litellm_settings: {cache_params: {type: nonsense}}", "litellm_settings.cache_params.type"),
        ("litellm_settings: {cache_params: {type: local}}", "/cache/flushall"),
        ("litellm_settings: {cache: false}", "the cache is off"),
    ],
)
def test_a_configuration_without_such_a_store_is_refused_with_2(
    command: list[str], text: str, word: str, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text)
    ended = invoke(*command, "--config", str(config))
    assert (ended.exit_code, len(ended.output.strip().splitlines())) == (2, 1)
    assert word in ended.output


@pytest.mark.parametrize("command", [["stats"], ["clear", "--yes"], ["delete", KEY]], ids=lambda words: words[0])
def test_a_store_that_is_down_is_one_line_and_1(command: list[str], tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    place = f"unix://:{SECRET}@{tmp_path}/no.sock"
    config.write_text(f"litellm_settings: {{cache_params: {{type: redis, url: '{place}'}}}}")
    ended = invoke(*command, "--config", str(config))
    assert (ended.exit_code, len(ended.output.strip().splitlines())) == (1, 1), ended.output
    assert ended.output.startswith(f"Error: the store (redis at {tmp_path}/no.sock) did not do it: ")
    assert SECRET not in ended.output
