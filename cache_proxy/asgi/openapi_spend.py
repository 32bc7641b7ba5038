"""What the OpenAPI document says of ``/spend/…``."""

from collections.abc import Mapping, Sequence
from typing import Any

from cache_proxy.asgi import spend
from cache_proxy.asgi.spend_logs import row
from cache_proxy.ledger.found import GROUPS, Logged, Usage
from cache_proxy.reporting.moments import FORMS
from cache_proxy.reporting.usage import fields

Schema = dict[str, Any]

FAILURES: Mapping[str, str] = {
    "400": "A field of the query is at fault; or a key was sent twice.",
    "404": "There is no ledger.",
    "503": "The ledger's database can not be read.",
}

_TEXT = {"type": "string"}
_TIME = {**_TEXT, "description": f"Such as {FORMS}; without a zone it is UTC."}


def _words(values: Sequence[str]) -> Schema:
    return {**_TEXT, "enum": list(values)}


def _number(default: int, most: int) -> Schema:
    return {"type": "integer", "minimum": 1, "maximum": most, "default": default}


_FIELDS: Mapping[str, Schema] = {
    "since": _TIME,
    "until": {**_TIME, "description": f"Until before when. {_TIME['description']}"},
    "start_date": {**_TIME, "description": "LiteLLM's word for since."},
    "end_date": {**_TIME, "description": "LiteLLM's word for until; a date is the whole of that day."},
    "by": _words(tuple(spend.GROUPINGS)),
    "group_by": {**_words(tuple(spend.GROUPINGS)), "description": "LiteLLM's word for by."},
    "limit": {
        **_number(spend.LARGEST_REPORT, spend.LARGEST_REPORT),
        "description": "The most rows; all others are one more, the last. Days are told all.",
    },
    "api_key": {
        **_TEXT,
        "description": "A key's hash or alias. A key itself would be found, too, and logged on its way. Who holds a "
        "key sees his own in any case.",
    },
    "request_id": _TEXT,
    "user_id": {**_TEXT, "description": "Whose key it is."},
    "team_id": _TEXT,
    "end_user": {**_TEXT, "description": "The request's user."},
    "tag": _TEXT,
    "model": {**_TEXT, "description": "As the caller or as the upstream calls it."},
    "status": _words(("success", "failure")),
    "status_filter": {**_words(("success", "failure")), "description": "LiteLLM's word for status."},
    "page": _number(1, spend.FARTHEST),
    "page_size": _number(spend.PAGE, spend.LARGEST_PAGE),
    "sort_by": _words(("startTime",)),
    "sort_order": {**_words(("desc", "asc")), "default": "desc"},
    "summarize": {**_words(("false",)), "description": "LiteLLM's; sums are at /spend/report."},
}


def parameters(names: Sequence[str]) -> list[Schema]:
    """The fields of a query."""
    return [{"name": name, "in": "query", "required": False, "schema": _FIELDS[name]} for name in names]


def _kind(name: str, value: Any) -> Schema:
    """The type of a field, of an example; amounts are numbers, or null where a price is unknown."""
    if name.endswith(("_usd", "_usd_known")) or name in ("spend", "hit_rate"):
        return {"type": ["number", "null"], "minimum": 0}
    if isinstance(value, dict):
        return _object(value) if value else {"type": "object"}
    if isinstance(value, list):
        return {"type": "array", "items": _TEXT}
    if isinstance(value, str):
        return _TEXT
    if value is None:
        return {"type": ["string", "null"]}
    return {"type": "integer" if isinstance(value, int) else "number", "minimum": 0}


def _object(example: Mapping[str, Any], optional: Mapping[str, Schema] | None = None) -> Schema:
    properties = {name: _kind(name, value) for name, value in example.items()}
    return {"type": "object", "properties": {**(optional or {}), **properties}, "required": list(properties)}


_REPORT = {
    "type": "object",
    "properties": {
        "rows": {
            "type": "array",
            "items": _object(
                fields(Usage("", ""), None),
                dict.fromkeys(("key_hash", *GROUPS), _TEXT),
            ),
        },
        "since": {**_TEXT, "description": "From when on, where nobody said so and it is not from the beginning."},
    },
    "required": ["rows"],
}
_LOGGED = Logged(
    started_at=0.0, latency=0.0, request_id="", key_alias="", key_hash="", team="", user="", end_user="", tags=(),
    endpoint="", model_group="", model="", items=0, hits=0, misses=0, duplicates=0, joined=0, tokens_billed=0,
    tokens_unsettled=0, tokens_saved=0, cost=None, saved=None, status=0, cache_status="", cache_key=None, error=None,
    bytes_out=0,
)  # fmt: skip
_ROW = _object(row(_LOGGED))
_ROWS: Schema = {"type": "array", "items": {"$ref": "#/components/schemas/SpendLog"}}
_COUNT = {"type": "integer", "minimum": 0}
_PAGED: Schema = {
    "type": "object",
    "properties": {
        "data": _ROWS, "total": _COUNT, "page": _COUNT, "page_size": _COUNT, "total_pages": _COUNT,
        "total_is_capped": {"type": "boolean", "description": "There are more than total."},
    },
    "required": ["data", "total", "page", "page_size", "total_pages", "total_is_capped"],
}  # fmt: skip

SCHEMAS: Mapping[str, Schema] = {"SpendReport": _REPORT, "SpendLog": _ROW, "SpendLogs": _PAGED}

ROUTES: Mapping[str, tuple[str, str | Schema, Sequence[str]]] = {
    "/spend/report": (
        "What was paid and saved; for the holder of a key, with his own.",
        "SpendReport",
        spend.REPORT_FIELDS,
    ),
    "/spend/logs": (
        "Single requests (the holder of a key sees his own): a list, or where page or page_size is sent a page.",
        {"anyOf": [_ROWS, {"$ref": "#/components/schemas/SpendLogs"}]},
        spend.LOGS_FIELDS,
    ),
    "/spend/logs/v2": ("Single requests, paged; the holder of a key sees his own.", "SpendLogs", spend.LOGS_FIELDS),
}
