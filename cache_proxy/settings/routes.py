"""Which deployments answer to the model name of a request."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cache_proxy.settings.deployments import DeploymentSettings
from cache_proxy.settings.providers import APP, upstream_of
from cache_proxy.settings.sections import Alias


class Route(NamedTuple):
    """A balanced group of deployments, and the name under which they know the model."""

    group: str
    model: str
    deployments: tuple[DeploymentSettings, ...]


def route(name: str, deployments: Sequence[DeploymentSettings], aliases: Mapping[str, Alias]) -> Route | None:
    """Who answers to this name, or ``None``: an alias, a ``model_name``, a ``litellm_params.model``, a wildcard.

    Of several that claim a ``litellm_params.model`` the first group has it; of wildcards, the most specific.
    """
    name = aliases[name].model if name in aliases else name
    plain = [one for one in deployments if not one.wildcard]
    for group in [name, *(one.model_name for one in plain if one.litellm_model == name)]:
        members = tuple(one for one in plain if one.model_name == group)
        if members:
            return Route(group, members[0].model, members)
    return _wild(name, deployments)


def _wild(name: str, deployments: Sequence[DeploymentSettings]) -> Route | None:
    patterns = {one.model_name for one in deployments if one.wildcard}
    for pattern in sorted(patterns, key=_specificity):
        if found := _compiled(pattern).fullmatch(name):
            members = tuple(one for one in deployments if one.model_name == pattern)
            model = _fill(members[0], found.groups())
            if model is not None:
                return Route(pattern, model, members)
    return None


def _specificity(pattern: str) -> tuple[int, int, str]:
    return (pattern.count("*"), -len(pattern), pattern)


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("(.+)".join(re.escape(part) for part in pattern.split("*")), re.DOTALL)


def _fill(deployment: DeploymentSettings, found: Sequence[str]) -> str | None:
    """The upstream's name for what the wildcards of the pattern matched; ``None`` if it is not one of its models."""
    parts = deployment.litellm_model.split("*")
    filled = parts[0] + "".join(text + part for text, part in zip(found, parts[1:], strict=False))
    # A bare * of the app's takes names as they are: theirs may well begin with what is a provider's name elsewhere.
    bare = deployment.litellm_model.startswith("*") and deployment.provider != APP
    provider = None if bare else deployment.provider
    upstream = upstream_of(filled, provider=provider, has_base=deployment.any_name)
    return upstream.model if upstream else None
