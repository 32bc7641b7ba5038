"""Faults of a Redis of several servers: Sentinel and Cluster."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tests.faults.course import Ground, trial
from tests.faults.servers import until
from tests.faults.table import Row
from tests.integration.redis_servers import HOST, PASSWORD, PRIMARY, Cluster, RedisServer, Watched, clustered, watched
from tests.integration.redis_servers import mend as mend_cluster

# Sentinel ------------------------------------------------------------------------------------------------------------


def by_sentinels(found: Watched) -> dict[str, Any]:
    """The configuration of a server whose store they watch."""
    nodes = [[HOST, sentinel.port] for sentinel in found.sentinels]
    params = {"type": "redis", "sentinel_nodes": nodes, "service_name": PRIMARY, "sentinel_password": PASSWORD}
    return {"litellm_settings": {"cache_params": params}}


def watched_over(
    ground: Ground, fault: str, strike: Callable[[Watched], object], mend: Callable[[Watched], object]
) -> Row:
    """A fault of a primary with a replica. Its end is when the replica has taken over."""
    with watched() as found, ground.servers(by_sentinels(found)) as servers:
        return trial(
            ground, servers, fault=fault, store="Redis Sentinel",
            strike=partial(strike, found), mend=partial(mend, found),
        )  # fmt: skip


def _taken_over(found: Watched, by: list[RedisServer]) -> None:
    until(lambda: found.primary() is by[0])
    until(lambda: by[0].info()["role"] == "master")


def primary_killed(ground: Ground) -> Row:
    """The primary is killed, and the replica takes over."""
    heirs: list[RedisServer] = []

    def strike(found: Watched) -> None:
        heirs.append(found.replica())
        found.primary().kill()
        _taken_over(found, heirs)

    return watched_over(ground, "the primary killed, the replica takes over", strike, lambda _: None)


def primary_hung(ground: Ground) -> Row:
    """The primary hangs, the replica takes over, and the primary comes back as one who thinks it still is."""
    hung: list[RedisServer] = []

    def strike(found: Watched) -> None:
        heirs = [found.replica()]
        hung.append(found.primary())
        hung[0].pause()
        _taken_over(found, heirs)

    def mend(found: Watched) -> None:
        hung[0].resume()
        until(lambda: hung[0].info()["role"] == "slave")

    return watched_over(ground, "the primary hung, the replica takes over, the primary comes back", strike, mend)


def planned(ground: Ground) -> Row:
    """An operator lets the replica take over."""
    return watched_over(ground, "`SENTINEL FAILOVER`", Watched.fail_over, lambda _: None)


def sentinels_killed(ground: Ground) -> Row:
    """All Sentinels die, and the primary goes on."""

    def strike(found: Watched) -> None:
        for sentinel in found.sentinels:
            sentinel.kill()

    def mend(found: Watched) -> None:
        for sentinel in found.sentinels:
            sentinel.restart()

    row = watched_over(ground, "all Sentinels killed", strike, mend)
    assert row.during.hits > 0
    return row


# Cluster -------------------------------------------------------------------------------------------------------------


def in_cluster(cluster: Cluster) -> dict[str, Any]:
    """The configuration of a server whose store it is."""
    params = {"type": "redis", "redis_startup_nodes": cluster.nodes}
    return {"litellm_settings": {"cache_params": params}}


def among(
    ground: Ground,
    fault: str,
    strike: Callable[[Cluster], object],
    mend: Callable[[Cluster], object] = mend_cluster,
    *,
    replicas: bool = False,
    covering: str = "no",
) -> Row:
    """A fault of one of three primaries; ``covering`` is ``cluster-require-full-coverage``."""
    options = {"cluster-require-full-coverage": covering}
    with clustered(options, replicas=replicas) as cluster, ground.servers(in_cluster(cluster)) as servers:
        return trial(
            ground, servers, fault=fault, store="Redis Cluster",
            strike=partial(strike, cluster), mend=partial(mend, cluster),
        )  # fmt: skip


def node_killed(ground: Ground) -> Row:
    """A server without a replica is killed and comes back empty; the others go on."""
    row = among(ground, "a server without replica killed, later started", lambda cluster: cluster.primaries[0].kill())
    assert row.during.hits > 0, "the others hold what they held"
    return row


def node_killed_covering(ground: Ground) -> Row:
    """The same where Redis then takes the whole Cluster down, as it does unless told otherwise."""
    return among(
        ground, "the same with `cluster-require-full-coverage yes`", lambda cluster: cluster.primaries[0].kill(),
        covering="yes",
    )  # fmt: skip


def node_hung(ground: Ground) -> Row:
    """A server without a replica hangs; the others go on."""
    row = among(ground, "a server without replica hung, later woken", lambda cluster: cluster.primaries[0].pause())
    assert row.during.hits > 0, "the others hold what they held"
    return row


def _replaced(cluster: Cluster, at: int) -> None:
    until(lambda: cluster.replicas[at].info()["role"] == "master")
    until(lambda: all(_finds(server, cluster.replicas[at]) for server in cluster.servers if server.is_running()))


def _finds(server: RedisServer, owner: RedisServer) -> bool:
    return any(int(port) == owner.port for _, _, (_, port, *_), *_ in server.ask("CLUSTER", "SLOTS"))


def master_killed(ground: Ground) -> Row:
    """A server is killed, and its replica takes over."""

    def strike(cluster: Cluster) -> None:
        cluster.primaries[0].kill()
        _replaced(cluster, 0)

    return among(ground, "a server killed, its replica takes over", strike, lambda _: None, replicas=True)


def master_hung(ground: Ground) -> Row:
    """A server hangs, its replica takes over, and it comes back as one who thinks it still holds the slots."""

    def strike(cluster: Cluster) -> None:
        cluster.primaries[0].pause()
        until(lambda: cluster.replicas[0].info()["role"] == "master")

    def mend(cluster: Cluster) -> None:
        cluster.primaries[0].resume()
        until(lambda: cluster.primaries[0].info()["role"] == "slave")

    return among(ground, "a server hung, its replica takes over, it comes back", strike, mend, replicas=True)


def handed_over(ground: Ground) -> Row:
    """An operator lets a replica take over."""
    return among(
        ground, "`CLUSTER FAILOVER`", lambda cluster: cluster.fail_over(cluster.replicas[1]), lambda _: None,
        replicas=True,
    )  # fmt: skip


SCENARIOS: Mapping[str, Callable[[Ground], Row]] = {
    "sentinel_primary_killed": primary_killed,
    "sentinel_primary_hung": primary_hung,
    "sentinel_planned": planned,
    "sentinel_all_killed": sentinels_killed,
    "cluster_node_killed": node_killed,
    "cluster_node_killed_covering": node_killed_covering,
    "cluster_node_hung": node_hung,
    "cluster_master_killed": master_killed,
    "cluster_master_hung": master_hung,
    "cluster_handed_over": handed_over,
}
