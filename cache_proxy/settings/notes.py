"""What the operator should know about a configuration that is obeyed all the same, and where in it a thing stands."""

from collections.abc import Sequence

from cache_proxy.settings.ignored import reason

Path = tuple[str | int, ...]
"""Where a value stands: ``("model_list", 0, "litellm_params", "api_base")``."""


def dotted(path: Sequence[str | int]) -> str:
    """The path as people write it: ``model_list[0].litellm_params.api_base``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def name_of(path: Sequence[str | int]) -> str:
    """The setting's name, whatever its place in a list: ``model_list[].litellm_params.api_base``."""
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


class Notes:
    """Collects warnings in order, each once. No value of a setting may get in here: warnings are logged."""

    def __init__(self) -> None:
        self._lines: dict[str, None] = {}
        self._unset: dict[str, None] = {}

    def add(self, line: str) -> None:
        """Note this line, unless it is noted already."""
        self._lines[line] = None

    def unset(self, path: Path, variable: str) -> None:
        """Note that the value at this path refers to a variable that is not there."""
        self.lacking(f"{name_of(path)}: {variable} is not set or empty")

    def lacking(self, line: str) -> None:
        """Note this line, which is about a variable that is not there."""
        self.add(line)
        self._unset[line] = None

    def ignored(self, path: Path) -> None:
        """Note that the key at this path is not acted on."""
        why = reason(name_of(path[:-1]), str(path[-1]))
        self.add(f"{name_of(path)} is not acted on here" + (f": {why}" if why else ""))

    @property
    def lines(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._lines)

    @property
    def unset_lines(self) -> tuple[str, ...]:
        """Those of them that are about variables that are not set."""
        return tuple(self._unset)
