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
from tests.postgres import shared_postgres

__all__ = [
    "PASSWORD",
    "RedisServer",
    "certificates",
    "only_cluster",
    "own_redis",
    "redis_folder",
    "redis_program",
    "shared_cluster",
    "shared_postgres",
    "shared_redis",
    "shared_sentinels",
    "shared_tls",
]
