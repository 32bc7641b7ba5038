"""LiteLLM's ``config.yaml`` and the environment, made into settings that the rest of the package can take as they are.

    read (include) ─► environment_variables ─► prune (unknown keys warn) ─► os.environ/NAME ─► validate ─► Settings

``Settings`` holds only what is acted on, with every default filled in. The sections as they are written in the file
are in ``sections`` and ``own``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from cache_proxy.errors import ConfigError
from cache_proxy.settings import caching, deployments, reading
from cache_proxy.settings.caching import CacheSettings, RedisSettings
from cache_proxy.settings.checking import prune, validate
from cache_proxy.settings.deployments import DeploymentSettings, credential
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.own import OwnSettings
from cache_proxy.settings.providers import base_url, upstream_of
from cache_proxy.settings.references import environment, peek, resolve
from cache_proxy.settings.routes import Route, route
from cache_proxy.settings.sections import Alias, Document, reveal

__all__ = [
    "Alias", "CacheSettings", "Cooldown", "DeploymentSettings", "OwnSettings", "RedisSettings", "Route", "Settings",
    "base_url", "load", "parse", "reveal",
]  # fmt: skip

MASTER_KEY_VARIABLES = ("CACHE_PROXY_MASTER_KEY", "LITELLM_MASTER_KEY")
SERVED_MODES = ("embedding", "rerank")


@dataclass(frozen=True, slots=True)
class Cooldown:
    """When a failing deployment of a group rests: after more than ``allowed_fails`` failures in a row."""

    enabled: bool = True
    allowed_fails: int = 3
    seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """One configuration, whole and checked. Made by :func:`load` and :func:`parse`; secrets are not in its repr."""

    deployments: tuple[DeploymentSettings, ...]
    cache: CacheSettings
    own: OwnSettings
    master_key: SecretStr | None = None
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    cooldown: Cooldown = Cooldown()
    warnings: tuple[str, ...] = ()
    """One line for each thing the operator should know. No values in them: they are logged."""

    def route(self, name: str) -> Route | None:
        """Who answers to this model name of a request; ``None`` means 404."""
        return route(name, self.deployments, self.aliases)


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
    raw, places = _without_foreign(raw, environ, notes)
    checked = validate(_prepared(raw, places, environ, notes), places)
    return _settings(checked, places, bool(document.get("model_list")), environ, notes)


def _prepared(raw: Mapping[str, Any], places: list[int], environ: Mapping[str, str], notes: Notes) -> dict[str, Any]:
    """The document with nothing left to replace and nothing in it that is not acted on."""
    section = raw.get("litellm_settings")
    if isinstance(section, Mapping) and str(section.get("cache")).lower() == "false":
        raw = {**raw, "litellm_settings": {**section, "cache_params": None}}
    elif isinstance(section, Mapping):
        caching.refuse_several_nodes(section.get("cache_params"))
    pruned = prune(raw, Document, (), notes)
    entries = pruned.pop("model_list", None)
    prepared: dict[str, Any] = resolve(pruned, environ, (), notes)
    if isinstance(entries, list):
        pairs = zip(places, entries, strict=True)
        entries = [resolve(entry, environ, ("model_list", at), notes) for at, entry in pairs]
    return prepared if entries is None else {**prepared, "model_list": entries}


def _settings(
    document: Document, places: list[int], listed: bool, environ: Mapping[str, str], notes: Notes
) -> Settings:
    found = deployments.build(document, places, environ)
    if not listed:
        found = (deployments.anything_of_jina(document, environ),)
    elif not found:
        notes.add("model_list: none of its deployments can be served here")
    router = document.router_settings
    cache = caching.build(document.litellm_settings, environ, notes)
    own = _own(document)
    if cache.enabled and cache.kind == "memory" and own.memory_mib == 0:
        raise ConfigError("cache_proxy_settings.memory_mib is 0, but the cache is in memory; make it larger")
    _note_router(document, found, notes)
    return Settings(
        deployments=found,
        cache=cache,
        own=own,
        master_key=_master_key(document, environ),
        aliases=router.model_group_alias,
        cooldown=_cooldown(document),
        warnings=notes.lines,
    )


def _refuse_empty_key(raw: Mapping[str, Any]) -> None:
    """An empty ``master_key`` is a mistake, not a wish to let everybody in."""
    section = raw.get("general_settings")
    if isinstance(section, Mapping) and "master_key" in section:
        key = section["master_key"]
        if key is None or (isinstance(key, str) and not key.strip()):
            raise ConfigError("general_settings.master_key is empty; give it a value, or take it out")


def _without_foreign(raw: dict[str, Any], environ: Mapping[str, str], notes: Notes) -> tuple[dict[str, Any], list[int]]:
    """The document without the deployments that can not be served, and the places of those that can."""
    entries = raw.get("model_list")
    if not isinstance(entries, list):
        return raw, []
    kept = []
    for at, entry in enumerate(entries):
        if _is_foreign(entry, environ):
            name = peek(entry.get("model_name"), environ) or f"model_list[{at}]"
            notes.add(f"model_list: {name} can not be served here and is skipped")
        else:
            kept.append(at)
    return {**raw, "model_list": [entries[at] for at in kept]}, kept


def _is_foreign(entry: object, environ: Mapping[str, str]) -> bool:
    """Whether this is a deployment for another API. What can not be made out is left for the validation."""
    params = entry.get("litellm_params") if isinstance(entry, Mapping) else None
    model = peek(params.get("model"), environ) if isinstance(params, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(params, Mapping) or model is None:
        return False
    info = entry.get("model_info")
    mode = peek(info.get("mode"), environ) if isinstance(info, Mapping) else None
    if mode is not None and mode not in SERVED_MODES:
        return True
    provider = peek(params.get("custom_llm_provider"), environ)
    has_base = peek(params.get("api_base"), environ) is not None
    # A bare * takes whatever the name of a request says.
    return model != "*" and upstream_of(model, provider=provider, has_base=has_base) is None


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
    own, limit = document.cache_proxy_settings, document.general_settings.max_request_size_mb
    if limit is not None and "max_body_mib" not in own.model_fields_set:
        return own.model_copy(update={"max_body_mib": limit})
    return own


def _cooldown(document: Document) -> Cooldown:
    router, common, usual = document.router_settings, document.litellm_settings, Cooldown()
    fails = router.allowed_fails if router.allowed_fails is not None else common.allowed_fails
    return Cooldown(
        enabled=not router.disable_cooldowns,
        allowed_fails=usual.allowed_fails if fails is None else fails,
        seconds=router.cooldown_time or common.cooldown_time or usual.seconds,
    )


def _note_router(document: Document, found: tuple[DeploymentSettings, ...], notes: Notes) -> None:
    router = document.router_settings
    if router.routing_strategy not in (None, "simple-shuffle"):
        notes.add("router_settings.routing_strategy is not acted on here: simple-shuffle is used")
    for name, alias in router.model_group_alias.items():
        if route(alias.model, found, {}) is None:
            notes.add(f"router_settings.model_group_alias: {name} names no model that is served here")
