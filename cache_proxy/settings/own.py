"""``cache_proxy_settings``: what LiteLLM has no word for."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cache_proxy.settings.keys import KeyEntry


class OwnSettings(BaseModel):
    """Our own section. Durations are seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    memory_mib: int = Field(
        default=128,
        ge=0,
        description="Size of the memory tier that each worker keeps before the store, in MiB. 0 turns it off.",
    )
    disk_max_gib: float = Field(
        default=10.0, gt=0, description="Size of the disk store, in GiB. The least recently used entries go first."
    )
    max_body_mib: float = Field(
        default=64.0,
        gt=0,
        description="Largest request body, in MiB. A larger one gets 413. Also: max_request_size_mb.",
    )
    max_items: int = Field(default=8192, ge=1, description="Most inputs or documents in one request. More get 422.")
    store_read_timeout: float = Field(
        default=1.0,
        gt=0,
        description="Seconds a look-up may take before it counts as a miss and the upstream is asked.",
    )
    store_write_timeout: float = Field(
        default=5.0,
        gt=0,
        description="Seconds that storing an answer may take, off the request's path, before it is given up.",
    )
    max_wait: float = Field(
        default=30.0,
        ge=0,
        description="Seconds a call may wait for room within rpm, tpm or max_parallel_requests; then 429.",
    )
    coalesce: Literal["all", "process", "none"] = Field(
        default="all",
        description="Whether a request waits for an item that another is already paying for: one of any process that "
        "shares the store (all), one of its own process, or nobody's (none).",
    )
    lease_seconds: float = Field(
        default=5.0,
        ge=0.5,
        le=300,
        description="Seconds after which others pay for an item whose payer was killed. A payer that lives renews it.",
    )
    batch_window_ms: float = Field(
        default=5.0,
        ge=0,
        le=1000,
        description="Milliseconds that misses wait for others to travel with, while a call of their kind is under way. "
        "0: they never wait.",
    )
    cache_urls: float | Literal[False] = Field(
        default=False,
        description="Seconds for which an image or PDF given by URL is cached, or false for never: "
        "what a URL points to may change.",
    )
    stale_if_error: float = Field(
        default=0.0,
        ge=0,
        description="Seconds after its ttl for which an answer is kept and served where Jina fails, if all that is "
        "missing can be answered so. 0: never.",
    )
    ledger: bool = Field(
        default=True, description="Whether what is paid and saved is written into the ledger (docs/ledger.md)."
    )
    ledger_dir: str | None = Field(
        default=None,
        min_length=1,
        description="The folder of the ledger's file, where there is no database_url. Else the disk store's.",
    )
    ledger_failure: Literal["refuse", "continue"] = Field(
        default="refuse",
        description="While the ledger can not be written: refuse to spend (hits are served), or continue, write it "
        "later, and count what is lost to it.",
    )
    ledger_days: int = Field(
        default=0,
        ge=0,
        description="Days for which single calls and requests stay in the ledger; their sums stay for good. 0: for "
        "good, too.",
    )
    ledger_names_days: int = Field(
        default=400,
        ge=0,
        description="Days for which the sums of single users and tags stay apart; of each older day they are one row, "
        "so that everything still adds up. 0: for good.",
    )
    keys: tuple[KeyEntry, ...] = Field(
        default=(), description="Keys for people and jobs, beside the master_key (docs/keys.md)."
    )
    key_grace_seconds: float = Field(
        default=300.0,
        ge=0,
        description="Seconds for which keys that were made at run time and are known to a worker let in while the "
        "ledger's database is away.",
    )
    drain_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Seconds that requests under way have to finish when the server is told to end (SIGTERM).",
    )
    trust_env: bool = Field(
        default=False,
        description="Whether calls to the upstream go through HTTPS_PROXY and its kin of the environment.",
    )
    log_format: Literal["json", "console", "off"] = Field(
        default="json", description="How the log line of each request is written: json, console (for people), or off."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least that is logged."
    )

    @field_validator("cache_urls", mode="before")
    @classmethod
    def _seconds_or_false(cls, value: Any) -> Any:
        if value is False or (isinstance(value, str) and value.strip().lower() == "false"):
            return False
        message = "the value should be false or a number of seconds above 0"
        if value is True:
            raise ValueError(message)
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            raise ValueError(message) from None
        if not 0 < seconds < float("inf"):
            raise ValueError(message)
        return seconds
