"""What keys are called in Redis, what is advised, and what a URL says: without a server."""

from hashlib import sha256
from typing import Any

import pytest

from cache_proxy.backends.redis import Access, Tls
from cache_proxy.backends.redis.access import read_url
from cache_proxy.backends.redis.advice import advice
from cache_proxy.backends.redis.buckets import BUCKETS, SLOTS, TAGS, BucketNames, bucket_of
from cache_proxy.backends.redis.names import BYTES_A_TRIP, KEYS_A_TRIP, Names, by_weight
from cache_proxy.errors import ConfigError

KEY = bytes(range(32))


# Names ---------------------------------------------------------------------------------------------------------------


def test_the_names_of_keys_are_these_for_ever() -> None:
    # A change would make every cache in Redis cold.
    assert Names("cache-proxy")(KEY) == b"cache-proxy:" + KEY.hex().encode()
    assert Names("t:2")(b"generation") == b"t:2:67656e65726174696f6e"
    assert BucketNames("cache-proxy")(KEY) == b"cache-proxy:{10}:" + KEY.hex().encode()
    assert BucketNames("t:2")(b"generation") == b"t:2:{60}:67656e65726174696f6e"
    assert sha256(b" ".join(TAGS)).hexdigest()[:16] == "941a27d4000dfe54"


def test_buckets_are_spread_over_the_slots_and_so_over_servers() -> None:
    assert len(TAGS) == len(set(TAGS)) == len(set(SLOTS)) == BUCKETS
    assert [slot * BUCKETS // 16_384 for slot in SLOTS] == list(range(BUCKETS))
    for servers in (2, 3, 6, 16):
        held = [sum(slot * servers // 16_384 == server for slot in SLOTS) for server in range(servers)]
        assert max(held) - min(held) <= 1


def test_a_name_belongs_to_the_bucket_of_its_key_alone() -> None:
    names = BucketNames("ns")
    for byte in range(256):
        key = bytes([byte]) * 32
        assert names.bucket(names(key)) == bucket_of(key)
        assert names.bucket(names(key, (bucket_of(key) + 1) % BUCKETS)) is None
    for foreign in (b"ns:{10}:", b"ns:{10}:0", b"ns:{10}:0g", b"ns:00", b"ns:{010}:00", b"ns:{10}:00\n", b"other"):
        assert names.bucket(foreign) is None


def test_a_trip_is_bounded_in_keys_and_in_bytes() -> None:
    small = [(bytes([at // 256, at % 256]), b"") for at in range(KEYS_A_TRIP * 2 + 1)]
    assert [len(trip) for trip in by_weight(small)] == [KEYS_A_TRIP, KEYS_A_TRIP, 1]
    large = [(bytes([at]), bytes(BYTES_A_TRIP // 2)) for at in range(5)]
    assert [len(trip) for trip in by_weight(large)] == [2, 2, 1]
    assert [pair for trip in by_weight(large) for pair in trip] == large


# Advice --------------------------------------------------------------------------------------------------------------

WELL = {"redis_version": "8.8.1", "maxmemory": 2**30, "maxmemory_policy": "allkeys-lru", "redis_mode": "standalone"}


def advised(**changed: Any) -> list[str]:
    well = {name: value for name, value in WELL.items() if not (name == "redis_mode" and "server_mode" in changed)}
    options = {name: changed.pop(name) for name in ("clustered", "expiring") if name in changed}
    return advice({**well, **changed}, **options)


def test_a_server_that_is_well_gets_no_advice() -> None:
    assert advised() == []
    assert advised(role="slave", redis_mode="cluster", clustered=True) == []
    assert advised(maxmemory_policy="volatile-ttl", expiring=True) == []
    assert advice({}) == [], "a service may hide what it is"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"maxmemory": 0, "maxmemory_policy": "noeviction"}, "maxmemory is not set"),
        ({"maxmemory_policy": "noeviction"}, "maxmemory-policy is noeviction"),
        ({"maxmemory_policy": "noeviction", "expiring": True}, "maxmemory-policy is noeviction"),
        ({"maxmemory_policy": "volatile-lru"}, "maxmemory-policy is volatile-lru"),
        ({"redis_mode": "sentinel"}, "this server is a Sentinel"),
        ({"redis_mode": "cluster"}, "this server is part of a Cluster"),
        ({"server_mode": "cluster"}, "this server is part of a Cluster"),
        ({"role": "slave"}, "this server is a replica"),
    ],
)
def test_each_thing_to_change_is_one_line(changed: dict[str, Any], said: str) -> None:
    (line,) = advised(**changed)
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("product", "version", "mended"),
    [
        ("redis", "7.0.15", False),
        ("redis", "7.2.14", False),
        ("redis", "7.2.15", True),
        ("redis", "8.0.99", False),
        ("redis", "8.8.0", False),
        ("redis", "8.10.0", True),
        ("redis", "9.0.0", True),
        ("redis", "255.255.255", True),
        ("redis", "unstable", True),
        ("valkey", "8.0.1", False),
        ("valkey", "8.1.9", True),
        ("valkey", "9.1.0", False),
        ("valkey", "9.2.0", True),
    ],
)
def test_versions_with_known_holes_are_told_of(product: str, version: str, mended: bool) -> None:
    # Valkey says that it is Redis 7.2.4, for compatibility.
    info = {"redis_version": "7.2.4", "valkey_version": version} if product == "valkey" else {"redis_version": version}
    lines = advised(**info)
    assert (lines == []) == mended
    assert all(version in line for line in lines)


# URLs ----------------------------------------------------------------------------------------------------------------


def test_a_url_says_what_it_says_and_the_rest_is_as_given() -> None:
    given = Access(password="other", db=1, timeout=2.0, client_name="us")
    access, place = read_url("redis://me:p%40w@there:7000/3?socket_timeout=9&decode_responses=yes", given)
    assert place == {"host": "there", "port": 7000}
    assert (access.username, access.password, access.db) == ("me", "p@w", 3)
    assert (access.timeout, access.client_name, access.tls) == (9.0, "us", None)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_a_url_of_tls_adds_to_the_tls_that_is_given(scheme: str) -> None:
    given = Access(tls=Tls(ca_certs="/ca", certfile="/crt"))
    access, place = read_url(f"{scheme}://r?ssl_ca_certs=/own&ssl_check_hostname=no&ssl_cert_reqs=optional", given)
    assert access.tls == Tls(ca_certs="/own", certfile="/crt", check_hostname=False, cert_reqs="optional")
    assert place == {"host": "r", "port": 6379}
    assert read_url(f"{scheme}://r", Access())[0].tls == Tls()


@pytest.mark.parametrize("url", ["redis://r", "valkey://r", "unix:///run/redis.sock"])
def test_a_url_without_tls_has_none_whatever_is_given(url: str) -> None:
    assert read_url(url, Access(tls=Tls()))[0].tls is None


@pytest.mark.parametrize(
    "url", ["http://hunter2@r", "redis://:hunter2@r:port", "rediss://r?ssl_cert_reqs=hunter2", "redis://r?db=hunter2"]
)
def test_a_url_that_is_none_is_a_config_error_that_does_not_repeat_it(url: str) -> None:
    with pytest.raises(ConfigError) as wrong:
        read_url(url, Access())
    assert "hunter2" not in str(wrong.value)
    assert wrong.value.__cause__ is None


def test_secrets_are_not_in_a_repr() -> None:
    assert "hunter2" not in repr(Access(password="hunter2", tls=Tls(password="hunter2")))
