"""``model_list`` and ``credential_list``, as far as they are acted on. The descriptions say what each key does here."""

from typing import Any, Literal

from pydantic import Field, SecretStr

from cache_proxy.settings.base import Cost, Count, RequestParams, Section, Tries, Unset, Word
from cache_proxy.settings.policies import AllowedFailsPolicy

RETRIES = "How often a failed call is tried again; one that may have been billed, once at most."
FAILS = "Failures in a row that are put up with before a deployment of a group rests."


class LiteLLMParams(RequestParams):
    """``model_list[].litellm_params``. Other keys are default parameters of the request."""

    model: str = Field(min_length=1, description="provider/name, for example jina_ai/jina-embeddings-v3.")
    api_key: SecretStr | None = Field(
        default=None, description="The upstream's key. For jina_ai: else JINA_AI_API_KEY."
    )
    api_base: str | None = Field(
        default=None,
        min_length=1,
        description="The upstream's URL. For jina_ai: else JINA_AI_API_BASE. `app`: the app round which the middleware "
        'is wrapped with upstream="app".',
    )
    base_url: str | None = Field(default=None, min_length=1, description="The same as api_base.")
    litellm_credential_name: str | None = Field(
        default=None, min_length=1, description="The entry of credential_list whose values count where none is here."
    )
    custom_llm_provider: str | None = Field(default=None, description="The provider, where the name has no prefix.")
    rpm: Count | None = Field(
        default=None, description="Most requests a minute to this deployment, of all workers that share the store."
    )
    tpm: Count | None = Field(default=None, description="Most tokens a minute to this deployment, likewise.")
    max_parallel_requests: Unset | None = Field(
        default=None,
        description="Most calls at a time to this deployment, likewise. Where nobody sets it: 32 of each worker.",
    )
    timeout: Unset | None = Field(default=None, description="Seconds a call to this deployment may take.")
    request_timeout: Unset | None = Field(default=None, description="The same as timeout.")
    num_retries: Tries | None = Field(default=None, description=RETRIES)
    max_retries: Tries | None = Field(default=None, description="The same as num_retries.")
    cooldown_time: Unset | None = Field(
        default=None, description="Seconds this deployment rests after failing, if its name has another; 0: never."
    )
    ssl_verify: bool | str | None = Field(
        default=None,
        description="Whether the upstream's certificate is checked, or the file of certificates to trust. "
        "Else SSL_VERIFY.",
    )
    input_cost_per_token: Cost | None = Field(default=None, description="USD per token.")
    extra_headers: dict[str, str] | None = Field(default=None, repr=False, description="Headers sent with each call.")
    headers: dict[str, str] | None = Field(default=None, repr=False, description="The same as extra_headers.")
    extra_body: dict[str, Any] | None = Field(
        default=None, repr=False, description="Default parameters of the request."
    )
    additional_drop_params: tuple[str, ...] | None = Field(
        default=None, description="Fields of a request that are left out, as if the caller had not sent them."
    )
    allowed_openai_params: list[str] | None = Field(
        default=None, description="Nothing to do: every field of a request is passed on."
    )
    weight: float | None = Field(
        default=None, ge=0, description="Share of this deployment's calls in its group. Without any: by rpm, else tpm."
    )
    order: int | None = Field(default=None, description="Deployments of the lowest order are tried first.")
    drop_params: bool | str | None = Field(
        default=None, description="Nothing to do: a field Jina lacks is never refused here."
    )


class ModelInfo(Section):
    """``model_list[].model_info``. The last four are ours."""

    id: Word | None = Field(default=None, description="The deployment's name in logs.")
    mode: str | None = Field(default=None, description="embedding or rerank; both are served where it is not said.")
    input_cost_per_token: Cost | None = Field(default=None, description="USD per token.")
    rpm: Count | None = Field(default=None, description="The same as litellm_params.rpm.")
    tpm: Count | None = Field(default=None, description="The same as litellm_params.tpm.")
    supported_environments: tuple[str, ...] | None = Field(
        default=None, description="The deployment is skipped where LITELLM_ENVIRONMENT is none of these."
    )
    blocked: bool | None = Field(default=None, description="The deployment is skipped.")
    max_embedding_batch_size: Count | None = Field(
        default=None, description="Most inputs or documents in a call, at most 512: larger requests are split."
    )
    max_batch_tokens: Count | None = Field(
        default=None,
        description="Most tokens in a call, by estimate, and never more than tpm: larger requests are split.",
    )
    cooldown_time: Unset | None = Field(default=None, description="The same as litellm_params.cooldown_time.")
    allowed_fails: Tries | None = Field(default=None, description=FAILS)
    allowed_fails_policy: AllowedFailsPolicy | None = Field(default=None, description="The same, by kind of failure.")
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

    model_name: Word = Field(description="The name that callers use; may hold a wildcard.")
    litellm_params: LiteLLMParams = Field(description="How the deployment is called.")
    model_info: ModelInfo = Field(default=ModelInfo(), description="What is known about it.")
    rpm: Count | None = Field(default=None, description="The same as litellm_params.rpm.")
    tpm: Count | None = Field(default=None, description="The same as litellm_params.tpm.")


class Credential(Section):
    """One entry of ``credential_list``, for several deployments to share."""

    credential_name: Word = Field(description="The name that litellm_credential_name refers to.")
    credential_values: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="Keys of litellm_params, such as api_key and api_base."
    )
    credential_info: dict[str, Any] | None = Field(default=None, description="For people: nothing here reads it.")
