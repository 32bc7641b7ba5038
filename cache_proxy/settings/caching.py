"""Where answers are kept: ``litellm_settings.cache`` and ``cache_params``, normalised."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr, ValidationError

from cache_proxy.errors import ConfigError
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.sections import CacheParams, LiteLLMSettings

Kind = Literal["disk", "redis", "memory"]

TYPES: Mapping[str, Kind] = {"disk": "disk", "local": "memory", "memory": "memory", "redis": "redis"}
PARAMS = "litellm_settings.cache_params"

_REDIS_KEYS = frozenset(
    {
        "url", "redis_url", "host", "port", "username", "password", "db", "ssl", "max_connections", "socket_timeout",
        "default_in_redis_ttl",
    }
)  # fmt: skip
_KEYS_OF: Mapping[Kind, frozenset[str]] = {
    "disk": frozenset({"disk_cache_dir"}),
    "memory": frozenset({"default_in_memory_ttl"}),
    "redis": _REDIS_KEYS,
}
_EMBEDDING_CALLS = frozenset({"embedding", "aembedding"})
_RERANK_CALLS = frozenset({"rerank", "arerank"})
_CACHED_CALLS = _EMBEDDING_CALLS | _RERANK_CALLS
_SEVERAL_NODES = ("redis_startup_nodes", "startup_nodes", "sentinel_nodes", "service_name")
_SEVERAL_VARIABLES = ("REDIS_CLUSTER_NODES", "REDIS_SENTINEL_NODES")


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How to reach Redis: by ``url``, or by the other fields where that is ``None``."""

    url: SecretStr | None = None
    host: str = "127.0.0.1"
    port: int = 6379
    username: str | None = None
    password: SecretStr | None = None
    db: int = 0
    ssl: bool = False
    max_connections: int = 64
    socket_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What is cached and where. ``ttl`` is seconds, ``None`` for no expiry."""

    enabled: bool
    kind: Kind
    directory: Path
    """Of the disk store; a place of the user's own where none is configured."""
    redis: RedisSettings | None = None
    ttl: float | None = None
    namespace: str = ""
    default_off: bool = False
    embeddings: bool = True
    rerank: bool = True


def refuse_several_nodes(params: object) -> None:
    """Refuse a Redis of several nodes: to take one of them for the whole would lose answers on a failover."""
    if not isinstance(params, Mapping) or TYPES.get(str(params.get("type")), "redis") != "redis":
        return
    named = [key for key in _SEVERAL_NODES if params.get(key)]
    if named:
        raise ConfigError(f"{PARAMS}.{named[0]}: Cluster and Sentinel are not served yet; give host and port, or url")


def build(section: LiteLLMSettings, environ: Mapping[str, str], notes: Notes) -> CacheSettings:
    """The cache of this configuration. Raises ``ConfigError``."""
    params = section.cache_params or CacheParams.model_validate({})
    if section.cache is False:
        return CacheSettings(enabled=False, kind="disk", directory=_directory(None, environ))
    kind = _kind(section, params, environ, notes)
    _note_other_kinds(kind, params, notes)
    calls = params.supported_call_types
    if calls is not None and _CACHED_CALLS.isdisjoint(calls):
        notes.add(f"{PARAMS}.supported_call_types names neither embedding nor rerank, so nothing is cached")
    return CacheSettings(
        enabled=True,
        kind=kind,
        directory=_directory(params.disk_cache_dir, environ),
        redis=_redis(params, environ) if kind == "redis" else None,
        ttl=_ttl(kind, params),
        namespace=(_chosen("namespace", params, environ) if kind == "redis" else params.namespace) or "",
        default_off=params.mode == "default_off",
        embeddings=calls is None or not _EMBEDDING_CALLS.isdisjoint(calls),
        rerank=calls is None or not _RERANK_CALLS.isdisjoint(calls),
    )


def _kind(section: LiteLLMSettings, params: CacheParams, environ: Mapping[str, str], notes: Notes) -> Kind:
    if params.type is not None:
        return _known(params.type)
    if params.disk_cache_dir:
        return "disk"
    if params.url or params.redis_url or params.host or environ.get("REDIS_URL"):
        return "redis"
    if section.cache and environ.get("REDIS_HOST"):
        return "redis"
    if section.cache and not params.model_fields_set:
        notes.add("litellm_settings.cache: neither REDIS_URL nor REDIS_HOST is set, so answers are kept on disk")
    return "disk"


def _known(word: str) -> Kind:
    kind = TYPES.get(word)
    if kind is not None:
        return kind
    known = f"{PARAMS}.type: expected one of disk, local, redis"
    if word.endswith("-semantic"):
        raise ConfigError(f"{known}; a semantic cache answers with what was stored for a similar text: a wrong vector")
    raise ConfigError(known)


def _note_other_kinds(kind: Kind, params: CacheParams, notes: Notes) -> None:
    others = frozenset[str]().union(*_KEYS_OF.values()) - _KEYS_OF[kind]
    if kind == "redis" and (params.url or params.redis_url):
        others |= {"host", "port", "username", "password", "db"}
    for key in CacheParams.model_fields:
        if key in others & params.model_fields_set:
            notes.add(f"{PARAMS}.{key} is not acted on here")


def _ttl(kind: Kind, params: CacheParams) -> float | None:
    own = {"redis": params.default_in_redis_ttl, "memory": params.default_in_memory_ttl, "disk": None}[kind]
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


def _redis(params: CacheParams, environ: Mapping[str, str]) -> RedisSettings:
    limits = {"max_connections": params.max_connections, "socket_timeout": params.socket_timeout}
    pool: dict[str, Any] = {key: value for key, value in limits.items() if value is not None}
    given = params.url or params.redis_url
    if given is not None:
        where = f"{PARAMS}.{'url' if params.url else 'redis_url'}"
        return RedisSettings(url=_redis_url(given.get_secret_value(), where, ssl=bool(params.ssl)), **pool)
    if params.host is None and environ.get("REDIS_URL"):
        return RedisSettings(url=_redis_url(environ["REDIS_URL"], "REDIS_URL", ssl=bool(params.ssl)), **pool)
    return _redis_by_fields(params, environ, pool)


def _redis_by_fields(params: CacheParams, environ: Mapping[str, str], pool: dict[str, Any]) -> RedisSettings:
    host = params.host or environ.get("REDIS_HOST")
    if not host:
        named = next((name for name in _SEVERAL_VARIABLES if environ.get(name)), None)
        if named:
            raise ConfigError(f"{named}: Cluster and Sentinel are not served yet; set REDIS_URL, or REDIS_HOST")
        raise ConfigError(f"{PARAMS}: redis needs a host or url; write one there, or set REDIS_HOST or REDIS_URL")
    chosen = {key: _chosen(key, params, environ) for key in ("port", "username", "password", "db", "ssl")}
    return RedisSettings(host=host, **{key: value for key, value in chosen.items() if value is not None}, **pool)


def _chosen(key: str, params: CacheParams, environ: Mapping[str, str]) -> Any:
    """This key of the file, else its variable, held to the same rules."""
    name = f"REDIS_{key.upper()}"
    if getattr(params, key) is not None or not environ.get(name):
        return getattr(params, key)
    try:
        return getattr(CacheParams.model_validate({key: environ[name]}), key)
    except ValidationError:
        pass
    raise ConfigError(f"{name} is no {key} of a Redis server; correct it, or unset it")


def _redis_url(text: str, where: str, *, ssl: bool) -> SecretStr:
    try:
        parts = urlsplit(text.strip())
        scheme, there = parts.scheme, bool(parts.path if parts.scheme == "unix" else parts.hostname)
        _ = parts.port
    except ValueError:
        scheme, there = "", False
    if scheme not in {"redis", "rediss", "unix"} or not there:
        raise ConfigError(f"{where}: expected redis://host:port/db, rediss:// (TLS) or unix:///path; correct it")
    if ssl and scheme == "redis":
        raise ConfigError(f"{where} is redis:// while ssl is true; write rediss://")
    return SecretStr(text.strip())
