"""What stands in place of a middleware whose configuration is refused, where it is too late to raise that.

Starlette and FastAPI build what ``add_middleware`` was given with the first event, inside the event loop. Servers take
an exception there for the word of an app that knows no lifespan: they start, and answer every request with 500, the
host's too. So there the refusal is kept and told in the way that a lifespan has for it.
"""

import logging
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from cache_proxy.asgi.errors import HTTPError, reply_to
from cache_proxy.asgi.exchange import Exchange
from cache_proxy.errors import ConfigError

log = logging.getLogger("cache_proxy")


class Refused:
    """Refuses the start. Where nobody sends a lifespan, only our own routes are out of order."""

    def __init__(self, app: ASGIApp, error: ConfigError, is_ours: Callable[[Scope], bool]) -> None:
        self._app = app
        self._error = error
        self._is_ours = is_ours
        log.error("the cache can not be used as it is set up: %s", error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, request or lifespan of the host's."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": f"cache_proxy: {self._error}"})
        elif scope["type"] == "http" and self._is_ours(scope):
            reply = reply_to(_out_of_order())
            await Exchange(scope, receive, send).reply(reply.status, reply.body)
        else:
            await self._app(scope, receive, send)


def _out_of_order() -> HTTPError:
    return HTTPError(
        500,
        "The cache can not be used as it is set up. The server's log says why.",
        kind="internal_error",
        code="internal",
    )
