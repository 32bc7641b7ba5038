"""What a caller wants, before it is spelled: texts embedded under a profile, or documents ranked."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from bench.economy.items import Item, Pair, Ranking, Text
from cache_proxy.standin.models import RERANKERS

Body = dict[str, Any]


@dataclass(frozen=True)
class Profile:
    """A model and parameters. ``given`` must be in the body; ``implied`` may be, and changes nothing."""

    model: str
    mode: str | None
    width: int
    given: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    implied: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Embedding:
    """The vectors of these texts, in this order; some may come twice."""

    profile: Profile
    texts: tuple[str, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        profile = self.profile
        return tuple(Text(profile.model, profile.mode, profile.width, text) for text in self.texts)

    @property
    def body(self) -> Body:
        """The plainest way to say it."""
        return {"model": self.profile.model, "input": list(self.texts), **self.profile.given}


@dataclass(frozen=True)
class Rerank:
    """The scores of these documents for the query; some may come twice."""

    model: str
    query: str
    documents: tuple[str, ...]

    @property
    def items(self) -> tuple[Item, ...]:
        if RERANKERS[self.model].listwise:
            return (Ranking(self.model, self.query, self.documents),)
        return tuple(Pair(self.model, self.query, document) for document in self.documents)

    @property
    def body(self) -> Body:
        """The plainest way to say it."""
        return {"model": self.model, "query": self.query, "documents": list(self.documents)}


Ask = Embedding | Rerank
