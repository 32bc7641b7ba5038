"""The host's lifespan with ours inside: open when the host has started, closed when it has ended.

The host's events pass through in their order, and its errors as they are. A host that takes no part in lifespans
(Django) need not: then we live through it in its place, so that the cache has its orderly end. That is a host which
returns without a question, or says that a lifespan is nothing to it. Any other error before its first question may as
well be a start that failed. Which of the two it is the server decides, as it would without us: uvicorn goes on under
``--lifespan auto`` and refuses the start under ``on``.
"""

import logging
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cache_proxy.wiring import Wired

log = logging.getLogger("cache_proxy")

_DECLINING = (ValueError, NotImplementedError, AssertionError)


class Lifespan:
    """One lifespan. Made anew for each."""

    def __init__(self, wired: Wired, receive: Receive, send: Send, before_end: Callable[[], Awaitable[None]]) -> None:
        """``before_end`` runs while the host still works, when it is about to be told to end."""
        self._wired = wired
        self._receive = receive
        self._send = send
        self._before_end = before_end
        self._asked = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Take the host from start to end. Raises what the host raises."""
        try:
            try:
                await app(scope, self._receiving, self._sending)
            except Exception as error:
                if self._asked or not _declines(error):
                    raise
                log.info("the app takes no part in the lifespan (%s)", type(error).__name__)
            if not self._asked:
                await self._live()
        finally:
            await self._close()

    async def _receiving(self) -> Message:
        self._asked = True
        message = await self._receive()
        if message["type"] == "lifespan.shutdown":
            await self._calmly(self._before_end)
        return message

    async def _sending(self, message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            await self._wired.open()
        else:
            # A server that has been told of an end may not wait for more.
            await self._close()
        await self._send(message)

    async def _live(self) -> None:
        await self._receive()
        try:
            await self._wired.open()
        except Exception as error:
            await self._send({"type": "lifespan.startup.failed", "message": f"cache_proxy: {error}"})
            return
        await self._send({"type": "lifespan.startup.complete"})
        await self._receive()
        await self._close()
        await self._send({"type": "lifespan.shutdown.complete"})

    async def _close(self) -> None:
        await self._calmly(self._wired.close)

    @staticmethod
    async def _calmly(work: Callable[[], Awaitable[None]]) -> None:
        """An end of ours that fails must not become the host's failure."""
        try:
            await work()
        except Exception as error:
            log.error("the cache did not end in order (%s)", type(error).__name__)


def _declines(error: Exception) -> bool:
    """Whether an app says with this that it does not know this kind of scope, in words like those of Django ("can only
    handle ASGI/HTTP connections, not lifespan") and Channels ("no application configured for scope type 'lifespan'").
    """
    return type(error) in _DECLINING and "lifespan" in str(error)
