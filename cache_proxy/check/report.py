"""What a configuration says, as plain values without a secret in them. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from cache_proxy.serving import WELL_KNOWN_KEY, store_of
from cache_proxy.settings import APP, DeploymentSettings, Settings

REFUSED, LACKING, GOOD = 2, 1, 0
"""Exit codes: the file can not be obeyed; it can, but something it needs is not there; nothing is missing."""


@dataclass(frozen=True, slots=True)
class Place:
    """One deployment. ``key`` is never the key itself."""

    id: str
    url: str
    key: Literal["given", "missing", "none"]
    """``missing`` where the upstream is known to want one."""


@dataclass(frozen=True, slots=True)
class Model:
    """A ``model_name`` and who answers to it."""

    name: str
    upstream: str
    mode: str | None
    """``embedding`` or ``rerank``; ``None`` for both."""
    deployments: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Name:
    """Another name for a model. ``hidden`` ones are not listed."""

    name: str
    model: str
    hidden: bool


@dataclass(frozen=True, slots=True)
class Store:
    """The store that was asked. ``reachable`` is ``None`` where it was not."""

    reachable: bool | None
    trouble: str = ""
    advice: tuple[str, ...] = ()


OFFLINE = Store(reachable=None)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where money is written down: empty where there is no ledger. ``writable`` is ``None`` where it was not asked."""

    where: str
    writable: bool | None = None
    trouble: str = ""
    refusing: bool = True
    """Whether nothing is spent while it can not be written."""


@dataclass(frozen=True, slots=True)
class Cache:
    """What is cached and where. ``ttl`` is seconds, ``None`` for good; ``memory_mib`` is the tier of each worker."""

    endpoints: tuple[str, ...]
    where: str
    memory_mib: int
    ttl: float | None
    namespace: str
    default_off: bool


@dataclass(frozen=True, slots=True)
class Report:
    """Everything. With an ``error``, that is all there is to say."""

    config: str | None
    error: str | None = None
    models: tuple[Model, ...] = ()
    aliases: tuple[Name, ...] = ()
    cache: Cache | None = None
    store: Store = OFFLINE
    ledger: Ledger | None = None
    callers: str = ""
    missing: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, 1 where something is missing, 2 where the configuration is refused."""
        if self.error is not None:
            return REFUSED
        return LACKING if self.missing else GOOD


def report(config: str | None, settings: Settings, store: Store, ledger: Ledger) -> Report:
    """The report on these settings, and on the store and the ledger they lead to."""
    aliases = (Name(name, alias.model, alias.hidden) for name, alias in settings.aliases.items())
    return Report(
        config=config,
        models=tuple(_models(settings)),
        aliases=tuple(aliases),
        cache=_cache(settings),
        store=store,
        ledger=ledger,
        callers=_callers(settings),
        missing=tuple(_missing(settings, store, ledger)),
        warnings=tuple(_warnings(settings)),
    )


def _models(settings: Settings) -> Iterator[Model]:
    for name in dict.fromkeys(one.model_name for one in settings.deployments):
        members = [one for one in settings.deployments if one.model_name == name]
        places = tuple(Place(one.id, one.api_base, _key(one)) for one in members)
        yield Model(name, members[0].model, members[0].mode, places)


def _key(deployment: DeploymentSettings) -> Literal["given", "missing", "none"]:
    if deployment.api_key is not None:
        return "given"
    return "missing" if deployment.on_jina else "none"


def _cache(settings: Settings) -> Cache:
    cache = settings.cache
    on = {"embeddings": cache.embeddings, "rerank": cache.rerank}
    return Cache(
        endpoints=tuple(name for name, cached in on.items() if cached and cache.enabled),
        where=store_of(settings),
        memory_mib=settings.own.memory_mib if cache.enabled and cache.kind != "memory" else 0,
        ttl=cache.ttl,
        namespace=cache.namespace,
        default_off=cache.default_off,
    )


def _callers(settings: Settings) -> str:
    own = "; whoever has a key of Jina's pays with that" if settings.pass_through_keys else ""
    if settings.master_key is None:
        return f"this machine only, without a key{own}"
    keys = f", {len(settings.keys)} of them in the file" if settings.keys else ""
    return f"whoever sends the master key, or a key{keys}{own}"


def _missing(settings: Settings, store: Store, ledger: Ledger) -> Iterator[str]:
    yield from settings.unset
    for deployment in settings.deployments:
        # Where callers bring theirs, the operator need not have one.
        if _key(deployment) == "missing" and not settings.pass_through_keys:
            yield f"{deployment.id} has no key: set JINA_AI_API_KEY, or litellm_params.api_key"
    if not settings.deployments:
        yield "model_list: there is no deployment that can be served here"
    if store.reachable is False:
        yield f"the store ({store_of(settings)}) can not be used: {store.trouble}"
    if ledger.writable is False:
        yield f"the ledger ({ledger.where}) can not be used: {ledger.trouble}"


def _warnings(settings: Settings) -> Iterator[str]:
    if any(one.api_base == APP for one in settings.deployments):
        yield f"model_list: `api_base: {APP}` is for the middleware alone; `cache-proxy serve` refuses this file"
    if settings.master_key is not None and settings.master_key.get_secret_value() == WELL_KNOWN_KEY:
        yield "general_settings.master_key is the one of LiteLLM's samples: everybody knows it"
    yield from (line for line in settings.warnings if line not in settings.unset)
