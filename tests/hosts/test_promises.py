"""What every host keeps: behind the middleware it answers as without it, and ours answer under the prefix.

Each test asks the bare app and the wrapped one, behind real servers, and compares.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import ASGIApp
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from cache_proxy import CacheProxyMiddleware
from tests.hosts import django_host, fastapi_host, litestar_host, starlette_host
from tests.hosts.conftest import EMBED
from tests.hosts.record import STATE
from tests.hosts.served import Server, served

HOSTS: dict[str, Callable[[], Any]] = {
    "starlette": starlette_host.build,
    "fastapi": fastapi_host.build,
    "django": django_host.build,
    "litestar": litestar_host.build,
}
NOT_OF_THE_APP = {"date"}


@dataclass(frozen=True)
class Pair:
    """One host, alone and with the middleware round it."""

    name: str
    bare: Server
    wrapped: Server
    client: httpx.Client

    @property
    def both(self) -> tuple[Server, Server]:
        return self.bare, self.wrapped

    def same(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The answer of the wrapped app, which is the bare one's."""
        alone, wrapped = (self.client.request(method, server.url + path, **options) for server in self.both)
        assert (wrapped.status_code, wrapped.content) == (alone.status_code, alone.content)
        assert _headers(wrapped) == _headers(alone)
        return wrapped


def _headers(answer: httpx.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.headers.multi_items() if name not in NOT_OF_THE_APP]


def in_the_usual_way(name: str, host: Any, config: Path) -> ASGIApp:
    """As the page shows it."""
    if name in ("starlette", "fastapi"):
        host.add_middleware(CacheProxyMiddleware, config=config, prefix="/jina", auth="open")
        app: ASGIApp = host
        return app
    return CacheProxyMiddleware(host, config=config, prefix="/jina", auth="open")


@pytest.fixture(scope="module", params=HOSTS)
def pair(
    request: pytest.FixtureRequest, jina: str, client: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("host")
    config = folder / "config.yaml"
    config.write_text(
        f"model_list: [{{model_name: '*', litellm_params: {{model: 'jina_ai/*', api_base: '{jina}', api_key: k}}}}]\n"
        f"litellm_settings: {{cache: true, cache_params: {{type: disk, disk_cache_dir: '{folder}/store'}}}}\n"
    )
    build = HOSTS[request.param]
    with ExitStack() as stack:
        bare = stack.enter_context(served(build()))
        wrapped = stack.enter_context(served(in_the_usual_way(request.param, build(), config)))
        yield Pair(request.param, bare, wrapped, client)


@pytest.fixture
def token() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("path", ["/hello", "/nowhere", "/v1/embeddings", "/jina", "/jina/nowhere", "/%E2%82%AC?x=1"])
def test_its_routes_and_its_refusals_are_its_own(pair: Pair, method: str, path: str) -> None:
    pair.same(method, path)


def test_its_routes_answer_at_all(pair: Pair) -> None:
    answer = pair.same("GET", "/hello")
    assert (answer.status_code, answer.headers["x-host"]) == (200, "yes")


def test_ours_answer_under_the_prefix(pair: Pair) -> None:
    first, second = (pair.client.post(f"{pair.wrapped.url}/jina/v1/embeddings", json=EMBED) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert second.headers["cache-status"].startswith("cache-proxy; hit")
    assert pair.client.get(f"{pair.wrapped.url}/jina/health/readiness").json()["status"] == "healthy"
    assert pair.client.post(f"{pair.bare.url}/jina/v1/embeddings", json=EMBED).status_code in (404, 405)


def test_a_body_that_comes_in_pieces_arrives_whole(pair: Pair) -> None:
    def body() -> Iterator[bytes]:
        yield from (b"piece by ", b"piece ", b"x" * 200_000)

    alone, wrapped = (pair.client.post(f"{server.url}/echo", content=body()) for server in pair.both)
    assert wrapped.content == alone.content == b"piece by piece " + b"x" * 200_000
    assert wrapped.headers["x-length"] == alone.headers["x-length"] == "none"


def test_a_stream_leaves_piece_by_piece(pair: Pair, token: str) -> None:
    for number, server in enumerate(pair.both):
        name = f"{token}{number}"
        with pair.client.stream("GET", f"{server.url}/stream/{name}") as answer:
            parts = answer.iter_raw()
            # The second piece is only made once the first one has been seen here.
            assert next(parts) == b"one,"
            pair.client.post(f"{server.url}/release/{name}")
            assert b"".join(parts) == b"two"


def test_it_notices_a_client_who_leaves(pair: Pair, token: str) -> None:
    for number, server in enumerate(pair.both):
        name = f"{token}{number}"
        with pair.client.stream("GET", f"{server.url}/stream/{name}") as answer:
            assert next(answer.iter_raw()) == b"one,"
        _until_noted(pair.client, server, f"left {name}")


def test_its_error_handlers_work(pair: Pair) -> None:
    answer = pair.same("GET", "/boom")
    assert (answer.status_code, answer.text) == (418, "caught LookupError")


def test_what_its_lifespan_sets_is_there_for_its_requests(pair: Pair) -> None:
    answer = pair.same("GET", "/state")
    assert answer.text == (STATE if pair.name != "django" else "Django has none")


def test_its_background_tasks_run(pair: Pair, token: str) -> None:
    for number, server in enumerate(pair.both):
        assert pair.client.post(f"{server.url}/background/{token}{number}").status_code == 202
        _until_noted(pair.client, server, f"background {token}{number}")


def _until_noted(client: httpx.Client, server: Server, word: str) -> None:
    for _ in range(2000):
        if word in client.get(f"{server.url}/noted").json():
            return
    raise AssertionError(f"the host never noted: {word}")


@pytest.mark.parametrize("path", ["/ws", "/jina/v1/embeddings", "/nowhere"])
def test_its_websockets_talk_as_before(pair: Pair, path: str) -> None:
    alone, wrapped = (_talk(f"ws://127.0.0.1:{server.port}{path}") for server in pair.both)
    assert wrapped == alone
    if path == "/ws" and pair.name != "django":
        assert wrapped == ("parrot", f"{STATE}: hello", 4001, "enough")


def _talk(url: str) -> tuple[Any, ...]:
    try:
        with connect(url, subprotocols=[Subprotocol("parrot"), Subprotocol("other")]) as talk:
            talk.send("hello")
            heard = talk.recv()
            with pytest.raises(ConnectionClosed) as closed:
                talk.recv()
            told = closed.value.rcvd
            return (talk.subprotocol, heard, told and told.code, told and told.reason)
    except InvalidStatus as error:
        return (error.response.status_code,)
