"""The sections of LiteLLM's ``config.yaml``, as far as they are acted on.

What each key means is LiteLLM's (its ``docs/proxy/config_settings``, ``docs/proxy/caching_settings``); the
descriptions say what it does here, and are what docs/config.md and the JSON Schema say. Every key that is not a field
here warns by its name; why, says ``ignored``.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal

import orjson
from pydantic import BeforeValidator, ConfigDict, Field, SecretStr

from cache_proxy.settings.base import Count, RequestParams, Seconds, Section, Tries, Unset, Word
from cache_proxy.settings.entries import FAILS, RETRIES, Credential, ModelEntry
from cache_proxy.settings.own import OwnSettings
from cache_proxy.settings.policies import AllowedFailsPolicy, RetryPolicy


class Node(Section):
    """A server of Redis."""

    model_config = ConfigDict(extra="forbid")

    host: str = Field(min_length=1, description="Its name or address.")
    port: int = Field(ge=1, le=65535, description="Its port: 6379 if left out, of a Sentinel 26379.")


def _json(value: Any) -> Any:
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(value) if isinstance(value, str) else value
    return value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _node(port: int) -> BeforeValidator:
    """``[host, port]`` as ``{host, port}``, and the usual port where none is given."""

    def spelled(value: Any) -> Any:
        if isinstance(value, list) and len(value) in (1, 2):
            value = dict(zip(("host", "port"), value, strict=False))
        return {"port": port, **value} if isinstance(value, Mapping) else value

    return BeforeValidator(spelled)


_Written = str | list[dict[str, str | int] | list[str | int]]
Servers = Annotated[tuple[Annotated[Node, _node(6379)], ...], BeforeValidator(_json, json_schema_input_type=_Written)]
Sentinels = Annotated[
    tuple[Annotated[Node, _node(26379)], ...], BeforeValidator(_json, json_schema_input_type=_Written)
]
"""In a variable, written as JSON."""


class CacheParams(Section):
    """``litellm_settings.cache_params``."""

    NULLS = frozenset({"ssl_cert_reqs"})

    type: str | None = Field(
        default=None, description="disk, redis, local (memory of this process), or the name of an installed backend."
    )
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
    url: SecretStr | None = Field(default=None, description="Redis by URL. Else REDIS_URL.")
    redis_url: SecretStr | None = Field(default=None, description="The same as url.")
    host: str | None = Field(default=None, min_length=1, description="Redis host. Else REDIS_HOST.")
    port: int | None = Field(default=None, ge=1, le=65535, description="Redis port. Else REDIS_PORT.")
    unix_socket_path: str | None = Field(
        default=None, min_length=1, description="The Unix socket of a Redis of this host. Else REDIS_UNIX_SOCKET_PATH."
    )
    redis_startup_nodes: Servers | None = Field(
        default=None, description="Servers of a Redis Cluster: {host, port} each. Else REDIS_CLUSTER_NODES (JSON)."
    )
    startup_nodes: Servers | None = Field(default=None, description="The same as redis_startup_nodes.")
    sentinel_nodes: Sentinels | None = Field(
        default=None, description="Redis Sentinels: [host, port] each. Else REDIS_SENTINEL_NODES (JSON)."
    )
    service_name: str | None = Field(
        default=None, min_length=1, description="The primary that the Sentinels watch. Else REDIS_SERVICE_NAME."
    )
    sentinel_username: str | None = Field(
        default=None, description="User of the Sentinels. Else REDIS_SENTINEL_USERNAME."
    )
    sentinel_password: SecretStr | None = Field(
        default=None,
        description="Password of the Sentinels, and of the primary where password is not set. "
        "Else REDIS_SENTINEL_PASSWORD.",
    )
    username: str | None = Field(default=None, description="Redis user. Else REDIS_USERNAME.")
    password: SecretStr | None = Field(default=None, description="Redis password. Else REDIS_PASSWORD.")
    db: int | None = Field(default=None, ge=0, description="Redis database number. Else REDIS_DB.")
    ssl: bool | None = Field(default=None, description="Redis over TLS. Else REDIS_SSL.")
    ssl_ca_certs: str | None = Field(
        default=None,
        min_length=1,
        description="File of the certificates to trust, in place of the machine's. Else REDIS_SSL_CA_CERTS.",
    )
    ssl_ca_data: str | None = Field(
        default=None, min_length=1, description="The same, as text (PEM). Else REDIS_SSL_CA_DATA."
    )
    ssl_certfile: str | None = Field(
        default=None, min_length=1, description="File of the certificate shown to Redis. Else REDIS_SSL_CERTFILE."
    )
    ssl_keyfile: str | None = Field(
        default=None, min_length=1, description="File of its key, if not in ssl_certfile. Else REDIS_SSL_KEYFILE."
    )
    ssl_password: SecretStr | None = Field(default=None, description="Password of that key. Else REDIS_SSL_PASSWORD.")
    ssl_cert_reqs: Annotated[Literal["required", "optional", "none"], BeforeValidator(_lower)] | None = Field(
        default=None,
        description="none (and null, where Redis is a host or a Cluster): any certificate of Redis will do. "
        "Else REDIS_SSL_CERT_REQS.",
    )
    ssl_check_hostname: bool | None = Field(
        default=None, description="Whether the certificate must name the host. Else REDIS_SSL_CHECK_HOSTNAME."
    )
    ssl_ciphers: str | None = Field(
        default=None, min_length=1, description="OpenSSL's list of ciphers to offer. Else REDIS_SSL_CIPHERS."
    )
    max_connections: Count | None = Field(
        default=None, description="Most connections of each worker to a Redis server. Else REDIS_MAX_CONNECTIONS."
    )
    socket_timeout: Seconds | None = Field(
        default=None, description="Seconds one exchange with Redis may take. Else REDIS_SOCKET_TIMEOUT."
    )
    socket_connect_timeout: Seconds | None = Field(
        default=None, description="Seconds a connection to Redis may take. Else REDIS_SOCKET_CONNECT_TIMEOUT."
    )
    socket_keepalive: bool | None = Field(
        default=None, description="TCP keepalive towards Redis. Else REDIS_SOCKET_KEEPALIVE."
    )
    health_check_interval: float | None = Field(
        default=None,
        ge=0,
        description="Seconds a connection may lie idle before a PING goes ahead; 0 for never. "
        "Else REDIS_HEALTH_CHECK_INTERVAL.",
    )
    client_name: str | None = Field(
        default=None, min_length=1, description="What CLIENT LIST of Redis shows. Else REDIS_CLIENT_NAME."
    )


class LiteLLMSettings(Section):
    """``litellm_settings``."""

    cache: bool | None = Field(default=None, description="Whether answers are cached.")
    cache_params: CacheParams | None = Field(default=None, description="Where answers are kept, and for how long.")
    drop_params: bool | str | None = Field(
        default=None, description="Nothing to do: a field Jina lacks is never refused here."
    )
    num_retries: Tries | None = Field(default=None, description=RETRIES)
    request_timeout: Unset | None = Field(
        default=None, description="Seconds a call to the upstream may take. It wins over router_settings.timeout."
    )
    allowed_fails: Tries | None = Field(default=None, description=FAILS)
    cooldown_time: Unset | None = Field(default=None, description="Seconds a failing deployment of a group rests.")
    ssl_verify: bool | str | None = Field(
        default=None,
        description="Whether the upstreams' certificates are checked, or the file of certificates to trust. "
        "Else SSL_VERIFY.",
    )
    json_logs: bool | None = Field(
        default=None, description="Whether the log line of a request is JSON, or for people. log_format wins."
    )
    turn_off_message_logging: bool | None = Field(
        default=None, description="Nothing to do: no text of a request is ever logged."
    )
    redact_user_api_key_info: bool | None = Field(default=None, description="Nothing to do: no key is ever logged.")
    enable_caching_on_provider_specific_optional_params: bool | None = Field(
        default=None, description="Nothing to do: every parameter of a request is part of its key."
    )


class Alias(Section):
    """One other name for a model."""

    model: Word = Field(description="The model_name it stands for.")
    hidden: bool = Field(default=False, description="Whether it is left out of /v1/models.")


def _alias(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class DefaultParams(RequestParams):
    """``router_settings.default_litellm_params``: nothing but parameters of the request."""


class RouterSettings(Section):
    """``router_settings``. They win over their namesakes of ``litellm_settings``."""

    model_group_alias: Mapping[str, Annotated[Alias, BeforeValidator(_alias, json_schema_input_type=str | Alias)]] = (
        Field(default_factory=dict, description="Other names for models: a name, or {model, hidden}.")
    )
    num_retries: Tries | None = Field(default=None, description=RETRIES)
    max_retries: Tries | None = Field(default=None, description="The same as num_retries.")
    retry_policy: RetryPolicy | None = Field(default=None, description="The same, by kind of failure. It wins.")
    model_group_retry_policy: Mapping[str, RetryPolicy] = Field(
        default_factory=dict, description="A retry_policy in its place, by model_name."
    )
    retry_after: Unset | None = Field(
        default=None, description="The least seconds before a call is tried again at the same deployment."
    )
    timeout: Unset | None = Field(default=None, description="Seconds a call to the upstream may take.")
    allowed_fails: Tries | None = Field(default=None, description=FAILS)
    allowed_fails_policy: AllowedFailsPolicy | None = Field(default=None, description="The same, by kind of failure.")
    cooldown_time: Unset | None = Field(default=None, description="Seconds a failing deployment of a group rests.")
    disable_cooldowns: bool | None = Field(default=None, description="Never let a failing deployment rest.")
    routing_strategy: str | None = Field(
        default=None,
        description="simple-shuffle (by weight) or least-busy. Another one warns, and simple-shuffle is used.",
    )
    enable_weighted_failover: bool | None = Field(
        default=None, description="Nothing to do: what fails is tried at the other deployments of the group first."
    )
    default_max_parallel_requests: Unset | None = Field(
        default=None, description="Most calls at a time to a deployment."
    )
    default_litellm_params: DefaultParams | None = Field(
        default=None, description="Default parameters of every request. They win over those of litellm_params."
    )
    cache_responses: bool | None = Field(
        default=None,
        description="Where litellm_settings.cache says nothing: true keeps answers in the Redis of the next five keys.",
    )
    redis_url: SecretStr | None = Field(default=None, description="With cache_responses: cache_params.url.")
    redis_host: str | None = Field(default=None, description="With cache_responses: cache_params.host.")
    redis_port: int | None = Field(default=None, description="With cache_responses: cache_params.port.")
    redis_password: SecretStr | None = Field(default=None, description="With cache_responses: cache_params.password.")
    redis_db: int | None = Field(default=None, description="With cache_responses: cache_params.db.")
    cache_kwargs: dict[str, Any] | None = Field(
        default=None, repr=False, description="With cache_responses: more keys of cache_params."
    )


class GeneralSettings(Section):
    """``general_settings``."""

    master_key: SecretStr | None = Field(
        default=None, description="The key callers must show. Else LITELLM_MASTER_KEY."
    )
    database_url: SecretStr | None = Field(
        default=None, description="A PostgreSQL for the ledger of several hosts. Else DATABASE_URL; else SQLite."
    )
    max_request_size_mb: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="Largest request body, in MiB (LiteLLM counts so). max_body_mib wins."
    )
    max_parallel_requests: Unset | None = Field(default=None, description="Most calls at a time to a deployment.")
    pass_through_keys: bool = Field(
        default=False, description="Whether callers may pay with a Jina key of their own, as Authorization: Bearer."
    )


class Document(Section):
    """The file, with nothing left in it to look up elsewhere."""

    model_list: tuple[ModelEntry, ...] = Field(
        default=(), description="The deployments. Without any: every model of Jina, by its name."
    )
    litellm_settings: LiteLLMSettings = Field(default=LiteLLMSettings(), description="The cache, and defaults.")
    router_settings: RouterSettings = Field(default=RouterSettings(), description="Names, retries, and rests.")
    general_settings: GeneralSettings = Field(default=GeneralSettings(), description="The server.")
    cache_proxy_settings: OwnSettings = Field(default=OwnSettings(), description="What LiteLLM has no word for.")


class File(Document):
    """The whole file as it is written: what comes first here is gone once it has been read."""

    include: tuple[str, ...] = Field(
        default=(), description="Other files, relative to this one: lists are appended, sections merged."
    )
    environment_variables: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Variables for this file, in front of the process's own; each may refer to those before it.",
    )
    credential_list: tuple[Credential, ...] = Field(
        default=(), description="Credentials by name, for litellm_credential_name."
    )


def reveal(value: SecretStr | None) -> str | None:
    """The secret itself, for the one who has to send it."""
    return None if value is None else value.get_secret_value()
