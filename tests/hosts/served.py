"""An app behind a real server that speaks websockets too, and a client of it."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp

_PATIENCE = 20.0


class Server:
    """A server in a thread of its own. ``url`` is where it listens."""

    def __init__(self, app: ASGIApp, options: dict[str, Any]) -> None:
        usual: dict[str, Any] = {"log_config": None, "access_log": False, "ws": "websockets-sansio"}
        self._server = uvicorn.Server(uvicorn.Config(app, **{**usual, **options}))
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def _run(self) -> None:
        # How uvicorn says that an app refused to start.
        with suppress(SystemExit):
            self._server.run(sockets=[self._socket])

    def start(self) -> bool:
        """Whether it serves; not, if the app refused to start."""
        self._thread.start()
        give_up_at = time.monotonic() + _PATIENCE
        while not self._server.started and self._thread.is_alive() and time.monotonic() < give_up_at:
            time.sleep(0.005)
        return self._server.started

    def stop(self) -> None:
        """End it as SIGTERM would."""
        self._server.should_exit = True
        self._thread.join(_PATIENCE)
        self._socket.close()
        assert not self._thread.is_alive()


@contextmanager
def served(app: ASGIApp, **options: Any) -> Iterator[Server]:
    """The app behind a server, for as long as the context lasts. ``options`` are uvicorn's."""
    server = Server(app, options)
    try:
        assert server.start()
        yield server
    finally:
        server.stop()
