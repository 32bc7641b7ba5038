"""``router_settings.cache_responses``: LiteLLM's other place for the cache, said in the words of ``cache_params``."""

from collections.abc import Mapping
from typing import Any

from cache_proxy.settings.notes import Notes
from cache_proxy.settings.references import peek

WORDS = {"redis_url": "url", "redis_host": "host", "redis_port": "port", "redis_password": "password", "redis_db": "db"}
MORE = "cache_kwargs"


def lifted(raw: dict[str, Any], environ: Mapping[str, str], notes: Notes) -> dict[str, Any]:
    """The document with the router's Redis as its cache, where it is meant as one; otherwise its keys are noted.

    LiteLLM keeps its limits and rests there, too. Here limits are kept in the cache's store, and rests by each worker.
    """
    router = raw.get("router_settings")
    if not isinstance(router, Mapping):
        return raw
    given = {word: router[key] for key, word in WORDS.items() if router.get(key) is not None}
    more = router.get(MORE)
    kept = {key: value for key, value in router.items() if key not in {*WORDS, MORE}}
    common = raw.get("litellm_settings")
    if _is_the_cache(router, common, environ) and ("url" in given or {"host", "port"} <= given.keys()):
        params = {"type": "redis", **given, **(more if isinstance(more, Mapping) else {})}
        section = {**(common if isinstance(common, Mapping) else {}), "cache": True, "cache_params": params}
        return {**raw, "router_settings": kept, "litellm_settings": section}
    for key in (*WORDS, MORE):
        if router.get(key) is not None:
            notes.add(f"router_settings.{key} is not acted on here: limits are kept in the cache's store")
    return {**raw, "router_settings": kept}


def _is_the_cache(router: Mapping[str, Any], common: object, environ: Mapping[str, str]) -> bool:
    """Whether the router's Redis is to hold answers: not where ``litellm_settings`` says something about the cache."""
    said = isinstance(common, Mapping) and (common.get("cache") is not None or common.get("cache_params") is not None)
    wanted = router.get("cache_responses")
    wanted = peek(wanted, environ) if isinstance(wanted, str) else wanted
    return not said and str(wanted).lower() == "true"
