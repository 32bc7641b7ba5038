"""``docker/Dockerfile`` as a recipe that can be followed where there is no container engine."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = ROOT / "docker"

Run = Callable[[str, Mapping[str, str], Path], None]
"""Runs a shell command of the recipe with these variables in this folder (of the image), or raises."""


@dataclass(frozen=True)
class Step:
    """An instruction and what stands behind it, in one line."""

    word: str
    rest: str

    @property
    def listed(self) -> list[str]:
        """The words of an instruction in its JSON form."""
        found: list[str] = json.loads(self.rest)
        return found


@dataclass(frozen=True)
class Stage:
    """A ``FROM`` and what follows it, up to the next."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def all(self, word: str) -> list[Step]:
        return [step for step in self.steps if step.word == word]

    def one(self, word: str) -> Step:
        (found,) = self.all(word)
        return found

    @property
    def environ(self) -> dict[str, str]:
        """``ENV``, with ``$PATH`` as the base images have it."""
        pairs = [pair.partition("=") for step in self.all("ENV") for pair in shlex.split(step.rest)]
        usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {"PATH": usual} | {name: value.replace("$PATH", usual) for name, _, value in pairs}

    @property
    def health_check(self) -> list[str]:
        """The command of the health check."""
        _, _, command = self.one("HEALTHCHECK").rest.partition("CMD ")
        found: list[str] = json.loads(command)
        return found


def steps(text: str) -> Iterator[Step]:
    """The instructions of a Dockerfile."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        word, _, rest = line.partition(" ")
        yield Step(word, rest.strip())


def stages(text: str) -> list[Stage]:
    """The stages of a Dockerfile, its ``ARG`` filled in."""
    found: list[Stage] = []
    arguments: dict[str, str] = {}
    for step in steps(text):
        if step.word == "ARG":
            name, _, default = step.rest.partition("=")
            arguments["${" + name + "}"] = default
        elif step.word == "FROM":
            base, _, name = step.rest.partition(" AS ")
            found.append(Stage(arguments.get(base, base), name))
        else:
            found[-1].steps.append(step)
    return found


def recipe() -> list[Stage]:
    """The stages of our own image: one that builds, one that runs."""
    return stages((DOCKER / "Dockerfile").read_text())


def follow(stage: Stage, root: Path, run: Run, built: Path) -> None:
    """Do what the stage says in the file system under ``root``; ``--from`` is the one under ``built``."""
    folder = Path("/")
    for step in stage.steps:
        if step.word == "WORKDIR":
            folder = Path(step.rest)
            inside(root, folder).mkdir(parents=True, exist_ok=True)
        elif step.word == "COPY":
            copy(step, root, folder, built)
        elif step.word == "RUN":
            run(step.rest, stage.environ, folder)


def inside(root: Path, path: Path | str) -> Path:
    """Where an absolute path of the image is."""
    return root / str(path).lstrip("/")


def copy(step: Step, root: Path, folder: Path, built: Path) -> None:
    """``COPY`` of files or of one folder, from the context or from the stage before."""
    words = step.rest.split()
    from_stage = words[0].startswith("--from=")
    *sources, target = words[from_stage:]
    goal = inside(root, folder / target)
    for source in sources:
        found = inside(built, source) if from_stage else ROOT / source
        if found.is_dir():
            ignore = None if from_stage else leave_out
            shutil.copytree(found, goal, symlinks=True, ignore=ignore, dirs_exist_ok=True)
        else:
            (goal if target.endswith("/") else goal.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, goal)


def leave_out(folder: str, names: list[str]) -> set[str]:
    """What ``.dockerignore`` keeps out of a folder that it lets in."""
    return {name for name in names if is_ignored(Path(folder, name).relative_to(ROOT))}


def is_ignored(path: Path) -> bool:
    """Whether ``.dockerignore`` keeps this path, relative to the context, out of it: the last rule that fits counts."""
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        rule = line.strip()
        if rule and not rule.startswith("#") and _fits(rule.removeprefix("!"), path):
            ignored = not rule.startswith("!")
    return ignored


def _fits(pattern: str, path: Path) -> bool:
    expression = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    return any(re.fullmatch(expression, str(one)) for one in (path, *path.parents))
