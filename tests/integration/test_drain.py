"""The orderly end of a real server: what is under way is finished, what comes new is told so, what is paid is kept."""

import asyncio
import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from cache_proxy.asgi.standalone import build
from cache_proxy.serving import OPTIONS, hosted
from cache_proxy.settings import load
from cache_proxy.standin import StandIn
from tests.integration.test_server import EMBED, KEY, Server, cache_status, serving, starting, until

# Less than any bound of the end, more than a busy machine needs.
SOON = 10.0


class Door:
    """An upstream behind a door that stays shut until the test opens it."""

    def __init__(self, app: StandIn) -> None:
        self.waiting = 0
        self.open = threading.Event()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.waiting += 1
            await asyncio.to_thread(self.open.wait)
        await self._app(scope, receive, send)


@pytest.fixture
def standin() -> StandIn:
    return StandIn()


@pytest.fixture
def door(standin: StandIn) -> Iterator[Door]:
    door = Door(standin)
    yield door
    door.open.set()


@pytest.fixture
def upstream(door: Door) -> Iterator[str]:
    with hosted(door) as url:
        try:
            yield url
        finally:
            door.open.set()


def within(seconds: float) -> dict[str, Any]:
    return {"cache_proxy_settings": {"drain_seconds": seconds}}


def end(server: Server, number: signal.Signals = signal.SIGTERM) -> None:
    """Tell it to end, and wait until it turns requests away. What is under way holds it."""
    server.process.send_signal(number)
    until(lambda: is_draining(server))


def is_draining(server: Server) -> bool:
    try:
        return httpx.get(f"{server.url}/health/readiness").status_code == 503
    except httpx.TransportError:
        # That was another worker, which has nothing under way and is gone.
        return False


def of_the_busy(ask: Callable[[], httpx.Response]) -> httpx.Response:
    """The answer of the worker that has something under way: an idle one may take a connection even as it ends."""
    for _ in range(10):
        try:
            return ask()
        except httpx.RemoteProtocolError:
            continue
    return ask()


def assert_ended_well(server: Server, seconds: float) -> None:
    assert server.process.wait(seconds) == 0
    assert "Traceback" not in server.told()


def assert_kept(folder: Path, standin: StandIn) -> None:
    """Who starts again on the same folder has the answer, and it was paid for once."""
    settings = load(folder / "config.yaml", {"CACHE_PROXY_DIR": str(folder / "store")})
    with hosted(build(settings)) as url:
        assert cache_status(httpx.post(f"{url}/embeddings", json=EMBED, headers=KEY)) == "hit"
    assert standin.call_count == 1


def assert_turned_away(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.headers["connection"] == "close"
    assert response.headers["retry-after"] == "1"
    body = response.json()
    assert (body["error"]["code"], body["error"]["message"]) == ("shutting_down", body["detail"])


@contextmanager
def asking(server: Server) -> Iterator[tuple[socket.socket, bytes]]:
    """A connection by hand, and the head of a request whose body would have a hundred bytes."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    lines = ["POST /embeddings HTTP/1.1", "host: x", f"authorization: {KEY['Authorization']}", "content-length: 100"]
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection, "\r\n".join([*lines, "", ""]).encode()


def heard(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_under_way_is_finished_and_what_is_new_is_turned_away(
    tmp_path: Path, standin: StandIn, door: Door, upstream: str, workers: int
) -> None:
    with serving(tmp_path, upstream, workers=workers) as server, ThreadPoolExecutor(1) as thread:
        answering = thread.submit(server.client.post, "/embeddings", json=EMBED, headers=KEY)
        until(lambda: door.waiting == 1)
        end(server)
        assert_turned_away(of_the_busy(lambda: server.post("/embeddings", EMBED)))
        assert_turned_away(of_the_busy(lambda: httpx.get(f"{server.url}/v1/models", headers=KEY)))
        unready = of_the_busy(lambda: httpx.get(f"{server.url}/health/readiness"))
        assert (unready.status_code, unready.headers["connection"], unready.json()) == (
            503, "close", {"status": "draining"},
        )  # fmt: skip
        alive = of_the_busy(lambda: httpx.get(f"{server.url}/health/liveliness"))
        assert (alive.status_code, alive.headers["connection"]) == (200, "close")
        door.open.set()
        answer = answering.result(10)
        assert cache_status(answer) == "fwd=miss; stored"
        assert answer.headers["connection"] == "close"
        assert_ended_well(server, SOON)
    assert_kept(tmp_path, standin)


def test_a_connection_kept_alive_is_told_too_and_a_large_body_does_not_lose_the_reply(
    tmp_path: Path, door: Door, upstream: str
) -> None:
    with serving(tmp_path, upstream) as server, ThreadPoolExecutor(1) as thread:
        with httpx.Client(base_url=server.url, headers=KEY) as kept:
            assert "connection" not in kept.get("/v1/models").headers
            answering = thread.submit(server.post, "/embeddings", EMBED)
            until(lambda: door.waiting == 1)
            end(server)
            assert_turned_away(kept.get("/v1/models"))
        simple = http.client.HTTPConnection(server.url.removeprefix("http://"))
        simple.request("POST", "/embeddings", b"x" * 2**23, {**KEY, "content-type": "application/json"})
        assert simple.getresponse().status == 503
        simple.close()
        door.open.set()
        assert cache_status(answering.result(10)) == "fwd=miss; stored"
        assert_ended_well(server, SOON)


def test_what_was_paid_for_is_kept_though_nobody_waits_for_it(
    tmp_path: Path, standin: StandIn, door: Door, upstream: str
) -> None:
    with serving(tmp_path, upstream, workers=2) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/embeddings", json=EMBED, headers=KEY, timeout=0.5)
        until(lambda: door.waiting == 1)
        end(server)
        door.open.set()
        assert_ended_well(server, SOON)
    assert_kept(tmp_path, standin)


def test_a_request_that_takes_too_long_is_cut_off_and_its_answer_kept(
    tmp_path: Path, standin: StandIn, door: Door, upstream: str
) -> None:
    with serving(tmp_path, upstream, within(0.3)) as server, ThreadPoolExecutor(1) as thread:
        answering = thread.submit(server.post, "/embeddings", EMBED)
        until(lambda: door.waiting == 1)
        server.process.send_signal(signal.SIGTERM)
        cut_off = answering.result(10)
        assert_turned_away(cut_off)
        assert "Nothing was spent" not in cut_off.text
        assert server.process.poll() is None
        door.open.set()
        assert_ended_well(server, SOON)
        assert "1 requests cut off" in server.told()
    assert_kept(tmp_path, standin)


def test_a_client_that_never_sends_its_body_holds_nothing_up_beyond_the_bound(tmp_path: Path, upstream: str) -> None:
    with serving(tmp_path, upstream, within(0.5)) as server:
        with asking(server) as (body_missing, head), asking(server) as (head_missing, _):
            head_missing.sendall(head[:20])
            body_missing.sendall(head[:-2] + b"expect: 100-continue\r\n\r\n{")
            # The server asks for the body, so the request is under way.
            assert body_missing.recv(100).startswith(b"HTTP/1.1 100 ")
            server.process.send_signal(signal.SIGTERM)
            assert b"shutting_down" in heard(body_missing)
            assert heard(head_missing) == b""
            assert_ended_well(server, SOON)
            assert "1 requests cut off" in server.told()


@pytest.mark.slow
def test_a_client_that_never_reads_holds_nothing_up_beyond_the_bound(
    tmp_path: Path, standin: StandIn, door: Door, upstream: str
) -> None:
    door.open.set()
    body = httpx.Request("POST", "http://x", json={**EMBED, "input": [f"text {n}" for n in range(2000)]}).content
    with serving(tmp_path, upstream, within(0.5)) as server:
        with asking(server) as (connection, head):
            connection.sendall(head.replace(b"100", b"%d" % len(body)) + body)
            until(lambda: '"status":200' in server.told())
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert_ended_well(server, OPTIONS["timeout_graceful_shutdown"] + SOON)
            assert time.monotonic() - began > OPTIONS["timeout_graceful_shutdown"]


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGTERM), (2, signal.SIGTERM), (1, signal.SIGINT)])
def test_with_nothing_under_way_the_end_comes_at_once(
    tmp_path: Path, upstream: str, workers: int, number: signal.Signals
) -> None:
    with serving(tmp_path, upstream, workers=workers) as server, httpx.Client() as idle:
        idle.get(f"{server.url}/health/readiness")
        began = time.monotonic()
        server.process.send_signal(number)
        assert_ended_well(server, SOON)
        assert time.monotonic() - began < 5


def test_a_second_interrupt_cuts_off_at_once_and_loses_nothing_that_was_paid_for(
    tmp_path: Path, standin: StandIn, door: Door, upstream: str
) -> None:
    with serving(tmp_path, upstream) as server, ThreadPoolExecutor(1) as thread:
        answering = thread.submit(server.post, "/embeddings", EMBED)
        until(lambda: door.waiting == 1)
        end(server, signal.SIGINT)
        server.process.send_signal(signal.SIGTERM)  # as a supervisor does to every process of a group
        assert_turned_away(server.post("/embeddings", EMBED))
        server.process.send_signal(signal.SIGINT)
        assert_turned_away(answering.result(10))
        door.open.set()
        assert_ended_well(server, SOON)
    assert_kept(tmp_path, standin)


def told(server: Server, words: str) -> bool:
    assert server.process.poll() is None, server.told()
    return words in server.told()


def test_a_server_that_is_told_to_end_while_it_starts_ends_well(tmp_path: Path, upstream: str) -> None:
    with starting(tmp_path, upstream) as server:
        # Its first words; the app and its store come after them.
        until(lambda: told(server, "store: disk in"))
        server.process.send_signal(signal.SIGTERM)
        assert_ended_well(server, SOON)


def test_a_server_that_is_told_to_end_while_its_store_opens_ends_well(tmp_path: Path, upstream: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        cache = {"litellm_settings": {"cache": True, "cache_params": {"type": "redis", "url": where}}}
        patient = {"cache_proxy_settings": {"store_write_timeout": 1.0}}
        with starting(tmp_path, upstream, {**cache, **patient}) as server:
            until(lambda: told(server, "Waiting for application startup"))
            with silent.accept()[0]:
                server.process.send_signal(signal.SIGTERM)
                assert_ended_well(server, SOON)
            assert "startup complete" in server.told()
