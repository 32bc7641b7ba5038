"""The keys of LiteLLM's file that are known and not acted on, and why. docs/config.md lists them from here.

A key may be a pattern (``aws_*``). One that is neither here nor a field of a section warns by its name alone.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType

Reasons = Mapping[str, tuple[str, ...]]
"""The keys of a section, by why they are not acted on."""

PARAMS = "model_list[].litellm_params"

_OTHER_MODEL = "an answer of another model would be a wrong answer"
_ACCESS = "who gets in is decided by the master key and the keys alone"
_KEYS = "a key here has the fields that docs/keys.md tells of"
_BUDGETS = "only keys have a budget here"
_SAME = "every deployment of a group gives the same answers"
_PRICES = "the price is input_cost_per_token"
_CHAT = "only embeddings and rerank are served"
_APIS = "the API it is for is not spoken here"
_DATABASE = "the database holds the ledger and the keys, in a way of its own"
_LOGS = "log_level says how much is logged"
_CALLBACKS = "nobody is called back; each request is a line of the log"
_HEALTH = "health checks call no upstream, so they cost nothing"
_RETRIED = "such an answer would be the same the next time"
_BLAMELESS = "such an answer is the request's fault, not the deployment's"
_CACHE = "what is cached is said in litellm_settings.cache_params"
_OWN_PARAMS = "say it in the litellm_params of the deployment"

_RETRY_POLICY: Reasons = {
    _RETRIED: ("BadRequestErrorRetries", "ContentPolicyViolationErrorRetries", "NotFoundErrorRetries")
}
_ALLOWED_FAILS_POLICY: Reasons = {
    _BLAMELESS: (
        "BadRequestErrorAllowedFails", "ContentPolicyViolationErrorAllowedFails", "NotFoundErrorAllowedFails",
    )
}  # fmt: skip

IGNORED: Mapping[str, Reasons] = MappingProxyType({
    "": {
        _CHAT: (
            "guardrails", "prompts", "policies", "policy_attachments", "mcp_servers", "mcp_tools", "agents",
            "agent_list", "search_tools", "sandbox_tools", "vector_store_registry", "assistant_settings",
            "finetune_settings", "files_settings", "default_vertex_config",
        ),
        _CALLBACKS: ("callback_settings",),
        "there is no control plane here": ("worker_registry",),
    },
    PARAMS: {
        _PRICES: (
            "*cost_per_*", "*_token_cost*", "tiered_pricing", "regional_*_uplift_multiplier*", "base_model",
        ),
        _OTHER_MODEL: ("fallbacks", "context_window_fallback*", "max_fallbacks", "silent_model", "model_alias_map"),
        _SAME: (
            "tags", "tag_regex", "enable_tag_filtering", "allowed_model_region", "routing_strategy",
            "provider_affinity_header", "kubernetes_pod_discovery",
        ),
        "the limits are rpm and tpm": ("rpd", "tpd", "itpm", "otpm", "daily_reset_time"),
        "the time-out is timeout": ("*timeout_by_service_tier", "stream_timeout", "force_timeout"),
        "set router_settings.retry_policy": ("retry_policy", "retry_strategy"),
        _CACHE: ("cache", "caching", "caching_groups", "cache_key", "preset_cache_key", "ttl"),
        _BUDGETS: ("max_budget", "budget_duration"),
        _KEYS: ("default_api_key_tpm_limit", "default_api_key_rpm_limit", "configurable_clientside_auth_params"),
        "it stands beside litellm_params": ("model_info", "output_vector_size"),
        "no answer is made up": ("mock_*",),
        "pass-through routes are not served": ("use_in_pass_through", "use_litellm_proxy"),
        _CALLBACKS: (
            "no-log", "verbose", "logger_fn", "turn_off_message_logging", "litellm_*", "arize_*", "dd_*",
            "humanloop_*", "langfuse_*", "langsmith_*", "newrelic_*", "posthog_*", "signoz_*", "wandb_*", "weave_*",
        ),
        _APIS: (
            "api_version", "organization", "region_name", "tenant_id", "client_id", "client_secret", "data_residency",
            "anthropic_*", "aws_*", "azure*", "bedrock_*", "bucket_name", "chatgpt_auth_file",
            "fireworks_forward_user_id", "gcs_*", "github_copilot_*", "hf_model_name", "milvus_*",
            "openai_identity_*", "openai_service_account_id", "responses_api_version", "s3_*", "token_exchange_*",
            "use_xai_oauth", "valkey_*", "vector_bucket_name", "vector_store_id", "vertex_*", "watsonx_*",
        ),
        _CHAT: (
            "stream", "stream_chunk_size", "stream_response", "guardrails", "roles", "bos_token", "eos_token",
            "initial_prompt_value", "final_prompt_value", "custom_prompt_dict", "prompt_id", "prompt_variables",
            "prompt_label", "prompt_version", "prompt_environment", "cache_control_injection_points",
            "enable_prompt_caching", "enable_json_schema_validation", "merge_reasoning_content_in_choices",
            "use_chat_completions_api", "supports_system_message", "user_continue_message",
            "assistant_continue_message", "ensure_alternating_roles", "keepalive_seconds",
            "allow_client_keepalive_override", "max_agentic_loops", "max_file_size_mb", "search_tool_name",
            "auto_router_*", "adaptive_router_*", "complexity_router_*", "quality_router_*", "text_completion",
            "disable_add_transform_inline_image_block", "thought_signature_in_tool_call_id",
        ),
        "LiteLLM keeps it for itself": (
            "acompletion", "aembedding", "aimg_generation", "allm_passthrough_route", "async_call",
            "atext_completion", "attempted_targets", "client", "client_side_timeout", "complete_response",
            "completion_call_id", "embedding_model", "fallback_depth", "fastest_response", "id", "index_name",
            "log_client_error_tracebacks", "metadata", "model_config", "model_file_id_mapping", "model_list",
            "provider_specific_header", "proxy_server_request", "rust", "secret_fields", "self", "shared_session",
            "use_client",
        ),
    },
    "model_list[].model_info": {
        _PRICES: (
            "*cost_per_*", "*_token_cost*", "tiered_pricing", "off_peak_pricing", "pricing_provider", "base_model",
            "ptu_*",
        ),
        "the upstream knows what it takes": (
            "max_tokens", "max_input_tokens", "max_output_tokens", "output_vector_size", "supported_*", "supports_*",
            "enforce_supported_endpoints", "litellm_provider", "custom_tokenizer",
        ),
        _KEYS: (
            "access_groups", "access_via_team_ids", "access_windows", "team_id", "team_public_model_name", "tier",
            "discoverable",
        ),
        _SAME: ("enable_tag_filtering", "allow_fail_open", "custom_tags"),
        _HEALTH: ("health_check_*", "disable_background_health_check"),
        _DATABASE: ("db_model", "created_*", "updated_*"),
        _CHAT: ("internal_router_model", "member_auto_router"),
    },
    "model_list[].model_info.allowed_fails_policy": _ALLOWED_FAILS_POLICY,
    "litellm_settings": {
        _OTHER_MODEL: (
            "fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "max_fallbacks",
            "model_fallbacks",
        ),
        "num_retries counts for each call": ("num_retries_per_request",),
        _OWN_PARAMS: (
            "api_key", "api_base", "api_version", "organization", "headers", "ssl_certificate", "ssl_security_level",
            "ssl_ecdh_curve", "force_ipv4", "aiohttp_trust_env",
        ),
        "names are given in router_settings.model_group_alias": ("model_alias_map",),
        _CACHE: ("caching", "caching_with_models", "default_in_memory_ttl", "default_redis_*"),
        _BUDGETS: (
            "max_budget", "budget_*", "default_team_settings", "default_team_params", "max_internal_user_budget",
            "default_max_internal_user_budget", "internal_user_budget_duration", "default_internal_user_params",
            "max_user_budget", "max_end_user_budget*", "max_ui_session_budget", "default_soft_budget",
            "tag_budget_config", "cost_discount_config", "disable_end_user_cost_tracking*",
            "enable_end_user_cost_tracking*", "extra_spend_tag_headers", "priority_reservation*",
        ),
        _KEYS: (
            "key_generation_settings", "default_key_generate_params", "upperbound_key_generate_params",
            "key_alias_pattern", "enable_key_alias_format_validation", "enable_redis_auth_cache",
            "public_model_groups*", "model_group_settings", "blocked_user_list", "custom_provider_map",
        ),
        _CALLBACKS: (
            "success_callback", "failure_callback", "callbacks", "input_callback", "service_callback*",
            "audit_log_callbacks", "store_audit_logs", "langfuse_*", "langsmith_*", "prometheus_*", "datadog_*",
            "s3_callback_params", "return_response_headers", "require_auth_for_metrics_endpoint",
        ),
        _LOGS: (
            "set_verbose", "suppress_debug_info", "suppress_startup_output", "log_raw_request_response",
            "log_client_error_tracebacks", "request_correlation_in_logs",
        ),
        _CHAT: (
            "guardrails", "modify_params", "enable_json_schema_validation", "enable_preview_features",
            "disable_hf_tokenizer_download", "mcp_*", "responses", "pre_call_rules", "post_call_rules",
            "use_chat_completions_url_for_anthropic_messages", "disable_copilot_system_to_assistant",
            "disable_add_transform_inline_image_block", "global_prompt_directory", "global_*_config",
        ),
    },
    "litellm_settings.cache_params": {
        "answers are kept on disk, in Redis or in memory": ("s3_*", "gcs_*", "azure_account_url", "azure_blob_*"),
        "no cloud is asked for credentials": (
            "gcp_*", "aws_iam_*", "azure_redis_ad_token", "azure_client_*", "azure_tenant_id",
        ),
        "a similar text has another vector": (
            "similarity_threshold", "qdrant_*", "redis_semantic_*", "valkey_semantic_*", "semantic_cache_*",
        ),
        _CHAT: ("max_messages",),
        "every write is sent at once": ("redis_flush_size",),
        "what was cut off is tried once more, what was too slow is not": (
            "retry", "retry_on_*", "cluster_error_retry_attempts",
        ),
        "a connection is made in one way": (
            "protocol", "legacy_responses", "encoding", "encoding_errors", "decode_responses", "lib_name",
            "lib_version", "driver_info", "socket_read_size", "socket_keepalive_options", "single_connection_client",
            "redis_connect_func", "credential_provider", "maint_notifications_config",
        ),
        "TLS is said by the other ssl keys": (
            "ssl_ca_path", "ssl_min_version", "ssl_include_verify_flags", "ssl_exclude_verify_flags",
            "ssl_validate_ocsp*", "ssl_ocsp_*",
        ),
        "the primaries of a Cluster are asked, as it names them": (
            "require_full_coverage", "read_from_replicas", "load_balancing_strategy", "dynamic_startup_nodes",
            "reinitialize_steps", "address_remap",
        ),
    },
    "router_settings": {
        _OTHER_MODEL: (
            "fallbacks", "default_fallbacks", "context_window_fallbacks", "content_policy_fallbacks", "max_fallbacks",
            "fallback_on_unsupported_params", "enable_mid_stream_fallback_continuation",
        ),
        _SAME: (
            "enable_tag_filtering", "tag_filtering_match_any", "tag_routing_prefix", "optional_pre_call_checks",
            "deployment_affinity_ttl_seconds", "model_group_affinity_config", "session_affinity_repin_on_failover",
            "plugins",
        ),
        "the share of a deployment is its weight": ("weights", "routing_strategy_args", "routing_groups"),
        "rpm and tpm hold without it": ("enable_pre_call_checks", "enable_pre_call_check"),
        "what can not be obeyed refuses the start": ("ignore_invalid_deployments", "router_general_settings"),
        "a request waits at most max_wait": ("default_priority", "polling_interval"),
        "connections are kept while they are used": ("client_ttl",),
        _BUDGETS: ("provider_budget_config",),
        _CACHE: ("caching_groups", "cache_params"),
        _CALLBACKS: ("alerting_config",),
        _HEALTH: ("enable_health_check_routing", "health_check_*", "background_health_check_model_groups"),
        _LOGS: ("set_verbose", "debug_level"),
        _CHAT: ("stream_timeout", "assistants_config", "search_tools", "guardrail_list"),
    },
    "router_settings.retry_policy": _RETRY_POLICY,
    "router_settings.model_group_retry_policy.*": _RETRY_POLICY,
    "router_settings.allowed_fails_policy": _ALLOWED_FAILS_POLICY,
    "router_settings.default_litellm_params": {
        _OWN_PARAMS: ("api_key", "api_base", "timeout", "num_retries", "max_retries", "extra_headers", "rpm", "tpm"),
    },
    "general_settings": {
        _DATABASE: (
            "database_*", "store_model_in_db", "supported_db_objects", "allow_requests_on_db_unavailable",
            "disable_prisma_schema_update", "disable_spend_logs", "disable_spend_updates", "disable_reset_budget",
            "disable_adding_master_key_hash_to_db", "store_prompts_in_spend_logs", "maximum_spend_logs_*",
            "proxy_batch_*", "proxy_budget_rescheduler_*", "proxy_config_reload_interval_seconds",
            "use_redis_transaction_buffer", "accounting_*",
        ),
        _ACCESS: (
            "allowed_ips", "allowed_routes", "public_routes", "admin_only_routes", "custom_auth", "custom_auth_*",
            "enable_jwt_auth", "litellm_jwtauth", "enable_oauth2_*", "oauth2_config_mappings", "allow_user_auth",
            "enforce_user_param", "enforced_params", "enforce_rbac", "role_permissions", "use_x_forwarded_for",
            "trusted_proxy_ranges", "litellm_key_header_name", "service_account_settings", "user_header_name",
            "user_header_mappings", "reject_clientside_metadata_tags", "dangerously_permit_weak_or_unset_master_key",
        ),
        _KEYS: (
            "custom_key_*", "default_team_disabled", "user_api_key_cache_*", "key_management_*", "use_google_kms",
            "use_azure_key_vault", "disable_custom_api_keys", "self_serve_budget_policy",
            "enforce_fallback_model_access", "disable_fallbacks_on_per_model_rate_limits", "ui_access_mode",
            "custom_sso", "disable_master_key_return", "litellm_license",
        ),
        "pass_through_keys says whether a caller's own key goes upstream": (
            "allow_client_side_credentials", "forward_client_headers_to_llm_api", "forward_openai_org_id",
            "forward_llm_provider_auth_headers",
        ),
        "the caller names the model": ("embedding_model", "completion_model", "infer_model_from_keys"),
        "max_parallel_requests and rpm hold for each deployment": (
            "global_max_parallel_requests", "max_in_flight_requests_per_worker", "max_queued_requests_per_worker",
            "admission_queue_timeout_seconds", "disable_retry_on_max_parallel_request_limit_error",
            "fail_closed_rate_limit_enforcement", "token_rate_limit_type",
        ),
        "limits are kept in the cache's store": ("coordination_redis",),
        "what was paid for is delivered": ("max_response_size_mb", "cancel_on_disconnect"),
        "pass-through routes are not served": (
            "pass_through_endpoints", "pass_through_request_*", "use_client_credentials_pass_through_routes",
        ),
        _HEALTH: (
            "background_health_check*", "health_check_*", "enable_health_check_routing", "use_shared_health_check",
            "model_list_healthy_only",
        ),
        _CALLBACKS: (
            "alerting", "alerting_*", "alert_*", "spend_report_frequency", "otel", "tracing",
            "spend_capture_rate_check",
        ),
        _BUDGETS: (
            "disable_budget_reservation", "apply_user_budget_to_team_keys", "fail_closed_budget_enforcement",
        ),
        _CHAT: (
            "image_generation_model", "moderation_model", "mcp_*", "user_mcp_management_mode",
            "disable_responses_id_security", "max_file_size_mb", "max_batch_*",
        ),
    },
})  # fmt: skip


def reason(section: str, key: str) -> str | None:
    """Why this key of this section is not acted on; ``None`` if nothing is known of it."""
    found = (why for why, keys in IGNORED.get(section, {}).items() if any(fnmatchcase(key, each) for each in keys))
    return next(found, None)
