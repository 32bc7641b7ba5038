"""The sections of LiteLLM's ``config.yaml``, as far as they are acted on.

What each key means is LiteLLM's (its ``docs/proxy/config_settings``, ``docs/proxy/caching_settings``); the
descriptions say what it does here. Every key that is not a field here warns by its name.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from cache_proxy.settings.own import OwnSettings

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]
Cost = Annotated[Decimal, Field(ge=0)]


class Section(BaseModel):
    """A section: frozen, and lenient about types as YAML and the environment are (``"6379"`` is a port)."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, hide_input_in_errors=True)


class LiteLLMParams(Section):
    """``model_list[].litellm_params``. Other keys are default parameters of the request."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1, description="provider/name, for example jina_ai/jina-embeddings-v3.")
    api_key: SecretStr | None = Field(
        default=None, description="The upstream's key. For jina_ai: else JINA_AI_API_KEY."
    )
    api_base: str | None = Field(
        default=None, min_length=1, description="The upstream's URL. For jina_ai: else JINA_AI_API_BASE."
    )
    custom_llm_provider: str | None = Field(default=None, description="The provider, where the name has no prefix.")
    rpm: Count | None = Field(default=None, description="Most requests a minute to this deployment.")
    tpm: Count | None = Field(default=None, description="Most tokens a minute to this deployment.")
    max_parallel_requests: Count | None = Field(default=None, description="Most calls at a time to this deployment.")
    timeout: Seconds | None = Field(default=None, description="Seconds a call to this deployment may take.")
    num_retries: int | None = Field(default=None, ge=0, description="How often a failed call is tried again.")
    max_retries: int | None = Field(default=None, ge=0, description="The same as num_retries.")
    input_cost_per_token: Cost | None = Field(default=None, description="USD per token.")
    extra_headers: dict[str, str] | None = Field(default=None, repr=False, description="Headers sent with each call.")
    extra_body: dict[str, Any] | None = Field(
        default=None, repr=False, description="Default parameters of the request."
    )
    weight: float | None = Field(default=None, ge=0, description="Share of this deployment's calls in its group.")
    order: int | None = Field(default=None, description="Deployments of the lowest order are tried first.")
    drop_params: bool | None = Field(
        default=None, description="Nothing to do: a field Jina lacks is never refused here."
    )


class ModelInfo(Section):
    """``model_list[].model_info``. The last four are ours."""

    id: str | None = Field(default=None, min_length=1, description="The deployment's name in logs.")
    mode: str | None = Field(default=None, description="embedding or rerank; both are served where it is not said.")
    input_cost_per_token: Cost | None = Field(default=None, description="USD per token.")
    identity: str | None = Field(
        default=None,
        min_length=1,
        description="Which upstreams share cached answers: those with the same identity and model.",
    )
    items: Literal["separate", "together"] | None = Field(
        default=None,
        description="Whether each input of an embedding model unknown to the catalog has a vector of its own.",
    )
    documents: Literal["pairs", "together"] | None = Field(
        default=None, description="Whether an unknown reranker scores each (query, document) pair on its own."
    )
    harmless_params: tuple[str, ...] = Field(
        default=(), description="Fields unknown to the catalog that do not tie the items of a request together."
    )


class ModelEntry(Section):
    """One deployment: ``model_list[]``. Entries of one ``model_name`` are a balanced group."""

    model_name: str = Field(min_length=1, description="The name that callers use; may hold a wildcard.")
    litellm_params: LiteLLMParams
    model_info: ModelInfo = ModelInfo()


class CacheParams(Section):
    """``litellm_settings.cache_params``."""

    type: str | None = Field(default=None, description="disk, redis, or local (memory of this process).")
    ttl: Seconds | None = Field(default=None, description="Seconds an answer is kept; without it, it never goes stale.")
    default_in_memory_ttl: Seconds | None = Field(default=None, description="The ttl, where type is local.")
    default_in_redis_ttl: Seconds | None = Field(default=None, description="The ttl, where type is redis.")
    namespace: str | None = Field(
        default=None, description="Part of every key: other namespaces are not seen. For redis: else REDIS_NAMESPACE."
    )
    mode: Literal["default_on", "default_off"] | None = Field(
        default=None, description="default_off: only requests that ask for it are cached."
    )
    supported_call_types: list[str] | None = Field(
        default=None, description="What is cached: embedding (or aembedding), rerank (or arerank). Both, if left out."
    )
    disk_cache_dir: str | None = Field(default=None, min_length=1, description="The folder of the disk store.")
    url: SecretStr | None = Field(default=None, description="Redis by URL, in place of the fields below.")
    redis_url: SecretStr | None = Field(default=None, description="The same as url.")
    host: str | None = Field(default=None, min_length=1, description="Redis host. Else REDIS_URL or REDIS_HOST.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Redis port. Else REDIS_PORT.")
    username: str | None = Field(default=None, description="Redis user. Else REDIS_USERNAME.")
    password: SecretStr | None = Field(default=None, description="Redis password. Else REDIS_PASSWORD.")
    db: int | None = Field(default=None, ge=0, description="Redis database number. Else REDIS_DB.")
    ssl: bool | None = Field(default=None, description="Redis over TLS. Else REDIS_SSL.")
    max_connections: Count | None = Field(default=None, description="Most connections to Redis of each worker.")
    socket_timeout: Seconds | None = Field(default=None, description="Seconds one exchange with Redis may take.")


class LiteLLMSettings(Section):
    """``litellm_settings``."""

    cache: bool | None = Field(default=None, description="Whether answers are cached.")
    cache_params: CacheParams | None = None
    drop_params: bool | None = Field(
        default=None, description="Nothing to do: a field Jina lacks is never refused here."
    )
    num_retries: int | None = Field(default=None, ge=0, description="How often a failed call is tried again.")
    request_timeout: Seconds | None = Field(default=None, description="Seconds a call to the upstream may take.")
    allowed_fails: int | None = Field(default=None, ge=0, description="Failures in a row before a deployment rests.")
    cooldown_time: Seconds | None = Field(default=None, description="Seconds a failing deployment of a group rests.")


class Alias(Section):
    """One other name for a model. ``hidden`` keeps it out of ``/v1/models``."""

    model: str = Field(min_length=1)
    hidden: bool = False


def _alias(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class RouterSettings(Section):
    """``router_settings``. They win over their namesakes of ``litellm_settings``."""

    model_group_alias: Mapping[str, Annotated[Alias, BeforeValidator(_alias)]] = Field(
        default_factory=dict, description="Other names for models: a name, or {model, hidden}."
    )
    num_retries: int | None = Field(default=None, ge=0, description="How often a failed call is tried again.")
    timeout: Seconds | None = Field(default=None, description="Seconds a call to the upstream may take.")
    allowed_fails: int | None = Field(default=None, ge=0, description="Failures in a row before a deployment rests.")
    cooldown_time: Seconds | None = Field(default=None, description="Seconds a failing deployment of a group rests.")
    disable_cooldowns: bool | None = Field(default=None, description="Never let a failing deployment rest.")
    routing_strategy: str | None = Field(default=None, description="simple-shuffle. Others warn, and it is used.")
    default_max_parallel_requests: Count | None = Field(
        default=None, description="Most calls at a time to a deployment."
    )


class GeneralSettings(Section):
    """``general_settings``."""

    master_key: SecretStr | None = Field(
        default=None, description="The key callers must show. Else LITELLM_MASTER_KEY."
    )
    max_request_size_mb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Largest request body, in MiB (LiteLLM counts so). max_body_mib wins."
    )
    max_parallel_requests: Count | None = Field(default=None, description="Most calls at a time to a deployment.")


class Document(Section):
    """The whole file, validated."""

    model_list: tuple[ModelEntry, ...] = ()
    litellm_settings: LiteLLMSettings = LiteLLMSettings()
    router_settings: RouterSettings = RouterSettings()
    general_settings: GeneralSettings = GeneralSettings()
    cache_proxy_settings: OwnSettings = OwnSettings()


def reveal(value: SecretStr | None) -> str | None:
    """The secret itself, for the one who has to send it."""
    return None if value is None else value.get_secret_value()
