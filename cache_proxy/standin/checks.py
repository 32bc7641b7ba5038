"""One function for each type of field: it gives the value back, or raises `Bad` with the words of a 422.

The words are pydantic's, which Jina's 422 bodies quote (recorded 2025-11 and 2026-09).
"""

from collections.abc import Callable
from typing import Any

Check = Callable[[Any], Any]

ENCODINGS = ("float", "base64", "binary", "ubinary")


class Bad(Exception):
    """A value that a field does not take."""

    def __init__(self, message: str, type_: str) -> None:
        super().__init__(message)
        self.message = message
        self.type = type_


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Bad("Input should be a valid boolean", "bool_type")
    return value


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise Bad("Input should be a valid string", "string_type")
    return value


def one_of(*values: object) -> Check:
    names = [repr(value) for value in values]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"

    def check(value: Any) -> Any:
        if isinstance(value, bool) or value not in values:
            raise Bad(f"Input should be {listed}", "literal_error")
        return value

    return check


def whole(least: int, most: int | None = None, *, exclusive: bool = False) -> Check:
    """A whole number from ``least`` (said as "greater than ``least - 1``" if ``exclusive``) to ``most``."""

    def check(value: Any) -> int:
        number = _integer(value)
        if number < least and exclusive:
            raise Bad(f"Input should be greater than {least - 1}", "greater_than")
        if number < least:
            raise Bad(f"Input should be greater than or equal to {least}", "greater_than_equal")
        if most is not None and number > most:
            raise Bad(f"Input should be less than or equal to {most}", "less_than_equal")
        return number

    return check


def _integer(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Bad("Input should be a valid integer", "int_type")
    return value


def embedding_type(value: Any) -> str | list[str]:
    """One of four names, or a list of them: the schema allows the list."""
    name = one_of(*ENCODINGS)
    if isinstance(value, list):
        return [name(each) for each in value]
    if not isinstance(value, str):
        raise Bad("Input should be a valid string or list", "string_type")
    return str(name(value))
