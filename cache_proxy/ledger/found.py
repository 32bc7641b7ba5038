"""What is read from the ledger, as plain values. The SQL library is not needed to hold them."""

import re
from typing import NamedTuple

from cache_proxy.access import PREFIX, hashed

GROUPS = ("key", "team", "user", "tag", "model", "endpoint", "day")
"""What usage is grouped by."""

RECENT = 30 * 86400.0
"""Seconds that a report goes back which is made of single rows, where nobody said from when on."""

FAILED = 400
"""The first status of a request that failed."""


RESERVED = "\x01"
"""What names of ours begin with, and nobody else's can (``sums.text``)."""

OTHERS = f"{RESERVED}(others)"
"""The name of one row for all that a report has no room for."""

OLDER = f"{RESERVED}(older)"
"""The name of one row for all users, or tags, of a day that is too long ago to tell them apart."""


class Usage(NamedTuple):
    """What happened to one key, team, … or on one day. Money is pico-USD.

    ``tokens_billed``, ``cost`` and ``tokens_unsettled`` are told by the calls, the rest by the requests.
    """

    name: str
    """Of a key its hash, or where it has none its alias; of a day its date; empty for everything together."""
    label: str
    """Of a key the alias it went by last."""
    requests: int = 0
    items: int = 0
    hits: int = 0
    misses: int = 0
    duplicates: int = 0
    joined: int = 0
    tokens_saved: int = 0
    saved: int = 0
    saved_unpriced: int = 0
    """Saved tokens that are not in ``saved``, for nobody knows their price."""
    tokens_billed: int = 0
    cost: int = 0
    cost_unpriced: int = 0
    """Billed tokens that are not in ``cost``, for nobody knows their price."""
    tokens_unsettled: int = 0
    """The most tokens that calls can have cost of which nobody knows how they ended."""


class Whose(NamedTuple):
    """One key: any of these hashes, or whoever went by this alias, with a key or without one."""

    hashes: tuple[str, ...]
    alias: str | None = None


_HASH = re.compile(r"[0-9a-fA-F]{64}")


def whose(word: str) -> Whose:
    """Of what may be a key's hash, its alias, or the key itself: that goes no further than here."""
    if is_hash(word):
        return Whose((word.lower(),))
    return Whose((hashed(word),), None if word.startswith(PREFIX) else word)


def is_hash(name: str) -> bool:
    """Whether this is the hash of a key, and not what somebody without one is called."""
    return _HASH.fullmatch(name) is not None


def of_single_rows(by: str | None, whose: Whose | None) -> bool:
    """Whether this report is made of single rows: the sums are by one word at a time, and a key is one of them."""
    return whose is not None and by not in (None, "day", "key")


def beginning(by: str | None, whose: Whose | None, since: float | None, until: float) -> float | None:
    """From when on this report is, if ``since`` was asked for; ``None`` for all there ever was."""
    return until - RECENT if since is None and of_single_rows(by, whose) else since


class Filters(NamedTuple):
    """Which requests are looked for; ``None`` is any. An empty string finds those that have none."""

    since: float | None = None
    until: float | None = None
    key_hashes: tuple[str, ...] = ()
    """Any of these hashes, or ``key_alias``."""
    key_alias: str | None = None
    request_id: str | None = None
    user: str | None = None
    team: str | None = None
    end_user: str | None = None
    tag: str | None = None
    model: str | None = None
    """As the caller or as the upstream calls it."""
    succeeded: bool | None = None


class Logged(NamedTuple):
    """One request, as the ledger has it. Money is pico-USD, ``None`` where the price is unknown; times are seconds."""

    started_at: float
    latency: float
    request_id: str
    key_alias: str
    key_hash: str
    team: str
    user: str
    end_user: str
    tags: tuple[str, ...]
    endpoint: str
    model_group: str
    model: str
    items: int
    hits: int
    misses: int
    duplicates: int
    joined: int
    tokens_billed: int
    tokens_unsettled: int
    tokens_saved: int
    cost: int | None
    saved: int | None
    status: int
    cache_status: str
    cache_key: str | None
    error: str | None
    bytes_out: int


class Page(NamedTuple):
    """Some of the requests that were looked for, and how many there are: at least ``total`` where it ``is_capped``."""

    rows: tuple[Logged, ...]
    total: int = 0
    is_capped: bool = False


def is_tag_ambiguous(tag: str) -> bool:
    """Whether requests with this tag can not be told from others: it is what stands between two tags."""
    return tag == ","
