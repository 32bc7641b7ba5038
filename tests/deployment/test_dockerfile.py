"""The Dockerfile says nothing that is not so: files, versions, ports, paths, users."""

import re
import tomllib
from pathlib import Path

import pytest

from cache_proxy.asgi.middleware import OPEN_TO_ALL
from cache_proxy.cli import DEFAULT_PORT, main
from tests.deployment.facts import is_pinned
from tests.deployment.recipe import ROOT, Step, is_ignored, recipe, stages

BUILD, FINAL = recipe()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources(step: Step) -> list[str]:
    return step.rest.split()[:-1]


def test_the_recipe_is_read_as_docker_reads_it() -> None:
    (stage,) = stages('ARG A=b:1\nFROM ${A} AS c\n# no\nRUN one \\\n    && two\nENV X=1 \\\n    Y="2 3"\nCMD ["d"]\n')
    assert (stage.base, stage.name, stage.one("RUN").rest) == ("b:1", "c", "one && two")
    assert {name: stage.environ[name] for name in "XY"} == {"X": "1", "Y": "2 3"}
    assert stage.one("CMD").listed == ["d"]


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copied = [source for step in BUILD.all("COPY") for source in sources(step)]
    assert "cache_proxy" in copied
    assert [name for name in copied if not (ROOT / name).exists() or is_ignored(Path(name))] == []


@pytest.mark.parametrize(
    "name",
    [".git/config", ".venv/bin/python", "docker/.env", "tests/conftest.py", "cache_proxy/__pycache__/cli.pyc",
     "requirements/dev.txt"],
)  # fmt: skip
def test_what_has_no_business_in_an_image_does_not_reach_its_build(name: str) -> None:
    assert is_ignored(Path(name))


def test_what_the_wheel_is_built_from_is_copied() -> None:
    copied = {source for step in BUILD.all("COPY") for source in sources(step)}
    assert copied >= {PROJECT["project"]["readme"], *PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}


def test_an_environment_is_copied_to_the_place_for_which_it_was_made() -> None:
    (step,) = FINAL.all("COPY")
    option, source, target = step.rest.split()
    assert (option, source) == (f"--from={BUILD.name}", target)
    assert any(f"venv --without-pip {target} " in step.rest for step in BUILD.all("RUN"))


def test_everything_is_installed_by_its_hash_or_without_an_index() -> None:
    commands = [part for step in BUILD.all("RUN") for part in step.rest.split("&&") if " install " in part]
    assert len(commands) == 3
    assert all("--require-hashes" in part or "--no-index --no-deps" in part for part in commands)


def test_both_stages_have_one_base_whose_python_will_do() -> None:
    assert BUILD.base == FINAL.base
    assert is_pinned(BUILD.base)
    found = re.match(r"python:(\d+)\.(\d+)\.\d+-slim-", BUILD.base)
    least = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["project"]["requires-python"])
    assert found
    assert least
    assert tuple(map(int, found.groups())) >= tuple(map(int, least.groups()))


def test_it_runs_as_a_user_by_number_who_owns_the_one_folder_that_is_written_to() -> None:
    user, group = FINAL.one("USER").rest.split(":")
    assert user.isdigit()
    assert int(user) > 0
    (folder,) = FINAL.one("VOLUME").listed
    assert folder == FINAL.environ["CACHE_PROXY_DIR"]
    assert FINAL.one("RUN").rest == f"install -d -m 0700 -o {user} -g {group} {folder}"


def test_the_port_is_the_commands_own() -> None:
    assert FINAL.one("EXPOSE").rest == FINAL.environ["CACHE_PROXY_PORT"] == str(DEFAULT_PORT)


def test_the_command_is_there_and_gets_the_signal_itself() -> None:
    (program,) = FINAL.one("ENTRYPOINT").listed
    assert program in PROJECT["project"]["scripts"]
    (command,) = FINAL.one("CMD").listed
    assert command in main.commands
    assert FINAL.one("STOPSIGNAL").rest == "SIGTERM"


def test_the_health_check_asks_a_route_that_needs_no_key() -> None:
    program, option, code = FINAL.health_check
    assert (program, option) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")
    assert re.findall(r"'(/[^']*)'", code)[0] in OPEN_TO_ALL
