"""What the operator should know about a configuration that is obeyed all the same, and where in it a thing stands."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

Path = tuple[str | int, ...]
"""Where a value stands: ``("model_list", 0, "litellm_params", "api_base")``."""

_OTHER_MODEL = "an answer of another model would be a wrong answer"
_ACCESS = "who gets in is decided by the master key alone"
_REASONS: Mapping[str, str] = MappingProxyType(
    dict.fromkeys(
        ("fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks"), _OTHER_MODEL
    )
    | dict.fromkeys(
        ("allowed_ips", "allowed_routes", "admin_only_routes", "custom_auth", "enable_jwt_auth", "enable_oauth2_auth"),
        _ACCESS,
    )
)


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

    def add(self, line: str) -> None:
        """Note this line, unless it is noted already."""
        self._lines[line] = None

    def ignored(self, path: Path) -> None:
        """Note that the key at this path is not acted on."""
        reason = _REASONS.get(str(path[-1]))
        self.add(f"{name_of(path)} is not acted on here" + (f": {reason}" if reason else ""))

    @property
    def lines(self) -> tuple[str, ...]:
        """All of them."""
        return tuple(self._lines)
