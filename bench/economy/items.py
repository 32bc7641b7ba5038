"""What is bought: one text's vector, one document's score, one listwise ranking.

An item is told apart by what its answer depends on, and its tokens are counted, as the stand-in does it. Nothing of the
proxy's is used here: its keys are what is being judged.
"""

from dataclasses import dataclass

from cache_proxy.standin.tokens import text_tokens


@dataclass(frozen=True, slots=True)
class Text:
    """A text's vector. ``mode`` is its task with the model's default filled in, ``width`` how many numbers it has."""

    model: str
    mode: str | None
    width: int
    text: str

    @property
    def tokens(self) -> int:
        return text_tokens(self.text)


@dataclass(frozen=True, slots=True)
class Pair:
    """A document's score for a query. The query is billed with each call, so its tokens are no part of the pair."""

    model: str
    query: str
    document: str

    @property
    def tokens(self) -> int:
        return text_tokens(self.document)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The scores of these documents in this order, which depend on each other: the whole call is one item."""

    model: str
    query: str
    documents: tuple[str, ...]

    @property
    def tokens(self) -> int:
        return text_tokens(self.query) + sum(map(text_tokens, self.documents))


Item = Text | Pair | Ranking
