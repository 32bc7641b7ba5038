"""LiteLLM's ``config.yaml`` and the environment, made into settings that the rest of the package can take as they are.

    read (include) ─► environment_variables ─► credential_list ─► model_list without what is not served here
        ─► the router's Redis, if it is the cache ─► plugins (what is for a backend of others is taken out)
        ─► prune (unknown keys warn) ─► os.environ/NAME ─► validate ─► Settings

``Settings`` holds only what is acted on, with every default filled in. The sections as they are written in the file
are in ``sections``, ``entries`` and ``own``; what of LiteLLM's is known and not acted on is in ``ignored``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import SecretStr

from cache_proxy.access import AccessKey
from cache_proxy.errors import ConfigError
from cache_proxy.settings import caching, credentials, groups, keys, ledger, reading, router_cache
from cache_proxy.settings.caching import CacheSettings
from cache_proxy.settings.checking import prune, typed, validate
from cache_proxy.settings.deployments import LEAST_BUSY, DeploymentSettings, credential
from cache_proxy.settings.entries import ModelEntry
from cache_proxy.settings.ignored import PARAMS
from cache_proxy.settings.ledger import LedgerSettings
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.own import OwnSettings
from cache_proxy.settings.plugins import Plugin, taken_out
from cache_proxy.settings.providers import APP, base_url
from cache_proxy.settings.redis import RedisSettings, TlsSettings
from cache_proxy.settings.references import environment, resolve
from cache_proxy.settings.routes import Route, route
from cache_proxy.settings.sections import Alias, Document, reveal
from cache_proxy.settings.served import Place, leave_out, without_others

__all__ = [
    "APP", "Alias", "CacheSettings", "DeploymentSettings", "LedgerSettings", "OwnSettings", "Plugin", "RedisSettings",
    "Route", "Settings", "TlsSettings", "base_url", "load", "parse", "reveal",
]  # fmt: skip

MASTER_KEY_VARIABLES = ("CACHE_PROXY_MASTER_KEY", "LITELLM_MASTER_KEY")
STRATEGIES = (None, "simple-shuffle", LEAST_BUSY)


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration, whole and checked. Made by :func:`load` and :func:`parse`; secrets are not in its repr."""

    deployments: tuple[DeploymentSettings, ...]
    cache: CacheSettings
    own: OwnSettings
    ledger: LedgerSettings
    master_key: SecretStr | None = None
    keys: tuple[AccessKey, ...] = ()
    """Those that stand in the file."""
    pass_through_keys: bool = False
    """Whether callers may pay with a key of their own."""
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    retry_after: float = 0.0
    """The least seconds before a call is tried again at the same deployment."""
    warnings: tuple[str, ...] = ()
    """One line for each thing the operator should know. No values in them: they are logged."""
    unset: tuple[str, ...] = ()
    """Those of the warnings that are about environment variables that are not set."""
    round_app: tuple[DeploymentSettings, ...] = ()
    """The deployments where the middleware is to cache the app it is wrapped round."""

    def route(self, name: str) -> Route | None:
        """Who answers to this model name of a request; ``None`` means 404."""
        return route(name, self.deployments, self.aliases)

    def round_the_app(self) -> "Settings":
        """The same for ``upstream="app"``: a model that is not in ``model_list`` is the app's.

        Raises ``ConfigError`` where its answers would be kept among those of other apps.
        """
        told_apart = all(one.identified for one in self.round_app if one.api_base == APP)
        cache = self.cache if told_apart else caching.of_the_app(self.cache)
        _refuse_no_memory(cache, self.own)
        return replace(self, deployments=self.round_app, cache=cache)


def load(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this file, or of the environment alone. Raises ``ConfigError``, which names key and remedy."""
    return parse(reading.read(path) if path is not None else {}, environ)


def parse(document: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of a document that is read already (``include`` needs a file). Raises ``ConfigError``."""
    if "include" in document:
        raise ConfigError("include works in a file only; merge the sections, or load a file")
    notes = Notes()
    environ = environment(document, environ, notes)
    raw = {key: value for key, value in document.items() if key != "environment_variables"}
    _refuse_empty_key(raw)
    raw, places = without_others(credentials.laid_in(raw, environ, notes), environ, notes)
    raw = router_cache.lifted(raw, environ, notes)
    raw, plugin = taken_out(raw, caching.TYPES, environ, notes)
    prepared, places = _prepared(raw, places, environ, notes)
    checked = validate(prepared, [place.at for place in places])
    return _settings(checked, plugin, places, bool(document.get("model_list")), environ, notes)


def _prepared(
    raw: Mapping[str, Any], places: list[Place], environ: Mapping[str, str], notes: Notes
) -> tuple[dict[str, Any], list[Place]]:
    """The document with nothing left to replace and nothing in it that is not acted on; the places of its entries."""
    section = raw.get("litellm_settings")
    if isinstance(section, Mapping) and str(section.get("cache")).lower() == "false":
        raw = {**raw, "litellm_settings": {**section, "cache_params": None}}
    pruned = prune(raw, Document, (), notes)
    entries = pruned.pop("model_list", None)
    prepared: dict[str, Any] = resolve(pruned, environ, (), notes)
    if not isinstance(entries, list):
        return (prepared if entries is None else {**prepared, "model_list": entries}), places
    pairs = [(place, _entry(entry, place, environ, notes)) for place, entry in zip(places, entries, strict=True)]
    kept = [(place, entry) for place, entry in pairs if entry is not None]
    return {**prepared, "model_list": [entry for _, entry in kept]}, [place for place, _ in kept]


def _entry(entry: Any, place: Place, environ: Mapping[str, str], notes: Notes) -> Any:
    """The entry with nothing left to replace, or ``None`` if it is left out for what stands in it."""
    path = ("model_list", place.at)
    try:
        entry = resolve(entry, environ, path, notes)
    except ConfigError as error:
        leave_out(place.name, error, notes, certain=place.certain, unset=True)
        return None
    if place.certain:
        return entry  # Held to its types with all the rest, so that every fault is told at once.
    try:
        typed(ModelEntry, entry, path)
    except ConfigError as error:
        leave_out(place.name, error, notes, certain=False)
        return None
    return entry


def _settings(
    document: Document,
    plugin: Plugin | None,
    places: list[Place],
    listed: bool,
    environ: Mapping[str, str],
    notes: Notes,
) -> Settings:
    found = groups.build(document, places, environ, notes)
    around = groups.round_app(found, document, environ)
    if not listed:
        found = (groups.anything_of_jina(document, environ),)
    elif not found:
        notes.add("model_list: none of its deployments can be served here")
    router = document.router_settings
    cache = caching.build(document.litellm_settings, environ, notes, plugin)
    own = _own(document)
    _refuse_no_memory(cache, own)
    _note_oddities(document, found, notes)
    master_key = _master_key(document, environ)
    return Settings(
        deployments=found,
        cache=cache,
        own=own,
        ledger=ledger.build(own, document.general_settings.database_url, cache.directory, environ, notes),
        master_key=master_key,
        keys=keys.build(own.keys, master_key, ledger=own.ledger),
        pass_through_keys=document.general_settings.pass_through_keys,
        aliases=router.model_group_alias,
        retry_after=router.retry_after or 0.0,
        warnings=notes.lines,
        unset=notes.unset_lines,
        round_app=around,
    )


def _refuse_empty_key(raw: Mapping[str, Any]) -> None:
    """An empty ``master_key`` is a mistake, not a wish to let everybody in."""
    section = raw.get("general_settings")
    if isinstance(section, Mapping) and "master_key" in section:
        key = section["master_key"]
        if key is None or (isinstance(key, str) and not key.strip()):
            raise ConfigError("general_settings.master_key is empty; give it a value, or take it out")


def _refuse_no_memory(cache: CacheSettings, own: OwnSettings) -> None:
    if cache.enabled and cache.kind == "memory" and own.memory_mib == 0:
        raise ConfigError("cache_proxy_settings.memory_mib is 0, but the cache is in memory; make it larger")


def _master_key(document: Document, environ: Mapping[str, str]) -> SecretStr | None:
    key = document.general_settings.master_key
    if key is not None:
        return credential(key.get_secret_value(), "general_settings.master_key")
    for name in MASTER_KEY_VARIABLES:
        if name in environ:
            if not environ[name].strip():
                raise ConfigError(f"{name} is set but empty; give it a value, or unset it")
            return credential(environ[name], name)
    return None


def _own(document: Document) -> OwnSettings:
    """Our own section, with LiteLLM's words for the same where ours are silent."""
    limit, json_logs = document.general_settings.max_request_size_mb, document.litellm_settings.json_logs
    theirs = {
        "max_body_mib": limit,
        "log_format": None if json_logs is None else "json" if json_logs else "console",
    }
    said = document.cache_proxy_settings.model_fields_set
    update = {key: value for key, value in theirs.items() if value is not None and key not in said}
    return document.cache_proxy_settings.model_copy(update=update)


def _note_oddities(document: Document, found: tuple[DeploymentSettings, ...], notes: Notes) -> None:
    router = document.router_settings
    if router.routing_strategy not in STRATEGIES:
        notes.add("router_settings.routing_strategy is not acted on here: simple-shuffle is used")
    for name, alias in router.model_group_alias.items():
        if route(alias.model, found, {}) is None:
            notes.add(f"router_settings.model_group_alias: {name} names no model that is served here")
    if any({".", "["} & set(field) for deployment in found for field in deployment.dropped):
        notes.add(f"{PARAMS}.additional_drop_params: only whole fields of a request can be dropped")
    served = {deployment.model_name for deployment in found}
    for name in router.model_group_retry_policy:
        if name not in served:
            notes.add(f"router_settings.model_group_retry_policy: no deployment here has the model_name {name}")
