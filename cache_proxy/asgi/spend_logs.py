"""A request of the ledger in the shape of LiteLLM's ``LiteLLM_SpendLogs``."""

from typing import Any

from cache_proxy.ledger.found import FAILED, Logged
from cache_proxy.models import Endpoint
from cache_proxy.reporting.logs import at
from cache_proxy.reporting.usage import number

CALL_TYPES = {Endpoint.EMBEDDINGS.value: "aembedding", Endpoint.RERANK.value: "arerank"}
"""What LiteLLM calls the two endpoints."""


def row(logged: Logged) -> dict[str, Any]:
    """One request. What it knew when it was answered: what its calls came to in the end is in the sums.

    ``spend`` is ``None`` where the price is unknown. What LiteLLM has a field for and the ledger does not know, or must
    not, is empty.
    """
    tokens = logged.tokens_billed + logged.tokens_saved
    ended = at(logged.started_at + logged.latency)
    return {
        "request_id": logged.request_id,
        "call_type": CALL_TYPES.get(logged.endpoint, logged.endpoint),
        "api_key": logged.key_hash,
        "spend": _usd(logged.cost),
        "total_tokens": tokens,
        "prompt_tokens": tokens,
        "completion_tokens": 0,
        "startTime": at(logged.started_at),
        "endTime": ended,
        "completionStartTime": ended,
        "request_duration_ms": round(logged.latency * 1000),
        "model": logged.model,
        "model_id": "",
        "model_group": logged.model_group,
        "custom_llm_provider": "jina_ai",
        "api_base": "",
        "user": logged.user,
        "metadata": _metadata(logged),
        "cache_hit": str(logged.items > 0 and logged.hits == logged.items),
        "cache_key": logged.cache_key or "",
        "request_tags": list(logged.tags),
        "end_user": logged.end_user,
        "team_id": logged.team,
        "organization_id": "",
        "requester_ip_address": None,
        "messages": {},
        "response": {},
        "status": _status(logged),
    }


def _metadata(logged: Logged) -> dict[str, Any]:
    return {
        "user_api_key": logged.key_hash,
        "user_api_key_alias": logged.key_alias,
        "user_api_key_team_id": logged.team,
        "user_api_key_user_id": logged.user,
        "status": _status(logged),
        "status_code": logged.status,
        "error_code": logged.error,
        "cache_status": logged.cache_status,
        "items": logged.items,
        "hits": logged.hits,
        "misses": logged.misses,
        "duplicates": logged.duplicates,
        "joined": logged.joined,
        "tokens_billed": logged.tokens_billed,
        "tokens_saved": logged.tokens_saved,
        "tokens_unsettled": logged.tokens_unsettled,
        "cost_usd": _usd(logged.cost),
        "saved_usd": _usd(logged.saved),
        "latency_ms": round(logged.latency * 1000, 3),
        "bytes": logged.bytes_out,
    }


def _status(logged: Logged) -> str:
    return "success" if logged.status < FAILED else "failure"


def _usd(pico: int | None) -> Any:
    return None if pico is None else number(pico)
