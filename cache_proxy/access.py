"""Keys for people and jobs: what each may do, as plain values. The key itself is not among them: its hash is."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import NamedTuple

from cache_proxy.calls import Account, Budget
from cache_proxy.models import Json

PREFIX = "sk-"
"""What every key that is made at run time begins with."""

EVERY_MODEL = "all-proxy-models"
"""LiteLLM's word among the models of a key."""

CONTROLS = ("no-cache", "no-store", "ttl", "s-maxage", "namespace")
"""The cache controls that a key may be held to; what a request can do with the others costs nothing."""

_SHOWN = 8
_HASH = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """One key. Times are seconds since the epoch, money is pico-USD; empty is without a limit."""

    hash: str
    """Its SHA-256 in hexadecimal digits."""
    alias: str = ""
    team: str = ""
    user: str = ""
    models: tuple[str, ...] = ()
    """Those it may use, as callers call them; ``*`` stands for anything."""
    max_budget: int | None = None
    """The most that may be spent with it in a ``budget_duration``, or for good without one."""
    budget_duration: str = ""
    rpm_limit: int | None = None
    tpm_limit: int | None = None
    """Requests, and tokens to be paid for, a minute."""
    expires_at: float | None = None
    blocked: bool = False
    namespace: str = ""
    """A room of its own in the cache; without one it shares the common room."""
    allowed_cache_controls: tuple[str, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)
    created_at: float = 0.0
    updated_at: float = 0.0
    configured: bool = False
    """Whether it is in the configuration file, and so can be changed there only."""

    @property
    def account(self) -> Account:
        """Whose money it spends."""
        alias = self.alias or f"key-{self.hash[:_SHOWN]}"
        return Account(alias, self.hash, self.team, self.user, self.budget)

    @property
    def budget(self) -> Budget | None:
        """What it may spend, if that is limited."""
        return None if self.max_budget is None else Budget(self.max_budget, self.budget_duration)

    def is_good(self, now: float) -> bool:
        """Whether it lets anybody in at this moment."""
        return not self.blocked and (self.expires_at is None or now < self.expires_at)

    def is_called(self, word: str) -> bool:
        """Whether this word names it: the key itself, its hash, or its alias."""
        return word == self.alias or self.hash in (hash_in(word), hashed(word))

    def may_use(self, model: str) -> bool:
        """Whether it has a right to the model of this name."""
        return not self.models or any(each == EVERY_MODEL or fnmatchcase(model, each) for each in self.models)


@dataclass(frozen=True, slots=True)
class OwnKey:
    """A key of the upstream's that a caller brings along, and pays with."""

    secret: str = field(repr=False)
    hash: str
    """Its SHA-256 in hexadecimal digits: what is remembered of it."""

    @property
    def account(self) -> Account:
        """Whose money it spends, where nothing else is known of the caller."""
        return Account(f"own-{self.hash[:_SHOWN]}", self.hash)


class Admitted(NamedTuple):
    """Who was let in, and what is known of him."""

    account: Account
    key: AccessKey | None = None
    own: OwnKey | None = None
    """What this caller pays with, if it is not the operator's."""
    guest: bool = False
    """Known by nothing but the own key, which nobody has looked at yet: may ask for what it pays for, and no more."""
    member: bool = False
    """Let in by the app, where somebody else holds the master key: may do what the holder of a key may."""

    @property
    def administers(self) -> bool:
        """Whether everything is allowed: to the holder of the master key, or whoever comes where there is none."""
        return self.key is None and not self.guest and not self.member


def hashed(key: str) -> str:
    """A key, as it is known here."""
    return sha256(key.encode()).hexdigest()


def hash_in(word: str) -> str | None:
    """The hash of the key that a word is, or is the hash of; ``None`` where it can only be an alias."""
    if word.startswith(PREFIX):
        return hashed(word)
    return word.lower() if _HASH.fullmatch(word) else None


def looks_like_key(alias: str) -> bool:
    """Whether nobody could name a key by this alias: it would be taken for a key, or for the hash of one."""
    return hash_in(alias) is not None
