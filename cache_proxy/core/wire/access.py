"""Keys as LiteLLM's ``/key/*`` routes write them: fields in, fields out.

What is not in a request is left as it is, and ``null`` takes a limit away. A field that means nothing here is refused,
unless it is empty: a limit that somebody believes in must not be one that nobody keeps.
"""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from cache_proxy.access import CONTROLS, PREFIX, AccessKey, looks_like_key
from cache_proxy.core import durations
from cache_proxy.core.spend import usd
from cache_proxy.core.wire.fields import Body, check_type
from cache_proxy.errors import RequestError
from cache_proxy.models import PICO, Json

_LONGEST = 128
_SHORTEST_KEY = 20
_MOST_MODELS = 1000
_NOTHING: tuple[Json, ...] = (None, False, 0, "", [], {})

Changes = dict[str, Any]
"""Fields of an :class:`~cache_proxy.access.AccessKey` with their new values."""


def changes(body: Body, now: float, *, besides: tuple[str, ...] = ()) -> Changes:
    """What a request says about a key. ``besides`` are fields that are read elsewhere. Raises ``RequestError``."""
    unknown = [name for name in body if name not in _FIELDS and name not in ("duration", *besides)]
    for name in unknown:
        if body[name] not in _NOTHING:
            raise RequestError(f"`{name}` means nothing for a key here. Leave it out.", param=name, code="not_acted_on")
    found = {of: read(name, body[name]) for name, (of, read) in _FIELDS.items() if name in body}
    if "duration" in body:
        found |= _expiry(body, now)
    return found


def _expiry(body: Body, now: float) -> Changes:
    """When a key expires, as ``duration`` says. An empty one leaves it to ``expires``, if the request has one."""
    duration = _duration("duration", body["duration"])
    if duration:
        return {"expires_at": durations.after(duration, now)}
    return {} if "expires" in body else {"expires_at": None}


def chosen_key(body: Body) -> str | None:
    """The key that the operator has thought of himself, if he did. Raises ``RequestError``."""
    key = body.get("key")
    if key is None:
        return None
    check_type("key", key, str)
    if not (key.startswith(PREFIX) and len(key) >= _SHORTEST_KEY and key.isascii() and key.isprintable()):
        raise RequestError(
            f"`key` must begin with {PREFIX} and have {_SHORTEST_KEY} printable characters or more; leave it out to "
            "get one that nobody can guess.",
            param="key",
            code="out_of_range",
        )
    return str(key)


def told(key: AccessKey) -> dict[str, Json]:
    """A key, as these routes tell of it."""
    return {
        "token": key.hash,
        "key_alias": key.alias or None,
        "team_id": key.team or None,
        "user_id": key.user or None,
        "models": list(key.models),
        "max_budget": dollars(key.max_budget),
        "budget_duration": key.budget_duration or None,
        "rpm_limit": key.rpm_limit,
        "tpm_limit": key.tpm_limit,
        "expires": date(key.expires_at),
        "blocked": key.blocked,
        "namespace": key.namespace or None,
        "allowed_cache_controls": list(key.allowed_cache_controls),
        "metadata": dict(key.metadata),
        "created_at": date(key.created_at or None),
        "updated_at": date(key.updated_at or None),
        "source": "config" if key.configured else "database",
    }


def dollars(pico: int | None) -> float | None:
    """An amount as LiteLLM's clients read it: a number."""
    return None if pico is None else float(usd(pico))


def date(moment: float | None) -> str | None:
    """A moment as ISO 8601, in whole seconds. Whatever there is in a database is told: later than 9999 is its end."""
    if moment is None:
        return None
    told = int(min(max(moment, 0), durations.LAST_MOMENT))
    return datetime.fromtimestamp(told, UTC).isoformat().replace("+00:00", "Z")


def moment_of(text: str) -> float:
    """The moment of an ISO 8601 date; without a zone it is UTC. Raises ``ValueError``."""
    found = datetime.fromisoformat(text)
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _text(name: str, value: Json) -> str:
    if value is None:
        return ""
    check_type(name, value, str)
    if len(value) > _LONGEST or not (value.isprintable() or not value):
        raise RequestError(
            f"`{name}` must have at most {_LONGEST} printable characters.", param=name, code="out_of_range"
        )
    return str(value)


def _alias(name: str, value: Json) -> str:
    text = _text(name, value)
    if looks_like_key(text):
        raise RequestError(
            f"`{name}` must not begin with {PREFIX} nor be 64 hexadecimal digits: it would be taken for a key.",
            param=name,
            code="out_of_range",
        )
    return text


def _texts(name: str, value: Json) -> tuple[str, ...]:
    if value is None:
        return ()
    if type(value) is not list or len(value) > _MOST_MODELS:
        raise RequestError(f"`{name}` must be a list of strings.", param=name, code="wrong_type")
    return tuple(dict.fromkeys(_text(f"{name}[{at}]", each) for at, each in enumerate(value)))


def _controls(name: str, value: Json) -> tuple[str, ...]:
    words = _texts(name, value)
    if not set(words) <= set(CONTROLS):
        raise RequestError(f"`{name}` knows {', '.join(CONTROLS)}.", param=name, code="unknown_cache_control")
    return words


def _limit(name: str, value: Json) -> int | None:
    if value is None:
        return None
    check_type(name, value, int)
    if not 1 <= value < 2**53:
        raise RequestError(
            f"`{name}` must be 1 or more; to stop a key, set `blocked`.", param=name, code="out_of_range"
        )
    return int(value)


def _money(name: str, value: Json) -> int | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= 1_000_000:
        raise RequestError(f"`{name}` must be a number of USD, at most a million.", param=name, code="out_of_range")
    return int(Decimal(str(value)) * PICO)


def _duration(name: str, value: Json) -> str:
    text = _text(name, value)
    if text and not durations.is_duration(text):
        raise RequestError(
            f"`{name}` must be like 30s, 15m, 24h, 7d, 2w or 1mo, and at most a hundred years.",
            param=name,
            code="out_of_range",
        )
    return text


def _expires(name: str, value: Json) -> float | None:
    text = _text(name, value)
    try:
        moment = moment_of(text) if text else None
    except ValueError:
        moment = math.nan
    if moment is not None and not durations.is_date(moment):
        raise RequestError(
            f"`{name}` must be a date such as 2027-01-31, from 1970 to 9999.", param=name, code="out_of_range"
        )
    return moment


def _flag(name: str, value: Json) -> bool:
    if value is not None:
        check_type(name, value, bool)
    return bool(value)


def _object(name: str, value: Json) -> Mapping[str, Json]:
    if value is not None and type(value) is not dict:
        raise RequestError(f"`{name}` must be an object.", param=name, code="wrong_type")
    return dict(value or {})


_FIELDS: Mapping[str, tuple[str, Callable[[str, Json], Any]]] = {
    "key_alias": ("alias", _alias),
    "team_id": ("team", _text),
    "user_id": ("user", _text),
    "models": ("models", _texts),
    "max_budget": ("max_budget", _money),
    "budget_duration": ("budget_duration", _duration),
    "rpm_limit": ("rpm_limit", _limit),
    "tpm_limit": ("tpm_limit", _limit),
    "expires": ("expires_at", _expires),
    "blocked": ("blocked", _flag),
    "namespace": ("namespace", _text),
    "allowed_cache_controls": ("allowed_cache_controls", _controls),
    "metadata": ("metadata", _object),
}
FIELDS = (*_FIELDS, "duration")
"""Everything that may be said about a key."""
