"""The places that answer for models: ``model_list``, normalised, with every default filled in."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from cache_proxy.errors import ConfigError
from cache_proxy.settings.providers import JINA, JINA_BASE, JINA_HOST, base_url, upstream_of
from cache_proxy.settings.sections import Document, LiteLLMParams, ModelEntry, ModelInfo

KEY_VARIABLES = ("JINA_AI_API_KEY", "JINA_API_KEY", "JINA_AI_TOKEN")
BASE_VARIABLE = "JINA_AI_API_BASE"

DEFAULT_TIMEOUT = 120.0
"""Above the 100 s after which Jina's own gateway gives up: to leave earlier is to risk paying twice."""
DEFAULT_RETRIES = 2
DEFAULT_PARALLEL = 32


@dataclass(frozen=True, slots=True)
class DeploymentSettings:
    """One deployment. Its secrets are kept out of the repr."""

    id: str
    """Its name in logs: ``model_info.id``, else the model's name (and a number, in a group)."""
    model_name: str
    litellm_model: str
    """``litellm_params.model`` as written; callers may use it too."""
    model: str
    """The name the upstream knows; with a ``*`` where ``wildcard``."""
    provider: str
    api_base: str
    identity: str
    """Whose answers these are, in every key: the base URL, the group's name or ``model_info.identity``."""
    api_key: SecretStr | None = None
    rpm: int | None = None
    tpm: int | None = None
    max_parallel_requests: int = DEFAULT_PARALLEL
    timeout: float = DEFAULT_TIMEOUT
    num_retries: int = DEFAULT_RETRIES
    input_cost_per_token: Decimal | None = None
    mode: Literal["embedding", "rerank"] | None = None
    items: Literal["separate", "together"] | None = None
    documents: Literal["pairs", "together"] | None = None
    harmless_params: frozenset[str] = frozenset()
    default_params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    weight: float | None = None
    order: int | None = None
    any_name: bool = False
    """A base URL was given in the file, so a wildcard also takes names that are not Jina's."""

    @property
    def wildcard(self) -> bool:
        """Whether ``model_name`` is a pattern."""
        return "*" in self.model_name

    @property
    def on_jina(self) -> bool:
        """Whether the upstream is Jina's own host."""
        return urlsplit(self.api_base).hostname == JINA_HOST


def build(document: Document, places: Sequence[int], environ: Mapping[str, str]) -> tuple[DeploymentSettings, ...]:
    """All deployments of the document; ``places`` are their positions in the file. Raises ``ConfigError``."""
    found = [_deployment(entry, at, document, environ) for entry, at in zip(document.model_list, places, strict=True)]
    groups: dict[str, list[DeploymentSettings]] = defaultdict(list)
    for deployment in found:
        groups[deployment.model_name].append(deployment)
    built = tuple(member for name, members in groups.items() for member in _as_group(name, members))
    _refuse_twins(built)
    return built


def anything_of_jina(document: Document, environ: Mapping[str, str]) -> DeploymentSettings:
    """The deployment there is without a ``model_list``: every Jina model by its name."""
    entry = ModelEntry(model_name="*", litellm_params=LiteLLMParams.model_validate({"model": "*"}))
    (deployment,) = _as_group("*", [_deployment(entry, 0, document, environ)])
    return replace(deployment, id="jina")


def _deployment(entry: ModelEntry, at: int, document: Document, environ: Mapping[str, str]) -> DeploymentSettings:
    params, info = entry.litellm_params, entry.model_info
    path = f"model_list[{at}]"
    if params.model.count("*") > entry.model_name.count("*"):
        raise ConfigError(f"{path}.litellm_params.model has a * that model_name lacks; write it there too")
    upstream = upstream_of(params.model, provider=params.custom_llm_provider, has_base=bool(params.api_base))
    base = _base(params, upstream.provider if upstream else JINA, path, environ)
    return DeploymentSettings(
        id=info.id or entry.model_name,
        model_name=entry.model_name,
        litellm_model=params.model,
        model=upstream.model if upstream else params.model,
        provider=upstream.provider if upstream else JINA,
        api_base=base,
        identity=info.identity or "",
        api_key=_key(params, path, environ),
        rpm=params.rpm,
        tpm=params.tpm,
        input_cost_per_token=_first(params.input_cost_per_token, info.input_cost_per_token),
        mode=_mode(info),
        items=info.items,
        documents=info.documents,
        harmless_params=frozenset(info.harmless_params),
        default_params=_default_params(params, path),
        extra_headers=_headers(params, path),
        weight=params.weight,
        order=params.order,
        any_name=bool(params.api_base),
        **_limits(params, document),
    )


def _limits(params: LiteLLMParams, document: Document) -> dict[str, Any]:
    """What a deployment takes from the router's and the general settings where it says nothing itself."""
    router, common, general = document.router_settings, document.litellm_settings, document.general_settings
    return {
        "timeout": _first(params.timeout, router.timeout, common.request_timeout, DEFAULT_TIMEOUT),
        "num_retries": _first(
            params.num_retries, params.max_retries, router.num_retries, common.num_retries, DEFAULT_RETRIES
        ),
        "max_parallel_requests": _first(
            params.max_parallel_requests,
            router.default_max_parallel_requests,
            general.max_parallel_requests,
            DEFAULT_PARALLEL,
        ),
    }


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _mode(info: ModelInfo) -> Literal["embedding", "rerank"] | None:
    return "embedding" if info.mode == "embedding" else "rerank" if info.mode == "rerank" else None


def _base(params: LiteLLMParams, provider: str, path: str, environ: Mapping[str, str]) -> str:
    if params.api_base:
        return base_url(params.api_base, f"{path}.litellm_params.api_base")
    if provider == JINA and environ.get(BASE_VARIABLE, "").strip():
        return base_url(environ[BASE_VARIABLE], BASE_VARIABLE)
    return JINA_BASE


def _key(params: LiteLLMParams, path: str, environ: Mapping[str, str]) -> SecretStr | None:
    if params.api_key is not None and params.api_key.get_secret_value().strip():
        return credential(params.api_key.get_secret_value(), f"{path}.litellm_params.api_key")
    says_jina = params.custom_llm_provider == JINA or params.model.startswith(f"{JINA}/")
    if params.api_base and not says_jina:
        return None  # Jina's key is not for a server that nobody called Jina's.
    named = ((name, environ.get(name, "").strip()) for name in KEY_VARIABLES)
    return next((credential(value, name) for name, value in named if value), None)


def credential(text: str, where: str) -> SecretStr:
    """A secret as it can stand in a header: without the line end that files and secret stores add."""
    text = text.strip()
    if not _fits_header(text):
        raise ConfigError(f"{where} holds characters that no HTTP header can carry; copy it again")
    return SecretStr(text)


def _fits_header(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _default_params(params: LiteLLMParams, path: str) -> dict[str, Any]:
    found = (params.model_extra or {}) | (params.extra_body or {})
    for name, value in found.items():
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):
            raise ConfigError(f"{path}.litellm_params.{name}: JSON can not say this; put it in quotes") from None
    return found


def _headers(params: LiteLLMParams, path: str) -> dict[str, str]:
    headers = params.extra_headers or {}
    if not all(
        name and _fits_header(name + value) and not set(name) & set(' :"(),/;<=>?@[\\]{}')
        for name, value in headers.items()
    ):
        raise ConfigError(f"{path}.litellm_params.extra_headers: expected names and values of plain ASCII")
    return headers


def _as_group(name: str, members: list[DeploymentSettings]) -> Iterable[DeploymentSettings]:
    """The deployments of one name, made interchangeable: a caller must not notice which one answered."""
    if len({member.model for member in members}) > 1:
        raise ConfigError(
            f"model_list: the deployments called {name} name different upstream models, whose answers must not be "
            "mixed; give each model a model_name of its own"
        )
    if any(member.default_params != members[0].default_params for member in members):
        raise ConfigError(
            f"model_list: the deployments called {name} set different default parameters; make them equal"
        )
    identity = _agreed(name, "identity", {member.identity for member in members}) or _group_identity(name, members)
    shared = {
        "identity": identity,
        "mode": _agreed(name, "mode", {member.mode for member in members}),
        "items": _agreed(name, "items", {member.items for member in members}),
        "documents": _agreed(name, "documents", {member.documents for member in members}),
        "harmless_params": _agreed(name, "harmless_params", {member.harmless_params for member in members})
        or frozenset(),
    }
    for number, member in enumerate(members, 1):
        numbered = len(members) > 1 and member.id == name
        yield replace(member, id=f"{name}#{number}" if numbered else member.id, **shared)


def _agreed(name: str, key: str, values: set[Any]) -> Any:
    given = [value for value in values if value]
    if len(given) > 1:
        raise ConfigError(f"model_list: the deployments called {name} have different model_info.{key}; give them one")
    return given[0] if given else None


def _group_identity(name: str, members: list[DeploymentSettings]) -> str:
    """One server is its URL, however many keys it is called with, so that a second key leaves the cache warm."""
    bases = {member.api_base for member in members}
    return bases.pop() if len(bases) == 1 else name


def _refuse_twins(deployments: Sequence[DeploymentSettings]) -> None:
    ids = [deployment.id for deployment in deployments]
    twins = sorted({name for name in ids if ids.count(name) > 1})
    if twins:
        raise ConfigError(
            f"model_list: several deployments have the id {twins[0]}; give each a model_info.id of its own"
        )
