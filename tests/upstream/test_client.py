"""The door to httpx: what comes back, what each failure says about money, and that nothing leaks."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

import httpx
import orjson
import pytest

from cache_proxy.errors import UpstreamError, UpstreamLost, UpstreamNonsense, UpstreamRefused
from cache_proxy.models import Deployment, Endpoint
from cache_proxy.serving import hosted
from cache_proxy.standin import Fault, StandIn
from cache_proxy.upstream import outcome
from cache_proxy.upstream.client import Clients, translate

pytestmark = pytest.mark.anyio

SECRET = "jina_hunter2"
BODY = {"model": "jina-embeddings-v3", "input": ["a text of somebody's"]}

Handler = Callable[[httpx.Request], Coroutine[None, None, httpx.Response]]

OUTCOMES: dict[type[Exception], tuple[type[UpstreamError], bool, bool]] = {
    # What it becomes, whether the upstream may have billed the call, whether it was a time-out.
    httpx.ConnectTimeout: (UpstreamLost, False, True),
    httpx.PoolTimeout: (UpstreamLost, False, True),
    httpx.ReadTimeout: (UpstreamLost, True, True),
    httpx.WriteTimeout: (UpstreamLost, True, True),
    httpx.ConnectError: (UpstreamLost, False, False),
    httpx.ReadError: (UpstreamLost, True, False),
    httpx.WriteError: (UpstreamLost, True, False),
    httpx.CloseError: (UpstreamLost, True, False),
    httpx.LocalProtocolError: (UpstreamLost, False, False),
    httpx.RemoteProtocolError: (UpstreamLost, True, False),
    httpx.ProxyError: (UpstreamLost, False, False),
    httpx.UnsupportedProtocol: (UpstreamLost, False, False),
    httpx.DecodingError: (UpstreamNonsense, True, False),
    httpx.TooManyRedirects: (UpstreamLost, True, False),
    httpx.HTTPStatusError: (UpstreamLost, True, False),
    httpx.InvalidURL: (UpstreamLost, False, False),
    httpx.StreamConsumed: (UpstreamLost, True, False),
    httpx.StreamClosed: (UpstreamLost, True, False),
    httpx.ResponseNotRead: (UpstreamLost, True, False),
    httpx.RequestNotRead: (UpstreamLost, True, False),
}

NEVER_RAISED_HERE = {httpx.CookieConflict}
"""About looking up a cookie by name, which nobody here does."""


def made(kind: type[Exception]) -> Exception:
    """An exception of httpx's, with a secret in everything it can hold."""
    request = httpx.Request("POST", f"http://user:{SECRET}@jina.test/v1/embeddings")
    if kind is httpx.HTTPStatusError:
        return httpx.HTTPStatusError(SECRET, request=request, response=httpx.Response(500, request=request))
    if issubclass(kind, httpx.RequestError):
        return kind(f"told by httpx: {SECRET}", request=request)
    if kind in (httpx.StreamConsumed, httpx.StreamClosed, httpx.ResponseNotRead, httpx.RequestNotRead):
        return kind()
    return kind(f"told by httpx: {SECRET}")


def leaves(kind: type[Exception]) -> Iterator[type[Exception]]:
    children = kind.__subclasses__()
    if not children:
        yield kind
    for child in children:
        yield from leaves(child)


def exceptions_of_httpx() -> set[type[Exception]]:
    """Every exception that httpx shows to the world and can raise: the leaves of its trees."""
    shown = [value for value in vars(httpx).values() if isinstance(value, type) and issubclass(value, Exception)]
    found = {leaf for root in shown for leaf in leaves(root)}
    return {kind for kind in found if kind.__module__.partition(".")[0] == "httpx"}


def test_every_exception_that_httpx_has_is_accounted_for() -> None:
    assert exceptions_of_httpx() == set(OUTCOMES) | NEVER_RAISED_HERE


@pytest.mark.parametrize("kind", list(OUTCOMES))
def test_an_exception_of_httpx_becomes_ours_and_says_what_may_have_been_billed(kind: type[Exception]) -> None:
    error = translate(made(kind))
    ours, unknown, timed_out = OUTCOMES[kind]
    assert type(error) is ours
    assert error.outcome_unknown is unknown
    assert getattr(error, "timed_out", False) is timed_out
    assert SECRET not in str(error) + repr(error)


@pytest.mark.parametrize("kind", list(OUTCOMES))
async def test_whatever_the_transport_raises_leaves_the_client_as_ours(kind: type[Exception]) -> None:
    async def fail(_: httpx.Request) -> httpx.Response:
        raise made(kind)

    with pytest.raises(OUTCOMES[kind][0]) as raised:
        await ask(fail)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__, "the traceback must not show httpx's own words"


async def ask(handler: Handler, *, timeout: float = 5.0) -> bytes:
    deployment = Deployment("one", "http://jina.test/v1", SECRET, timeout=timeout, headers={"X-Team": "search"})
    client = Clients(transport=httpx.MockTransport(handler))(deployment)
    try:
        return await client.post(Endpoint.EMBEDDINGS, BODY)
    finally:
        await client.close()


def answering(status: int, content: bytes = b"{}", headers: dict[str, str] | None = None) -> Handler:
    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=content, headers=headers)

    return answer


async def test_a_200_is_its_bytes_and_the_call_is_what_jina_expects() -> None:
    seen: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b'{"data": []}')

    assert await ask(answer) == b'{"data": []}'
    (request,) = seen
    assert str(request.url) == "http://jina.test/v1/embeddings"
    assert request.headers["authorization"] == f"Bearer {SECRET}"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["x-team"] == "search"
    assert orjson.loads(request.content) == BODY


async def test_a_compressed_200_is_unpacked() -> None:
    assert await ask(answering(200, gzip.compress(b"[1]"), {"content-encoding": "gzip"})) == b"[1]"


async def test_a_200_that_is_wrongly_compressed_is_nonsense() -> None:
    with pytest.raises(UpstreamNonsense, match="decompressed"):
        await ask(answering(200, b"not gzip", {"content-encoding": "gzip"}))


@pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 302, 304, 307, 308])
async def test_a_success_or_redirect_other_than_200_is_nonsense_and_is_not_followed(status: int) -> None:
    calls = 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        return httpx.Response(status, headers={"location": "http://elsewhere.test/"})

    with pytest.raises(UpstreamNonsense, match=f"{status}.*api_base"):
        await ask(answer)
    assert calls == 1, "the key must not go where a redirect points"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422, 429, 500, 502, 503, 504, 520, 524])
async def test_a_refusal_carries_status_body_and_type_but_its_words_hold_none_of_it(status: int) -> None:
    with pytest.raises(UpstreamRefused) as raised:
        await ask(answering(status, b'{"detail": "a text"}', {"content-type": "application/problem+json"}))
    error = raised.value
    assert (error.status, error.body) == (status, b'{"detail": "a text"}')
    assert error.content_type == "application/problem+json"
    assert error.outcome_unknown is (status in (500, 502, 504, 520, 524))
    assert "a text" not in str(error)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        ("120", 120.0),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
    ],
)
async def test_retry_after_counts_in_whole_seconds_only(header: str, seconds: float | None) -> None:
    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(429, headers=[(b"retry-after", header.encode())])

    with pytest.raises(UpstreamRefused) as raised:
        await ask(answer)
    assert raised.value.retry_after == seconds


async def test_an_answer_without_end_is_given_up_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "ANSWER_LIMIT", 10_000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1000
            yield bytes(1000)

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=endless())

    with pytest.raises(UpstreamNonsense, match="larger than"):
        await ask(answer)
    assert sent <= 12_000


async def test_a_small_packet_that_unpacks_to_a_huge_answer_is_given_up_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome, "ANSWER_LIMIT", 10_000)
    with pytest.raises(UpstreamNonsense, match="larger than"):
        await ask(answering(200, gzip.compress(bytes(100_000)), {"content-encoding": "gzip"}))


async def test_the_time_out_is_for_the_whole_call_not_for_each_piece() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b" "

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(503, content=drip())

    with pytest.raises(UpstreamLost, match=r"within 0\.1 s") as raised:
        await ask(answer, timeout=0.1)
    assert raised.value.timed_out
    assert raised.value.outcome_unknown


async def test_a_200_that_does_not_end_in_time_was_billed_and_is_never_asked_again() -> None:
    async def drip() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b" "

    async def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=drip())

    with pytest.raises(UpstreamNonsense, match="broke off"):
        await ask(answer, timeout=0.1)


async def test_no_error_holds_the_key_the_url_or_a_text() -> None:
    def faults() -> Iterator[Handler]:
        yield answering(500, SECRET.encode())
        yield answering(302)
        yield answering(200, b"no gzip", {"content-encoding": "gzip"})

    for handler in faults():
        with pytest.raises(UpstreamError) as raised:
            await ask(handler)
        told = str(raised.value) + repr(raised.value)
        assert not [word for word in (SECRET, "jina.test", "somebody") if word in told]


@pytest.mark.parametrize(
    ("kind", "ours"), [("drop", UpstreamLost), ("refuse", UpstreamLost), ("halfway", UpstreamNonsense)]
)
async def test_a_connection_lost_on_the_network_may_have_been_billed(kind: str, ours: type[UpstreamError]) -> None:
    standin = StandIn()
    standin.fail_next(Fault(kind))  # type: ignore[arg-type]
    with hosted(standin) as url:
        client = Clients()(Deployment("one", f"{url}/v1", "jina_key"))
        with pytest.raises(ours) as raised:
            await client.post(Endpoint.EMBEDDINGS, BODY)
        assert raised.value.outcome_unknown
        assert orjson.loads(await client.post(Endpoint.EMBEDDINGS, BODY))["data"]
        await client.close()


async def test_nobody_listening_is_known_to_cost_nothing() -> None:
    client = Clients()(Deployment("one", "http://127.0.0.1:1/v1", "jina_key"))
    with pytest.raises(UpstreamLost, match="could not be reached") as raised:
        await client.post(Endpoint.EMBEDDINGS, BODY)
    assert not raised.value.outcome_unknown
    await client.close()


async def test_proxies_of_the_environment_count_only_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    standin = StandIn()
    with hosted(standin) as url:
        deployment = Deployment("one", f"{url}/v1", "jina_key")
        direct, proxied = Clients()(deployment), Clients(trust_env=True)(deployment)
        await direct.post(Endpoint.EMBEDDINGS, BODY)
        with pytest.raises(UpstreamLost):
            await proxied.post(Endpoint.EMBEDDINGS, BODY)
        await direct.close()
        await proxied.close()
