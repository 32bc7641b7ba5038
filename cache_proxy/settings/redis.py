"""How Redis is reached: ``cache_params`` and the ``REDIS_`` variables, normalised.

There are five ways: a URL, a Unix socket, a Cluster, Sentinels, or a host. The file's comes before the environment's.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr, ValidationError

from cache_proxy.errors import ConfigError
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.sections import CacheParams, Node

PARAMS = "litellm_settings.cache_params"

Way = Literal["url", "unix_socket_path", "cluster", "sentinel_nodes", "host"]

_PLACES: Mapping[Way, Sequence[str]] = {
    "url": ("url", "redis_url"),
    "unix_socket_path": ("unix_socket_path",),
    "cluster": ("redis_startup_nodes", "startup_nodes"),
    "sentinel_nodes": ("sentinel_nodes",),
    "host": ("host",),
}
"""The keys of each way. The last way yields to any other, as at LiteLLM."""

_AT_LITELLM: Sequence[Way] = ("url", "cluster", "sentinel_nodes", "unix_socket_path", "host")
"""Which way wins there, wherever it is said. Here what the file says comes before the environment."""

VARIABLES: Mapping[str, str] = {"redis_startup_nodes": "REDIS_CLUSTER_NODES"}
"""The variables that are not REDIS_ and the key's name."""

_TLS = ("ssl_ca_certs", "ssl_ca_data", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs",
        "ssl_check_hostname", "ssl_ciphers")  # fmt: skip
_LOGIN = ("username", "password", "db")
_SENTINEL = ("service_name", "sentinel_username", "sentinel_password")
_CONNECTION = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "health_check_interval",
               "max_connections", "client_name")  # fmt: skip
_OF_THE_WAY: Mapping[Way, Sequence[str]] = {
    "url": ("ssl", *_TLS),
    "unix_socket_path": _LOGIN,
    "cluster": (*_LOGIN, "ssl", *_TLS),
    "sentinel_nodes": (*_LOGIN, *_SENTINEL, "ssl", *_TLS),
    "host": ("port", *_LOGIN, "ssl", *_TLS),
}
"""What is acted on with each way, beside what belongs to every connection."""

KEYS = frozenset(
    {*(key for keys in _PLACES.values() for key in keys), "port", *_LOGIN, *_SENTINEL, "ssl", *_TLS, *_CONNECTION,
     "default_in_redis_ttl"}
)  # fmt: skip
"""The keys of ``cache_params`` that are Redis's alone."""

_NULL_IS_NONE: Sequence[Way] = ("host", "cluster")
"""The ways with which LiteLLM hands a null of ssl_cert_reqs on to redis-py, to which it means that none is required."""

_SCHEMES: Mapping[str, bool] = {"redis": False, "rediss": True, "unix": False, "valkey": False, "valkeys": True}
"""Whether a URL of this scheme means TLS."""
_OPTIONS = frozenset({"db", *_TLS, *_CONNECTION, "username", "password"})
_ORDINARY = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """How servers are checked, and what is shown to them."""

    ca_certs: str | None = None
    ca_data: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: SecretStr | None = None
    cert_reqs: str = "required"
    check_hostname: bool = True
    ciphers: str | None = None


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """How to reach Redis: by ``url``, ``unix_socket_path``, ``cluster`` or ``sentinel_nodes``, else at ``host``."""

    url: SecretStr | None = None
    unix_socket_path: str | None = None
    cluster: tuple[Node, ...] = ()
    """Servers to learn the others from."""
    sentinel_nodes: tuple[Node, ...] = ()
    service_name: str = ""
    """The primary that the Sentinels watch."""
    sentinel_username: str | None = None
    sentinel_password: SecretStr | None = None
    host: str = "127.0.0.1"
    port: int = 6379
    username: str | None = None
    password: SecretStr | None = None
    db: int = 0
    ssl: bool = False
    tls: TlsSettings = TlsSettings()
    max_connections: int = 64
    """To each server."""
    socket_timeout: float = 5.0
    socket_connect_timeout: float = 1.0
    socket_keepalive: bool = True
    health_check_interval: float = 0.0
    client_name: str | None = None


def build(params: CacheParams, environ: Mapping[str, str], namespace: str, notes: Notes) -> RedisSettings:
    """How Redis is reached. Raises ``ConfigError``."""
    way, where, value = _way(params, environ, notes)
    found = {key: chosen(key, params, environ) for key in (*_OF_THE_WAY[way], *_CONNECTION)}
    secure = _is_secure(way, where, value, ssl=found.pop("ssl", None))
    tls = {key.removeprefix("ssl_"): found.pop(key, None) for key in _TLS}
    if way in _NULL_IS_NONE and params.ssl_cert_reqs is None and "ssl_cert_reqs" in params.model_fields_set:
        tls["cert_reqs"] = "none"
    if tls["keyfile"] and not tls["certfile"]:
        raise ConfigError(f"{PARAMS}.ssl_keyfile needs ssl_certfile; write it, or take ssl_keyfile out")
    if secure and tls["cert_reqs"] == "none":
        notes.add(f"{PARAMS}.ssl_cert_reqs is none: whoever stands between can read and change what is stored")
    _note_idle(way, where, params, notes, secure=secure)
    if way == "cluster":
        _check_cluster(found.pop("db"), params, namespace)
    if way == "sentinel_nodes":
        _complete_sentinel(found, where)
    return RedisSettings(**{way: value}, ssl=secure, tls=TlsSettings(**_present(tls)), **_present(found))


def _present(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if value is not None}


def is_named(params: CacheParams) -> bool:
    """Whether the file says how Redis is reached."""
    return any(getattr(params, key) for keys in _PLACES.values() for key in keys)


def is_in(environ: Mapping[str, str]) -> bool:
    """Whether the environment says how Redis is reached."""
    return any(environ.get(variable(keys[0])) for keys in _PLACES.values())


def variable(key: str) -> str:
    """The variable that stands for this key where the file has none."""
    return VARIABLES.get(key, f"REDIS_{key.upper()}")


def chosen(key: str, params: CacheParams, environ: Mapping[str, str]) -> Any:
    """This key of the file, else its variable, held to the same rules. Raises ``ConfigError``."""
    name = variable(key)
    if getattr(params, key) is not None or not environ.get(name):
        return getattr(params, key)
    try:
        return getattr(CacheParams.model_validate({key: environ[name]}), key)
    except ValidationError:
        pass
    raise ConfigError(f"{name} is not what {PARAMS}.{key} may be; correct it, or unset it")


def _way(params: CacheParams, environ: Mapping[str, str], notes: Notes) -> tuple[Way, str, Any]:
    """The way, the key or variable that says so, and what it says."""
    in_file = [(way, f"{PARAMS}.{key}", key) for way, keys in _PLACES.items() for key in keys if getattr(params, key)]
    around = [(way, variable(keys[0]), keys[0]) for way, keys in _PLACES.items() if environ.get(variable(keys[0]))]
    if not in_file and not around:
        raise ConfigError(f"{PARAMS}: redis needs a host or url; write one there, or set REDIS_HOST or REDIS_URL")
    way, where, key = _only(in_file or around)
    if in_file:
        stronger = _AT_LITELLM[: _AT_LITELLM.index(way)]
        for name in (name for other, name, _ in around if other in stronger):
            notes.add(f"{name} is not acted on here: {where} says where Redis is")
    value = chosen(key, params, environ)
    if not value:
        raise ConfigError(f"{where} names no server; write one, or unset it")
    if way == "url":
        value = _url(value.get_secret_value(), where, notes)
    return way, where, value


def _only(found: Sequence[tuple[Way, str, str]]) -> tuple[Way, str, str]:
    first, *more = found
    rival = next((where for way, where, _ in more if way not in (first[0], "host")), None)
    if rival is not None:
        raise ConfigError(f"{first[1]} and {rival} are two ways to reach Redis; take one out")
    return first


def _url(text: str, where: str, notes: Notes) -> SecretStr:
    try:
        parts = urlsplit(text.strip())
        scheme, there = parts.scheme, bool(parts.path if parts.scheme == "unix" else parts.hostname)
        _ = parts.port
    except ValueError:
        scheme, there = "", False
    if scheme not in _SCHEMES or not there:
        raise ConfigError(f"{where}: expected redis://host:port/db, rediss:// (TLS) or unix:///path; correct it")
    for name, _ in parse_qsl(parts.query):
        if name not in _OPTIONS:
            shown = f"its option {name}" if _ORDINARY.fullmatch(name) else "one of its options"
            notes.add(f"{where}: {shown} is not acted on here")
    return SecretStr(text.strip())


def _is_secure(way: Way, where: str, value: Any, *, ssl: bool | None) -> bool:
    if way != "url":
        return bool(ssl)
    scheme = urlsplit(value.get_secret_value()).scheme
    if ssl and where.startswith(PARAMS) and scheme in ("redis", "valkey"):
        raise ConfigError(f"{where} is {scheme}:// while ssl is true; write {scheme}s://")
    return _SCHEMES[scheme]


def _note_idle(way: Way, where: str, params: CacheParams, notes: Notes, *, secure: bool) -> None:
    """Name the keys of the file that this way to reach Redis has no use for."""
    used = {*_OF_THE_WAY[way], *_CONNECTION, "default_in_redis_ttl", where.removeprefix(f"{PARAMS}.")}
    for key in CacheParams.model_fields:
        if key not in KEYS & params.model_fields_set or getattr(params, key) == ():
            continue
        if key not in used:
            notes.add(f"{PARAMS}.{key} is not acted on here")
        elif key in _TLS and not secure:
            notes.add(f"{PARAMS}.{key} is not acted on here: the connection is without TLS")


def _check_cluster(db: int | None, params: CacheParams, namespace: str) -> None:
    if db:
        where = variable("db") if params.db is None else f"{PARAMS}.db"
        raise ConfigError(f"{where}: a Redis Cluster has database 0 only; take it out")
    if "{" in namespace:
        raise ConfigError(f"{PARAMS}.namespace: a {{ in it would put all keys of a Cluster into one slot; leave it out")


def _complete_sentinel(found: dict[str, Any], where: str) -> None:
    if not found["service_name"]:
        raise ConfigError(
            f"{where} needs service_name, the primary that they watch; write it, or set REDIS_SERVICE_NAME"
        )
    if found["password"] is None:
        # As at LiteLLM. An empty password says that the primary has none.
        found["password"] = found["sentinel_password"]
