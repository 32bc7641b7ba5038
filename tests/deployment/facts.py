"""What the files for deployment are held against: numbers of the code, and the files themselves."""

import configparser
import os
import re
from pathlib import Path
from typing import Any

import yaml

from cache_proxy.ledger.writer import GRACE
from cache_proxy.serving import OPTIONS
from cache_proxy.settings import OwnSettings, Settings, load
from cache_proxy.wiring import DRAIN_PATIENCE, LEDGER_PATIENCE
from tests.deployment.recipe import DOCKER, ROOT

SECRETS = {"JINA_AI_API_KEY": "jina_x", "CACHE_PROXY_MASTER_KEY": "sk-y", "REDIS_PASSWORD": "z"}


def longest_end() -> float:
    """Seconds from SIGTERM to the end of the process at the most, with the defaults: docs/deployment.md has the sum."""
    own = OwnSettings()
    before = own.drain_seconds + float(OPTIONS["timeout_graceful_shutdown"])
    return before + DRAIN_PATIENCE + own.store_write_timeout + LEDGER_PATIENCE + GRACE


def seconds(text: str) -> float:
    """A duration of Docker's or nginx's, such as ``90s``."""
    found = re.fullmatch(r"(\d+)s", text)
    assert found, text
    return float(found[1])


def documents(name: str) -> list[Any]:
    """What a YAML file of docker/ holds."""
    return list(yaml.safe_load_all((DOCKER / name).read_text()))


def unit() -> dict[str, dict[str, list[str]]]:
    """The systemd unit: its sections, and the values of each key in their order."""

    class Repeated(dict[str, Any]):
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and key in self:
                value = [*self[key], *value]
            super().__setitem__(key, value)

    parser = configparser.RawConfigParser(strict=False, dict_type=Repeated)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DOCKER / "systemd" / "cache-proxy.service").read_text())
    return {name: {key: value.splitlines() for key, value in parser[name].items()} for name in parser.sections()}


def read_settings(path: Path, **more: str) -> Settings:
    """The settings of a configuration of docker/, with the variables that it is deployed with."""
    return load(path, {**SECRETS, **more, "HOME": os.devnull})


def pages() -> str:
    """Where every variable has to be told of."""
    return "".join((ROOT / "docs" / name).read_text() for name in ("config.md", "server.md", "deployment.md"))


def is_pinned(image: str) -> bool:
    """Whether an image's tag names a release, at least down to the minor version."""
    return re.fullmatch(r"[\w./-]+:\d+\.\d+(\.\d+)?(-[\w.]+)*", image) is not None
