"""What the operator of a Redis should change: said from its own ``INFO``, never acted on."""

from collections.abc import Mapping, Sequence
from typing import Any

Version = tuple[int, ...]

# The release of each line that mends what was known in July 2026 (code run by anybody who may log in:
# CVE-2026-23479, CVE-2026-63639 and their kin). A line that is not here is not mended any more.
_MENDED: Mapping[str, Sequence[Version]] = {
    "Redis": ((6, 2, 23), (7, 2, 15), (7, 4, 10), (8, 2, 8), (8, 4, 5), (8, 6, 5), (8, 8, 1)),
    "Valkey": ((7, 2, 14), (8, 0, 10), (8, 1, 9), (9, 0, 5), (9, 1, 1)),
}


def advice(info: Mapping[str, Any], *, clustered: bool = False, expiring: bool = False) -> list[str]:
    """One line for each thing to change.

    ``info`` is the server's ``INFO``; ``clustered`` says that it is used as part of a Cluster, ``expiring`` that
    entries have a ttl.
    """
    lines = [_kind(info, clustered=clustered), _eviction(info, expiring=expiring), _version(info)]
    return [line for line in lines if line]


def _kind(info: Mapping[str, Any], *, clustered: bool) -> str | None:
    mode = info.get("redis_mode", info.get("server_mode"))  # Valkey's word
    if mode == "sentinel":
        return "this server is a Sentinel and holds no keys; write it as sentinel_nodes"
    if mode == "cluster" and not clustered:
        return "this server is part of a Cluster; write it as redis_startup_nodes"
    if info.get("role") == "slave" and not clustered:
        return "this server is a replica and takes no writes; give the primary, or sentinel_nodes"
    return None


def _eviction(info: Mapping[str, Any], *, expiring: bool) -> str | None:
    if "maxmemory" not in info:
        return None
    if not info["maxmemory"]:
        return "maxmemory is not set, so it may take all memory there is; set it, and maxmemory-policy allkeys-lru"
    policy = str(info.get("maxmemory_policy", ""))
    if policy == "noeviction":
        return "maxmemory-policy is noeviction: when full it keeps no new answer; set allkeys-lru"
    if policy.startswith("volatile-") and not expiring:
        return f"maxmemory-policy is {policy}, but answers have no ttl: when full it keeps no new one; set allkeys-lru"
    return None


def _version(info: Mapping[str, Any]) -> str | None:
    product = "Valkey" if "valkey_version" in info else "Redis"
    text = str(info.get("valkey_version", info.get("redis_version", "")))
    parts = text.split(".")
    if not all(part.isdigit() for part in parts) or _is_mended(tuple(map(int, parts)), _MENDED[product]):
        return None
    return (
        f"{product} {text} has known holes by which who may log in can run code; update it"
        " (unless your distribution or service mended them under the old number)"
    )


def _is_mended(version: Version, lines: Sequence[Version]) -> bool:
    mended = next((line for line in lines if line[:2] == version[:2]), lines[-1])
    return version >= mended
