"""Real servers, started by the tests themselves in their own folders."""

from tests.integration.redis_servers import (
    PASSWORD,
    RedisServer,
    certificates,
    only_cluster,
    own_redis,
    redis_folder,
    redis_program,
    shared_cluster,
    shared_redis,
    shared_sentinels,
    shared_tls,
)

__all__ = [
    "PASSWORD",
    "RedisServer",
    "certificates",
    "only_cluster",
    "own_redis",
    "redis_folder",
    "redis_program",
    "shared_cluster",
    "shared_redis",
    "shared_sentinels",
    "shared_tls",
]
