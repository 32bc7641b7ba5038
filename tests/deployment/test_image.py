"""The Dockerfile's steps, followed in a plain folder, and what comes of them, started as its entry point says.

What this does not show (another user, a read-only root, process 1) ``chroot.py`` does, by hand.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from cache_proxy.serving import hosted
from cache_proxy.standin import StandIn
from tests.deployment.recipe import Run, Stage, follow, recipe
from tests.integration.test_server import EMBED, KEY, cache_status, until

# Where the recipe writes: a place of the same name below our folder.
PLACES = re.compile(r"(?<![\w.-])/(?=(opt|build|var/lib/cache-proxy)\b)")


def moved(text: str, root: Path) -> str:
    return PLACES.sub(f"{root}/", text)


def in_folder(root: Path) -> Run:
    """Runs a step's command with this Python, below ``root``. There is no other user to own a folder."""

    def run(command: str, environ: Mapping[str, str], folder: Path) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        command = re.sub(r" -[og] \d+", "", moved(command, root))
        subprocess.run(
            ["sh", "-c", command], check=True, cwd=moved(str(folder), root), env={**os.environ, **environ, "PATH": path}
        )

    return run


def made_in(root: Path) -> Stage:
    """Follow the recipe; the last stage. An environment can not be moved, so both stages share the folder."""
    build, final = recipe()
    follow(build, root, in_folder(root), root)
    for step in final.all("RUN"):
        in_folder(root)(step.rest, {}, Path("/opt"))
    return final


class Started:
    """The entry point, with the variables of the image and these."""

    def __init__(self, image: Stage, root: Path, upstream: str, **environ: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = str(probe.getsockname()[1])
        told = {"CACHE_PROXY_PORT": self.port, "JINA_AI_API_KEY": "jina_x", "JINA_AI_API_BASE": f"{upstream}/v1"}
        self._environ = {name: moved(value, root) for name, value in image.environ.items()} | told | environ
        self._check = [str(root / "opt/cache-proxy/bin" / image.health_check[0]), *image.health_check[1:]]
        # Found by the image's own PATH.
        command = ["/usr/bin/env", *image.one("ENTRYPOINT").listed, *image.one("CMD").listed]
        self.process = subprocess.Popen(command, env=self._environ, cwd=root, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def ends(self) -> tuple[int, str]:
        """The exit code, and what was said."""
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said

    def is_healthy(self) -> bool:
        ended = subprocess.run(self._check, env=self._environ, check=False, stderr=subprocess.DEVNULL)
        assert ended.returncode in (0, 1)
        return ended.returncode == 0

    def post(self) -> httpx.Response:
        body = {**EMBED, "model": "jina-embeddings-v3"}
        return httpx.post(f"http://127.0.0.1:{self.port}/embeddings", json=body, headers=KEY)


@pytest.mark.slow
@pytest.mark.timeout(500)  # it waits for a package index
def test_the_image_serves_is_healthy_and_ends_in_order(tmp_path: Path) -> None:
    image = made_in(tmp_path)
    with hosted(StandIn()) as upstream:
        with Started(image, tmp_path, upstream) as refused:
            code, said = refused.ends()
            assert (code, "CACHE_PROXY_MASTER_KEY" in said) == (2, True)
            assert not refused.is_healthy()
        with Started(image, tmp_path, upstream, CACHE_PROXY_MASTER_KEY="sk-1234") as started:
            until(started.is_healthy, 30)
            assert [cache_status(started.post()) for _ in range(2)] == ["fwd=miss; stored", "hit"]
            started.process.send_signal(signal.SIGTERM)
            code, said = started.ends()
            assert (code, "Traceback" in said) == (0, False)
    assert (tmp_path / "var/lib/cache-proxy/cache.db").exists()
    modules = [path for path in (tmp_path / "opt/cache-proxy").rglob("*.py") if "cache_proxy" in path.parts]
    assert len(modules) > 50
    assert [path for path in modules if not list(path.parent.glob(f"__pycache__/{path.stem}.*.pyc"))] == []
