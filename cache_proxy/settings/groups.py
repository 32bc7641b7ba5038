"""``model_list`` as a whole: the deployments of one name, made interchangeable."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cache_proxy.errors import ConfigError
from cache_proxy.settings.deployments import LEAST_BUSY, DeploymentSettings, deployment
from cache_proxy.settings.entries import LiteLLMParams, ModelEntry
from cache_proxy.settings.notes import Notes
from cache_proxy.settings.providers import APP
from cache_proxy.settings.sections import Document
from cache_proxy.settings.served import Place, leave_out


class Member(NamedTuple):
    """A deployment, and whether it is certainly for this proxy."""

    deployment: DeploymentSettings
    certain: bool


def build(
    document: Document, places: Sequence[Place], environ: Mapping[str, str], notes: Notes
) -> tuple[DeploymentSettings, ...]:
    """All deployments of the document, whose entries stand at these places of the file.

    Raises ``ConfigError`` for what can not be obeyed of those that are certainly for this proxy.
    """
    groups: dict[str, list[Member]] = defaultdict(list)
    for entry, place in zip(document.model_list, places, strict=True):
        try:
            found = deployment(entry, place.at, document, environ)
        except ConfigError as error:
            leave_out(place.name, error, notes, certain=place.certain)
        else:
            groups[entry.model_name].append(Member(found, place.certain))
    evenly = document.router_settings.routing_strategy == LEAST_BUSY
    members = [one for name, group in groups.items() for one in _grouped(name, group, notes, evenly=evenly)]
    return tuple(_without_twins(members, notes))


def anything_of_jina(document: Document, environ: Mapping[str, str]) -> DeploymentSettings:
    """The deployment there is without a ``model_list``: every Jina model by its name."""
    return replace(_anything({"model": "*"}, document, environ), id="jina")


def round_app(
    listed: Sequence[DeploymentSettings], document: Document, environ: Mapping[str, str]
) -> tuple[DeploymentSettings, ...]:
    """The deployments where the middleware caches the app it is wrapped round: those of the ``model_list``, and for
    every other name the app, by its own name for it.
    """
    if any(one.model_name == "*" for one in listed):
        return tuple(listed)
    return (*listed, replace(_anything({"model": "*", "api_base": APP}, document, environ), id=f"{APP}:*"))


def _anything(params: dict[str, str], document: Document, environ: Mapping[str, str]) -> DeploymentSettings:
    entry = ModelEntry(model_name="*", litellm_params=LiteLLMParams.model_validate(params))
    (found,) = _as_group("*", [deployment(entry, 0, document, environ)], evenly=True)
    return found


def _grouped(name: str, members: Sequence[Member], notes: Notes, *, evenly: bool) -> list[Member]:
    """The deployments of one name, made one, or none where they can not be."""
    try:
        group = list(_as_group(name, [one.deployment for one in members], evenly=evenly))
    except ConfigError as error:
        leave_out(name, error, notes, certain=any(one.certain for one in members))
        return []
    return [Member(made, one.certain) for made, one in zip(group, members, strict=True)]


def _as_group(name: str, members: list[DeploymentSettings], *, evenly: bool) -> Iterable[DeploymentSettings]:
    """The deployments of one name, made interchangeable: a caller must not notice which one answered."""
    if len({member.model for member in members}) > 1:
        raise ConfigError(
            f"model_list: the deployments called `{name}` name different upstream models, whose answers must not be "
            "mixed; give each model a model_name of its own"
        )
    said = [(member.default_params, member.dropped) for member in members]
    if any(params != said[0] for params in said):
        raise ConfigError(
            f"model_list: the deployments called `{name}` set different default parameters, or drop different fields; "
            "make them equal"
        )
    identity = _agreed(name, "identity", {member.identity for member in members})
    shared = {
        "identity": identity or _group_identity(name, members),
        "identified": identity is not None,
        "mode": _agreed(name, "mode", {member.mode for member in members}),
        "items": _agreed(name, "items", {member.items for member in members}),
        "documents": _agreed(name, "documents", {member.documents for member in members}),
        "harmless_params": _agreed(name, "harmless_params", {member.harmless_params for member in members})
        or frozenset(),
    }
    shares = [1.0] * len(members) if evenly else _shares(members)
    for number, (member, share) in enumerate(zip(members, shares, strict=True), 1):
        numbered = len(members) > 1 and member.id == name
        yield replace(member, id=f"{name}#{number}" if numbered else member.id, weight=share, **shared)


def _shares(members: Sequence[DeploymentSettings]) -> list[float]:
    """LiteLLM's simple-shuffle: by ``weight``, else by ``rpm``, else by ``tpm``; who has none then gets nothing."""
    for name in ("weight", "rpm", "tpm"):
        shares = [float(getattr(member, name) or 0.0) for member in members]
        if any(shares):
            return shares
    return [1.0] * len(members)


def _agreed(name: str, key: str, values: set[Any]) -> Any:
    given = [value for value in values if value]
    if len(given) > 1:
        raise ConfigError(f"model_list: the deployments called `{name}` have different model_info.{key}; give them one")
    return given[0] if given else None


def _group_identity(name: str, members: list[DeploymentSettings]) -> str:
    """One server is its URL, however many keys it is called with, so that a second key leaves the cache warm."""
    bases = {member.api_base for member in members}
    return bases.pop() if len(bases) == 1 else name


def _without_twins(members: Sequence[Member], notes: Notes) -> Iterable[DeploymentSettings]:
    """The deployments, each with an id that is its own: in logs and in ``/health`` it stands for the deployment."""
    claimed = {one.deployment.id for one in members if one.certain}
    kept: dict[str, DeploymentSettings] = {}
    for found, certain in members:
        if found.id in kept or (found.id in claimed and not certain):
            fault = f"model_list: several deployments have the id {found.id}; give each a model_info.id of its own"
            leave_out(found.model_name, ConfigError(fault), notes, certain=certain)
        else:
            kept[found.id] = found
    return kept.values()
