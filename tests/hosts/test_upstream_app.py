"""``upstream="app"``: an app that serves models is cached by the middleware round it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from cache_proxy import CacheProxyMiddleware
from cache_proxy.asgi.inner import caller
from cache_proxy.asgi.middleware import BESIDE_THE_APP
from cache_proxy.errors import ConfigError
from cache_proxy.upstream import outcome
from cache_proxy.wiring import Wired
from tests.hosts.alone import how
from tests.hosts.conftest import EMBED as EMBED_BY_JINA
from tests.hosts.conftest import MakeSettings
from tests.hosts.model_apps import Works, infinity, vector, vllm
from tests.hosts.served import served
from tests.hosts.test_lifespans import lived

pytestmark = pytest.mark.anyio

MODEL = "BAAI/bge-small-en-v1.5"
EMBED: dict[str, Any] = {"model": MODEL, "input": ["one", "three"]}
RANK: dict[str, Any] = {"model": "BAAI/bge-reranker-base", "query": "q", "documents": ["bb", "a", "ccc"], "top_n": 2}
HIT, MISS = "hit", "fwd=miss"

Cache = Callable[..., CacheProxyMiddleware]


@pytest.fixture
def works() -> Works:
    return Works()


@pytest.fixture
async def cache(settings: MakeSettings) -> AsyncIterator[Cache]:
    """Puts the middleware round an app, as an upstream of itself."""
    made: list[CacheProxyMiddleware] = []

    def cache(app: ASGIApp, document: dict[str, Any] | None = None, **options: Any) -> CacheProxyMiddleware:
        usual: dict[str, Any] = {"upstream": "app", "auth": "open"}
        made.append(CacheProxyMiddleware(app, settings=settings(document), **(usual | options)))
        return made[-1]

    yield cache
    for one in made:
        await one.wired.close()


@asynccontextmanager
async def client_of(app: ASGIApp, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


@pytest.mark.parametrize(
    ("build", "path"),
    [(infinity, "/embeddings"), (vllm, "/v1/embeddings")],
)
async def test_embeddings_of_the_app_are_made_once(
    cache: Cache, works: Works, build: Callable[[Works], FastAPI], path: str
) -> None:
    async with client_of(cache(build(works))) as client:
        first, second = [await client.post(path, json=EMBED) for _ in range(2)]
        assert (how(first), how(second)) == (MISS, HIT)
        assert first.json() == second.json()
        assert [row["embedding"] for row in first.json()["data"]] == [vector("one"), vector("three")]
        assert first.json()["usage"]["total_tokens"] == 8
        # Each text is kept by itself: only what is new is asked for, in our words.
        await client.post(path, json={**EMBED, "input": ["three", "new"], "encoding_format": "base64", "user": "me"})
    assert works.paths == [path, path]
    assert works.bodies == [{"model": MODEL, "input": ["one", "three"]}, {"model": MODEL, "input": ["new"]}]


@pytest.mark.parametrize(
    ("build", "path"),
    [(infinity, "/rerank"), (vllm, "/rerank"), (vllm, "/v1/rerank"), (vllm, "/v2/rerank")],
)
async def test_rankings_of_the_app_are_made_once_and_kept_whole(
    cache: Cache, works: Works, build: Callable[[Works], FastAPI], path: str
) -> None:
    async with client_of(cache(build(works))) as client:
        first, second = [await client.post(path, json=RANK) for _ in range(2)]
        assert (how(first), how(second)) == (MISS, HIT)
        assert first.json()["results"] == second.json()["results"]
        assert [row["index"] for row in first.json()["results"]] == [2, 0]
    assert (works.paths, works.bodies) == ([path], [RANK])


async def test_the_configuration_may_say_more_of_a_model(cache: Cache, works: Works) -> None:
    entry = {
        "model_name": "ranker",
        "litellm_params": {"model": f"infinity/{RANK['model']}", "api_base": "app"},
        "model_info": {"documents": "pairs"},
    }
    async with client_of(cache(infinity(works), {"model_list": [entry]})) as client:
        await client.post("/rerank", json={**RANK, "model": "ranker"})
        answer = await client.post("/rerank", json={**RANK, "model": "ranker", "documents": ["ccc", "dddd", "a"]})
        # Pairs of query and document are kept by themselves, and any other model is still the app's.
        assert "items=3 hit=2 miss=1" in answer.headers["cache-status"]
        assert (await client.post("/embeddings", json=EMBED)).status_code == 200
    assert [body["model"] for body in works.bodies] == [RANK["model"], RANK["model"], MODEL]
    assert works.bodies[1]["documents"] == ["dddd"]


async def test_some_models_may_be_the_apps_and_others_jinas(cache: Cache, works: Works) -> None:
    entry = {"model_name": "jina-*", "litellm_params": {"model": "jina_ai/jina-*"}}
    async with client_of(cache(infinity(works), {"model_list": [entry]})) as client:
        by_jina = await client.post("/embeddings", json=EMBED_BY_JINA)
        assert (by_jina.status_code, len(by_jina.json()["data"][0]["embedding"])) == (200, 8)
        assert works.asked == []
        assert (await client.post("/embeddings", json=EMBED)).json()["data"][0]["embedding"] == vector("one")


async def test_a_model_of_the_app_may_be_called_jinas_but_never_gets_jinas_key(cache: Cache, works: Works) -> None:
    model = "jina-reranker-v2-base-multilingual"
    entry = {"model_name": model, "litellm_params": {"model": f"jina_ai/{model}", "api_base": "app"}}
    async with client_of(cache(infinity(works), {"model_list": [entry]})) as client:
        answer = await client.post("/rerank", json={**RANK, "model": model})
        assert (answer.status_code, len(answer.json()["results"])) == (200, 2)
    # In Jina's dialect: the full ranking, without documents.
    expected = {"model": model, "query": "q", "documents": RANK["documents"], "return_documents": False}
    assert works.bodies == [expected]
    assert "authorization" not in works.asked[0].headers


@pytest.mark.parametrize("model", ["openai/clip-vit", "jina_ai/x", "jina-embeddings-v3", "databricks/x", "one model"])
async def test_the_apps_names_for_its_models_are_taken_as_they_are(cache: Cache, works: Works, model: str) -> None:
    async with client_of(cache(infinity(works))) as client:
        answer = await client.post("/embeddings", json={**EMBED, "model": model})
        assert (answer.status_code, answer.json()["model"]) == (200, model)
        assert answer.headers["x-cost-usd"] == "unknown"
    assert works.bodies[0]["model"] == model


async def test_a_request_without_a_model_is_refused_and_not_passed_on(cache: Cache, works: Works) -> None:
    async with client_of(cache(infinity(works))) as client:
        answer = await client.post("/embeddings", json={"input": ["a"]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (422, "model")
    assert works.asked == []


async def test_its_other_routes_are_not_shadowed_and_ours_are_beside(cache: Cache, works: Works) -> None:
    app = cache(infinity(works), auth=None, document={"general_settings": {"master_key": "sk-ours"}})
    async with client_of(app) as client:
        assert (await client.get("/health")).json() == {"unix": 1.0}
        assert (await client.get("/models")).json()["data"][0]["id"] == "its own"
        assert (await client.get("/openapi.json")).json()["info"]["title"] == "FastAPI"
        for path in ("/v1/models", "/cache/ping", "/health/readiness"):
            assert (await client.get(path)).json() == {"detail": "Not Found"}
        assert (await client.get(f"{BESIDE_THE_APP}/health/readiness")).json()["status"] == "healthy"
        assert (await client.get(f"{BESIDE_THE_APP}/cache/ping")).status_code == 401
        ours = {"authorization": "Bearer sk-ours"}
        assert (await client.get(f"{BESIDE_THE_APP}/cache/ping", headers=ours)).status_code == 200
        assert (await client.get(f"{BESIDE_THE_APP}/models", headers=ours)).json()["data"] == []
        described = (await client.get(f"{BESIDE_THE_APP}/openapi.json", headers=ours)).json()["paths"]
        assert {"/v1/embeddings", f"{BESIDE_THE_APP}/cache/delete"} <= set(described)
        assert "/cache/delete" not in described


async def test_a_purge_makes_the_app_work_again(cache: Cache, works: Works) -> None:
    async with client_of(cache(infinity(works))) as client:
        await client.post("/embeddings", json=EMBED)
        purged = await client.post(f"{BESIDE_THE_APP}/cache/delete", json={"request": EMBED})
        assert purged.json()["deleted"] == 2
        await client.post("/embeddings", json=EMBED)
    assert len(works.asked) == 2


async def test_under_a_prefix_the_cached_routes_stand_beside_the_bare_ones(cache: Cache, works: Works) -> None:
    async with client_of(cache(vllm(works), prefix="/cached")) as client:
        for _ in range(2):
            assert (await client.post("/cached/v1/embeddings", json=EMBED)).status_code == 200
        assert works.paths == ["/v1/embeddings"]
        assert works.asked[0].scope["raw_path"] == b"/v1/embeddings"
        assert "cache-status" not in (await client.post("/v1/embeddings", json=EMBED)).headers
        assert len(works.asked) == 2
        assert (await client.get("/cached/health/liveness")).status_code == 200


@pytest.mark.parametrize("prefix", ["", "/cached"])
async def test_below_a_mount_the_app_is_called_below_the_mount(cache: Cache, works: Works, prefix: str) -> None:
    app = Starlette(routes=[Mount("/models é", app=cache(infinity(works), prefix=prefix))])
    async with client_of(app) as client:
        assert (await client.post(f"/models é{prefix}/embeddings", json=EMBED)).status_code == 200
    (request,) = works.asked
    assert (request.scope["root_path"], request.scope["path"]) == ("/models é", "/models é/embeddings")
    assert request.scope["raw_path"] == b"/models%20%C3%A9/embeddings"


# Who gets in ---------------------------------------------------------------------------------------------------------


def test_somebody_must_say_who_gets_in(settings: MakeSettings, works: Works) -> None:
    with pytest.raises(ConfigError, match=r"master_key.*auth"):
        CacheProxyMiddleware(infinity(works), settings=settings(), upstream="app")


async def test_a_callable_is_asked_before_any_hit(cache: Cache, works: Works) -> None:
    def knows(scope: Scope) -> str | None:
        return "friend" if (b"x-friend", b"yes") in scope["headers"] else None

    async with client_of(cache(infinity(works), auth=knows)) as client:
        assert (await client.post("/embeddings", json=EMBED, headers={"x-friend": "yes"})).status_code == 200
        for _ in range(2):
            assert (await client.post("/embeddings", json=EMBED)).status_code == 401
    assert len(works.asked) == 1


@pytest.mark.parametrize(("build", "path"), [(infinity, "/embeddings"), (vllm, "/v1/embeddings")])
async def test_the_app_sees_the_callers_own_key(
    cache: Cache, works: Works, build: Callable[[Works, str], FastAPI], path: str
) -> None:
    async with client_of(cache(build(works, "sk-app"))) as client:
        refused = await client.post(path, json=EMBED, headers={"authorization": "Bearer wrong"})
        assert refused.status_code == 401
        assert "Unauthorized" in refused.text
        assert "error" not in refused.json() or refused.json() == {"error": "Unauthorized"}
        taken = await client.post(path, json=EMBED, headers={"authorization": "Bearer sk-app"})
        assert (taken.status_code, how(taken)) == (200, MISS)


async def test_one_key_for_both_is_checked_by_both(cache: Cache, works: Works) -> None:
    app = cache(infinity(works, "sk-app"), {"general_settings": {"master_key": "sk-app"}}, auth=None)
    async with client_of(app) as client:
        assert (await client.post("/embeddings", json=EMBED)).status_code == 401
        assert (await client.post("/embeddings", json=EMBED, headers={"authorization": "Bearer sk-app"})).is_success


async def test_an_entry_for_the_app_may_hold_its_key_and_headers(cache: Cache, works: Works) -> None:
    params = {"model": "*", "api_base": "app", "api_key": "sk-app", "extra_headers": {"X-Tenant": "ours"}}
    document = {"model_list": [{"model_name": "*", "litellm_params": params}]}
    async with client_of(cache(infinity(works, "sk-app"), document)) as client:
        answer = await client.post("/embeddings", json=EMBED, headers={"authorization": "Bearer mine"})
        assert answer.status_code == 200
    assert works.asked[0].headers.getlist("authorization") == ["Bearer sk-app"]
    assert works.asked[0].headers["x-tenant"] == "ours"


async def test_a_caller_with_a_good_key_is_not_harmed_by_one_without_who_came_first(cache: Cache, works: Works) -> None:
    app, gate, calls = vllm(works, "sk-app"), asyncio.Event(), []

    async def slow_to_check(scope: Scope, receive: Receive, send: Send) -> None:
        calls.append(dict(scope["headers"])[b"authorization"])
        await gate.wait()
        await app(scope, receive, send)

    async with client_of(cache(slow_to_check)) as client:

        def ask(key: str) -> asyncio.Task[httpx.Response]:
            headers = {"authorization": f"Bearer {key}"}
            return asyncio.create_task(client.post("/v1/embeddings", json=EMBED, headers=headers))

        bad = ask("wrong")
        while not calls:
            await asyncio.sleep(0)
        good = [ask("sk-app") for _ in range(3)]
        await asyncio.sleep(0.05)
        assert calls == [b"Bearer wrong"], "they wait for the first one's call"
        gate.set()
        assert (await bad).status_code == 401
        assert [answer.status_code for answer in await asyncio.gather(*good)] == [200] * 3
    assert calls == [b"Bearer wrong", b"Bearer sk-app"]


async def test_only_listed_headers_of_the_caller_reach_the_app(cache: Cache, works: Works) -> None:
    sent = {
        "authorization": "Bearer k", "cookie": "a=b", "x-forwarded-for": "10.0.0.9", "traceparent": "00-a-b-01",
        "x-request-id": "mine", "user-agent": "me",
        "accept": "text/event-stream", "accept-encoding": "br", "range": "bytes=0-1", "if-none-match": "*",
        "cache-control": "max-age=9", "x-other": "secret", "content-type": "application/json; x=y",
    }  # fmt: skip
    async with client_of(cache(infinity(works))) as client:
        await client.post("/embeddings?debug=1", json=EMBED, headers=sent)
    (request,) = works.asked
    assert {name: value for name, value in request.headers.items() if name not in sent} == {
        "host": "localhost",
        "content-length": str(len(b'{"model":"BAAI/bge-small-en-v1.5","input":["one","three"]}')),
    }
    changed = {"accept": "application/json", "accept-encoding": "identity", "content-type": "application/json"}
    kept = {"authorization", "cookie", "x-forwarded-for", "traceparent", "x-request-id", "user-agent"}
    assert {name: request.headers.get(name) for name in sent} == {
        name: value if name in kept else changed.get(name) for name, value in sent.items()
    }
    assert request.url.query == ""
    assert request.client is not None


async def test_what_the_server_can_do_for_the_caller_is_not_offered_to_the_app(cache: Cache, works: Works) -> None:
    app = cache(infinity(works))
    extended: list[Scope] = []

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        extended.append({**scope, "extensions": {"http.response.pathsend": {}}})
        await app(extended[0], receive, send)
        assert caller.get(None) is None, "and nothing of the call stays behind"

    async with client_of(serve) as client:
        assert (await client.post("/embeddings", json=EMBED)).status_code == 200
    assert works.asked[0].scope["extensions"] == {}
    assert extended[0]["extensions"] == {"http.response.pathsend": {}}


# What the app says ---------------------------------------------------------------------------------------------------


async def test_an_exception_in_the_app_is_a_500_and_told_in_the_log_without_its_message(
    cache: Cache, works: Works, caplog: pytest.LogCaptureFixture
) -> None:
    async with client_of(cache(infinity(works))) as client:
        for path, body in (("/embeddings", EMBED), ("/rerank", RANK)):
            for _ in range(2):
                answer = await client.post(path, json={**body, "model": "broken"})
                assert (answer.status_code, answer.text) == (500, "Internal Server Error")
                assert answer.headers["cache-status"].startswith("cache-proxy; fwd=miss; detail")
    assert len(works.asked) == 4, "neither tried again nor kept"
    assert caplog.text.count("the app raised LookupError in request") == 4
    assert "in begin" in caplog.text, "and where"
    assert "three" not in caplog.text


async def test_added_to_the_app_the_middleware_answers_for_its_exceptions_as_the_server_would(
    works: Works, settings: MakeSettings
) -> None:
    app = infinity(works)
    app.add_middleware(CacheProxyMiddleware, settings=settings(), upstream="app", auth="open")
    async with client_of(app) as client:
        answer = await client.post("/embeddings", json={**EMBED, "model": "broken"})
        assert (answer.status_code, answer.text) == (500, "Internal Server Error")
        for status in (MISS, HIT):
            assert how(await client.post("/embeddings", json=EMBED)) == status


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({**EMBED, "model": "unknown"}, 400, {"detail": "Invalid model for ['one', 'three']"}),
        ({**EMBED, "model": "busy"}, 503, {"detail": "overloaded"}),
    ],
)
async def test_a_refusal_of_the_apps_comes_back_as_it_wrote_it(
    cache: Cache, works: Works, body: dict[str, Any], status: int, told: dict[str, str]
) -> None:
    async with client_of(cache(infinity(works))) as client:
        answer = await client.post("/embeddings", json=body)
        assert (answer.status_code, answer.json()) == (status, told)
        assert answer.headers.get("retry-after") == ("1" if status == 503 else None)
    assert len(works.asked) == 1, "an app in this process is asked once"


async def test_a_route_the_app_does_not_have_is_its_own_404(cache: Cache, works: Works) -> None:
    async with client_of(cache(infinity(works))) as client:
        answer = await client.post("/v1/embeddings", json=EMBED)
        assert (answer.status_code, answer.json()) == (404, {"detail": "Not Found"})


async def test_what_the_app_says_of_anothers_texts_is_not_shown_to_who_joined(cache: Cache, works: Works) -> None:
    works.gate.clear()
    async with client_of(cache(infinity(works))) as client:

        def ask(*texts: str) -> asyncio.Task[httpx.Response]:
            return asyncio.create_task(client.post("/embeddings", json={"model": "busy", "input": texts}))

        first = ask("shared", "CANARY")
        while not works.asked:
            await asyncio.sleep(0)
        second = ask("shared")
        await asyncio.sleep(0.05)
        works.gate.set()
        own, joined = await asyncio.gather(first, second)
    assert len(works.asked) == 1
    assert (own.status_code, joined.status_code) == (503, 503)
    assert own.json() == {"detail": "overloaded"}
    assert joined.json()["error"]["code"] == "upstream_503"


def said(*messages: dict[str, Any]) -> ASGIApp:
    """An app that sends just this."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


def start(status: int = 200, **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": named}


def body(content: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


@pytest.mark.parametrize(
    ("app", "status", "code"),
    [
        (said(), 500, None),
        (said(start(200), body(b'{"data"', more=True)), 502, "upstream_invalid_answer"),
        (said(start(418), body(b"no", more=True)), 500, None),
        (said(start(200), body(b"<html>")), 502, "upstream_invalid_answer"),
        (said(start(204), body(b"")), 502, "upstream_invalid_answer"),
        (said(start(307, location="/embeddings/"), body(b"")), 502, "upstream_invalid_answer"),
        (said(start(200, content_encoding="gzip"), body(b"\x1f\x8b")), 502, "upstream_invalid_answer"),
        (
            said(start(200), body(b"x" * 600, more=True), body(b"x" * 600), body(b"late")),
            502,
            "upstream_invalid_answer",
        ),
    ],
)
async def test_what_is_no_answer_is_never_kept(
    cache: Cache, app: ASGIApp, status: int, code: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "ANSWER_LIMIT", 1000)
    async with client_of(cache(app)) as client:
        for _ in range(2):
            answer = await client.post("/embeddings", json=EMBED)
            assert answer.status_code == status
            assert code is None or answer.json()["error"]["code"] == code
            assert answer.headers["cache-status"].startswith("cache-proxy; fwd=miss; detail")


@pytest.mark.parametrize(("status", "word"), [(307, "a redirect is not followed"), (204, "only 200 makes sense")])
async def test_an_answer_out_of_place_is_told_in_words_about_the_app(cache: Cache, status: int, word: str) -> None:
    async with client_of(cache(said(start(status, location="/embeddings/"), body(b"")))) as client:
        answer = await client.post("/embeddings", json=EMBED)
    message = answer.json()["error"]["message"]
    assert f"The app answered with status {status}" in message
    assert word in message
    assert "api_base" not in message


async def test_an_app_whose_answer_is_not_read_any_further_is_told_so(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcome, "ANSWER_LIMIT", 1000)
    told = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            while True:
                await send(body(b"x" * 600, more=True))
                await asyncio.sleep(0)
        except OSError:
            told.set()

    async with client_of(cache(app)) as client:
        assert (await client.post("/embeddings", json=EMBED)).status_code == 502
    async with asyncio.timeout(5):
        await told.wait()


async def test_an_app_that_takes_too_long_is_told_to_stop(cache: Cache, works: Works) -> None:
    works.gate.clear()
    async with client_of(cache(infinity(works), {"litellm_settings": {"request_timeout": 0.05}})) as client:
        answer = await client.post("/embeddings", json=EMBED)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream_timeout")
    assert works.told == ["cancelled"]


async def test_a_body_beyond_the_limit_does_not_reach_the_app(cache: Cache, works: Works) -> None:
    async with client_of(cache(infinity(works), {"cache_proxy_settings": {"max_body_mib": 0.001}})) as client:
        answer = await client.post("/embeddings", json={**EMBED, "input": ["x" * 2000]})
        assert answer.status_code == 413
    assert works.asked == []


# Apart from other apps -----------------------------------------------------------------------------------------------


async def test_two_apps_with_a_model_of_one_name_never_get_each_others_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("CACHE_PROXY_DIR", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    for number in (1.0, 2.0):
        row = {"index": 0, "embedding": [number]}
        answers = httpx.Response(200, json={"data": [row], "usage": {"total_tokens": 1}}).content
        # Without any configuration: what everybody tries first.
        app = CacheProxyMiddleware(said(start(), body(answers)), upstream="app", auth="open")
        async with client_of(app) as client:
            for status in (MISS, HIT):
                answer = await client.post("/embeddings", json={"model": "default", "input": "hello"})
                assert (how(answer), answer.json()["data"][0]["embedding"]) == (status, [number])
        await app.wired.close()


def test_two_apps_on_one_store_are_refused_until_somebody_tells_them_apart(
    works: Works, settings: MakeSettings
) -> None:
    with pytest.raises(ConfigError, match=r"namespace.*identity"):
        CacheProxyMiddleware(infinity(works), settings=settings(folder="shared"), upstream="app", auth="open")


# Many at once, and the end --------------------------------------------------------------------------------------------


async def test_twenty_equal_requests_at_once_are_one_call(cache: Cache, works: Works) -> None:
    works.gate.clear()
    async with client_of(cache(infinity(works))) as client:
        asking = [asyncio.create_task(client.post("/embeddings", json=EMBED)) for _ in range(20)]
        while not works.asked:
            await asyncio.sleep(0)
        works.gate.set()
        answers = await asyncio.gather(*asking)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert len(works.asked) == 1


async def test_many_different_requests_at_once_all_reach_the_app(cache: Cache, works: Works) -> None:
    works.gate.clear()
    async with client_of(cache(infinity(works))) as client:
        asking = [asyncio.create_task(client.post("/embeddings", json={**EMBED, "input": [str(n)]})) for n in range(50)]
        # The app queues and batches by itself, so none of them waits for another.
        async with asyncio.timeout(10):
            while len(works.asked) < 50:
                await asyncio.sleep(0)
        works.gate.set()
        assert {answer.status_code for answer in await asyncio.gather(*asking)} == {200}


def test_a_client_who_leaves_does_not_cancel_the_call(works: Works, settings: MakeSettings) -> None:
    app = CacheProxyMiddleware(infinity(works), settings=settings(), upstream="app", auth="open")
    works.gate.clear()
    with served(app) as server, httpx.Client(base_url=server.url, verify=False) as client:  # noqa: S501
        with pytest.raises(httpx.ReadTimeout):
            client.post("/embeddings", json=EMBED, timeout=httpx.Timeout(5, read=0.2))
        assert len(works.asked) == 1
        client.post("/open")
        assert client.post("/embeddings", json=EMBED).status_code == 200
        assert "cancelled" not in works.told
    assert len(works.asked) == 1
    assert works.told == ["loaded", "background", "unloaded"]


async def test_the_apps_background_tasks_hold_up_no_answer(cache: Cache) -> None:
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        row = {"index": 0, "embedding": [1.0]}
        await send(body(httpx.Response(200, json={"data": [row], "usage": {"total_tokens": 1}}).content))
        assert (await receive())["type"] == "http.disconnect"
        await ended.wait()

    cached = cache(app)
    async with client_of(cached) as client:
        assert (await client.post("/embeddings", json={**EMBED, "input": ["a"]})).status_code == 200
        closing = asyncio.create_task(cached.wired.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        ended.set()
        await closing


def kept_in(folder: Path) -> dict[str, Any]:
    return {"cache_params": {"type": "disk", "disk_cache_dir": str(folder), "namespace": "this app"}}


async def test_calls_under_way_come_home_before_the_app_is_told_to_end(
    cache: Cache, works: Works, tmp_path: Path
) -> None:
    works.gate.clear()
    works.takes = 0.05
    # One after the other, so that one call is still to be made when the end is told.
    document = {"router_settings": {"default_max_parallel_requests": 1}, "litellm_settings": kept_in(tmp_path)}
    app = cache(infinity(works), document)
    left = ["lifespan.startup", "lifespan.shutdown"]

    async def receive() -> dict[str, Any]:
        if left[0] == "lifespan.shutdown":
            leaving = [asyncio.create_task(_embed(app, text)) for text in "ab"]
            while not works.asked:
                await asyncio.sleep(0)
            await asyncio.sleep(0.05)
            for one in leaving:
                one.cancel()
            asyncio.get_running_loop().call_later(0.05, works.gate.set)
        return {"type": left.pop(0)}

    async def send(message: Any) -> None:
        works.told.append(message["type"])

    await app({"type": "lifespan", "asgi": {}, "state": {}}, receive, send)
    assert works.told == [
        "loaded",
        "lifespan.startup.complete",
        "background",
        "background",
        "unloaded",
        "lifespan.shutdown.complete",
    ]
    assert [await _embed(app, text) for text in "ab"] == [HIT, HIT]


async def _embed(app: ASGIApp, text: str) -> str:
    async with client_of(app) as client:
        return how(await client.post("/embeddings", json={**EMBED, "input": [text]}))


def test_a_call_under_way_when_the_loop_ends_comes_home(works: Works, settings: MakeSettings, tmp_path: Path) -> None:
    document = {"litellm_settings": kept_in(tmp_path)}
    app = CacheProxyMiddleware(infinity(works), settings=settings(document), upstream="app", auth="open")

    async def leave() -> None:
        works.gate.clear()
        leaving = asyncio.create_task(_embed(app, "a"))
        while not works.asked:
            await asyncio.sleep(0)
        leaving.cancel()
        asyncio.get_running_loop().call_later(0.05, works.gate.set)

    asyncio.run(leave())
    assert asyncio.run(_embed(app, "a")) == HIT
    assert works.told == ["background"]


async def test_what_the_apps_lifespan_sets_is_there_in_a_call_and_can_not_be_changed_by_it(
    cache: Cache, works: Works
) -> None:
    app = cache(infinity(works))
    state: dict[str, Any] = {}
    await lived(app, state=state)
    assert state == {"device": "cpu"}

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": state}, receive, send)

    async with client_of(with_state) as client:
        await client.post("/embeddings", json=EMBED)
    assert works.asked[0].state.device == "cpu"
    assert works.asked[0].scope["state"] is not state


# What can not be -----------------------------------------------------------------------------------------------------


def test_only_the_app_can_be_named(settings: MakeSettings, works: Works) -> None:
    elsewhere: Any = "http://elsewhere.test"
    with pytest.raises(ConfigError, match="can only be"):
        CacheProxyMiddleware(infinity(works), settings=settings(), upstream=elsewhere)


def test_the_app_needs_a_middleware_that_was_told_of_it(settings: MakeSettings) -> None:
    document = {"model_list": [{"model_name": "m", "litellm_params": {"model": "infinity/m", "api_base": "app"}}]}
    with pytest.raises(ConfigError, match=r'api_base: app.*upstream="app"'):
        CacheProxyMiddleware(Starlette(), settings=settings(document), auth="open")
    with pytest.raises(ConfigError, match="not both"):
        CacheProxyMiddleware(Starlette(), wired=Wired(settings()), upstream="app", auth="open")
