"""uvicorn, set up our way: for ``serve``, and in a thread for the demo and for tests."""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from starlette.types import ASGIApp

from cache_proxy import __version__
from cache_proxy.asgi.auth import is_loopback
from cache_proxy.asgi.standalone import CONFIG_VARIABLE
from cache_proxy.backends.disk_place import check_writable
from cache_proxy.errors import ConfigError, LedgerError
from cache_proxy.reporting import seats
from cache_proxy.reporting.logs import set_up_logging
from cache_proxy.settings import RedisSettings, Settings, load
from cache_proxy.wiring import build_store
from cache_proxy.wiring.ledger import ledger_place, open_ledger

log = logging.getLogger("cache_proxy")

WELL_KNOWN_KEY = "sk-1234"
"""The ``master_key`` of LiteLLM's samples: everybody knows it."""

LEDGER_REMEDY = (
    "name another in cache_proxy_settings.ledger_dir, or do without a ledger (cache_proxy_settings.ledger: false)"
)

_GRACE = 10
"""Seconds after the drain (``asgi/drain.py``) in which slow clients may read what was already written to them."""

_START_PATIENCE = 30.0

OPTIONS: dict[str, Any] = {
    "access_log": False,  # our own line a request says more
    "http": "httptools",
    "lifespan": "on",
    "log_config": None,
    "server_header": False,
    "timeout_graceful_shutdown": _GRACE,
    "ws": "none",
}
"""How uvicorn is set up, but for the place to listen on."""


def serve(config: str | None, host: str, port: int, workers: int, *, ready: Callable[[], None] = lambda: None) -> None:
    """Serve until told to stop; ``ready`` is called just before. Raises ``ConfigError`` before anything is bound."""
    settings = load(config)
    set_up_logging(settings.own.log_level)
    check_address(settings, host)
    check_store(settings)
    check_ledger(settings)
    if config:
        os.environ[CONFIG_VARIABLE] = os.path.abspath(config)  # noqa: PTH100  the workers may start elsewhere
    # Where it listens uvicorn says itself, and only once it does.
    log.info("cache-proxy %s, store: %s, ledger: %s", __version__, store_of(settings), ledger_of(settings))
    # A single worker is this process, and tells the warnings of its settings itself.
    for warning in (*(settings.warnings if workers > 1 else ()), *warnings_of(settings, workers)):
        log.warning("%s", warning)
    with seats.shared(workers):
        ready()
        uvicorn.run(
            "cache_proxy.asgi.standalone:create_app", factory=True, host=host, port=port, workers=workers, **OPTIONS
        )


def check_address(settings: Settings, host: str) -> None:
    """Raise ``ConfigError`` for an open door to the network; warn of a key that everybody knows."""
    if is_loopback(host):
        return
    if settings.master_key is None:
        raise ConfigError(
            f"without a master_key only this machine is served, so --host {host} is refused; "
            "set general_settings.master_key (or CACHE_PROXY_MASTER_KEY), or use --host 127.0.0.1"
        )
    if settings.master_key.get_secret_value() == WELL_KNOWN_KEY:
        log.warning("general_settings.master_key is the one of LiteLLM's samples, and %s is no loopback address", host)


def check_store(settings: Settings) -> None:
    """Raise ``ConfigError`` where the disk store's folder may not be written, or a plugin gives no store. A store
    that is down is no reason.
    """
    # Made and let go of: what it refuses would end each worker, and each would be started again.
    build_store(settings)
    if settings.cache.enabled and settings.cache.kind == "disk":
        check_writable(settings.cache.directory)


def check_ledger(settings: Settings) -> None:
    """Raise ``ConfigError`` where the ledger's folder may not be written, or it is of a newer version. A database that
    is down, a full disk and a damaged file are no reason: hits are served.
    """
    ledger = settings.ledger
    if not ledger.enabled:
        return
    if ledger.url is None:
        check_writable(ledger.directory, what="the ledger", file="ledger.db", lock="", remedy=LEDGER_REMEDY)
    try:
        open_ledger(ledger)
    except LedgerError as error:
        spent = "nothing is spent until it can" if ledger.refusing else "what is spent is written when it can"
        log.error("%s: it can not be written, and %s", error, spent)


def ledger_of(settings: Settings) -> str:
    """Where the ledger is, without what a URL may hold besides."""
    return ledger_place(settings.ledger) if settings.ledger.enabled else "off"


def store_of(settings: Settings) -> str:
    """Which store is used and where it is, without what a URL may hold besides."""
    cache = settings.cache
    if not cache.enabled:
        return "off"
    if cache.kind == "redis":
        return f"redis at {_place(cache.redis or RedisSettings())}"
    if cache.plugin is not None:
        return cache.plugin.origin
    return f"disk in {cache.directory}" if cache.kind == "disk" else "memory of each worker"


def _place(redis: RedisSettings) -> str:
    if redis.url is None:
        servers = ", ".join(f"{node.host}:{node.port}" for node in redis.cluster or redis.sentinel_nodes)
        if redis.cluster:
            return f"the cluster of {servers}"
        if redis.sentinel_nodes:
            return f"{redis.service_name}, as the Sentinels {servers} know it"
        return redis.unix_socket_path or f"{redis.host}:{redis.port}"
    parts = urlsplit(redis.url.get_secret_value())
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or RedisSettings().port}"


def warnings_of(settings: Settings, workers: int) -> Iterator[str]:
    """What is allowed, but most likely not what is wanted."""
    on_jina = [deployment for deployment in settings.deployments if deployment.on_jina]
    if on_jina and all(deployment.api_key is None for deployment in on_jina):
        yield (
            "no Jina key is set (JINA_AI_API_KEY): what is not in the cache will be refused by Jina; "
            "`cache-proxy demo` needs none"
        )
    if settings.cache.enabled and settings.cache.kind == "memory" and workers > 1:
        yield "the store is memory: each worker has a cache of its own; a purge reaches one of them"


@contextmanager
def hosted(app: ASGIApp) -> Iterator[str]:
    """An app behind a real server on a free loopback port, for as long as the context lasts. Yields its URL."""
    server = uvicorn.Server(uvicorn.Config(app, **OPTIONS))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            _wait_until(server, thread)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def _wait_until(server: uvicorn.Server, thread: threading.Thread) -> None:
    give_up_at = time.monotonic() + _START_PATIENCE
    while not server.started:
        if not thread.is_alive() or time.monotonic() > give_up_at:
            raise RuntimeError("the server did not start")
        time.sleep(0.005)
