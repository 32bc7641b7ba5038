"""Retries, rests and trust as the operator sets them, by kind of failure and for one deployment."""

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trustme

from cache_proxy.errors import UpstreamError, UpstreamLost, UpstreamRefused
from cache_proxy.models import Deployment, Endpoint, Failure
from cache_proxy.upstream.client import Clients
from cache_proxy.upstream.failures import kind_of
from cache_proxy.upstream.lanes import Rules
from tests.upstream.fakes import ANSWER, LOST, TIMED_OUT, UNREACHABLE, Road, Scripted, refused

pytestmark = pytest.mark.anyio

KINDS: list[tuple[UpstreamError, Failure]] = [
    (refused(401), Failure.AUTHENTICATION),
    (refused(402), Failure.AUTHENTICATION),
    (refused(403), Failure.AUTHENTICATION),
    (refused(429), Failure.RATE_LIMIT),
    (refused(500), Failure.SERVER),
    (refused(502), Failure.GATEWAY),
    (refused(503), Failure.UNAVAILABLE),
    (refused(504), Failure.TIMEOUT),
    (refused(524), Failure.TIMEOUT),
    (TIMED_OUT, Failure.TIMEOUT),
    (LOST, Failure.OTHER),
    (UNREACHABLE, Failure.OTHER),
    (refused(422), Failure.OTHER),
]


def at(name: str, **fields: Any) -> Deployment:
    return Deployment(name, f"http://{name}.test/v1", **fields)


@pytest.mark.parametrize(("error", "kind"), KINDS, ids=str)
async def test_each_failure_has_a_kind(error: UpstreamError, kind: Failure) -> None:
    assert kind_of(error) is kind


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retries", [0, 1, 4])
async def test_a_kind_of_failure_with_a_number_of_its_own_is_tried_again_so_often(status: int, retries: int) -> None:
    connection = Scripted(usual=refused(status))
    road = Road((at("one", retries=2, retries_after={kind_of(refused(status)): retries}), connection))
    with pytest.raises(UpstreamRefused):
        await road.send()
    assert connection.calls == retries + 1


async def test_other_kinds_keep_the_usual_number() -> None:
    connection = Scripted(usual=refused(503))
    road = Road((at("one", retries=2, retries_after={Failure.RATE_LIMIT: 9}), connection))
    with pytest.raises(UpstreamRefused):
        await road.send()
    assert connection.calls == 3


async def test_no_number_buys_an_answer_twice_over() -> None:
    connection = Scripted(usual=TIMED_OUT)
    road = Road((at("one", retries_after=dict.fromkeys(Failure, 9)), connection))
    with pytest.raises(UpstreamLost):
        await road.send()
    assert connection.calls == 2, "what may have been billed is tried again once"


async def test_the_pause_before_a_retry_is_at_least_as_long_as_configured() -> None:
    road = Road((at("one", retries=3), Scripted(usual=refused(503))), rules=Rules(retry_after=3.0))
    with pytest.raises(UpstreamRefused):
        await road.send()
    assert len(road.time.slept) == 3
    assert min(road.time.slept) >= 3.0


async def test_no_pause_is_made_where_another_deployment_takes_the_call() -> None:
    road = Road(
        (at("a", order=1), Scripted(refused(503))), (at("b", order=2), Scripted()), rules=Rules(retry_after=3.0)
    )
    assert (await road.send()).answer == ANSWER
    assert road.time.slept == []


async def test_failures_of_a_kind_are_put_up_with_as_often_as_configured() -> None:
    bad = Scripted(usual=refused(503))
    patient = {"allowed_fails": 0, "allowed_fails_of": {Failure.UNAVAILABLE: 5}}
    road = Road((at("bad", **patient), bad), (at("good"), Scripted()))
    for _ in range(60):
        await road.send()
    assert bad.calls == 6
    assert road.lanes.resting() == ["bad"]


@pytest.mark.parametrize("error", [refused(401), refused(429, retry_after=60.0)], ids=str)
async def test_what_sends_a_deployment_to_rest_at_once_does_not_where_so_many_are_allowed(error: UpstreamError) -> None:
    bad = Scripted(error, error)
    road = Road((at("bad", allowed_fails_of={kind_of(error): 2}), bad), (at("good"), Scripted()))
    for _ in range(20):
        await road.send()
    assert bad.calls > 3
    assert road.lanes.resting() == []


async def test_each_deployment_rests_for_a_time_of_its_own_or_never() -> None:
    short, never = Scripted(usual=UNREACHABLE), Scripted(usual=UNREACHABLE)
    road = Road(
        (at("short", allowed_fails=0, cooldown=2.0, retries=5), short),
        (at("never", allowed_fails=0, cooldown=None, retries=5), never),
        (at("good", retries=5), Scripted()),
    )
    for _ in range(30):
        await road.send()
    assert short.calls == 1
    assert never.calls > 5
    assert road.lanes.resting() == ["short"]
    road.time.now += 2.0
    assert road.lanes.resting() == []


# Certificates --------------------------------------------------------------------------------------------------------


class _Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", str(len(ANSWER)))
        self.end_headers()
        self.wfile.write(ANSWER)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ssl.SSLContext]:
    """The file of an authority that nobody knows, and what a server of 127.0.0.1 shows that it vouches for."""
    known = trustme.CA()
    file = tmp_path_factory.mktemp("tls") / "ca.pem"
    known.cert_pem.write_to_path(str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    known.issue_cert("127.0.0.1").configure_cert(context)
    return str(file), context


@contextmanager
def secured(context: ssl.SSLContext) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _sent(url: str, verify: bool | str) -> bytes:
    client = Clients()(Deployment("d", url, verify=verify))
    try:
        return await client.post(Endpoint.EMBEDDINGS, {})
    finally:
        await client.close()


async def test_a_certificate_that_nobody_knows_is_refused_unless_the_operator_trusts_it(
    authority: tuple[str, ssl.SSLContext],
) -> None:
    file, context = authority
    with secured(context) as url:
        with pytest.raises(UpstreamLost, match="could not be reached"):
            await _sent(url, True)
        assert await _sent(url, file) == ANSWER
        assert await _sent(url, False) == ANSWER
