"""The names of keys in a Cluster: each key is in one of 64 buckets, and a bucket is in one slot.

A command of several keys must stay within one slot. If each key had a slot of its own, a look-up of 512 were 512
commands; with buckets it is 64 at most (``docs/decisions/0010-redis-cluster.md``).
"""

import re

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from cache_proxy.backends.base import Key
from cache_proxy.backends.redis.names import Names
from cache_proxy.errors import ConfigError

BUCKETS = 64

Bucket = int

_OURS = re.compile(rb"\{([0-9]+)\}:([0-9a-f]{2})(?:[0-9a-f]{2})*")


def _tags() -> list[bytes]:
    """For each bucket the smallest number whose slot lies in the bucket's share of all slots.

    A server usually holds a run of slots, so buckets spread over the slots are spread over the servers.
    """
    found: dict[Bucket, bytes] = {}
    number = 0
    while len(found) < BUCKETS:
        tag = str(number).encode()
        found.setdefault(key_slot(tag) * BUCKETS // REDIS_CLUSTER_HASH_SLOTS, tag)
        number += 1
    return [found[bucket] for bucket in range(BUCKETS)]


TAGS = _tags()
SLOTS = [key_slot(tag) for tag in TAGS]
"""The slot of each bucket."""


def bucket_of(key: Key) -> Bucket:
    """The bucket of this key. Keys are hashes, so their first bits are as good as any."""
    return key[0] * BUCKETS // 256 if key else 0


class BucketNames:
    """``<namespace>:{<tag of the bucket>}:<key in hexadecimal>``."""

    def __init__(self, namespace: str) -> None:
        if "{" in namespace:
            raise ConfigError("a namespace with { in it would put all keys of a Redis Cluster into one slot")
        self._all = Names(namespace)
        self._prefixes = [self._all.prefix + b"{" + tag + b"}:" for tag in TAGS]
        self.pattern = self._all.pattern

    def __call__(self, key: Key, bucket: Bucket | None = None) -> bytes:
        """The name of this key, in the bucket it belongs to unless another is given."""
        return self._prefixes[bucket_of(key) if bucket is None else bucket] + key.hex().encode()

    def bucket(self, name: bytes) -> Bucket | None:
        """The bucket of the key of this name; ``None`` if it is not one of ours."""
        ours = _OURS.fullmatch(name, len(self._all.prefix))
        if ours is None:
            return None
        bucket = bucket_of(bytes.fromhex(ours[2].decode()))
        return bucket if TAGS[bucket] == ours[1] else None
