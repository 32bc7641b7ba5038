"""Where answers are kept: ``litellm_settings.cache`` and ``cache_params``, normalised."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cache_proxy.errors import ConfigError
from cache_proxy.settings import redis
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.plugins import Plugin, installed
from cache_proxy.settings.redis import RedisSettings
from cache_proxy.settings.sections import CacheParams, LiteLLMSettings

Kind = Literal["disk", "redis", "memory"]

TYPES: Mapping[str, Kind] = {"disk": "disk", "local": "memory", "memory": "memory", "redis": "redis"}
PARAMS = "litellm_settings.cache_params"

_KEYS_OF: Mapping[str, frozenset[str]] = {
    "disk": frozenset({"disk_cache_dir"}),
    "memory": frozenset({"default_in_memory_ttl"}),
    "redis": redis.KEYS,
}
_EMBEDDING_CALLS = frozenset({"embedding", "aembedding"})
_RERANK_CALLS = frozenset({"rerank", "arerank"})
_CACHED_CALLS = _EMBEDDING_CALLS | _RERANK_CALLS


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What is cached and where. ``ttl`` is seconds, ``None`` for no expiry."""

    enabled: bool
    kind: str
    """``disk``, ``redis``, ``memory``, or the name of a plugin."""
    directory: Path
    """Of the disk store; a place of the user's own where none is configured."""
    chosen: bool = True
    """Whether the file or the environment says where. Otherwise it is that place of the user's own."""
    redis: RedisSettings | None = None
    plugin: Plugin | None = None
    """A backend of others, where ``kind`` is its name."""
    ttl: float | None = None
    namespace: str = ""
    default_off: bool = False
    embeddings: bool = True
    rerank: bool = True


def build(
    section: LiteLLMSettings, environ: Mapping[str, str], notes: Notes, plugin: Plugin | None = None
) -> CacheSettings:
    """The cache of this configuration, in ``plugin`` where its type names one. Raises ``ConfigError``."""
    params = section.cache_params or CacheParams.model_validate({})
    if section.cache is False:
        return CacheSettings(enabled=False, kind="disk", directory=_directory(None, environ))
    kind = plugin.name if plugin is not None else _kind(section, params, environ, notes)
    _note_other_kinds(kind, params, notes)
    namespace = (redis.chosen("namespace", params, environ) if kind == "redis" else params.namespace) or ""
    calls = params.supported_call_types
    if calls is not None and _CACHED_CALLS.isdisjoint(calls):
        notes.add(f"{PARAMS}.supported_call_types names neither embedding nor rerank, so nothing is cached")
    return CacheSettings(
        enabled=True,
        kind=kind,
        directory=_directory(params.disk_cache_dir, environ),
        chosen=kind != "disk" or bool(params.type or params.disk_cache_dir or environ.get("CACHE_PROXY_DIR")),
        redis=redis.build(params, environ, namespace, notes) if kind == "redis" else None,
        plugin=plugin,
        ttl=_ttl(kind, params),
        namespace=namespace,
        default_off=params.mode == "default_off",
        embeddings=calls is None or not _EMBEDDING_CALLS.isdisjoint(calls),
        rerank=calls is None or not _RERANK_CALLS.isdisjoint(calls),
    )


def of_the_app(cache: CacheSettings) -> CacheSettings:
    """The cache of ``upstream="app"`` where nothing says which app it is: nowhere that another app could find it, for
    its models may have the same names. Raises ``ConfigError`` where a store was chosen that others may have, too.
    """
    if not cache.enabled or cache.kind == "memory" or cache.namespace:
        return cache
    if cache.chosen:
        raise ConfigError(
            f'with upstream="app" a store that other apps can reach needs to know which app this is: set {PARAMS}.'
            "namespace, or model_info.identity of each entry for the app (`*` for all of its models); or keep answers "
            f"in this process, with {PARAMS}.type: local"
        )
    return replace(cache, kind="memory")


def _kind(section: LiteLLMSettings, params: CacheParams, environ: Mapping[str, str], notes: Notes) -> Kind:
    if params.type is not None:
        return _known(params.type)
    if params.disk_cache_dir:
        return "disk"
    if redis.is_named(params) or environ.get("REDIS_URL") or (section.cache and redis.is_in(environ)):
        return "redis"
    if section.cache:
        notes.add("litellm_settings.cache: neither REDIS_URL nor REDIS_HOST is set, so answers are kept without Redis")
    return "disk"


def _known(word: str) -> Kind:
    kind = TYPES.get(word)
    if kind is not None:
        return kind
    known = f"{PARAMS}.type: expected one of disk, local, redis"
    if others := installed():
        known += f", or of the installed backends {', '.join(others)}"
    if word.endswith("-semantic"):
        raise ConfigError(f"{known}; a semantic cache answers with what was stored for a similar text: a wrong vector")
    raise ConfigError(known)


def _note_other_kinds(kind: str, params: CacheParams, notes: Notes) -> None:
    others = frozenset[str]().union(*_KEYS_OF.values()) - _KEYS_OF.get(kind, frozenset())
    for key in CacheParams.model_fields:
        if key in others & params.model_fields_set:
            notes.add(f"{PARAMS}.{key} is not acted on here")


def _ttl(kind: str, params: CacheParams) -> float | None:
    own = {"redis": params.default_in_redis_ttl, "memory": params.default_in_memory_ttl}.get(kind)
    return params.ttl if own is None else own


def _directory(given: str | None, environ: Mapping[str, str]) -> Path:
    chosen = given or environ.get("CACHE_PROXY_DIR")
    if not chosen:
        home = environ.get("XDG_CACHE_HOME") or "~/.cache"
        chosen = f"{home}/cache-proxy"
    if chosen.startswith("~/") and environ.get("HOME"):
        return Path(environ["HOME"]) / chosen[2:]
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise ConfigError("no home directory was found to keep the cache in; set CACHE_PROXY_DIR") from None
