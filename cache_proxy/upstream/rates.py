"""``rpm`` and ``tpm``, a deployment's or a key's: by this process's own buckets, and by those that all share."""

from collections.abc import Callable, Mapping

from cache_proxy.errors import StoreError
from cache_proxy.models import Deployment, Want
from cache_proxy.upstream.counters import Counters, counter_name
from cache_proxy.upstream.pace import Pace


class Rates:
    """Room for calls by the minute.

    The process's own buckets are asked first and cost nothing; they know a part of what is used, so what they refuse
    the shared ones would refuse too. Where there are no shared ones, or they fail, the own ones hold alone.
    """

    def __init__(
        self,
        limits: Mapping[str, int | None],
        clock: Callable[[], float],
        counters: Counters | None = None,
        name: Callable[..., bytes] = lambda *what: ":".join(what).encode(),
    ) -> None:
        """``limits`` by their words, ``rpm`` and ``tpm``; those that are not set are none. ``name`` gives that of the
        shared buckets, from the words of the limits that are set.
        """
        self._paces = {word: (Pace(limit, clock), limit) for word, limit in limits.items() if limit}
        self._counters = counters if self._paces else None
        self._name = name(*self._paces)
        self._clock = clock
        self._room_at = 0.0

    @classmethod
    def of(cls, deployment: Deployment, clock: Callable[[], float], counters: Counters | None = None) -> "Rates":
        """Those of a deployment."""
        limits = {"rpm": deployment.rpm, "tpm": deployment.tpm}
        return cls(limits, clock, counters, lambda *what: counter_name(deployment, *what))

    def wait(self, tokens: int) -> float:
        """Seconds until a call of so many tokens has room, as far as is known here."""
        return max(self._wait_here(tokens), self._room_at - self._clock())

    async def take(self, tokens: int, at_most: float) -> float:
        """Use the room of a call. Returns the seconds to wait before sending it; if that is more than ``at_most``,
        nothing was used here.

        Room that was taken stays taken if the call is given up: it comes back within the minute.
        """
        wait = self._wait_here(tokens)
        if self._counters is not None and wait <= at_most:
            shared = await self._take_everywhere(self._counters, tokens, at_most)
            # Others of this process may have used up its own room meanwhile.
            wait = max(shared, self._wait_here(tokens))
        if wait <= at_most:
            for word, (pace, _) in self._paces.items():
                pace.take(_units(word, tokens))
        return wait

    async def _take_everywhere(self, counters: Counters, tokens: int, at_most: float) -> float:
        wants = [Want(_units(word, tokens), limit) for word, (_, limit) in self._paces.items()]
        try:
            wait = await counters.take(self._name, wants, at_most)
        except StoreError:
            # Told and counted by the store's guard.
            return 0.0
        # For the choice of the next call's lane: another deployment may have room at once.
        self._room_at = self._clock() + wait
        return wait

    def _wait_here(self, tokens: int) -> float:
        return max((pace.wait(_units(word, tokens)) for word, (pace, _) in self._paces.items()), default=0.0)


def _units(word: str, tokens: int) -> int:
    return 1 if word == "rpm" else tokens
