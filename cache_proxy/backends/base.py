"""What a store is: bytes under keys. For stores of your own see ``docs/writing-a-backend.md``.

A store may forget, but it never lies: what ``get_many`` returns under a key is what the last ``set_many`` put
there. It needs no clock. Whether an entry is still fresh is written in the entry and decided by the plan; the
``ttl`` a store is given is only leave to forget.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

Key = bytes
"""An opaque key: 32 bytes, or a shorter reserved word of the package's own (see ``tiered.GENERATION``)."""

Value = bytes


class Backend(ABC):
    """The contract every store keeps, and ``contract.StoreContract`` holds them to.

    Making one does no I/O; :meth:`open` does. Every method may raise :class:`cache_proxy.errors.StoreError`, and
    nothing else, when the store itself fails. All methods may be called concurrently from one event loop, and
    none blocks it. A cancelled call leaves the store usable.
    """

    name: str
    """The word of the configuration for this store: ``memory``, ``disk``, ``redis``."""

    async def open(self) -> None:  # noqa: B027 - most stores have nothing to do
        """Get ready. Called before anything else, and again after a failure or ``close``; a call on an open store
        does nothing. May raise ``ConfigError`` for what no second try will mend.
        """

    @abstractmethod
    async def get_many(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        """The values held under these keys, as ``bytes``. A key that is not held is absent.

        A store of several servers raises ``PartialAnswer`` where some do not answer; it then has to see to it that
        they delay nobody for long.
        """

    async def get_strict(self, keys: Sequence[Key]) -> Mapping[Key, Value]:
        """As :meth:`get_many`, but a wrapper that turns failures into misses raises ``StoreError`` here.

        For the few who must tell "not held" from "could not be asked".
        """
        return await self.get_many(keys)

    @abstractmethod
    async def set_many(self, entries: Mapping[Key, Value], ttl: float | None = None) -> bool:
        """Hold these values, in place of older ones. After ``ttl`` seconds the store may forget them.

        Returns whether they are known to be stored. A plain store returns True or raises; only a wrapper that
        swallows failures (``guarded``, ``tiered``) ever returns False.
        """

    @property
    def ailing(self) -> bool:
        """Whether a write is likely to take long, so that nobody should wait for it. A plain store need not know."""
        return False

    @abstractmethod
    async def delete_many(self, keys: Sequence[Key]) -> int:
        """Forget these keys. Returns how many of them were held."""

    @abstractmethod
    async def clear(self) -> None:
        """Forget everything that is ours, and nothing that is anybody else's."""

    def forget(self, keys: Sequence[Key]) -> bool:  # noqa: ARG002
        """Let go of copies nearer than the place that all share; whether there could have been any.

        For entries found expired: another worker may have renewed them there.
        """
        return False

    @abstractmethod
    async def ping(self) -> None:
        """Return if the store can be reached and would take a value; raise ``StoreError`` otherwise."""

    async def advice(self) -> Sequence[str]:
        """What an operator should change about the store, a line for each; asks it. For people, never acted on."""
        return ()

    async def close(self) -> None:  # noqa: B027 - as open
        """Finish what was begun and let go of files and connections. Safe to call twice, or without
        ``open``.
        """
