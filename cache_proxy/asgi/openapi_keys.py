"""What the OpenAPI document says of keys: their fields, and what the routes about them answer."""

from typing import Any

from cache_proxy.access import CONTROLS
from cache_proxy.core.wire import access

Schema = dict[str, Any]

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_TEXTS = {"type": "array", "items": _TEXT}
_MOMENT = {"type": ["string", "null"], "description": "A date (ISO 8601)."}

_FIELDS: Schema = {
    "key_alias": {"type": ["string", "null"], "description": "What it is called in logs and reports."},
    "team_id": {"type": ["string", "null"]},
    "user_id": {"type": ["string", "null"]},
    "models": {**_TEXTS, "description": "Those it may use; * stands for anything. None: all."},
    "max_budget": {"type": ["number", "null"], "minimum": 0, "description": "The most USD that may be spent with it."},
    "budget_duration": {"type": ["string", "null"], "description": "In what time, such as 30d. For good without."},
    "rpm_limit": {"type": ["integer", "null"], "minimum": 1, "description": "The most requests a minute."},
    "tpm_limit": {"type": ["integer", "null"], "minimum": 1, "description": "The most tokens to pay for a minute."},
    "expires": _MOMENT,
    "blocked": {"type": ["boolean", "null"], "description": "Whether it lets nobody in."},
    "namespace": {"type": ["string", "null"], "description": "A room of its own in the cache."},
    "allowed_cache_controls": {"type": "array", "items": {"enum": list(CONTROLS)}, "description": "None: all."},
    "metadata": {"type": "object"},
    "duration": {"type": ["string", "null"], "description": "After which it expires, such as 30d."},
}
_ABOUT: Schema = {
    **{name: told for name, told in _FIELDS.items() if name != "duration"},
    "token": {**_TEXT, "description": "Its SHA-256."},
    "created_at": _MOMENT,
    "updated_at": _MOMENT,
    "source": {"enum": ["config", "database"]},
    "spend": {"type": ["number", "null"], "description": "USD paid with it; of a budget, in its window."},
    "reserved": {"type": ["number", "null"], "description": "The most USD that what is not settled can have cost."},
    "budget_reset_at": _MOMENT,
}
_INFO: Schema = {"type": "object", "properties": _ABOUT, "required": sorted(_ABOUT)}

SCHEMAS: Schema = {
    "GenerateKey": {
        "type": "object",
        "properties": {**{name: _FIELDS[name] for name in access.FIELDS}, "key": {"type": ["string", "null"]}},
    },
    "UpdateKey": {
        "type": "object",
        "properties": {
            **{name: _FIELDS[name] for name in access.FIELDS},
            "key": {**_TEXT, "description": "The key, its hash or its alias."},
        },
        "required": ["key"],
    },
    "DeleteKeys": {
        "type": "object",
        "properties": {"keys": _TEXTS, "key_aliases": _TEXTS},
        "anyOf": [{"required": ["keys"]}, {"required": ["key_aliases"]}],
    },
    "Key": {
        "type": "object",
        "properties": {
            **_ABOUT,
            "key": {**_TEXT, "description": "The key itself where it was just made, else its hash."},
        },
        "required": ["key", *sorted(_ABOUT)],
    },
    "KeyInfo": {"type": "object", "properties": {"key": _TEXT, "info": _INFO}, "required": ["key", "info"]},
    "KeyList": {
        "type": "object",
        "properties": {
            "keys": {"type": "array", "items": {"anyOf": [_TEXT, _INFO]}},
            "total_count": _COUNT,
            "current_page": _COUNT,
            "total_pages": _COUNT,
        },
        "required": ["keys", "total_count", "current_page", "total_pages"],
    },
    "DeletedKeys": {"type": "object", "properties": {"deleted_keys": _TEXTS}, "required": ["deleted_keys"]},
}
