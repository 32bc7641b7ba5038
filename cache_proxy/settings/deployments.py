"""A place that answers for models: an entry of ``model_list``, normalised, with every default filled in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from cache_proxy.core.catalog import BATCH_LIMIT, BATCH_TOKENS
from cache_proxy.errors import ConfigError
from cache_proxy.models import Failure
from cache_proxy.settings.entries import LiteLLMParams, ModelEntry, ModelInfo
from cache_proxy.settings.limits import (
    DEFAULT_COOLDOWN,
    DEFAULT_FAILS,
    DEFAULT_PARALLEL,
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT,
    first,
    limits,
)  # fmt: skip
from cache_proxy.settings.providers import APP, JINA, JINA_BASE, JINA_HOST, Upstream, base_url, upstream_of
from cache_proxy.settings.sections import Document

KEY_VARIABLES = ("JINA_AI_API_KEY", "JINA_API_KEY", "JINA_AI_TOKEN")
BASE_VARIABLE = "JINA_AI_API_BASE"
LEAST_BUSY = "least-busy"
_FRAMING = {"content-length", "te", "trailer", "transfer-encoding", "upgrade"}


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
    identified: bool = False
    """Whether it is ``model_info.identity``: somebody's own word for them."""
    api_key: SecretStr | None = None
    rpm: int | None = None
    tpm: int | None = None
    max_parallel_requests: int = DEFAULT_PARALLEL
    parallel_everywhere: bool = False
    """The operator set ``max_parallel_requests``: it holds for all workers and hosts together. Our default is a guess
    and holds for each worker."""
    timeout: float = DEFAULT_TIMEOUT
    num_retries: int = DEFAULT_RETRIES
    retries_after: Mapping[Failure, int] = field(default_factory=dict)
    """By kind of failure, where it is not ``num_retries``."""
    allowed_fails: int = DEFAULT_FAILS
    allowed_fails_of: Mapping[Failure, int] = field(default_factory=dict)
    cooldown: float | None = DEFAULT_COOLDOWN
    """Seconds it rests after failing, where its group has another; ``None`` for never."""
    verify: bool | str = True
    """Whether its certificate is checked, or the file of certificates to trust."""
    input_cost_per_token: Decimal | None = None
    mode: Literal["embedding", "rerank"] | None = None
    items: Literal["separate", "together"] | None = None
    documents: Literal["pairs", "together"] | None = None
    harmless_params: frozenset[str] = frozenset()
    default_params: Mapping[str, Any] = field(default_factory=dict, repr=False)
    dropped: frozenset[str] = frozenset()
    """Fields of a request that are left out."""
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    weight: float = 1.0
    """Its share of the calls of its group, beside those of the others."""
    order: int | None = None
    batch: int = BATCH_LIMIT
    """Most items in one call."""
    batch_tokens: int = BATCH_TOKENS
    """Most tokens in one call, as far as they can be estimated."""
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


def deployment(entry: ModelEntry, at: int, document: Document, environ: Mapping[str, str]) -> DeploymentSettings:
    """This entry, which stands at this place of the list, by itself. Raises ``ConfigError``."""
    params, info = entry.litellm_params, entry.model_info
    path = f"model_list[{at}]"
    if params.model.count("*") > entry.model_name.count("*"):
        raise ConfigError(f"{path}.litellm_params.model has a * that model_name lacks; write it there too")
    upstream = upstream_of(params.model, provider=params.custom_llm_provider, has_base=bool(_given_base(params)))
    base = _base(params, upstream.provider if upstream else JINA, path, environ)
    return DeploymentSettings(
        id=info.id or entry.model_name,
        model_name=entry.model_name,
        litellm_model=params.model,
        model=upstream.model if upstream else params.model,
        provider=_provider(params, upstream, base),
        api_base=base,
        identity=info.identity or "",
        api_key=_key(params, path, environ),
        rpm=first(params.rpm, entry.rpm, info.rpm),
        tpm=first(params.tpm, entry.tpm, info.tpm),
        input_cost_per_token=first(params.input_cost_per_token, info.input_cost_per_token),
        mode=_mode(info),
        items=info.items,
        documents=info.documents,
        harmless_params=frozenset(info.harmless_params),
        default_params=_default_params(params, path) | _defaults_of_all(document),
        dropped=frozenset(params.additional_drop_params or ()),
        extra_headers=_headers(params, path),
        weight=params.weight or 0.0,
        order=params.order,
        batch=min(info.max_embedding_batch_size or BATCH_LIMIT, BATCH_LIMIT),
        batch_tokens=min(info.max_batch_tokens or BATCH_TOKENS, first(params.tpm, entry.tpm, info.tpm) or BATCH_TOKENS),
        any_name=bool(_given_base(params)),
        **limits(entry, path, document, environ),
    )


def _given_base(params: LiteLLMParams) -> str | None:
    return params.api_base or params.base_url


def _says_jina(params: LiteLLMParams) -> bool:
    return params.custom_llm_provider == JINA or params.model.startswith(f"{JINA}/")


def _provider(params: LiteLLMParams, upstream: Upstream | None, base: str) -> str:
    """Whose dialect it speaks. An app's models are its own, unless the entry says that they are Jina's."""
    if base == APP and not _says_jina(params):
        return APP
    return upstream.provider if upstream else JINA


def _mode(info: ModelInfo) -> Literal["embedding", "rerank"] | None:
    return "embedding" if info.mode == "embedding" else "rerank" if info.mode == "rerank" else None


def _base(params: LiteLLMParams, provider: str, path: str, environ: Mapping[str, str]) -> str:
    if (_given_base(params) or "").strip() == APP:
        return APP
    if params.api_base:
        return base_url(params.api_base, f"{path}.litellm_params.api_base")
    if params.base_url:
        return base_url(params.base_url, f"{path}.litellm_params.base_url")
    if provider == JINA and environ.get(BASE_VARIABLE, "").strip():
        return base_url(environ[BASE_VARIABLE], BASE_VARIABLE)
    return JINA_BASE


def _key(params: LiteLLMParams, path: str, environ: Mapping[str, str]) -> SecretStr | None:
    if params.api_key is not None and params.api_key.get_secret_value().strip():
        return credential(params.api_key.get_secret_value(), f"{path}.litellm_params.api_key")
    base = (_given_base(params) or "").strip()
    if base == APP or (base and not _says_jina(params)):
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
    return _as_json((params.model_extra or {}) | (params.extra_body or {}), f"{path}.litellm_params")


def _defaults_of_all(document: Document) -> dict[str, Any]:
    """Default parameters of every request. As at LiteLLM they win over a deployment's own."""
    given = document.router_settings.default_litellm_params
    return _as_json((given and given.model_extra) or {}, "router_settings.default_litellm_params")


def _as_json(found: dict[str, Any], where: str) -> dict[str, Any]:
    for name, value in found.items():
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError):
            raise ConfigError(f"{where}.{name}: JSON can not say this; put it in quotes") from None
    return found


def _headers(params: LiteLLMParams, path: str) -> dict[str, str]:
    headers = (params.headers or {}) | (params.extra_headers or {})
    if not all(
        name and _fits_header(name + value) and not set(name) & set(' :"(),/;<=>?@[\\]{}')
        for name, value in headers.items()
    ):
        raise ConfigError(f"{path}.litellm_params.extra_headers: expected names and values of plain ASCII")
    framing = sorted(_FRAMING & {name.lower() for name in headers})
    if framing:
        raise ConfigError(
            f"{path}.litellm_params.extra_headers: {framing[0]} belongs to each call and its connection; take it out"
        )
    return headers
