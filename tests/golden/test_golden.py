"""The golden files: keys and stored bytes that must never change by accident."""

import json
from pathlib import Path
from typing import Any

import pytest

from cache_proxy.core.codec import open_frame, seal
from tests.core.asking import plain_entry
from tests.golden import make
from tests.golden.cases import ENTRIES, FRAME_KEY, REQUESTS

KEYS, FRAMES = make.pinned("keys.json"), make.pinned("frames.json")
HINT = f"a changed pin makes every user's cache cold: if that is meant, raise VERSION and run `{make.COMMAND}`"


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_keeps_its_keys(name: str) -> None:
    assert REQUESTS[name].keys() == KEYS["pins"].get(name), HINT


def test_every_pinned_key_still_has_its_request() -> None:
    assert set(KEYS["pins"]) == set(REQUESTS), HINT


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_keeps_its_bytes(name: str) -> None:
    assert seal(FRAME_KEY, ENTRIES[name]).hex() == FRAMES["pins"].get(name), HINT


def test_every_pinned_frame_still_has_its_entry() -> None:
    assert set(FRAMES["pins"]) == set(ENTRIES), HINT


@pytest.mark.parametrize("name", FRAMES["pins"])
def test_bytes_that_were_stored_long_ago_still_open(name: str) -> None:
    opened = open_frame(bytes.fromhex(FRAMES["key"]), bytes.fromhex(FRAMES["pins"][name]))
    assert opened is not None, HINT
    assert plain_entry(opened) == plain_entry(ENTRIES[name])


def test_the_golden_files_are_of_the_versions_in_the_code() -> None:
    current = make.current()
    assert {name: content["version"] for name, content in current.items()} == {
        "keys.json": KEYS["version"],
        "frames.json": FRAMES["version"],
    }, HINT


def test_requests_that_mean_different_things_share_no_key() -> None:
    alike = [
        {"one text", "one text by its alias, as an object, with harmless fields"},
        {"v4", "v4 with every default spelled out"},
        {"v4 an image", "v4 an image in LiteLLM's spelling"},
        {"a full ranking", "a full ranking with its defaults spelled out"},
        {"pairs", "pairs, cut, by Cohere's fields"},
    ]
    homes: dict[str, set[str]] = {}
    for name, keys in KEYS["pins"].items():
        for key in keys:
            homes.setdefault(key, set()).add(name)
    shared = [names for names in homes.values() if len(names) > 1]
    assert [names for names in shared if not any(names <= known for known in alike)] == []


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for golden files of a test's own."""
    monkeypatch.setattr(make, "FOLDER", tmp_path)
    return tmp_path


def pin(folder: Path, **changes: Any) -> None:
    """A keys file as it is made now, with one pin or the version changed."""
    content = make.current()["keys.json"]
    content["pins"] |= changes.get("pins", {})
    content["version"] = changes.get("version", content["version"])
    (folder / "keys.json").write_text(json.dumps(content))


def test_make_writes_what_is_not_there_yet(elsewhere: Path) -> None:
    assert make.main([]) == 0
    assert make.pinned("keys.json") == KEYS
    assert make.pinned("frames.json") == FRAMES


def test_make_refuses_to_change_or_drop_a_pin_under_the_same_version(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one text", "a request that is gone"):
        pin(elsewhere, pins={name: ["00"]})
        before = (elsewhere / "keys.json").read_text()
        assert make.main([]) == 1
        assert name in capsys.readouterr().err
        assert (elsewhere / "keys.json").read_text() == before
        assert not (elsewhere / "frames.json").exists()


@pytest.mark.parametrize(("version", "arguments"), [("another", []), (None, ["--force"])])
def test_make_changes_a_pin_with_a_new_version_or_by_force(
    elsewhere: Path, version: str | None, arguments: list[str]
) -> None:
    pin(elsewhere, pins={"one text": ["00"]}, **({"version": version} if version else {}))
    assert make.main(arguments) == 0
    assert make.pinned("keys.json") == KEYS
