"""``embedding``, ``rerank`` and their async twins, called as LiteLLM's are, with only the import changed.

Every keyword is passed on as a field of the request, but for these, which are about the call itself: ``api_key``,
``api_base``, ``timeout`` (seconds), ``num_retries``, ``caching`` (``False`` neither reads nor stores) and LiteLLM's
``custom_llm_provider``, which is put before the model's name. The configuration is the environment, or the file that
``CACHE_PROXY_CONFIG`` names.

Raises ``RequestError`` and ``UpstreamError`` (see ``cache_proxy.errors``).
"""

import atexit
import concurrent.futures.thread  # noqa: F401  see the end of this file
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson

from cache_proxy.asgi.errors import reply_to
from cache_proxy.calls import Account
from cache_proxy.core.names import Names, Target
from cache_proxy.core.reach import remade
from cache_proxy.engine import Engine
from cache_proxy.errors import CacheProxyError, RequestError
from cache_proxy.models import Deployment, Endpoint, Json
from cache_proxy.receipts import Story
from cache_proxy.sdk.answers import Answer, EmbeddingResponse, RerankResponse
from cache_proxy.sdk.portal import Portal
from cache_proxy.settings import base_url, load
from cache_proxy.wiring import Wired

CONFIG_VARIABLE = "CACHE_PROXY_CONFIG"

A = TypeVar("A", bound=Answer)


def embedding(model: str, input: Any, **fields: Any) -> EmbeddingResponse:  # noqa: A002  LiteLLM's name
    """Embeddings of one or many inputs."""
    return portal.call(lambda: _ask(Endpoint.EMBEDDINGS, EmbeddingResponse, {"model": model, "input": input} | fields))


async def aembedding(model: str, input: Any, **fields: Any) -> EmbeddingResponse:  # noqa: A002  LiteLLM's name
    """:func:`embedding`, without blocking."""
    body = {"model": model, "input": input} | fields
    return await portal.wait(lambda: _ask(Endpoint.EMBEDDINGS, EmbeddingResponse, body))


def rerank(model: str, query: Any, documents: Sequence[Any], **fields: Any) -> RerankResponse:
    """Documents ranked by a query."""
    body = {"model": model, "query": query, "documents": documents} | fields
    return portal.call(lambda: _ask(Endpoint.RERANK, RerankResponse, body))


async def arerank(model: str, query: Any, documents: Sequence[Any], **fields: Any) -> RerankResponse:
    """:func:`rerank`, without blocking."""
    body = {"model": model, "query": query, "documents": documents} | fields
    return await portal.wait(lambda: _ask(Endpoint.RERANK, RerankResponse, body))


@dataclass(frozen=True, slots=True)
class Options:
    """What a call says about itself rather than to the upstream."""

    api_key: str | None = None
    api_base: str | None = None
    timeout: float | None = None
    num_retries: int | None = None

    def apply(self, target: Target) -> Target:
        """The same model, reached as this call wants it. Another base URL is another identity in every key."""
        first = target.deployments[0]
        base = first.base_url if self.api_base is None else base_url(self.api_base, "api_base")
        members = tuple(self._reach(member, base) for member in target.deployments)
        if self.api_base is None:
            return replace(target, deployments=members)
        return replace(target, deployments=members[:1], identity=base)

    def _reach(self, deployment: Deployment, base: str) -> Deployment:
        return remade(
            deployment,
            base_url=base if self.api_base is not None else deployment.base_url,
            # A key that is configured for one server is not sent to another.
            api_key=self.api_key or (deployment.api_key if base == deployment.base_url else None),
            timeout=self.timeout or deployment.timeout,
            retries=deployment.retries if self.num_retries is None else self.num_retries,
        )


class Home:
    """The engine of this process, made by the first call. Everything but ``abandon`` runs on the portal's loop."""

    def __init__(self) -> None:
        self._wired: Wired | None = None

    async def engine(self, options: Options) -> tuple[Engine, Wired]:
        """The engine that reaches the upstream as these options say."""
        if self._wired is None:
            self._wired = Wired(load(os.environ.get(CONFIG_VARIABLE) or None), measured=False)
        engine = await self._wired.open()
        if options == Options():
            return engine, self._wired
        names = engine.names
        return engine.under(Names(lambda name: options.apply(names.resolve(name)))), self._wired

    async def close(self) -> None:
        """Let go of the engine."""
        wired, self._wired = self._wired, None
        if wired is not None:
            await wired.close()

    def abandon(self) -> object:
        """Forget the engine without a word to anybody, as a forked child must."""
        wired, self._wired = self._wired, None
        return wired


home = Home()
portal = Portal(home.close)

_of_the_parent: list[object] = []


def _start_anew() -> None:
    # Kept for good: to close or collect the parent's connections here would disturb the parent.
    _of_the_parent.append((portal.abandon(), home.abandon()))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)

# ``atexit`` would be too late: by then no thread takes work any more, and what was paid for could not be stored. The
# last to register is the first to run, so the executors' own farewell has to be registered by now: hence their import.
getattr(threading, "_register_atexit", atexit.register)(portal.close)


async def _ask(endpoint: Endpoint, kind: type[A], fields: dict[str, Any]) -> A:
    options, body = _options(fields)
    began = time.perf_counter()
    story = Story(os.urandom(16).hex(), endpoint.value, Account("sdk"), time.time())
    engine, wired = await home.engine(options)
    try:
        reply = await engine.answer(engine.understand(endpoint, body), story)
    except CacheProxyError as error:
        told = reply_to(error)
        await wired.record(
            story.end(status=told.status, latency=time.perf_counter() - began, bytes_out=0, error=told.word)
        )
        raise
    receipt = story.end(status=200, latency=time.perf_counter() - began, bytes_out=len(reply))
    await wired.record(receipt)
    return kind(orjson.loads(reply), receipt)


def _options(fields: dict[str, Any]) -> tuple[Options, dict[str, Json]]:
    """The call's own words, and the body of the request."""
    body = {name: value for name, value in fields.items() if name not in _OURS}
    provider = fields.get("custom_llm_provider")
    if provider:
        body["model"] = f"{provider}/{body['model'].removeprefix(f'{provider}/')}"
    if fields.get("caching") is False:
        body["cache"] = {"no-cache": True, "no-store": True}
    options = Options(**{name: fields[name] for name in Options.__slots__ if fields.get(name) is not None})
    return options, _as_json(body)


_OURS = frozenset(Options.__slots__) | {"custom_llm_provider", "caching"}


def _as_json(body: dict[str, Any]) -> dict[str, Json]:
    """The body as it would arrive over HTTP, so that numpy numbers, tuples and the like mean the same here."""
    try:
        written = orjson.dumps(body, default=_as_list, option=orjson.OPT_SERIALIZE_NUMPY)
        parsed: dict[str, Json] = orjson.loads(written)
    except (orjson.JSONEncodeError, orjson.JSONDecodeError):
        raise RequestError("An argument can not be written as JSON text in UTF-8.", code="invalid_json") from None
    return parsed


def _as_list(value: Any) -> Any:
    """The members of what orjson can not write but holds plain values: an array of texts, a column of a table."""
    if not hasattr(value, "tolist"):
        raise TypeError
    return value.tolist()
