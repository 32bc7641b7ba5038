"""No input makes a 5xx: whatever comes in over HTTP gets an answer, or a 4xx in the one shape of our errors."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cache_proxy.asgi.middleware import CacheProxyMiddleware, routes
from cache_proxy.asgi.standalone import Nothing
from cache_proxy.settings import Settings
from cache_proxy.standin import StandIn
from cache_proxy.wiring import Wired
from tests.asgi.raw import JSON, Answer, Headers, call
from tests.bodies import EMBEDDERS, RERANKERS
from tests.support import connect_to, settings_for

CANARY = "CANARY"
EMBED: dict[str, Any] = {"model": "jina-embeddings-v3", "input": ["CANARY", {"text": "b"}], "dimensions": 8}
RANK: dict[str, Any] = {"model": "jina-reranker-m0", "query": "CANARY", "documents": ["CANARY", {"text": "b"}]}
PURGE: dict[str, Any] = {"keys": ["00" * 32]}
PURGE_REQUEST: dict[str, Any] = {"request": EMBED}
PATHS: Mapping[str, Sequence[dict[str, Any]]] = {
    "/v1/embeddings": (EMBED, {**EMBED, "model": "jina-colbert-v2", "cache": {"ttl": 5}}),
    "/v2/rerank": (RANK, {**RANK, "model": "jina-reranker-v3", "top_n": 1}),
    "/cache/delete": (PURGE, PURGE_REQUEST),
}
BOMB = 10_000


class Request(NamedTuple):
    """One request, as it comes in."""

    path: str = "/v1/embeddings"
    body: bytes = b""
    headers: Headers = JSON
    method: str = "POST"
    query: bytes = b""


class Lines(list[str]):
    """The request log, in a list."""

    def __call__(self, line: str) -> None:
        self.append(line)

    def flush(self) -> None:
        """Nothing waits here."""


class Everything(logging.Handler):
    """All that is logged, with every detail."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.text.append(f"{self.format(record)} {vars(record)}")


def sent(requests: Iterable[Request]) -> None:
    """Send these to one proxy and hold each answer to the promise."""
    asyncio.run(_sent(list(requests)))


async def _sent(requests: list[Request]) -> None:
    lines, everything = Lines(), Everything()
    root = logging.getLogger()
    before = root.level
    root.addHandler(everything)
    root.setLevel(logging.DEBUG)
    document = {
        "cache_proxy_settings": {"max_body_mib": 1, "log_format": "json"},
        # A refused request is not tried again: the pause before would be all that this measures.
        "litellm_settings": {"num_retries": 0, "cache": True, "cache_params": {"type": "local"}},
    }
    try:
        with TemporaryDirectory() as folder:
            wired = Wired(settings_for(Path(folder), document), connect=connect_to(StandIn()), lines=lines)
            app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="loopback")
            for request in requests:
                await _hold(app, request)
            await wired.close()
    finally:
        root.removeHandler(everything)
        root.setLevel(before)
    assert not [line for line in (*lines, *everything.text) if CANARY in line]


async def _hold(app: ASGIApp, request: Request) -> None:
    path, body, headers, method, query = request
    answer = await call(app, method, path, headers=headers, chunks=[body], query=query)
    assert answer is not None
    if method == "HEAD":
        assert (answer.status < 500, answer.body) == (True, b"")
        return
    assert answer.status < 500 or _is_meant_to_be(answer), (request, answer)
    if answer.status >= 400 and not _is_the_upstreams(answer):
        held_to_the_shape(answer)


def _is_meant_to_be(answer: Answer) -> bool:
    """Jina answers a list of encodings with a 500 of its own, which passes through; only-if-cached asks for a 504."""
    told = answer.json()
    if _is_the_upstreams(answer):
        return bool(answer.status == 500 and told["detail"]["code"] == "INTERNAL_ERROR")
    return bool(answer.status == 504 and told["error"]["code"] == "not_cached")


def _is_the_upstreams(answer: Answer) -> bool:
    return b"request_id" in answer.body and "error" not in answer.json()


def held_to_the_shape(answer: Answer) -> None:
    """Our own errors: OpenAI's object and Jina's detail, and nothing of what was sent."""
    told = answer.json()
    assert set(told) == {"error", "detail"}
    error = told["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert told["detail"] == error["message"]
    assert error["param"] is None or isinstance(error["param"], str)
    assert all(isinstance(error[name], str) and error[name] for name in ("message", "type", "code"))
    assert CANARY.encode() not in answer.body


def to_every_path(body: bytes) -> list[Request]:
    return [Request(path, body) for path in PATHS]


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "a space": b" ",
    "null": b"null",
    "a number": b"1",
    "a text": b'"CANARY"',
    "a list": b'["CANARY"]',
    "an empty object": b"{}",
    "half an object": b'{"model": "CANARY',
    "two objects": b'{"model": "jina-embeddings-v3"}{"input": "CANARY"}',
    "a comma too many": b'{"model": "CANARY",}',
    "single quotes": b"{'model': 'CANARY'}",
    "a form": b"model=CANARY&input=CANARY",
    "a byte order mark": b"\xef\xbb\xbf" + orjson.dumps(EMBED),
    "UTF-16": json.dumps(EMBED).encode("utf-16"),
    "UTF-16 without a mark": json.dumps(EMBED).encode("utf-16-le"),
    "UTF-32": json.dumps(EMBED).encode("utf-32"),
    "invalid UTF-8": b'{"model": "jina-embeddings-v3", "input": "CANARY\xff\xfe"}',
    "an overlong encoding": b'{"model": "jina-embeddings-v3", "input": "\xc0\xaf"}',
    "an encoded surrogate": b'{"model": "jina-embeddings-v3", "input": "\xed\xa0\x80"}',
    "a lone surrogate": b'{"model": "jina-embeddings-v3", "input": "\\ud800 CANARY"}',
    "a lone surrogate as a name": b'{"model": "jina-embeddings-v3", "input": "a", "\\udfff": 1}',
    "a lone surrogate as the model": b'{"model": "\\ud800", "input": "a"}',
    "a control character": b'{"model": "jina-embeddings-v3", "input": "a\x00b"}',
    "NaN": b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": NaN}',
    "Infinity": b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": -Infinity}',
    "a number too large": b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": 1e999}',
    "a huge integer": b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": ' + b"9" * 400 + b"}",
    "an integer of 65 bits": b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": 18446744073709551616}',
    "an unknown huge integer": b'{"model": "jina-embeddings-v3", "input": "a", "x": ' + b"9" * 5000 + b"}",
    "a negative zero": b'{"model": "jina-embeddings-v3", "input": "a", "dimensions": -0}',
    "a name twice": b'{"model": "jina-embeddings-v3", "input": "CANARY", "input": "b", "input": []}',
    "a thousand names": orjson.dumps({**EMBED, **{f"x{at}": at for at in range(1000)}}),
    "a long name": orjson.dumps({**EMBED, "x" * 100_000: 1}),
    "a long model": orjson.dumps({**EMBED, "model": "x" * 100_000}),
    "an empty name": orjson.dumps({**EMBED, "": 1}),
    "brackets": b"[" * BOMB,
    "closed brackets": b"[" * BOMB + b"]" * BOMB,
    "objects": b'{"a":' * BOMB,
    "closed objects": b'{"a":' * BOMB + b"1" + b"}" * BOMB,
    "a bomb as the model": b'{"model": ' + b"[" * BOMB + b"]" * BOMB + b"}",
    **{
        f"a bomb as {name}, {depth} deep": orjson.dumps(EMBED)[:-1]
        + b', "%b": %b%b}' % (name.encode(), b"[" * depth, b"]" * depth)
        for name in ("input", "content", "x", "metadata", "cache", "documents", "query", "dimensions", "task", "keys")
        for depth in (31, 33, 200, 1000, 1024, BOMB)
    },
    **{
        f"nested inputs, {depth} deep": b'{"model": "jina-embeddings-v5-omni-small", "input": [%b"a"%b]}'
        % (b'{"content": [' * depth, b"]}" * depth)
        for depth in (10, 16, 40, 200)
    },
    **{
        f"nested documents, {depth} deep": b'{"model": "jina-reranker-m0", "query": "q", "documents": [%b1%b]}'
        % (b'{"a":' * depth, b"}" * depth)
        for depth in (10, 30, 31, 32, 200)
    },
    "a body over the limit": b" " * (2**20 + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bodies_once_found_or_feared_are_answered_or_refused(name: str) -> None:
    sent(to_every_path(BODIES[name]))


BOMBS = [
    name
    for name in BODIES
    if ("bomb" in name or "bracket" in name or "closed objects" in name)
    # What nobody reads does no harm: a second name for the input, a note about the caller, a shallow list.
    and not any(word in name for word in ("content", "metadata", " 31 "))
]


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_never_taken_for_a_request(tmp_path: Path, name: str) -> None:
    async def status() -> int:
        answer = await call(_server(tmp_path), path="/v1/embeddings", chunks=[BODIES[name]])
        assert answer is not None
        return answer.status

    assert 400 <= asyncio.run(status()) < 500


def _server(folder: Path) -> ASGIApp:
    wired = Wired(settings_for(folder, {"litellm_settings": {"cache": False}}), connect=connect_to(StandIn()))
    return CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="loopback")


ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 2**64 - 1, -(2**63), 0.5, -0.0, 1e308, 5e-324, "", "CANARY", "a" * 5000,
    "\x00", "\u2028", "\U0010ffff", "jina_ai/", "*", "jina_ai/*", "../../etc/passwd", [], {}, [None], [[]], [{}], [""],
    [1], [True], [1, "a"], ["a", 1], ["a", None], {"": None}, {"text": None}, {"text": []}, {"text": "a", "image": "b"},
    {"image": "https://[::1"}, {"image": "data:"}, {"url": 5}, {"bytes": {}}, {"content": []}, {"content": "a"},
    {"content": [{"content": [{"text": "a"}]}]}, {"pdf": ""}, {"pdf": 1}, [{"pdf": "a"}, {"pdf": "b"}], [2**64 - 1],
    {"no-cache": 1}, {"ttl": 1e308}, {"ttl": -0.0}, {"s-maxage": True}, {"namespace": ""}, {"namespace": "\x00" * 300},
    {"tags": ["t", 5, None]}, {"tags": "t"}, "data:image/png;base64,", "data:image/png;base64", "float", ["float"],
    ["float", 5], [["float"]], "00" * 32, ["00" * 32], ["zz" * 32], [["00" * 32]],
)  # fmt: skip
FIELDS = (
    "model", "input", "content", "texts", "query", "documents", "task", "dimensions", "normalized", "truncate",
    "truncation", "late_chunking", "return_multivector", "return_tokenized_input", "input_type", "embedding_type",
    "encoding_format", "encoding_type", "embedding_types", "top_n", "top_k", "return_documents", "return_embeddings",
    "max_doc_length", "max_tokens_per_doc", "rank_fields", "priority", "metadata", "litellm_metadata", "cache",
    "api_key", "api_base", "base_url", "keys", "request", "x",
)  # fmt: skip
"""All but ``user``, which is logged on purpose."""


def test_any_type_as_the_user_is_answered() -> None:
    sent(Request("/v1/embeddings", orjson.dumps({**EMBED, "user": value})) for value in ODD if value != CANARY)


@pytest.mark.parametrize("name", FIELDS)
def test_any_type_in_any_field_is_answered_or_refused(name: str) -> None:
    sent(
        Request(path, orjson.dumps({**body, name: value}))
        for path, bodies in PATHS.items()
        for body in bodies
        for value in ODD
    )


def reproducible(examples: int) -> Callable[[Any], Any]:
    return settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )


characters = st.characters(exclude_categories=["Cs"])
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters, max_size=8) | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from((*FIELDS, "text", "image")), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
models = st.sampled_from((*EMBEDDERS, *RERANKERS, "jina-embeddings-v99", "gpt-4"))
json_bodies = st.tuples(
    st.sampled_from(list(PATHS)),
    st.sampled_from([body for bodies in PATHS.values() for body in bodies]),
    models,
    st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=3),
).map(lambda drawn: Request(drawn[0], orjson.dumps({**drawn[1], "model": drawn[2], **drawn[3]})))


@given(st.lists(json_bodies, min_size=10, max_size=40))
@reproducible(60)
def test_valid_json_of_any_shape_is_answered_or_refused(requests: list[Request]) -> None:
    sent(requests)


def _mutated(drawn: tuple[Request, list[tuple[int, int, bytes]]]) -> Request:
    """The body with some of its bytes cut out and others put in their place."""
    request, changes = drawn
    body = request.body
    for place, length, new in changes:
        at = place % (len(body) + 1)
        body = body[:at] + new + body[at + length :]
    return request._replace(body=body)


changes = st.tuples(
    st.integers(0, 400),
    st.integers(0, 6),
    st.binary(max_size=4)
    | st.sampled_from([b'"', b"[", b"{", b"}", b"\\ud800", b"\\u0000", b"1e9", b",", b"\xff", b"NaN"]),
)


@given(
    st.lists(st.tuples(json_bodies, st.lists(changes, min_size=1, max_size=3)).map(_mutated), min_size=10, max_size=40)
)
@reproducible(60)
def test_a_valid_body_with_some_bytes_changed_is_answered_or_refused(requests: list[Request]) -> None:
    sent(requests)


@given(st.lists(st.binary(max_size=60), min_size=5, max_size=20))
@reproducible(60)
@example([b"{", b"}", b'{"', b'{"model":', b"\x00", b"\x1f\x8b"])
def test_any_bytes_are_refused(bodies: list[bytes]) -> None:
    sent(request for body in bodies for request in to_every_path(body))


GOOD = orjson.dumps(EMBED)
HOST, TYPE = JSON
HEADERS: dict[str, Headers] = {
    "no headers": [],
    "a length that is too small": [*JSON, (b"content-length", b"1")],
    "a length that is too large": [*JSON, (b"content-length", b"99999999999999999999")],
    "a length below zero": [*JSON, (b"content-length", b"-1")],
    "a length that is none": [*JSON, (b"content-length", b"CANARY")],
    "a length in other digits": [*JSON, (b"content-length", "\u0663".encode())],
    "a length of superscripts": [*JSON, (b"content-length", b"\xb2")],
    "a length of a thousand digits": [*JSON, (b"content-length", b"9" * 5000)],
    "two lengths": [*JSON, (b"content-length", b"1"), (b"content-length", b"2")],
    "two keys": [*JSON, (b"authorization", b"Bearer CANARY"), (b"authorization", b"Bearer CANARY2")],
    "a key of no ASCII": [*JSON, (b"authorization", b"Bearer \xff\x00CANARY")],
    "a cache control of commas": [*JSON, (b"cache-control", b",,,=,==")],
    "a cache control of nonsense": [*JSON, (b"cache-control", b'CANARY="\xff, max-age')],
    "a max-age of superscripts": [*JSON, (b"cache-control", b"max-age=\xb2")],
    "a max-age of a thousand digits": [*JSON, (b"cache-control", b"max-age=" + b"9" * 5000)],
    "a max-age below zero": [*JSON, (b"cache-control", b"max-age=-1")],
    "a max-age of nothing": [*JSON, (b"cache-control", b"max-age=")],
    "a long cache control": [*JSON, (b"cache-control", b"x" * 100_000)],
    "odd tags": [*JSON, (b"x-litellm-tags", b",\xff, ,\x00")],
    "an odd id": [*JSON, (b"x-request-id", b"\xff\r\nset-cookie: a=b")],
    "an id with a line break": [*JSON, (b"x-request-id", b"a\r\nset-cookie: a=b")],
    "an odd content type": [HOST, (b"content-type", b"\xff;;;")],
    "a charset of UTF-16": [HOST, (b"content-type", b"application/json; charset=utf-16")],
    "two hosts": [HOST, (b"host", b"CANARY.test"), TYPE],
    "a host with a bad bracket": [(b"host", b"[CANARY"), TYPE],
    "a host with a bad port": [(b"host", b"localhost:CANARY"), TYPE],
    "a host with a huge port": [(b"host", b"localhost:99999999999"), TYPE],
    "a host of no ASCII": [(b"host", b"\xff\xfe"), TYPE],
    "a host that normalises to another": [(b"host", "localhost\u2100".encode()), TYPE],
    "an origin with a bad bracket": [*JSON, (b"origin", b"http://[CANARY")],
    "an origin that normalises to another": [*JSON, (b"origin", b"http://a\xbd\xb2:80")],
    "a compressed body": [*JSON, (b"content-encoding", b"CANARY")],
}


@pytest.mark.parametrize("name", HEADERS)
def test_odd_headers_are_answered_or_refused(name: str) -> None:
    sent(Request(path, orjson.dumps(body), HEADERS[name]) for path, (body, *_) in PATHS.items())


header_names = st.sampled_from(
    (
        b"host", b"origin", b"content-type", b"content-length", b"content-encoding", b"cache-control", b"authorization",
        b"x-litellm-api-key", b"x-request-id", b"x-litellm-call-id", b"x-litellm-tags", b"transfer-encoding", b"expect",
    )
)  # fmt: skip
header_values = st.binary(max_size=12) | st.sampled_from(
    [
        b"localhost",
        b"no-cache",
        b"max-age=1",
        b"only-if-cached",
        b"application/json",
        b"identity",
        b"0",
        b"http://localhost",
    ]
)


@given(st.lists(st.tuples(header_names, header_values), max_size=5))
@reproducible(150)
@example([(b"origin", b"http://[")])
@example([(b"host", b"[")])
def test_any_headers_are_answered_or_refused(headers: list[tuple[bytes, bytes]]) -> None:
    sent([Request(body=GOOD, headers=[*JSON, *headers]), Request(body=GOOD, headers=headers)])


@given(
    st.lists(
        st.builds(
            Request,
            path=st.text(characters, max_size=12).map("/".__add__)
            | st.sampled_from(
                [*PATHS, "/models", "/health", "/openapi.json", "/cache/ping", "/embeddings/../models", "*", ""]
            ),
            body=st.sampled_from([b"", GOOD]),
            method=st.sampled_from(
                ["GET", "HEAD", "POST", "PUT", "OPTIONS", "CONNECT", "TRACE", "get", "BREW", "P\x00ST", ""]
            ),
            query=st.binary(max_size=12),
        ),
        min_size=5,
        max_size=20,
    )
)
@reproducible(60)
def test_any_path_and_method_is_answered_or_refused(requests: list[Request]) -> None:
    sent(requests)


class Parrot:
    """An upstream that answers 200 with whatever it was given."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Response(self._content, media_type="application/json")(scope, receive, send)


_odd_numbers: st.SearchStrategy[Any] = st.sampled_from(
    [0, -1, 2**31, 2**32, 2**63, 2**64 - 1, 1e308, 5e-324, -0.0, 0.1, "1", None, True, [], {}]
)
_vectors = st.lists(_odd_numbers, max_size=3) | st.sampled_from(
    [[0.5, 1], [1], [[0.5], [1]], [[1], [1, 2]], [[]], {"a": 1.5}]
)
_rows = st.fixed_dictionaries(
    {"index": st.sampled_from([0, 1, 0, 1, 2, -1, 2**64 - 1, 0.0, "0", True])},
    optional={
        "embedding": _vectors | json_values,
        "embeddings": _vectors,
        "relevance_score": _odd_numbers,
        "tokenized_input": json_values,
        "document": json_values,
    },
)
_usages = st.fixed_dictionaries({}, optional={"total_tokens": _odd_numbers, "prompt_tokens": _odd_numbers})
_answers = st.fixed_dictionaries(
    {},
    optional={
        "data": st.lists(_rows, max_size=3) | json_values,
        "results": st.lists(_rows, max_size=3) | json_values,
        "usage": _usages | json_values,
        "model": st.sampled_from(["jina-embeddings-v3", "é" * 300, "", 5, None]),
    },
)
ASKED: tuple[Request, ...] = (
    Request(body=orjson.dumps(EMBED)),
    Request(body=orjson.dumps({**EMBED, "late_chunking": True, "embedding_type": "base64"})),
    Request(body=orjson.dumps({"model": "jina-embeddings-v4", "input": {"pdf": "a"}, "embedding_type": "binary"})),
    Request(body=orjson.dumps({"model": "elser-v2", "input": "a", "embedding_type": "binary"})),
    Request("/rerank", orjson.dumps(RANK)),
    Request("/rerank", orjson.dumps({**RANK, "model": "jina-reranker-v3", "return_embeddings": True})),
    Request("/rerank", orjson.dumps({**RANK, "documents": [{"text": "a", "id": 1}, "b"], "top_n": 1})),
)


@given(_answers | json_values, st.sampled_from(ASKED))
@reproducible(500)
@example({"data": [{"index": 0, "embedding": [1e308]}, {"index": 1, "embedding": [1]}]}, ASKED[0])
@example({"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [[1]]}]}, ASKED[0])
def test_any_answer_of_the_upstream_is_passed_on_or_is_a_502(tmp_path: Path, answer: Any, request: Request) -> None:
    async def asked() -> list[Answer | None]:
        wired = Wired(_in_memory(tmp_path), connect=connect_to(Parrot(orjson.dumps(answer))))
        app = CacheProxyMiddleware(Nothing(routes(wired)), wired=wired, auth="open")
        answers = [await call(app, path=request.path, chunks=[request.body]) for _ in range(2)]
        await wired.close()
        return answers

    first, second = asyncio.run(asked())
    assert first is not None
    assert second is not None
    assert first.status in (200, 502), first
    # What was good enough to be given is good enough to be kept, and reads the same from the store.
    assert second.status == first.status
    if first.status == 200:
        assert second.headers[b"cache-status"].startswith(b"cache-proxy; hit")
        assert _substance(second) == _substance(first)


@cache
def _in_memory(folder: Path) -> Settings:
    """All but the ledger, which is in this folder."""
    params = {"cache": True, "cache_params": {"type": "local"}, "num_retries": 0}
    return settings_for(folder, {"litellm_settings": params})


def _substance(answer: Answer) -> Any:
    return {name: value for name, value in answer.json().items() if name not in ("id", "meta", "usage")}
