"""What the OpenAPI document says of what the store holds."""

from typing import Any

Schema = dict[str, Any]

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}


def _object(optional: Schema | None = None, /, **required: Schema) -> Schema:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


_KNOWN = {"type": ["integer", "null"], "minimum": 0, "description": "null where it is not known."}
_HELD: Schema = {
    **_object(entries=_KNOWN, bytes=_KNOWN, limit_bytes=_KNOWN, evicted=_KNOWN),
    "type": ["object", "null"],
}
_COUNTS: Schema = {"type": "object", "additionalProperties": _COUNT}
_STATS: Schema = _object(
    {
        "breaker": {"type": "object", "description": "The store's, and those of its leases and counters."},
        "failures": {**_COUNTS, "description": "Calls on the store that failed, by kind."},
        "leases": {**_COUNTS, "description": "Keys for which they did not do what they are for."},
    },
    cache_type=_TEXT,
    status={"enum": ["healthy", "degraded"]},
    store=_HELD,
    memory=_HELD,
    worker=_object(since=_TEXT, requests=_COUNT, hits=_COUNT, misses=_COUNT, duplicates=_COUNT, joined=_COUNT),
)

SCHEMAS: Schema = {"Stats": _STATS}
