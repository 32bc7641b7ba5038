"""What is done to keys: by the routes and by the command alike. Everything here blocks."""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from cache_proxy.access import PREFIX, AccessKey, hash_in, hashed
from cache_proxy.core.durations import window
from cache_proxy.core.wire import access
from cache_proxy.errors import ConfigError, NoSuchKey, RequestError
from cache_proxy.models import Json
from cache_proxy.settings import Settings
from cache_proxy.wiring.ledger import build_database

if TYPE_CHECKING:
    from cache_proxy.ledger.keys import KeyTable

SECRET_BYTES = 32

AT_ONCE = 500
"""Keys that are asked about in one statement: a database takes only so many words."""


class Generated(NamedTuple):
    """A new key. ``secret`` is the key itself, which nobody can tell again."""

    secret: str
    key: AccessKey

    def __repr__(self) -> str:
        return f"Generated({self.key.hash[:8]})"


class KeyDesk:
    """Where keys are made, changed, looked at and taken back.

    A key is named by itself, by its hash or by its alias. Every method may raise ``RequestError`` and ``LedgerError``.
    """

    def __init__(
        self,
        table: "KeyTable",
        configured: Iterable[AccessKey],
        master: str | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """``master`` is the hash of the master key."""
        self._table = table
        self._configured = {key.hash: key for key in configured}
        self._master = master
        self._now = now

    def generate(self, body: Mapping[str, Json]) -> Generated:
        """Make a key with what this request of LiteLLM's says of it."""
        now = self._now()
        secret = access.chosen_key(body) or PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        said = access.changes(body, now, besides=("key",))
        key = AccessKey(hash=hashed(secret), **said, created_at=now, updated_at=now)
        if key.hash == self._master:
            raise RequestError("This is the master_key; choose another.", param="key", code="key_exists")
        self._refuse_configured(key)
        self._table.add(key)
        return Generated(secret, key)

    def update(self, word: str, body: Mapping[str, Json]) -> AccessKey:
        """Change what is said of a key; what is not said stays."""
        now = self._now()
        said = access.changes(body, now, besides=("key",))
        changed = self._table.change(self._at_run_time(word), lambda key: self._changed(key, said, now))
        if changed is None:
            raise NoSuchKey
        return changed

    def _changed(self, key: AccessKey, said: access.Changes, now: float) -> AccessKey:
        changed = replace(key, **said, updated_at=now)
        self._refuse_configured(changed)
        return changed

    def delete(self, words: Sequence[str]) -> list[str]:
        """Take these keys back; their hashes."""
        hashes = [self._at_run_time(word) for word in dict.fromkeys(words)]
        for hash_ in hashes:
            if self._table.find(hash_)[1] is None:
                raise NoSuchKey
        self._table.remove(hashes)
        return hashes

    def find(self, word: str) -> AccessKey:
        """The key of this name."""
        hash_ = self._hash(word)
        found = self._table.find(hash_)[1] or self._configured.get(hash_)
        if found is None:
            raise NoSuchKey
        return found

    def all(self) -> list[AccessKey]:
        """Every key: those of the configuration first, then the newest."""
        return [*self._configured.values(), *self._table.all()]

    def told(self, keys: Sequence[AccessKey]) -> list[dict[str, Json]]:
        """These keys, as LiteLLM's routes tell of them, with what has been spent."""
        parts = (keys[at : at + AT_ONCE] for at in range(0, len(keys), AT_ONCE))
        return [told for part in parts for told in self._part_told(part)]

    def _part_told(self, keys: Sequence[AccessKey]) -> list[dict[str, Json]]:
        now = self._now()
        spent = self._table.spent([key.hash for key in keys])
        levels = self._table.levels(keys, now)
        return [_told(key, spent.get(key.hash, 0), levels.get(key.hash), now) for key in keys]

    def close(self) -> None:
        """Let go of the database, where it is the desk's own."""
        self._table.close()

    def _at_run_time(self, word: str) -> str:
        hash_ = self._hash(word)
        if hash_ in self._configured:
            raise RequestError(
                "This key is in the configuration file; change it there.", param="key", code="key_in_config"
            )
        return hash_

    def _hash(self, word: str) -> str:
        """The hash of a key that is named by itself, by its hash, or by its alias."""
        found = hash_in(word) or self._named(word)
        if found is None:
            raise NoSuchKey
        return found

    def _named(self, alias: str) -> str | None:
        if not alias or not alias.isprintable():
            # No alias, and perhaps no word that a database takes.
            return None
        configured = [key.hash for key in self._configured.values() if key.alias == alias]
        return configured[0] if configured else self._table.named(alias)

    def _refuse_configured(self, key: AccessKey) -> None:
        if key.hash in self._configured or any(
            key.alias and key.alias == one.alias for one in self._configured.values()
        ):
            raise RequestError(
                "A key of the configuration file is this one, or has its `key_alias`.",
                param="key_alias",
                code="key_exists",
            )


def _told(key: AccessKey, spent: int, level: tuple[int, int] | None, now: float) -> dict[str, Json]:
    """With a budget, what counts is what was spent in its window."""
    spent, reserved = level or (spent, 0)
    resets_at = None if level is None else window(key.budget_duration, now).ends_at
    return {
        **access.told(key),
        "spend": access.dollars(spent),
        "reserved": access.dollars(reserved),
        "budget_reset_at": access.date(resets_at),
    }


def told_without_ledger(key: AccessKey) -> dict[str, Json]:
    """A key of the configuration, where nothing is known of what was spent."""
    return {**access.told(key), "spend": None, "reserved": None, "budget_reset_at": None}


def build_table(settings: Settings) -> "KeyTable | None":
    """Where keys that are made at run time are kept; ``None`` where there can be none. Nothing is opened."""
    if settings.master_key is None or not settings.ledger.enabled:
        return None
    # Here, for it loads the SQL library.
    from cache_proxy.ledger.keys import KeyTable

    return KeyTable(build_database(settings.ledger))


def key_desk(settings: Settings) -> KeyDesk:
    """The desk of a configuration. Raises ``ConfigError`` where there can be no such keys."""
    table = build_table(settings)
    if table is None:
        raise ConfigError(
            "keys need general_settings.master_key (nobody is asked for one without) and the ledger's database "
            "(cache_proxy_settings.ledger)"
        )
    return desk_at(table, settings)


def desk_at(table: "KeyTable", settings: Settings) -> KeyDesk:
    """The desk of a configuration whose keys are kept in this table."""
    master = None if settings.master_key is None else hashed(settings.master_key.get_secret_value())
    return KeyDesk(table, settings.keys, master)
