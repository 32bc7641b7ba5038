"""Who gets in, and that nothing is spent for those who do not."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Scope

from cache_proxy.asgi.auth import Auth
from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.errors import ConfigError
from cache_proxy.ledger.database import Database
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.asgi.raw import Answer, call
from tests.ledger.money import rows
from tests.support import connect_to, settings_for

pytestmark = pytest.mark.anyio

KEY = b"sk-1234"
KEYED: dict[str, Any] = {"general_settings": {"master_key": KEY.decode()}}
BODY = b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": 8}'
JSON = (b"content-type", b"application/json")
LOCAL = (b"host", b"localhost:4000")
LOCAL_JSON = (LOCAL, JSON)
OPEN = ["/health/liveliness", "/health/liveness", "/health/readiness"]
CLOSED = [
    ("POST", "/embeddings"),
    ("POST", "/v1/embeddings"),
    ("POST", "/rerank"),
    ("POST", "/v1/rerank"),
    ("POST", "/v2/rerank"),
    ("GET", "/models"),
    ("GET", "/v1/models"),
    ("GET", "/health"),
    ("GET", "/cache/ping"),
    ("GET", "/spend/report"),
    ("GET", "/spend/logs"),
    ("GET", "/spend/logs/v2"),
    ("POST", "/cache/delete"),
    ("POST", "/cache/flushall"),
    ("POST", "/key/generate"),
    ("POST", "/key/update"),
    ("POST", "/key/delete"),
    ("GET", "/key/info"),
    ("GET", "/key/list"),
]


@asynccontextmanager
async def guarded(
    standin: StandIn, folder: Path, auth: Auth | None = None, document: dict[str, Any] | None = None
) -> AsyncIterator[ASGIApp]:
    wired = Wired(settings_for(folder, document), connect=connect_to(standin))
    yield CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth=auth)
    await wired.close()


async def embed(app: ASGIApp, *headers: tuple[bytes, bytes], client: str = "127.0.0.1") -> Answer:
    answer = await call(app, headers=headers, chunks=[BODY], client=(client, 1))
    assert answer is not None
    return answer


def code(answer: Answer) -> str:
    body = answer.json()
    assert set(body) == {"error", "detail"}
    return str(body["error"]["code"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"authorization", b"Bearer sk-1234"),
        (b"authorization", b"bearer sk-1234"),
        (b"authorization", b"BEARER   sk-1234 "),
        (b"authorization", b"sk-1234"),
        (b"x-api-key", KEY),
        (b"api-key", KEY),
        (b"x-litellm-api-key", KEY),
        (b"x-litellm-api-key", b"Bearer sk-1234"),
    ],
)
async def test_the_master_key_gets_in_by_each_header(
    standin: StandIn, tmp_path: Path, name: bytes, value: bytes
) -> None:
    async with guarded(standin, tmp_path, document=KEYED) as app:
        assert (await embed(app, (name, value))).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer ")],
        [(b"authorization", b"Bearer sk-12345")],
        [(b"authorization", b"Bearer sk-123")],
        [(b"authorization", b"Bearer SK-1234")],
        [(b"authorization", b"Basic sk-1234")],
        [(b"authorization", b"Bearer sk-\xff")],
        [(b"x-api-key", b"wrong")],
        [(b"cookie", KEY)],
        # The first header that is there counts, even if a later one is right.
        [(b"x-litellm-api-key", b"wrong"), (b"authorization", b"Bearer sk-1234")],
        [(b"authorization", b"Bearer wrong"), (b"x-api-key", KEY)],
    ],
)
async def test_a_wrong_or_missing_key_is_401_and_spends_nothing(
    standin: StandIn, tmp_path: Path, headers: list[tuple[bytes, bytes]]
) -> None:
    async with guarded(standin, tmp_path, document=KEYED) as app:
        answer = await embed(app, *headers)
    assert (answer.status, code(answer)) == (401, "invalid_api_key")
    assert answer.headers[b"www-authenticate"] == b"Bearer"
    assert standin.call_count == 0


async def test_an_empty_key_header_is_as_good_as_none(standin: StandIn, tmp_path: Path) -> None:
    async with guarded(standin, tmp_path, document=KEYED) as app:
        right = (b"authorization", b"Bearer " + KEY)
        assert (await embed(app, LOCAL, JSON, (b"x-litellm-api-key", b""), right)).status == 200


@pytest.mark.parametrize(
    "twice", [(b"host", b"evil.test"), (b"origin", b"http://evil.test"), (b"content-type", b"a/b")]
)
async def test_without_keys_no_header_that_counts_may_come_twice(
    standin: StandIn, tmp_path: Path, twice: tuple[bytes, bytes]
) -> None:
    async with guarded(standin, tmp_path, "loopback") as app:
        answer = await embed(app, twice, LOCAL, JSON, (b"origin", b"http://localhost:4000"))
    assert (answer.status, code(answer)) == (400, "invalid_header")
    assert standin.call_count == 0


async def test_litellms_own_header_wins_over_authorization(standin: StandIn, tmp_path: Path) -> None:
    async with guarded(standin, tmp_path, document=KEYED) as app:
        answer = await embed(app, (b"authorization", b"Bearer theirs"), (b"x-litellm-api-key", KEY))
    assert answer.status == 200


async def test_a_key_that_is_sent_twice_is_refused_even_if_both_are_right(standin: StandIn, tmp_path: Path) -> None:
    async with guarded(standin, tmp_path, document=KEYED) as app:
        answer = await embed(app, (b"authorization", b"Bearer sk-1234"), (b"authorization", b"Bearer sk-1234"))
    assert (answer.status, code(answer)) == (400, "invalid_header")
    assert standin.call_count == 0


@pytest.mark.parametrize(("method", "path"), CLOSED)
async def test_every_route_but_the_probes_wants_the_key(
    standin: StandIn, tmp_path: Path, method: str, path: str
) -> None:
    async with guarded(standin, tmp_path, document=KEYED) as app:
        without = await call(app, method, path, chunks=[BODY])
        with_key = await call(app, method, path, headers=[(b"x-api-key", KEY)], chunks=[BODY])
    assert without is not None
    assert without.status == 401
    assert with_key is not None
    assert with_key.status != 401


@pytest.mark.parametrize("path", OPEN)
async def test_probes_come_without_a_key(standin: StandIn, tmp_path: Path, path: str) -> None:
    async with guarded(standin, tmp_path, document=KEYED) as app:
        for method in ("GET", "HEAD"):
            answer = await call(app, method, path, headers=[], client=("203.0.113.9", 1))
            assert answer is not None
            assert answer.status == 200


async def test_a_middleware_without_keys_lets_nobody_in(standin: StandIn, tmp_path: Path) -> None:
    async with guarded(standin, tmp_path) as app:
        answer = await embed(app, LOCAL, JSON, (b"authorization", b"Bearer anything"))
    assert answer.status == 401
    assert standin.call_count == 0


async def test_an_open_middleware_lets_everybody_in(standin: StandIn, tmp_path: Path) -> None:
    async with guarded(standin, tmp_path, "open") as app:
        assert (await embed(app, client="203.0.113.9")).status == 200


def test_open_with_a_master_key_is_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="master_key"):
        CacheProxyMiddleware(StandIn(), settings=settings_for(tmp_path, KEYED), auth="open")


def _by_header(scope: Scope) -> bool:
    return dict(scope["headers"]).get(b"x-team") == b"search"


async def _by_header_later(scope: Scope) -> str | None:
    return "search" if _by_header(scope) else None


@pytest.mark.parametrize("auth", [_by_header, _by_header_later])
async def test_the_apps_own_callable_decides(standin: StandIn, tmp_path: Path, auth: Auth) -> None:
    async with guarded(standin, tmp_path, auth) as app:
        assert (await embed(app, (b"x-team", b"search"))).status == 200
        # It is asked before a hit, too.
        refused = await embed(app, (b"x-team", b"other"))
    assert (refused.status, code(refused)) == (401, "invalid_api_key")


async def test_a_callable_beside_a_master_key_lets_either_in(standin: StandIn, tmp_path: Path) -> None:
    async with guarded(standin, tmp_path, _by_header, KEYED) as app:
        answers = [await embed(app, header) for header in ((b"x-team", b"search"), (b"x-api-key", KEY), JSON)]
    assert [answer.status for answer in answers] == [200, 200, 401]


@pytest.mark.parametrize(
    ("method", "path"), [pair for pair in CLOSED if pair[1].startswith(("/key", "/cache", "/spend"))]
)
async def test_beside_a_master_key_the_app_makes_nobody_an_administrator(
    standin: StandIn, tmp_path: Path, method: str, path: str
) -> None:
    async with guarded(standin, tmp_path, _by_header, KEYED) as app:
        refused = await call(app, method, path, headers=(*LOCAL_JSON, (b"x-team", b"search")), chunks=[b"{}"])
        models = await call(app, "GET", "/v1/models", headers=(*LOCAL_JSON, (b"x-team", b"search")))
    assert refused is not None
    assert models is not None
    assert (refused.status, code(refused), models.status) == (403, "master_key_required", 200)


async def test_a_guest_who_hangs_up_while_he_sends_leaves_nothing_behind(standin: StandIn, tmp_path: Path) -> None:
    document = {"general_settings": {**KEYED["general_settings"], "pass_through_keys": True}}
    headers = (*LOCAL_JSON, (b"authorization", b"Bearer jina_x"), (b"x-litellm-tags", b"a,b,c"))
    async with guarded(standin, tmp_path, None, document) as app:
        assert (await embed(app, (b"x-api-key", KEY))).status == 200
        assert await call(app, headers=headers, chunks=[b'{"input": '], ends=False) is None
    database = Database.in_folder(tmp_path)
    assert len(rows(database, "requests")) == 1
    assert {row["name"] for row in rows(database, "days") if row["kind"] == "tag"} == {""}
    database.close()


async def test_a_callable_that_breaks_lets_nobody_in(standin: StandIn, tmp_path: Path) -> None:
    def broken(scope: Scope) -> bool:
        raise KeyError("user")

    async with guarded(standin, tmp_path, broken) as app:
        answer = await embed(app, JSON)
    assert (answer.status, code(answer)) == (500, "internal")
    assert standin.call_count == 0


def _dependency(scope: Scope) -> Iterator[str]:
    """As FastAPI's are written. Called, it has checked nothing yet."""
    if not _by_header(scope):
        raise PermissionError
    yield "admin"


async def _dependency_later(scope: Scope) -> AsyncIterator[str]:
    yield "admin"


def _says(verdict: Any) -> Callable[[Scope], Any]:
    def says(scope: Scope) -> Any:
        return verdict

    return says


def _answer(scope: Scope) -> JSONResponse:
    return JSONResponse({"detail": "no"}, status_code=401)


@pytest.mark.parametrize(
    ("auth", "kind"),
    [
        (_dependency, "generator"),
        (_dependency_later, "async_generator"),
        (_answer, "JSONResponse"),
        (_says(1), "int"),
        (_says(["admin"]), "list"),
        (_says(b"admin"), "bytes"),
    ],
)
async def test_what_is_neither_yes_nor_no_lets_nobody_in_and_is_told_once(
    standin: StandIn, tmp_path: Path, auth: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(standin, tmp_path, auth) as app:
        for _ in range(2):
            answer = await embed(app, (b"x-team", b"search"))
            assert (answer.status, code(answer)) == (401, "invalid_api_key")
        flushed = await call(app, path="/cache/flushall")
        assert flushed is not None
        assert flushed.status == 401
    assert standin.call_count == 0
    (line,) = [one.getMessage() for one in caplog.records if one.levelname == "ERROR"]
    assert line.startswith(f"auth returned {kind}, ")


@pytest.mark.parametrize("nothing", [False, None, "", 0, []])
async def test_no_is_said_by_any_false_value(
    standin: StandIn, tmp_path: Path, nothing: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with guarded(standin, tmp_path, _says(nothing)) as app:
        assert (await embed(app)).status == 401
    assert not [one for one in caplog.records if one.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("status", "answered", "word"),
    [
        (401, 401, "refused_by_app"),
        (429, 429, "refused_by_app"),
        (303, 303, "refused_by_app"),
        (200, 401, "invalid_api_key"),
    ],
)
async def test_a_refusal_with_a_status_of_its_own_is_answered_with_it(
    standin: StandIn, tmp_path: Path, status: int, answered: int, word: str
) -> None:
    def refuse(scope: Scope) -> bool:
        raise HTTPException(status, "Log in first.", {"Location": "/login", "Content-Length": "1"})

    async with guarded(standin, tmp_path, refuse) as app:
        answer = await embed(app)
    assert (answer.status, code(answer)) == (answered, word)
    if word == "refused_by_app":
        assert answer.json()["detail"] == "Log in first."
        assert answer.headers[b"location"] == b"/login"
    assert int(answer.headers[b"content-length"]) == len(answer.body)
    assert standin.call_count == 0


@pytest.mark.parametrize("client", ["127.0.0.1", "127.8.8.8", "::1"])
@pytest.mark.parametrize(
    "host", [b"localhost", b"localhost:4000", b"LOCALHOST", b"127.0.0.1:4000", b"[::1]:4000", b"0.0.0.0:4000"]
)
async def test_a_server_without_keys_serves_this_machine(
    standin: StandIn, tmp_path: Path, client: str, host: bytes
) -> None:
    async with guarded(standin, tmp_path, "loopback") as app:
        assert (await embed(app, (b"host", host), JSON, client=client)).status == 200


@pytest.mark.parametrize("client", ["203.0.113.9", "10.0.0.1", "0.0.0.0", "::ffff:10.0.0.1", "not an address"])
async def test_a_server_without_keys_serves_no_other_machine(standin: StandIn, tmp_path: Path, client: str) -> None:
    async with guarded(standin, tmp_path, "loopback") as app:
        answer = await embed(app, LOCAL, JSON, client=client)
    assert (answer.status, code(answer)) == (403, "not_local")
    assert standin.call_count == 0


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.test",
        b"localhost.evil.test",
        b"127.0.0.1.evil.test",
        b"[",
        b"evil.test@localhost:x",
        b"10.0.0.1",
        b"localhost#.evil.test",
        b"localhost/.evil.test",
    ],
)
async def test_a_name_that_leads_here_from_outside_is_refused(standin: StandIn, tmp_path: Path, host: bytes) -> None:
    async with guarded(standin, tmp_path, "loopback") as app:
        answer = await embed(app, (b"host", host), JSON)
    assert (answer.status, code(answer)) == (403, "not_local")


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (b"http://localhost:4000", 200),
        (b"http://localhost:3000", 403),
        (b"https://evil.test", 403),
        (b"null", 403),
        (b"", 403),
        (b"http://[", 403),
    ],
)
async def test_no_web_page_of_another_origin_is_served(
    standin: StandIn, tmp_path: Path, origin: bytes, status: int
) -> None:
    async with guarded(standin, tmp_path, "loopback") as app:
        assert (await embed(app, LOCAL, JSON, (b"origin", origin))).status == status


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (b"application/json", 200),
        (b"Application/JSON; charset=utf-8", 200),
        (b"text/plain", 415),
        (b"application/x-www-form-urlencoded", 415),
        (b"text/plain; application/json", 415),
        (b"", 415),
    ],
)
async def test_without_keys_only_json_is_taken(
    standin: StandIn, tmp_path: Path, content_type: bytes, status: int
) -> None:
    async with guarded(standin, tmp_path, "loopback") as app:
        answer = await embed(app, LOCAL, (b"content-type", content_type))
    assert answer.status == status
    assert status == 200 or (code(answer) == "unsupported_media_type" and standin.call_count == 0)


async def test_a_page_can_not_flush_a_server_without_keys(standin: StandIn, tmp_path: Path) -> None:
    async with guarded(standin, tmp_path, "loopback") as app:
        await embed(app, LOCAL, JSON)
        flush = await call(app, path="/cache/flushall", headers=[LOCAL, (b"content-type", b"text/plain")])
        assert flush is not None
        assert flush.status == 415
        assert b"; hit;" in (await embed(app, LOCAL, JSON)).headers[b"cache-status"]


@pytest.mark.parametrize("auth", ["opne", "", "master", False, 0, True, b"open"])
def test_what_is_no_way_to_let_people_in_is_refused(auth: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="auth"):
        CacheProxyMiddleware(Nothing(()), settings=settings_for(tmp_path), auth=auth)


def test_a_middleware_that_lets_nobody_in_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CacheProxyMiddleware(Nothing(()), settings=settings_for(tmp_path))
    assert "nobody gets in" in caplog.text
