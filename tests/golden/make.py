"""Writes the golden files anew: ``python -m tests.golden.make``.

A key that changes makes every user's cache cold, and bytes that change can not be opened any more. So a pin may only
change together with its ``VERSION`` (``core/keys.py``, ``core/codec.py``); without that this refuses, and writes
nothing. New cases may be added at any time. ``--force`` overrides: only right before a first release.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cache_proxy.core import codec, keys
from tests.golden.cases import ENTRIES, FRAME_KEY, REQUESTS

FOLDER = Path(__file__).parent
COMMAND = "python -m tests.golden.make"


def pinned(name: str) -> dict[str, Any]:
    """What a golden file holds; nothing where there is none yet."""
    path = FOLDER / name
    return json.loads(path.read_text()) if path.exists() else {"version": None, "pins": {}}


def current() -> dict[str, dict[str, Any]]:
    """What the golden files would hold if they were made now."""
    return {
        "keys.json": {
            "version": keys.VERSION.decode(),
            "pins": {name: case.keys() for name, case in REQUESTS.items()},
        },
        "frames.json": {
            "version": codec.VERSION,
            "key": FRAME_KEY.hex(),
            "pins": {name: codec.seal(FRAME_KEY, entry).hex() for name, entry in ENTRIES.items()},
        },
    }


def broken(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """The cases whose pin would change or go although the version is the same."""
    if old["version"] != new["version"]:
        return []
    return [name for name, pin in old["pins"].items() if new["pins"].get(name) != pin]


def main(arguments: list[str]) -> int:
    """Write the files; 1 if that would break a pin."""
    made = current()
    lost = {name: broken(pinned(name), content) for name, content in made.items()}
    if any(lost.values()) and "--force" not in arguments:
        for name, cases in lost.items():
            print(*(f"{name}: {case!r} changes, but VERSION does not" for case in cases), sep="\n", file=sys.stderr)
        return 1
    for name, content in made.items():
        (FOLDER / name).write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
