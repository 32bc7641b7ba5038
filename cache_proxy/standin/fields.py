"""The fields of one body: aliases, what belongs to the model, what Jina ignores, and what nobody knows.

Jina's on-premises server, which copies the hosted one (2026-07), takes a union of field names on every
model: the first name present wins, a field of another model is ignored, and so is anything unknown. The
stand-in ignores too, but for one difference on purpose: a field that no Jina model documents changes every
vector and score, so that a cache which forgets to key what it does not know is caught. A null is the same
as leaving the field out.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from .checks import Bad, Check
from .errors import Finding, Invalid


@dataclass(frozen=True, slots=True)
class Dialect:
    """The names of one endpoint: its required fields, every optional field of any model, and the aliases."""

    required: frozenset[str]
    optional: frozenset[str]
    aliases: Mapping[str, tuple[str, ...]]

    @property
    def known(self) -> frozenset[str]:
        also = {alias for names in self.aliases.values() for alias in names}
        return self.required | self.optional | also


@dataclass(frozen=True, slots=True)
class Manners:
    """How to take a field that the model does not have: refuse it, or salt with it."""

    strict_extra: bool = False
    harmless: frozenset[str] = frozenset({"user", "priority"})


class Fields:
    """Reads one body, each field by its check, and gathers what is wrong instead of stopping at the first."""

    def __init__(self, model: str, own: Collection[str], body: Mapping[str, Any], dialect: Dialect) -> None:
        self._model = model
        self._own = own
        self._body = body
        self._dialect = dialect
        self._findings: list[Finding] = []

    def given(self, name: str) -> Any:
        """The value as it was sent, under the field's own name or the first alias present."""
        names = (name, *self._dialect.aliases.get(name, ()))
        return next((self._body[each] for each in names if self._body.get(each) is not None), None)

    def take(self, name: str, check: Check, default: Any = None) -> Any:
        """The value of an optional field of this model; ``default`` where it is absent or null."""
        if name not in self._own:
            return default
        value = self.given(name)
        return default if value is None else self._checked((name,), value, check, default)

    def need(self, name: str, check: Check) -> Any:
        """The value of a required field, or None with a finding."""
        value = self.given(name)
        if value is None and name not in self._body:
            self.find((name,), "Field required", "missing", dict(self._body))
            return None
        return self._checked((name,), value, check, None)

    def each(self, name: str, values: Iterable[Any], check: Check) -> tuple[Any, ...]:
        """The checked members of a list."""
        return tuple(self._checked((name, str(at)), value, check, None) for at, value in enumerate(values))

    def find(self, path: tuple[str, ...], message: str, type_: str, value: Any) -> None:
        self._findings.append(Finding((self._model, *path), message, type_, value))

    def settle(self, manners: Manners) -> bytes:
        """Refuse if anything was wrong; else give the salt, empty unless an unknown field was sent."""
        if manners.strict_extra:
            self._forbid_extra()
        if self._findings:
            raise Invalid(*self._findings)
        passed = self._dialect.known | manners.harmless | {"model"}
        unknown = {name: value for name, value in self._body.items() if name not in passed and value is not None}
        return orjson.dumps(unknown, option=orjson.OPT_SORT_KEYS) if unknown else b""

    def _checked(self, path: tuple[str, ...], value: Any, check: Check, default: Any) -> Any:
        try:
            return check(value)
        except Bad as bad:
            self.find(path, bad.message, bad.type, value)
            return default

    def _forbid_extra(self) -> None:
        allowed = {"model", *self._dialect.required, *self._own}
        for name in self._body.keys() - allowed:
            self.find((name,), "Extra inputs are not permitted", "extra_forbidden", self._body[name])
