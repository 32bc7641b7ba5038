"""Names of models: what a name in a request stands for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from cache_proxy.core.catalog import BATCH_LIMIT, BATCH_TOKENS, Model
from cache_proxy.errors import ModelNotFound
from cache_proxy.models import Deployment, Json

_MEMO_LIMIT = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for.

    ``model`` is the upstream's name, ``identity`` what tells this upstream's answers from another's, ``defaults`` are
    request fields the operator set for the name and ``dropped`` those that are left out, ``batch`` is the most inputs
    its deployments take in a call and ``batch_tokens`` the most tokens, as far as they can be estimated.
    """

    model: str
    spec: Model
    identity: str
    deployments: tuple[Deployment, ...]
    defaults: Mapping[str, Json] = field(default_factory=lambda: MappingProxyType({}))
    batch: int = BATCH_LIMIT
    batch_tokens: int = BATCH_TOKENS
    dropped: frozenset[str] = frozenset()
    merges: bool = True
    """Whether requests for it may travel in one call. An app in this process gathers them better by itself."""


class Names:
    """Finds targets, and remembers those it found lately."""

    def __init__(self, find: Callable[[str], Target | None], listed: Sequence[str] = ()) -> None:
        """``find`` knows every name, patterns included; ``listed`` are the names to show to clients."""
        self.listed = tuple(listed)
        self._find = lru_cache(_MEMO_LIMIT)(find)

    def resolve(self, name: str) -> Target:
        """The target of a name. Raises ``ModelNotFound``."""
        target = self._find(name)
        if target is None:
            raise ModelNotFound("No deployment answers to this `model`. GET /v1/models lists the names that work.")
        return target
