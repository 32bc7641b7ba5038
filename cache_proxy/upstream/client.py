"""The one door to httpx: a POST, an answer's bytes, and every foreign error translated.

What each failure says about money: before the body is on its way nothing can have been billed; after that, without an
answer, nobody knows.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import orjson

from cache_proxy.errors import UpstreamError, UpstreamLost, UpstreamNonsense
from cache_proxy.models import Deployment, Endpoint, Json
from cache_proxy.upstream.outcome import OK, Body, broken_off, outcome, too_late

_CONNECT_TIMEOUT = 10.0
_IDLE_LIMIT = 55.0

_Trusted = tuple[asyncio.AbstractEventLoop, bool | str]

_BEFORE_SENDING: tuple[type[httpx.HTTPError], ...] = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


class Clients:
    """Makes clients. Those of one event loop share their connections where they trust the same certificates: a client
    for one caller's key, or with a time-out of its own, costs next to nothing.
    """

    def __init__(self, *, transport: httpx.AsyncBaseTransport | None = None, trust_env: bool = False) -> None:
        """``trust_env`` lets ``HTTPS_PROXY`` and the like route the calls, and with them the key."""
        self._transport = transport
        self._trust_env = trust_env
        self._pools: dict[_Trusted, _Pool] = {}

    def __call__(self, deployment: Deployment) -> "Client":
        """The way to this deployment, from the running loop."""
        # Redirects are not followed, so a plain URL never needs certificates, which take long to load.
        trusted = deployment.base_url.startswith("https:") and deployment.verify
        key = (asyncio.get_running_loop(), trusted)
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = _Pool(self._open(trusted), lambda: self._pools.pop(key, None))
        return Client(deployment, pool)

    def _open(self, trusted: bool | str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_IDLE_LIMIT),
            # A cookie would go from one caller's answer into another's call.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            follow_redirects=False,
            trust_env=self._trust_env,
            verify=False if trusted is False else _certificates(trusted),
            transport=self._transport,
        )


class _Pool:
    """Connections, open for as long as a client uses them."""

    def __init__(self, http: httpx.AsyncClient, forget: Callable[[], object]) -> None:
        self.http = http
        self._forget = forget
        self._users = 0

    def enter(self) -> None:
        self._users += 1

    async def leave(self) -> None:
        self._users -= 1
        if not self._users:
            # First: whoever comes from now on must not find it.
            self._forget()
            await self.http.aclose()


class Client:
    """Talks to one deployment. Not safe to cancel in mid-call: run calls in tasks of their own (``flights``)."""

    def __init__(self, deployment: Deployment, pool: _Pool) -> None:
        self._base = deployment.base_url
        self._patience = deployment.timeout
        self._timeout = httpx.Timeout(deployment.timeout, connect=min(_CONNECT_TIMEOUT, deployment.timeout))
        self._headers = httpx.Headers(_headers(deployment))
        self._pool: _Pool | None = pool
        self._http = pool.http
        pool.enter()

    async def post(self, endpoint: Endpoint, body: Mapping[str, Json]) -> bytes:
        """The body of a 200. Raises ``UpstreamError`` of the kind that fits anything else."""
        try:
            async with asyncio.timeout(self._patience):
                return await self._post(f"{self._base}/{endpoint.value}", orjson.dumps(body))
        except TimeoutError:
            raise too_late(self._patience) from None
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            raise translate(error) from None

    async def _post(self, url: str, content: bytes) -> bytes:
        call = self._http.stream("POST", url, content=content, headers=self._headers, timeout=self._timeout)
        async with call as response:
            answer = await self._answer(response)
        return outcome(response.status_code, response.headers, answer)

    @staticmethod
    async def _answer(response: httpx.Response) -> bytes:
        """The body. A 200 was billed: one that breaks off is an answer that makes no sense, and never asked again."""
        try:
            return await _read(response)
        except (httpx.HTTPError, asyncio.CancelledError):
            # Cancelled means here: by the time-out of the whole call, for calls are never cancelled from outside.
            if response.status_code == OK:
                raise broken_off() from None
            raise

    async def close(self) -> None:
        """Let go of the connections. Safe to call twice."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.leave()


@cache
def _certificates(trusted: str | bool) -> ssl.SSLContext:
    return httpx.create_ssl_context() if trusted is True else ssl.create_default_context(cafile=str(trusted))


def _headers(deployment: Deployment) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept": "application/json",
        "accept-encoding": "gzip",
        "user-agent": "cache-proxy",
    }
    if deployment.api_key:
        headers["authorization"] = f"Bearer {deployment.api_key}"
    return headers | {name.lower(): value for name, value in deployment.headers.items()}


async def _read(response: httpx.Response) -> bytes:
    body = Body()
    async for part in response.aiter_bytes():
        body.add(part)
    return body.whole()


def translate(error: Exception) -> UpstreamError:
    """Our error for one of httpx's. Its own message may hold a URL with a secret, so only its name is kept."""
    name = type(error).__name__
    if isinstance(error, httpx.DecodingError):
        return UpstreamNonsense("the upstream's answer could not be decompressed")
    before = isinstance(error, (*_BEFORE_SENDING, httpx.InvalidURL))
    timed_out = isinstance(error, httpx.TimeoutException)
    told = "could not be reached" if before else "was lost before it answered"
    return UpstreamLost(f"the upstream {told} ({name})", outcome_unknown=not before, timed_out=timed_out)
