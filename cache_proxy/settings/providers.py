"""Who serves a deployment: the provider's prefix of a model name, and the base URL."""

from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from cache_proxy.errors import ConfigError

JINA = "jina_ai"
JINA_HOST = "api.jina.ai"
JINA_BASE = f"https://{JINA_HOST}/v1"
APP = "app"
"""In place of a base URL, and of a provider: the app that the middleware is wrapped round (``upstream="app"``)."""

DIALECT = frozenset(
    {
        JINA, "cohere", "custom_openai", "deepinfra", "fireworks_ai", "hosted_vllm", "infinity", "litellm_proxy",
        "llamafile", "lm_studio", "mistral", "nvidia_nim", "openai", "openai_like", "openrouter", "together_ai",
        "vllm", "voyage", "xinference",
    }
)  # fmt: skip
"""Providers whose servers speak ``/embeddings`` or ``/rerank`` as Jina does, or nearly."""

FOREIGN = frozenset(
    {
        "anthropic", "azure", "azure_ai", "azure_text", "bedrock", "bedrock_converse", "cloudflare", "cohere_chat",
        "databricks", "deepseek", "gemini", "github_copilot", "groq", "huggingface", "ollama", "ollama_chat", "oci",
        "palm", "perplexity", "petals", "predibase", "replicate", "sagemaker", "sagemaker_chat",
        "text-completion-openai", "vertex_ai", "vertex_ai_beta", "watsonx", "xai",
    }
)  # fmt: skip
"""Providers with an API of their own: never served here, whatever their base URL."""

EMBEDDERS = frozenset({JINA, "infinity", "voyage"})
"""Providers of nothing but embeddings and rankings."""

_JINA_NAMES = ("jina-", "elser")
_ENDPOINTS = ("/embeddings", "/rerank")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Upstream(NamedTuple):
    """A provider, and the name it knows the model by."""

    provider: str
    model: str


def upstream_of(model: str, *, provider: str | None = None, has_base: bool) -> Upstream | None:
    """Who serves this ``litellm_params.model``; ``None`` if nobody whose dialect is spoken here.

    A prefix that is no provider's (``BAAI/bge-m3``) is part of the name. Other servers than Jina's need a base URL.
    """
    prefix, slash, rest = model.partition("/")
    if provider is None and slash and prefix in DIALECT | FOREIGN:
        provider, model = prefix, rest
    elif provider is not None and slash and prefix == provider:
        model = rest
    if not model or provider in FOREIGN:
        return None
    if provider is None:
        return Upstream(JINA, model) if has_base or model.startswith(_JINA_NAMES) else None
    return Upstream(provider, model) if has_base or provider == JINA else None


def embeds(model: str, provider: str | None) -> bool:
    """Whether this ``litellm_params.model`` can only be an embedder or a reranker: by its provider, or because it is
    called as Jina's are, whoever serves it.
    """
    prefix, _, _ = model.partition("/")
    return (provider or prefix) in EMBEDDERS or model.rpartition("/")[2].startswith(_JINA_NAMES)


def base_url(text: str, where: str) -> str:
    """The one spelling of this base URL: it is the upstream's identity in every key.

    An endpoint's own URL is cut to its base, the host is written small, default ports and a last slash go.
    ``where`` names the setting in the ``ConfigError``, which repeats nothing of the text.
    """
    try:
        parts = urlsplit(text.strip())
        port, host = parts.port, parts.hostname
    except ValueError:
        parts, port, host = SplitResult("", "", "", "", ""), None, None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not host or any(char.isspace() for char in text.strip()):
        raise ConfigError(f"{where}: expected a URL such as {JINA_BASE}")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(f"{where}: a URL here may hold no user or password; use api_key or extra_headers")
    if parts.query or parts.fragment:
        raise ConfigError(f"{where}: a base URL has no ? or #; take that part out")
    shown = f"[{host}]" if ":" in host else host
    suffix = "" if port in (None, _DEFAULT_PORTS[scheme]) else f":{port}"
    return f"{scheme}://{shown}{suffix}{_base_path(parts.path, host)}"


def _base_path(path: str, host: str) -> str:
    path = path.rstrip("/")
    for endpoint in _ENDPOINTS:
        path = path.removesuffix(endpoint).rstrip("/")
    return path or ("/v1" if host == JINA_HOST else "")
