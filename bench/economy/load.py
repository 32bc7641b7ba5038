"""What is asked: the same for the same seed, and made to overlap.

Interest moves. The newest texts are wanted most (Zipf over how old they are), and new ones come all the time, so the
items that many ask for at once are mostly items that nobody has bought yet: this is where a cache pays twice.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, islice

from bench.economy.asks import Ask, Embedding, Profile, Rerank
from bench.economy.spellings import Request, names_for, spell

LARGEST = 512
"""Items in the largest request, which is what the upstream takes in one call."""

PAIRWISE = "jina-reranker-v2-base-multilingual"
LISTWISE = "jina-reranker-v3"

_FLAGS = {"normalized": True, "truncate": False}
PROFILES = (
    Profile("jina-embeddings-v3", None, 32, {"dimensions": 32}, {**_FLAGS, "late_chunking": False}),
    Profile("jina-embeddings-v3", "retrieval.passage", 32, {"dimensions": 32, "task": "retrieval.passage"}, _FLAGS),
    Profile(
        "jina-embeddings-v5-text-nano",
        "text-matching",
        768,
        implied={**_FLAGS, "dimensions": 768, "task": "text-matching"},
    ),
)
_SHARES = (6, 3, 1)
_WIDE = 64
"""Numbers of a vector above which only small batches are asked for: writing numbers is not what is measured."""

_WORDS = ("lorem", "ipsum", "dolor", "sit", "amet", "consetetur", "sadipscing", "elitr", "sed", "diam", "nonumy")


@cache
def text_of(number: int) -> str:
    """A text of 5 to 40 words that no other number has."""
    chance = random.Random(number)
    return f"text {number}: " + " ".join(chance.choices(_WORDS, k=chance.randint(5, 40)))


@dataclass
class _Interest:
    """Numbers drawn by Zipf's law over their age: the newest is wanted twice as much as the one before it."""

    window: int
    newest: int
    weights: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.weights = list(accumulate(1 / rank for rank in range(1, self.window + 1)))

    def draw(self, chance: random.Random, count: int) -> list[int]:
        ages = chance.choices(range(self.window), cum_weights=self.weights, k=count)
        return [self.newest - age for age in ages]


class _Crowd:
    """The callers, whose interests move on as they ask."""

    def __init__(self, seed: int, largest: int) -> None:
        self._chance = random.Random(seed)
        self._largest = largest
        self._texts = _Interest(window=3000, newest=3000)
        self._queries = _Interest(window=6, newest=6)

    def requests(self) -> Iterator[Request]:
        """What they ask, one after another, without end; what several want at once comes in a row."""
        while True:
            self._texts.newest += 4
            ask, callers = self._ask()
            for name in self._chance.choices(names_for(ask), k=callers):
                yield spell(ask, name)

    def _ask(self) -> tuple[Ask, int]:
        """An ask, and how many callers come with it at the same moment."""
        kind = self._chance.random()
        if kind < 0.7:
            return self._embedding(), self._chance.choice((1, 1, 1, 1, 2, 4))
        if kind < 0.93:
            return self._pairs(), self._chance.choice((1, 1, 1, 2))
        return self._ranking(), self._chance.randint(2, 6)

    def _embedding(self) -> Embedding:
        (profile,) = self._chance.choices(PROFILES, _SHARES)
        return Embedding(profile, self._draw(16 if profile.width > _WIDE else self._largest))

    def _pairs(self) -> Rerank:
        self._queries.newest += self._chance.random() < 0.02
        (query,) = self._queries.draw(self._chance, 1)
        return Rerank(PAIRWISE, f"query {query}: lorem ipsum", self._draw(self._largest))

    def _ranking(self) -> Rerank:
        (query,) = self._queries.draw(self._chance, 1)
        return Rerank(LISTWISE, f"query {query}: lorem ipsum", self._draw(min(64, self._largest)))

    def _draw(self, most: int) -> tuple[str, ...]:
        """From 1 to ``most`` texts, small numbers as often as large ones on a logarithmic scale."""
        count = round(most ** self._chance.random())
        return tuple(map(text_of, self._texts.draw(self._chance, count)))


def requests(seed: int, count: int) -> Sequence[Request]:
    """The first ``count`` requests of the crowd with this seed; a smallest and a largest batch are among them."""
    crowd = endless(seed, LARGEST)
    edges = [Embedding(PROFILES[0], tuple(map(text_of, range(size)))) for size in (1, LARGEST)]
    first = [spell(ask, "list of strings") for ask in edges]
    return [*first, *islice(crowd, count - len(first))]


def endless(seed: int, largest: int) -> Iterator[Request]:
    """What the crowd with this seed asks, ``largest`` items at a time at most, for as long as one listens."""
    return _Crowd(seed, largest).requests()
