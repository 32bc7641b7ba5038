"""``cache_proxy_settings.keys``: keys for people and jobs that stand in the file."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, SecretStr

from cache_proxy.access import PREFIX, AccessKey, hashed, looks_like_key
from cache_proxy.core.durations import is_date, is_duration
from cache_proxy.errors import ConfigError
from cache_proxy.models import PICO
from cache_proxy.settings.base import Cost, Count, Section, Word

PLACE = "cache_proxy_settings.keys"

Control = Literal["no-cache", "no-store", "ttl", "s-maxage", "namespace"]


def _duration(text: str) -> str:
    if not is_duration(text):
        raise ValueError("the value should be like 30s, 15m, 24h, 7d, 2w or 1mo, and at most a hundred years")
    return text


def _date(date: datetime) -> datetime:
    if not is_date(_moment(date)):
        raise ValueError("the value should be a date from 1970 to 9999")
    return date


def _alias(alias: str) -> str:
    if looks_like_key(alias):
        raise ValueError(
            f"the value should not begin with {PREFIX} nor be 64 hexadecimal digits: it would be taken for a key"
        )
    return alias


class KeyEntry(Section):
    """One key. A misspelt word of it refuses the start: it may have been a limit."""

    model_config = ConfigDict(extra="forbid")

    key: SecretStr = Field(min_length=1, description="The key itself; os.environ/NAME keeps it out of the file.")
    key_alias: Annotated[Word, AfterValidator(_alias)] | None = Field(
        default=None, description="What it is called in logs and reports."
    )
    team_id: Word | None = Field(default=None, description="The team that it is counted for.")
    user_id: Word | None = Field(default=None, description="The user that it is counted for.")
    models: tuple[Word, ...] = Field(
        default=(), description="The models it may use, as callers call them; * stands for anything. All, if left out."
    )
    max_budget: Cost | None = Field(default=None, description="The most USD that may be spent with it.")
    budget_duration: Annotated[str, AfterValidator(_duration)] | None = Field(
        default=None, description="In what time: 24h, 7d, 30d, 1mo. For good, if left out."
    )
    rpm_limit: Count | None = Field(default=None, description="The most requests a minute.")
    tpm_limit: Count | None = Field(default=None, description="The most tokens a minute that are to be paid for.")
    namespace: Word | None = Field(
        default=None, description="A room of its own in the cache. Without one it shares the common room."
    )
    allowed_cache_controls: tuple[Control, ...] = Field(
        default=(), description="The cache controls it may use: no-cache, no-store, ttl, s-maxage, namespace. All, "
        "if left out."
    )  # fmt: skip
    blocked: bool = Field(default=False, description="Whether it lets nobody in.")
    expires: Annotated[datetime, AfterValidator(_date)] | None = Field(
        default=None, description="The date from which on it lets nobody in (UTC)."
    )


def build(entries: tuple[KeyEntry, ...], master_key: SecretStr | None, *, ledger: bool) -> tuple[AccessKey, ...]:
    """The keys of these entries; ``ledger`` says whether there is one. Raises ``ConfigError``."""
    if entries and master_key is None:
        raise ConfigError(f"{PLACE} need general_settings.master_key: without one nobody is asked for a key")
    made = tuple(_built(entry, f"{PLACE}[{at}]") for at, entry in enumerate(entries))
    if not ledger and any(key.max_budget is not None for key in made):
        raise ConfigError(f"{PLACE}: a max_budget needs the ledger; take out cache_proxy_settings.ledger: false")
    hashes = [key.hash for key in made] + ([] if master_key is None else [hashed(master_key.get_secret_value())])
    if len(set(hashes)) < len(hashes):
        raise ConfigError(f"{PLACE}: a key stands there twice, or is the master_key; each must be another")
    aliases = [key.alias for key in made if key.alias]
    if len(set(aliases)) < len(aliases):
        raise ConfigError(f"{PLACE}: two keys have one key_alias; each must have another")
    return made


def _built(entry: KeyEntry, place: str) -> AccessKey:
    secret = entry.key.get_secret_value().strip()
    if not (secret and secret.isascii() and secret.isprintable()):
        raise ConfigError(f"{place}.key is empty, or holds characters that no HTTP header can carry")
    return AccessKey(
        hash=hashed(secret),
        alias=entry.key_alias or "",
        team=entry.team_id or "",
        user=entry.user_id or "",
        models=entry.models,
        max_budget=None if entry.max_budget is None else int(entry.max_budget * Decimal(PICO)),
        budget_duration=entry.budget_duration or "",
        rpm_limit=entry.rpm_limit,
        tpm_limit=entry.tpm_limit,
        expires_at=None if entry.expires is None else _moment(entry.expires),
        blocked=entry.blocked,
        namespace=entry.namespace or "",
        allowed_cache_controls=entry.allowed_cache_controls,
        configured=True,
    )


def _moment(date: datetime) -> float:
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
