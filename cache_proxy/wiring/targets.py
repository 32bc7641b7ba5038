"""The models of a configuration: the names that lead to them, what is known of each, and the deployments behind."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from cache_proxy.core.catalog import MODELS, Model, Ranking, look_up
from cache_proxy.core.names import Names, Target
from cache_proxy.models import PICO, Deployment, Endpoint
from cache_proxy.settings import APP, DeploymentSettings, Route, Settings, reveal

LEAST_WEIGHT = 1e-6
"""A weight of 0 is asked only when nobody else is left."""

_MODES = {"embedding": Endpoint.EMBEDDINGS, "rerank": Endpoint.RERANK}


def names(settings: Settings) -> Names:
    """The table of model names."""
    deployments = {id(found): deployment(found) for found in settings.deployments}

    def find(name: str) -> Target | None:
        route = settings.route(name)
        if route is None:
            return None
        first = route.deployments[0]
        prices = [spec(route.model, member).price for member in route.deployments]
        members = tuple(
            replace(deployments[id(member)], price=price, priced=True)
            if len(set(prices)) > 1
            else deployments[id(member)]
            for member, price in zip(route.deployments, prices, strict=True)
        )
        return Target(
            route.model,
            spec(route.model, first),
            first.identity,
            members,
            first.default_params,
            min(member.batch for member in route.deployments),
            min(member.batch_tokens for member in route.deployments),
            first.dropped,
            merges=first.api_base != APP,
        )

    return Names(find, listed(settings))


def listed(settings: Settings) -> list[str]:
    """The names to show to clients: patterns are filled in from the catalog, hidden aliases left out."""
    shown = {name for name, alias in settings.aliases.items() if not alias.hidden}
    for found in settings.deployments:
        if not found.wildcard:
            shown.add(found.model_name)
            continue
        candidates: Sequence[str] = [name for model in MODELS for name in (model, f"jina_ai/{model}")]
        shown |= {name for name in candidates if _is_listed(settings.route(name))}
    return sorted(shown)


def told(settings: Settings) -> frozenset[str]:
    """The upstreams' names for models that may stand in metrics: a wildcard would let callers make up more."""
    return frozenset(MODELS) | {found.model for found in settings.deployments if not found.wildcard}


def _is_listed(found: Route | None) -> bool:
    """Which models an app has, only the app knows."""
    return found is not None and found.deployments[0].api_base != APP


def deployment(settings: DeploymentSettings) -> Deployment:
    """What the upstream side needs to know of a deployment."""
    return Deployment(
        id=settings.id,
        base_url=settings.api_base,
        api_key=reveal(settings.api_key),
        timeout=settings.timeout,
        max_parallel=settings.max_parallel_requests,
        parallel_everywhere=settings.parallel_everywhere,
        rpm=settings.rpm,
        tpm=settings.tpm,
        retries=settings.num_retries,
        retries_after=settings.retries_after,
        allowed_fails=settings.allowed_fails,
        allowed_fails_of=settings.allowed_fails_of,
        cooldown=settings.cooldown,
        weight=max(settings.weight, LEAST_WEIGHT),
        order=1 if settings.order is None else settings.order,
        headers=settings.extra_headers,
        verify=settings.verify,
        # A key of Jina's is not for other people's servers.
        takes_keys=settings.provider == "jina_ai" and settings.api_base != APP,
    )


def spec(model: str, settings: DeploymentSettings) -> Model:
    """What is known of a model: the catalog where it is Jina's dialect, and what the operator says besides."""
    own_server = not settings.on_jina
    found = look_up(model, own_server=own_server)
    if settings.provider != "jina_ai" and found.known:
        # Another server's model of the same name has defaults of its own.
        found = Model(model, price=None, known=False, separate=own_server)
    if settings.items:
        found = replace(found, separate=settings.items == "separate")
    if settings.documents:
        found = replace(found, ranking=Ranking.PAIRS if settings.documents == "pairs" else Ranking.LIST)
    return replace(
        found,
        harmless=settings.harmless_params,
        only=_MODES[settings.mode] if settings.mode else None,
        price=found.price if settings.input_cost_per_token is None else _pico(settings.input_cost_per_token),
    )


def _pico(usd: Decimal) -> int:
    return int((usd * PICO).to_integral_value())
