"""Backends of others: found by their entry point, imported and held to their signature before anything is served.

An installed distribution registers ``name = "package:callable"`` under ``cache_proxy.backends``, and
``cache_params.type: name`` uses it. The callable gets the keys of ``cache_params`` that are not ours as keyword
arguments and returns a :class:`cache_proxy.backends.base.Backend`.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from cache_proxy.backends.base import Backend
from cache_proxy.errors import ConfigError
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.references import peek, resolve

GROUP = "cache_proxy.backends"
PARAMS = "litellm_settings.cache_params"

OURS = frozenset({"type", "ttl", "namespace", "mode", "supported_call_types"})
"""Keys of ``cache_params`` that mean the same with every store, and are not passed on."""

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Plugin:
    """One installed backend and what it will be called with."""

    name: str
    """Its entry point's name, and the word of the configuration."""
    origin: str
    """Its distribution and entry point, for messages."""
    factory: Callable[..., object] = field(repr=False)
    arguments: Mapping[str, Any] = field(repr=False)
    """May hold secrets: never in a message, not even by way of an exception of the factory's."""

    def build(self) -> Backend:
        """The store, not opened. Raises ``ConfigError``; one that the factory raises passes as it is."""
        try:
            made = self.factory(**self.arguments)
        except ConfigError:
            raise
        except Exception as error:
            failure = type(error).__name__
        else:
            if isinstance(made, Backend):
                return made
            raise ConfigError(f"{self.origin} returned {type(made).__name__}, not a Backend of {Backend.__module__}")
        raise ConfigError(f"{self.origin} failed with {failure}; check the keys of {PARAMS} against its own page")


def taken_out(
    raw: dict[str, Any], ours: Collection[str], environ: Mapping[str, str], notes: Notes
) -> tuple[dict[str, Any], Plugin | None]:
    """The document without what its ``cache_params`` say to a backend of others, and that backend.

    ``ours`` are the types that no plugin can replace. Raises ``ConfigError``.
    """
    section = raw.get("litellm_settings")
    params = section.get("cache_params") if isinstance(section, Mapping) else None
    if not isinstance(section, Mapping) or not isinstance(params, Mapping):
        return raw, None
    word = peek(params.get("type"), environ)
    if word is None or word in ours or str(section.get("cache")).lower() == "false":
        return raw, None
    given = {str(key): value for key, value in params.items() if key not in OURS and value is not None}
    found = plugin(word, resolve(given, environ, ("litellm_settings", "cache_params"), notes))
    if found is None:
        return raw, None
    kept = {key: value for key, value in params.items() if key in OURS}
    return {**raw, "litellm_settings": {**section, "cache_params": kept}}, found


def installed() -> list[str]:
    """The names under which backends are registered here."""
    return sorted(entry_points(group=GROUP).names)


def plugin(name: str, arguments: Mapping[str, Any]) -> Plugin | None:
    """The installed backend of this name, imported and checked; ``None`` if there is none. Raises ``ConfigError``."""
    found = entry_points(group=GROUP, name=name)
    if not found:
        return None
    if len(found) > 1:
        several = ", ".join(sorted(map(_distribution, found)))
        raise ConfigError(f"{PARAMS}.type: {name} is registered by {several}; uninstall all but one")
    (point,) = found
    origin = f"the backend {name} of {_distribution(point)} ({GROUP}: {point.value})"
    factory = _imported(point, origin)
    _check(factory, arguments, name, origin)
    return Plugin(name, origin, factory, arguments)


def _distribution(point: EntryPoint) -> str:
    return (point.dist and point.dist.name) or "an unnamed distribution"


def _imported(point: EntryPoint, origin: str) -> Callable[..., object]:
    try:
        factory = point.load()
    except Exception as error:
        failure = type(error).__name__
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
    else:
        if callable(factory) and not inspect.iscoroutinefunction(factory):
            found: Callable[..., object] = factory
            return found
        raise ConfigError(f"{origin} can not be called; its entry point must name a class or a plain function")
    told = f"{failure}: {missing}" if missing else failure
    # Without the cause: nobody knows what a foreign module writes into its messages.
    raise ConfigError(f"{origin} can not be imported ({told}); install what it needs, or take its type out")


def _check(factory: Callable[..., object], arguments: Mapping[str, Any], name: str, origin: str) -> None:
    """Refuse keys that the factory does not take, and the lack of those that it needs."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return
    needed = [each for each in parameters if each.default is each.empty and each.kind not in _STARRED]
    unreachable = next((each.name for each in needed if each.kind not in _BY_NAME or each.name in OURS), None)
    if unreachable is not None:
        raise ConfigError(f"{origin} needs {unreachable}, which is never passed on; this is its author's to mend")
    taken = [each.name for each in parameters if each.kind in _BY_NAME and each.name not in OURS]
    known = f"the backend {name} takes {', '.join(taken) or 'no keys'}"
    foreign = [key for key in arguments if key not in taken]
    if foreign and not any(each.kind is each.VAR_KEYWORD for each in parameters):
        raise ConfigError(f"{PARAMS}.{foreign[0]} is not known: {known}")
    missing = next((each.name for each in needed if each.name not in arguments), None)
    if missing is not None:
        raise ConfigError(f"{PARAMS}.{missing} is missing: {known}")


_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
