"""The routes about the proxy itself: models, health, the cache's purge. Shapes are LiteLLM's where it has them."""

import logging
import re
from typing import Any

import orjson

from cache_proxy import __version__
from cache_proxy.access import Admitted
from cache_proxy.asgi.errors import HTTPError
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.asgi.openapi import document
from cache_proxy.core.wire.fields import check_type, parse_body
from cache_proxy.engine import Engine
from cache_proxy.errors import RequestError, StoreError
from cache_proxy.models import Json, Key
from cache_proxy.wiring import Wired
from cache_proxy.wiring.readings import guard_of, stats

log = logging.getLogger("cache_proxy")

_CREATED = 1677610602
"""LiteLLM's and OpenAI's stand-in for a date that nobody knows."""

_KEY = re.compile(r"[0-9a-fA-F]{64}")


class Operations:
    """The handlers; each takes an exchange and who asks."""

    def __init__(self, wired: Wired, body_limit: int, prefix: str = "", beside: str = "") -> None:
        self._wired = wired
        self._prefix = prefix
        self._beside = beside
        self._body_limit = body_limit

    async def models(self, exchange: Exchange, admitted: Admitted) -> None:
        """The names a client may use, in OpenAI's shape."""
        engine, key = await self._wired.open(), admitted.key
        models = [
            {"id": name, "object": "model", "created": _CREATED, "owned_by": "jina_ai"}
            for name in engine.names.listed
            if key is None or key.may_use(name)
        ]
        await _json(exchange, {"data": models, "object": "list"})

    async def liveness(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Whether the process answers at all."""
        await _json(exchange, "I'm alive!")

    async def readiness(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Whether requests can be answered. A broken store does not make it unready: it costs money, not answers."""
        state = self._store_state(await self._wired.open())
        await _json(exchange, {"status": state["status"], "cache": state["type"], "cache_proxy_version": __version__})

    async def health(self, exchange: Exchange, _admitted: Admitted) -> None:
        """The store's, the ledger's and the deployments' state, as far as it is known without spending anything."""
        engine = await self._wired.open()
        store, ledger = self._store_state(engine), self._ledger_state()
        resting = engine.means.lanes.resting()
        found = {deployment.id: deployment.model for deployment in self._wired.settings.deployments}
        healthy = [{"id": name, "model": model} for name, model in found.items() if name not in resting]
        unhealthy = [{"id": name, "model": found[name]} for name in resting if name in found]
        await _json(
            exchange,
            {
                "status": "degraded" if unhealthy or ledger["status"] == "degraded" else store["status"],
                "healthy_endpoints": healthy,
                "unhealthy_endpoints": unhealthy,
                "healthy_count": len(healthy),
                "unhealthy_count": len(unhealthy),
                "store": store,
                "ledger": ledger,
            },
        )

    async def ping(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Whether the store takes and gives: 200, or 503 with the reason."""
        engine = await self._wired.open()
        told: dict[str, Any] = {"cache_type": self._store_state(engine)["type"]}
        try:
            await engine.means.store.ping()
        except StoreError as error:
            await _json(exchange, {**told, "status": "unhealthy", "ping_response": False, "detail": str(error)}, 503)
            return
        await _json(exchange, {**told, "status": "healthy", "ping_response": True})

    async def stats(self, exchange: Exchange, _admitted: Admitted) -> None:
        """What the store holds, and what this worker has made of it since it started."""
        engine = await self._wired.open()
        told = {**self._store_state(engine), **await stats(engine.means.store)}
        await _json(exchange, {"cache_type": told.pop("type"), **told, "worker": self._wired.tally.told()})

    async def metrics(self, exchange: Exchange, _admitted: Admitted) -> None:
        """Everything that is counted, for Prometheus."""
        text = await self._wired.measuring.text(await self._wired.open())
        if text is None:
            raise HTTPError(
                503,
                "There are no metrics: PROMETHEUS_MULTIPROC_DIR names a folder that can not be used.",
                kind="server_error",
                code="metrics_unavailable",
            )
        await exchange.reply(200, text, content_type=b"text/plain; version=0.0.4; charset=utf-8")

    async def delete(self, exchange: Exchange, admitted: Admitted) -> None:
        """Forget entries: by key, or all that answer one request."""
        engine = await self._wired.open()
        body = parse_body(await exchange.body(self._body_limit))
        if "request" in body and "keys" in body:
            raise RequestError("Send `keys` or `request`, not both.", param="keys")
        keys = _keys(body) if "request" not in body else engine.keys_of(_object(body["request"]), _room(body))
        deleted = await engine.means.purge(list(dict.fromkeys(keys)))
        log.info("purge of %d keys by %s: %d were held", len(keys), admitted.account.alias, deleted)
        await _json(exchange, {"status": "success", "deleted": deleted})

    async def flushall(self, exchange: Exchange, admitted: Admitted) -> None:
        """Forget everything that is ours in the store, and nothing else."""
        engine = await self._wired.open()
        await engine.means.purge(None)
        log.info("purge of everything by %s", admitted.account.alias)
        await _json(exchange, {"status": "success"})

    async def openapi(self, exchange: Exchange, _admitted: Admitted) -> None:
        """The description of these routes."""
        await _json(exchange, document(exchange.scope.get("root_path", "") + self._prefix, self._beside))

    def _ledger_state(self) -> dict[str, Any]:
        ledger = self._wired.ledger
        if ledger is None:
            return {"status": "off"}
        return {"status": "degraded" if ledger.ailing else "healthy", "missing": dict(ledger.missing)}

    def _store_state(self, engine: Engine) -> dict[str, Any]:
        guarded = guard_of(engine.means.store)
        if not self._wired.settings.cache.enabled:
            return {"type": "off", "status": "healthy"}
        if guarded is None:
            return {"type": engine.means.store.name, "status": "healthy"}
        status = "degraded" if guarded.ailing else "healthy"
        failures, leases = dict(guarded.failures), dict(engine.means.claims.counts)
        return {
            "type": guarded.name,
            "status": status,
            "breaker": guarded.state,
            "failures": failures,
            "leases": leases,
        }


async def _json(exchange: Exchange, value: Json, status: int = 200) -> None:
    await exchange.reply(status, orjson.dumps(value))


def _keys(body: dict[str, Json]) -> list[Key]:
    """The keys in ``{"keys": […]}``: 64 hexadecimal digits each, as ``x-litellm-cache-key`` gives them."""
    given = body.get("keys")
    if type(given) is not list or not given:
        raise RequestError('Send {"keys": […]} or {"request": {…}}.', param="keys", code="missing_field")
    return [_key(value, place) for place, value in enumerate(given)]


def _key(value: Json, place: int) -> Key:
    field = f"keys[{place}]"
    check_type(field, value, str)
    if not _KEY.fullmatch(value):
        raise RequestError(f"`{field}` must be 64 hexadecimal digits.", param=field, code="wrong_type")
    return bytes.fromhex(value)


def _room(body: dict[str, Json]) -> str:
    """The namespace of a key, in which the entries are; empty for the common room."""
    room = body.get("namespace")
    if room is not None:
        check_type("namespace", room, str)
    return room or ""


def _object(value: Json) -> dict[str, Json]:
    if type(value) is not dict:
        raise RequestError("`request` must be the body of a request.", param="request", code="wrong_type")
    return value
