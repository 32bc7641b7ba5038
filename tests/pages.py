"""The pages of the documentation, and the code that stands on them."""

import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of this language on a page of ``docs``, from the top."""
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def module(name: str, source: str) -> ModuleType:
    """A module made of this source, to be imported by its name from now on."""
    made = ModuleType(name)
    sys.modules[name] = made
    exec(compile(source, f"{name}.py", "exec"), vars(made))  # noqa: S102  it is our own page
    return made
