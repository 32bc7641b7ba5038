"""What a store is: bytes under keys. For stores of your own see ``docs/writing-a-backend.md``.

A store may forget, but it never lies: what ``get_many`` returns under a key is what the last ``set_many`` put
there. It needs no clock. Whether an entry is still fresh is written in the entry and decided by the plan; the
``ttl`` a store is given is only leave to forget.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

from cache_proxy.errors import StoreError
from cache_proxy.models import Want as Want

Key = bytes
"""An opaque key: 32 bytes, or a shorter reserved word of the package's own (see ``tiered.GENERATION``)."""

Value = bytes


class Occupancy(NamedTuple):
    """What a store holds. ``None`` stands for what it can not say at once."""

    entries: int | None = None
    bytes: int | None = None
    limit: int | None = None
    """Bytes that it keeps within."""


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

    async def set_strict(self, entries: Mapping[Key, Value], ttl: float | None = None) -> None:
        """As :meth:`set_many`, but a wrapper that swallows failures raises ``StoreError`` here.

        For those who can come back with what a busy store did not take.
        """
        if not await self.set_many(entries, ttl):
            raise StoreError("not known to be stored", refused=False)

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

    async def occupancy(self) -> Occupancy:
        """What is held, as far as the store can say without looking at every entry. Asked now and then, for people and
        graphs. A plain store need not know.
        """
        return Occupancy()

    @property
    def evicted(self) -> int | None:
        """How many entries this object has let go of to make room; ``None`` where a store does not know."""
        return None

    @property
    def writers_queue(self) -> bool:
        """Whether leases and counters may rightly wait, for as long as a write, for others that write, while look-ups
        are answered. Else who guards the store takes a call that is silent for long as lost, with its connection.
        """
        return False

    @property
    def leases(self) -> "Leases | None":
        """Leases on this store's keys, for all processes that share it; ``None`` where a store has none. Always the
        same object, whether the store is open or not.
        """
        return None

    @property
    def counters(self) -> "Counters | None":
        """Counters that all processes share which share this store; ``None`` where a store has none. As ``leases``."""
        return None

    async def advice(self) -> Sequence[str]:
        """What an operator should change about the store, a line for each; asks it. For people, never acted on."""
        return ()

    async def close(self) -> None:  # noqa: B027 - as open
        """Finish what was begun and let go of files and connections. Safe to call twice, or without
        ``open``.
        """


Owner = bytes
"""Who holds a lease: a random word of at most 32 bytes, new for each claim."""

WORD_SECONDS = 5.0
"""How long a word that was left with a lease is told."""

WORDS_MOST = 16
"""So many words a key has at least, each of another owner: they wait for those who look now and then only, and new
leases may be taken, and fail, at once."""


class Turn(NamedTuple):
    """What came of asking for a lease on a key."""

    mine: bool
    stored: bool = False
    """Whether the store holds a value under the key, seen in the same moment."""
    owner: Owner = b""
    """Who holds the lease, where it is not mine."""
    word: bytes | None = None
    """What the owner that was waited for has left behind in place of a value, whoever has the lease by now."""


class Leases(ABC):
    """Who may pay for a key: one owner at a time, while the lease holds (``docs/decisions``, number 15).

    Time is the store's own. Every method is one trip for all keys (one to each server that is concerned), may raise
    ``StoreError`` and nothing else, and when it does, may or may not have been carried out. Leases and words are no
    values: ``clear`` leaves them, and nothing of a store's other methods shows or touches them.
    """

    @abstractmethod
    async def acquire(self, wanted: Mapping[Key, Owner], owner: Owner, ttl: float) -> Mapping[Key, Turn]:
        """Take the lease of each of these keys that nobody holds, for ``ttl`` seconds. ``wanted`` says for each key
        which owner was waited for up to now (``b""``: none); that one's word is told instead of giving the lease, and
        instead of who holds it now. For everybody else a word is nothing: who takes the lease does not end it. Who has
        the lease already keeps it, for ``ttl`` from now on, whatever else he asks for.

        A key whose server did not answer is absent; ``StoreError`` only if none answered. The lease of such a key may
        have been taken all the same: ``release`` gives it up.
        """

    @abstractmethod
    async def renew(self, held: Mapping[Key, Owner], ttl: float) -> Set[Key]:
        """Hold these leases for ``ttl`` seconds from now on. Returns the keys whose lease is known to be still this
        owner's; the others are left as they are. A key whose server did not answer is absent, too; ``StoreError`` only
        if none answered.
        """

    @abstractmethod
    async def release(self, held: Mapping[Key, Owner], word: bytes | None = None) -> None:
        """Give up these leases, where they are still this owner's. A ``word`` (at most 200 bytes) stays for
        ``WORD_SECONDS``, whoever takes the lease meanwhile, to be told to those who waited for this owner. Of more than
        ``WORDS_MOST`` for one key the oldest may go. ``StoreError`` if a server did not answer.
        """


class Counters(ABC):
    """Limits that hold for all who share a store. Time is the store's own; ``name`` is any word of at most 64 bytes.

    Every method is one trip, and may raise ``StoreError`` and nothing else; it may then have been carried out or not.
    What is counted is no value: ``clear`` leaves it. It is forgotten once it makes no difference any more.
    """

    @abstractmethod
    async def take(self, name: bytes, wants: Sequence[Want], at_most: float) -> float:
        """Use units of each of ``name``'s buckets (the first, the second, ...): all or none. Returns the seconds to
        wait before going ahead; if that is more than ``at_most``, nothing was taken. A full bucket holds one minute's
        worth; more than that waits for a full one. A bucket may thus be overdrawn by those who wait.
        """

    @abstractmethod
    async def enter(self, name: bytes, ticket: bytes, limit: int, ttl: float) -> bool:
        """Be one of at most ``limit`` who are inside at a time. False if there is no room. A ticket (at most 32 bytes)
        counts for ``ttl`` seconds unless it enters again, which it may as long as it is inside, whatever the limit.
        """

    @abstractmethod
    async def leave(self, name: bytes, ticket: bytes) -> None:
        """Be inside no more."""
