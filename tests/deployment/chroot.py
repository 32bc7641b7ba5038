"""The image without a container engine: the Dockerfile's steps in a file system of their own, and what comes of them
started much as a container would start it. By hand, as root, with the environment of the tests:

    debootstrap --variant=minbase --include=python3-venv,python3-pip,ca-certificates trixie BASE
    python -m tests.deployment.chroot BASE

Each stage gets a copy of BASE. The server runs as the image's user in mount and process namespaces of its own, where
it is process 1, without capabilities, on a read-only root. Network and kernel are the machine's.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx

from cache_proxy.serving import hosted
from cache_proxy.standin import StandIn
from tests.deployment.recipe import follow, inside, recipe

PORT = "4173"
KEY = "sk-of-the-chroot"
EMBED = {"model": "jina-embeddings-v3", "input": ["hello world"]}

# The Debian names of what the base image has in /usr/local/bin, and what the network needs.
PREPARE = "ln -sf /usr/bin/python3 /usr/local/bin/python"
NETWORK = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")


class Image:
    """A file system for each of the two stages, made as the recipe says."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._base = base
        self._folder = folder
        self.build, self.final = recipe()
        self.root = folder / "final"
        self.user = self.final.one("USER").rest

    def make(self) -> None:
        """Follow the recipe."""
        built = self._folder / "built"
        for stage, root in ((self.build, built), (self.final, self.root)):
            subprocess.run(["cp", "-a", self._base, root], check=True)
            for name in NETWORK:
                if Path(name).exists():
                    shutil.copy(name, inside(root, name))
            with mounted(root):
                chrooted(root)(PREPARE, {}, Path("/"))
                follow(stage, root, chrooted(root), built)

    def command(self, environ: Mapping[str, str]) -> list[str]:
        """What starts the entry point in namespaces of its own, as process 1."""
        root = str(self.root)
        volume = str(inside(self.root, json.loads(self.final.one("VOLUME").rest)[0]))
        mounts = [
            ["mount", "--bind", root, root],
            ["mount", "--bind", volume, volume],
            ["mount", "-o", "remount,bind,ro", root],
            ["mount", "-t", "tmpfs", "tmpfs", f"{root}/tmp"],  # noqa: S108  the image's own
            ["mount", "-t", "proc", "proc", f"{root}/proc"],
            ["mount", "--rbind", "/dev", f"{root}/dev"],
        ]
        entry = [*self.final.one("ENTRYPOINT").listed, *self.final.one("CMD").listed]
        start = ["exec", "setpriv", "--no-new-privs", *self._as_user(environ), *entry]
        script = " && ".join(shlex.join(words) for words in [*mounts, start])
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]

    def health(self) -> int:
        """The exit code of the health check."""
        command = [*self._as_user({"CACHE_PROXY_PORT": PORT}), *self.final.health_check]
        return subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode

    def _as_user(self, environ: Mapping[str, str]) -> list[str]:
        wanted = [f"{name}={value}" for name, value in {**self.final.environ, **environ}.items()]
        return ["chroot", f"--userspec={self.user}", "--groups=", str(self.root), "env", "-i", *wanted]


@contextmanager
def mounted(root: Path) -> Iterator[None]:
    """What the steps need of the machine."""
    places = [(["--bind", "/dev"], root / "dev"), (["-t", "proc", "proc"], root / "proc")]
    for what, place in places:
        subprocess.run(["mount", *what, place], check=True)
    try:
        yield
    finally:
        for _, place in places:
            subprocess.run(["umount", place], check=True)


def chrooted(root: Path) -> Callable[[str, Mapping[str, str], Path], None]:
    """Runs a step's command in this root."""

    def run(command: str, environ: Mapping[str, str], folder: Path) -> None:
        print(f"RUN {command}", flush=True)
        wanted = [f"{name}={value}" for name, value in environ.items()]
        inner = ["sh", "-c", f"cd {folder} && {command}"]
        subprocess.run(["chroot", root, "env", "-i", *wanted, *inner], check=True)

    return run


class Container:
    """A started image. ``pid`` is the server's, seen from here."""

    def __init__(self, image: Image, environ: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(image.command(environ))
        self._url = f"http://127.0.0.1:{PORT}"

    @property
    def pid(self) -> int:
        """The first process of the namespace."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        wait_until(lambda: bool(path.read_text().split()))
        return int(path.read_text().split()[0])

    def ends(self) -> int:
        """The exit code."""
        return self._process.wait(30)

    def post(self) -> httpx.Response:
        return httpx.post(f"{self._url}/embeddings", json=EMBED, headers={"authorization": f"Bearer {KEY}"})

    def is_ready(self) -> bool:
        try:
            return httpx.get(f"{self._url}/health/readiness").status_code == 200
        except httpx.TransportError:
            return False

    def command_line(self) -> str:
        return Path(f"/proc/{self.pid}/cmdline").read_text().replace("\0", " ").strip()

    def status(self, *names: str) -> dict[str, str]:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {name: value.strip() for name, _, value in (line.partition(":") for line in lines) if name in names}


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError
        time.sleep(0.02)


def say(what: str, found: object) -> None:
    print(f"== {what}: {found}", flush=True)


def try_out(image: Image, environ: Mapping[str, str]) -> None:
    """Everything that the image promises, one line each."""
    without_key = {name: value for name, value in environ.items() if name != "CACHE_PROXY_MASTER_KEY"}
    say("start without a master_key ends with", Container(image, without_key).ends())
    for workers in ("1", "2"):
        container = Container(image, {**environ, "CACHE_PROXY_WORKERS": workers})
        wait_until(container.is_ready)
        say(f"{workers} worker(s), process 1 is", container.command_line())
        say("it runs with", container.status("Uid", "Gid", "NSpid", "CapEff", "NoNewPrivs"))
        say("health check ends with", image.health())
        for _ in range(2):
            answer = container.post()
            say("POST /embeddings", f"{answer.status_code} {answer.headers['cache-status']}")
        root = f"/proc/{container.pid}/root"
        told = subprocess.run(["touch", f"{root}/opt/x"], capture_output=True, text=True, check=False).stderr
        say("writing elsewhere than in the volume and /tmp", told.strip())
        os.kill(container.pid, signal.SIGTERM)
        say("SIGTERM ends it with", container.ends())
    container = Container(image, environ)
    wait_until(lambda: "cache-proxy" in container.command_line())
    time.sleep(0.3)  # somewhere in the imports
    os.kill(container.pid, signal.SIGTERM)
    say("SIGTERM while it starts ends it with", container.ends())
    say("health check without a server ends with", image.health())


def main(base: str) -> None:
    with tempfile.TemporaryDirectory(prefix="image-") as folder, hosted(StandIn()) as upstream:
        image = Image(Path(base), Path(folder))
        image.make()
        environ = {
            "CACHE_PROXY_MASTER_KEY": KEY,
            "CACHE_PROXY_PORT": PORT,
            "JINA_AI_API_KEY": "jina_x",
            "JINA_AI_API_BASE": f"{upstream}/v1",
        }
        try_out(image, environ)


if __name__ == "__main__":
    main(sys.argv[1])
