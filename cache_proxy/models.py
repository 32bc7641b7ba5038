"""The nouns of the subject, as frozen values: what is asked, what is kept, what is planned, what came home.

Nothing here does anything. ``core`` decides over these values, the rest carries them about.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Json = Any
"""A parsed JSON value. ``Any`` is allowed where JSON enters."""

Key = bytes
"""32 bytes: the hash of everything that can change an answer (``core/keys.py``)."""

PICO = 10**12
"""Money is an integer of pico-USD: a token of 5e-8 USD is 50,000."""


class Endpoint(str, Enum):
    """The two things Jina is asked for."""

    EMBEDDINGS = "embeddings"
    RERANK = "rerank"


class Kind(bytes, Enum):
    """What an item is; one byte of its key, so that a text never equals an image of the same bytes."""

    TEXT = b"t"
    IMAGE = b"i"
    AUDIO = b"a"
    VIDEO = b"v"
    PDF = b"p"
    FUSED = b"f"
    TOKENS = b"k"
    OTHER = b"o"


class Item(NamedTuple):
    """One input or document.

    ``content`` is exact and injective within its kind, ``wire`` is what goes upstream, and ``remote`` says that it
    only points at the content (a URL), which may change.
    """

    kind: Kind
    content: bytes
    wire: Json
    remote: bool = False


class Shape(Enum):
    """How far an answer may be taken apart."""

    EACH = "each"
    """Every item (or pair of query and document) has a value of its own."""
    WHOLE = "whole"
    """The values belong to these items in this order; the answer is still numbers that we write ourselves."""
    VERBATIM = "verbatim"
    """Kept as the upstream's JSON, for nobody here knows what it means."""


class Ask(NamedTuple):
    """A request in canonical form: two requests that must get the same answer make the same ``Ask``.

    ``params`` are keyed *and* sent; nothing else of a request reaches the upstream.
    """

    endpoint: Endpoint
    model: str
    params: Mapping[str, Json]
    items: tuple[Item, ...]
    query: Item | None = None
    shape: Shape = Shape.EACH
    alone: bool = False
    """The input was one object, not a list, and goes upstream that way (a PDF)."""


class View(NamedTuple):
    """What of the answer this caller wants to see, and how it is written. Never part of a key."""

    encoding: str = "float"
    top_n: int | None = None
    documents: tuple[Json, ...] | None = None
    """The caller's documents, to be echoed beside the scores; ``None`` if they are not wanted."""


class Controls(NamedTuple):
    """What a caller says about the cache itself. Durations are seconds."""

    read: bool = True
    store: bool = True
    ttl: float | None = None
    max_age: float | None = None
    only_if_cached: bool = False
    namespace: str = ""

    @property
    def shared(self) -> bool:
        """Whether this request may lead or join a trip that serves others too."""
        return self.read and self.store


class Form(IntEnum):
    """How the upstream writes its numbers; enough to write the same text again."""

    FLOAT32 = 0
    """The shortest decimal that names the float32."""
    WIDENED = 1
    """The float32, written as the double it is."""
    DECIMALS8 = 2
    """The float32, rounded to 8 decimals."""
    FLOAT64 = 3
    """A double that no float32 holds."""


class Spelling(IntEnum):
    """How small and large numbers are spelled; serializers differ in the exponent only."""

    RUST = 0
    """``0.00002``, ``2e-6``: orjson and other Rust serializers."""
    PYTHON = 1
    """``2e-05``, ``2e-06``: Python's own ``json``."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A vector (one dimension) or a vector per token (two)."""

    array: NDArray[np.floating[Any]]
    form: Form
    spelling: Spelling = Spelling.RUST
    tokenized: bytes | None = None
    """Jina's JSON of the tokens that the rows stand for, where they were asked for."""


@dataclass(frozen=True, slots=True)
class Text:
    """What is not numbers, kept as JSON text."""

    json: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """A full ranking in the upstream's own order."""

    order: NDArray[np.uint32]
    scores: Numbers
    embeddings: Numbers | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Values that belong together, in order."""

    members: tuple["Numbers | Text", ...]


Value = Numbers | Text | Ranking | Group


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """What is kept under a key.

    ``tokens`` is what the item costs upstream, ``query_tokens`` what a call costs besides (rerank: the query);
    ``estimated`` says that they are a share of a request's total, not a count of their own. ``model`` is the name
    the upstream answered with, empty where it is the name it was asked for. Times are seconds since the epoch.
    """

    value: Value
    tokens: int
    created_at: float
    model: str = ""
    query_tokens: int = 0
    expires_at: float | None = None
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A validated answer of the upstream to some items of an :class:`Ask`: a value for each seat, in their order."""

    values: tuple[Value, ...]
    model: str
    tokens: int
    counted: bool = True
    """Whether the upstream said how many tokens; otherwise ``tokens`` is an estimate."""


class Plan(NamedTuple):
    """The decision over a request: which key each position has, which of them the store answers, which must be paid.

    Printable and comparable; the engine only carries it out.
    """

    seats: tuple[Key, ...]
    hits: Mapping[Key, Entry]
    misses: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided about the cache. Times are seconds."""

    endpoints: frozenset[Endpoint] = frozenset(Endpoint)
    """The endpoints that are cached at all; the others are passed on."""
    default_off: bool = False
    """LiteLLM's ``mode: default_off``: only requests that say ``use-cache`` use it."""
    namespace: str = ""
    ttl: float | None = None
    url_ttl: float | None = None
    """How long an answer about content behind a URL is kept; ``None``: not at all."""
    max_items: int = 8192
    stale_if_error: float = 0.0
    """How long after it has expired an answer may stand in for an upstream that fails."""


class Want(NamedTuple):
    """Units of a bucket that refills evenly to ``per_minute`` within a minute."""

    units: float
    per_minute: int


class Failure(str, Enum):
    """What kind of failure a call ended with, as far as retries and rests tell them apart."""

    AUTHENTICATION = "authentication"
    """401, 402 and 403: this key is not good here."""
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate limit"
    SERVER = "server"
    """500."""
    GATEWAY = "gateway"
    """502: somebody before the upstream got no answer."""
    UNAVAILABLE = "unavailable"
    """503."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place that answers for a model. ``api_key`` is a secret and kept out of the repr. Times are seconds."""

    id: str
    base_url: str
    api_key: str | None = field(default=None, repr=False)
    account: str = ""
    """What its limits are counted under, together with its URL: those that share them share it. Empty: its id."""
    timeout: float = 60.0
    max_parallel: int = 32
    parallel_everywhere: bool = False
    """Whether ``max_parallel`` holds for all processes that share a store together, and not for each."""
    rpm: int | None = None
    tpm: int | None = None
    retries: int = 2
    """How often a failed call is tried again, where ``retries_after`` does not say it for the kind of failure."""
    retries_after: Mapping[Failure, int] = field(default_factory=dict)
    allowed_fails: int = 3
    """Failures in a row after which a deployment of a group rests, where ``allowed_fails_of`` does not say it."""
    allowed_fails_of: Mapping[Failure, int] = field(default_factory=dict)
    cooldown: float | None = 5.0
    """How long it rests; ``None``: never."""
    weight: float = 1.0
    """Its share of the calls, beside the others of its group."""
    order: int = 1
    """Lower ones are used first, higher ones while those rest."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    verify: bool | str = True
    """Whether the upstream must show a certificate that can be trusted; or the file of those to trust."""
    takes_keys: bool = False
    """Whether a caller may bring the key that it is paid with."""
    price: int | None = None
    """Pico-USD a token, if it is ``priced``: not for what the others of its group cost."""
    priced: bool = False
    passing: bool = False
    """Made for one caller: what is known of it is forgotten when it has not been used for long."""
