"""How a connection to a server is made, whatever kind of Redis the server is part of."""

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import redis
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cache_proxy.errors import ConfigError

_CERT_REQS = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS, with redis-py's ``ssl_`` arguments. With ``ca_certs`` or ``ca_data`` these alone are trusted."""

    ca_certs: str | None = None
    ca_data: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = field(default=None, repr=False)
    """Of the keyfile."""
    cert_reqs: str = "required"
    """``required``, ``optional`` or ``none``."""
    check_hostname: bool = True
    ciphers: str | None = None

    def context(self) -> ssl.SSLContext:
        """What all connections share; reads the files. Raises ``ConfigError``, which names the argument."""
        with _at_fault("ssl_ca_certs or ssl_ca_data"):
            context = ssl.create_default_context(cafile=self.ca_certs, cadata=self.ca_data)
        context.check_hostname = self.check_hostname and self.cert_reqs != "none"
        context.verify_mode = _CERT_REQS[self.cert_reqs]
        if self.certfile is not None:
            with _at_fault("ssl_certfile, ssl_keyfile or ssl_password"):
                # Never None: OpenSSL would ask for the password at the terminal.
                context.load_cert_chain(self.certfile, self.keyfile, self.password or "")
        if self.ciphers is not None:
            with _at_fault("ssl_ciphers"):
                context.set_ciphers(self.ciphers)
        return context


@contextmanager
def _at_fault(argument: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # SSLError is an OSError
        said = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
        raise ConfigError(f"{argument} of Redis can not be used ({said}); correct it, or take it out") from None


@dataclass(frozen=True, slots=True)
class Access:
    """What all connections of a store have in common.

    ``timeout`` seconds bound one reply, and the wait for one of ``max_connections`` to a server. It is made for
    writes: a look-up gets its own, shorter deadline from the guard.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    db: int = 0
    tls: Tls | None = None
    """``None`` for a plain connection."""
    client_name: str | None = None
    max_connections: int = 64
    timeout: float = 5.0
    connect_timeout: float = 1.0
    keepalive: bool = True
    health_check_interval: float = 0.0

    def options(self) -> dict[str, Any]:
        """Arguments of a pool that serves one server over TCP. Raises ``ConfigError``."""
        common = _common(self) | {"socket_keepalive": self.keepalive}
        if self.tls is None:
            return common
        return common | {"connection_class": TlsConnection, "tls": self.tls.context()}

    def client(self, host: str, port: int) -> Redis:
        """A client of one server. Raises ``ConfigError``."""
        return client(self.options(), host, port)

    def client_on_socket(self, path: str) -> Redis:
        """A client of the server at this Unix socket."""
        pool = Pool(connection_class=UnixDomainSocketConnection, path=path, **_common(self))
        return Redis.from_pool(pool)


def client(options: Mapping[str, Any], host: str, port: int) -> Redis:
    """A client of one server, of which nothing is reached yet."""
    return Redis.from_pool(Pool(host=host, port=port, **options))


class Pool(BlockingConnectionPool):
    """A pool whose end reaches what is under way: a call that is cut off by it connects once more, which redis-py's own
    pool would keep for good.
    """

    _closed = False

    async def aclose(self) -> None:
        self._closed = True
        await super().aclose()

    async def release(self, connection: AbstractConnection) -> None:
        await super().release(connection)
        if self._closed:
            await connection.disconnect()


def _common(access: Access) -> dict[str, Any]:
    return {
        "username": access.username,
        "password": access.password,
        "db": access.db,
        "client_name": access.client_name,
        "max_connections": access.max_connections,
        "timeout": access.timeout,
        "socket_timeout": access.timeout,
        "socket_connect_timeout": access.connect_timeout,
        "health_check_interval": access.health_check_interval,
        # Once, for a connection the server closed while it lay idle; a time-out is not worth a second wait.
        "retry": Retry(NoBackoff(), 1, (redis.ConnectionError,)),
        "decode_responses": False,
        # Nothing here needs RESP3, and without HELLO and SETINFO a connection is up two round trips earlier.
        "protocol": 2,
        "driver_info": None,
    }


class TlsConnection(Connection):
    """A connection over TLS by a context that all of a pool share.

    redis-py's own makes a context for each connection, and reads every trusted certificate of the machine again:
    some 25 ms in which the event loop stands still.
    """

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "ssl": self._tls}


_SCHEMES = {"valkey": "redis", "valkeys": "rediss"}
_OF_ACCESS = {
    "username": "username", "password": "password", "db": "db", "client_name": "client_name",
    "max_connections": "max_connections", "socket_timeout": "timeout", "socket_connect_timeout": "connect_timeout",
    "socket_keepalive": "keepalive", "health_check_interval": "health_check_interval",
}  # fmt: skip
_OF_TLS = {
    "ssl_ca_certs": "ca_certs", "ssl_ca_data": "ca_data", "ssl_certfile": "certfile", "ssl_keyfile": "keyfile",
    "ssl_password": "password", "ssl_cert_reqs": "cert_reqs", "ssl_check_hostname": "check_hostname",
    "ssl_ciphers": "ciphers",
}  # fmt: skip


def read_url(url: str, access: Access) -> tuple[Access, Mapping[str, Any]]:
    """``access`` with what the URL says besides, and where it leads: ``{"host", "port"}`` or ``{"path"}``.

    Options of the URL that mean nothing here are left out. Raises ``ConfigError``.
    """
    scheme, colon, rest = url.partition(":")
    try:
        told: dict[str, Any] = dict(parse_url(_SCHEMES.get(scheme, scheme) + colon + rest))
        access = replace(access, **{_OF_ACCESS[name]: told[name] for name in _OF_ACCESS.keys() & told.keys()})
    except (ValueError, TypeError):
        # Nothing of the URL is repeated: it may hold a password.
        raise ConfigError("the Redis URL must be redis://, rediss:// or unix:// and well-formed") from None
    kind = told.get("connection_class")
    if kind is UnixDomainSocketConnection:
        return replace(access, tls=None), {"path": told.get("path", "")}
    tls = None
    if kind is SSLConnection:
        given = {_OF_TLS[name]: told[name] for name in _OF_TLS.keys() & told.keys()}
        tls = _checked(replace(access.tls or Tls(), **given))
    return replace(access, tls=tls), {"host": told.get("host", "localhost"), "port": told.get("port", 6379)}


def _checked(tls: Tls) -> Tls:
    if tls.cert_reqs not in _CERT_REQS:
        raise ConfigError(f"ssl_cert_reqs of the Redis URL must be one of {', '.join(_CERT_REQS)}")
    return tls
