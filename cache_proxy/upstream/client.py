"""The one door to httpx: a POST, an answer's bytes, and every foreign error translated.

What each failure says about money: before the body is on its way nothing can have been billed; after that, without an
answer, nobody knows.
"""

import asyncio
import ssl
from collections.abc import Mapping
from functools import cache

import httpx
import orjson

from cache_proxy.errors import UpstreamError, UpstreamLost, UpstreamNonsense
from cache_proxy.models import Deployment, Endpoint, Json
from cache_proxy.upstream.outcome import OK, Body, broken_off, outcome, too_late

_CONNECT_TIMEOUT = 10.0
_IDLE_LIMIT = 55.0

_BEFORE_SENDING: tuple[type[httpx.HTTPError], ...] = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


class Client:
    """Talks to one deployment. Not safe to cancel in mid-call: run calls in tasks of their own (``flights``)."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        trust_env: bool = False,
    ) -> None:
        """``trust_env`` lets ``HTTPS_PROXY`` and the like route the calls, and with them the key."""
        self._base = deployment.base_url
        self._timeout = deployment.timeout
        self._http = httpx.AsyncClient(
            headers=_headers(deployment),
            timeout=httpx.Timeout(deployment.timeout, connect=min(_CONNECT_TIMEOUT, deployment.timeout)),
            limits=httpx.Limits(max_connections=None, keepalive_expiry=_IDLE_LIMIT),
            follow_redirects=False,
            trust_env=trust_env,
            verify=_trust(deployment),
            transport=transport,
        )

    async def post(self, endpoint: Endpoint, body: Mapping[str, Json]) -> bytes:
        """The body of a 200. Raises ``UpstreamError`` of the kind that fits anything else."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._post(f"{self._base}/{endpoint.value}", orjson.dumps(body))
        except TimeoutError:
            raise too_late(self._timeout) from None
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as error:
            raise translate(error) from None

    async def _post(self, url: str, content: bytes) -> bytes:
        async with self._http.stream("POST", url, content=content) as response:
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
        """Let go of the connections."""
        await self._http.aclose()


def _trust(deployment: Deployment) -> ssl.SSLContext | bool:
    # Redirects are not followed, so a plain URL never needs certificates, which take long to load.
    if deployment.verify is False or not deployment.base_url.startswith("https:"):
        return False
    return _certificates(deployment.verify)


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
