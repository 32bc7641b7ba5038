"""What it costs to have it: import, start, idle memory, installed size."""

import argparse
import importlib.metadata
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from bench import servers
from bench.table import Row, at_most

IMPORT, READY, IDLE, INSTALLED = 0.15, 1.5, 100.0, 165.0
NAME = "cache-proxy"
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Four figures, and one more import that nothing is promised for."""
    rounds = options.rounds
    yield at_most("import cache_proxy", _import_seconds("import cache_proxy", rounds), IMPORT, "s")
    first = _import_seconds("from cache_proxy import embedding", rounds)
    yield Row("from cache_proxy import embedding (all of the SDK)", f"{first:.2f} s")
    ready, idle = zip(*(_start() for _ in range(rounds)), strict=True)
    yield at_most("server ready: started to the first 200 of liveness", median(ready), READY, "s")
    yield at_most("resident memory of the idle server", median(idle), IDLE, "MB")
    size = sum(_size(name) for name in _needed(NAME)) / 1e6
    yield at_most("installed size of the package and all it needs", size, INSTALLED, "MB")


def _import_seconds(statement: str, rounds: int) -> float:
    code = f"import time; began = time.perf_counter(); {statement}; print(time.perf_counter() - began)"
    command = [sys.executable, "-c", code]
    return median(float(subprocess.run(command, check=True, capture_output=True).stdout) for _ in range(rounds))


def _start() -> tuple[float, float]:
    """Seconds until the server was ready, and its megabytes half a second later."""
    port = servers.free_port()
    with servers.folder() as home:
        began = time.perf_counter()
        with servers.proxy_process(port, "http://127.0.0.1:9", home) as process:
            servers.wait_until_alive(port)
            taken = time.perf_counter() - began
            time.sleep(0.5)
            status = Path(f"/proc/{process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+)", status)
    return taken, int(kilobytes) * 1024 / 1e6


def _needed(name: str) -> set[str]:
    """The distributions that this one needs at run time on this machine, itself included."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        name = _canonical(waiting.pop())
        if name in found:
            continue
        try:
            required = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            if name != NAME:
                continue  # for another system or version of Python
            required = _declared()
        found.add(name)
        waiting += [match[0] for line in required if "extra ==" not in line and (match := _REQUIREMENT.match(line))]
    return found


def _declared() -> list[str]:
    """What the project file asks for, where the project runs from its folder and is not installed."""
    import tomllib

    project = Path(__file__).parent.parent / "pyproject.toml"
    return list(tomllib.loads(project.read_text())["project"]["dependencies"])


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _size(name: str) -> int:
    """The bytes of a distribution's files, compiled ones included once they are there."""
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    paths = {Path(str(file.locate())) for file in files}
    if name == NAME:
        paths |= set((Path(__file__).parent.parent / "cache_proxy").rglob("*"))
    return sum(path.stat().st_size for path in paths if path.is_file())
