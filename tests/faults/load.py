"""Clients that ask all the time and note everything. The answers are judged when the load is over."""

import http.client
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle
from urllib.parse import urlsplit

from tests.faults.questions import Question, fresh, warm

LOST = 0
"""The status of a request whose connection broke before it was answered."""

_IDLE = 3.0
"""Seconds after which a connection is made anew: servers close those that were idle for five."""

_PATIENCE = 30.0
_ASKED_PER_CONNECTION = 8  # then another worker may get the client


@dataclass(frozen=True, slots=True)
class Note:
    """One request, from ``began`` to ``ended`` (monotonic seconds). ``hit``: it was answered from the store alone."""

    question: Question
    began: float
    ended: float
    status: int
    hit: bool
    content: bytes

    @property
    def latency(self) -> float:
        return self.ended - self.began

    @property
    def is_wrong(self) -> bool:
        """Whether it was answered with other numbers than the upstream gives."""
        return self.status == 200 and not self.question.is_answered_by(self.content)


class Client:
    """One connection to a server, made anew now and then, and when it broke."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE)
        self._asked = 0
        self._ended = 0.0

    def ask(self, question: Question) -> Note:
        """Ask once; a connection that breaks is noted, not raised."""
        began = time.monotonic()
        if began - self._ended > _IDLE:
            # It may be closed in the very moment in which it is used again.
            self.close()
        try:
            status, hit, content = self._exchange(question)
        except (OSError, http.client.HTTPException):
            status, hit, content = LOST, False, b""
        self._asked += 1
        if status == LOST or self._asked % _ASKED_PER_CONNECTION == 0:
            self.close()
        self._ended = time.monotonic()
        return Note(question, began, self._ended, status, hit, content)

    def _exchange(self, question: Question) -> tuple[int, bool, bytes]:
        self._connection.request("POST", question.path, question.body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        hit = response.headers.get("cache-status", "").startswith("cache-proxy; hit")
        return response.status, hit, response.read()

    def close(self) -> None:
        self._connection.close()


def post(url: str, path: str) -> None:
    """A POST without a body that must succeed."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=_PATIENCE)
    connection.request("POST", path, b"{}", {"content-type": "application/json"})
    response = connection.getresponse()
    said = response.read()
    connection.close()
    assert response.status == 200, said


class Load:
    """``clients`` threads that ask the servers in turn, each with a ``pause`` (seconds) between two questions.

    ``fresh`` of all questions hold a text that nobody has asked for before; the others are soon in the store.
    """

    def __init__(
        self, urls: Sequence[str], *, clients: int = 6, pause: float = 0.01, fresh: float = 0.2, width: int = 64
    ) -> None:
        self.notes: list[Note] = []
        self._pause = pause
        self._fresh = fresh
        self._width = width
        self._ending = threading.Event()
        homes = zip(range(clients), cycle(urls), strict=False)
        self._threads = [threading.Thread(target=self._ask, args=home, daemon=True) for home in homes]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def last(self, seconds: float) -> None:
        """Let it go on for so long."""
        self._ending.wait(seconds)

    def _ask(self, number: int, url: str) -> None:
        client = Client(url)
        for question in self._questions(number):
            if self._ending.wait(self._pause):
                break
            self.notes.append(client.ask(question))
        client.close()

    def _questions(self, number: int) -> Iterator[Question]:
        chance = random.Random(number)
        known, unknown = warm(), fresh(f"{number} {time.monotonic_ns()}", self._width)
        while True:
            yield next(unknown) if chance.random() < self._fresh else chance.choice(known)
