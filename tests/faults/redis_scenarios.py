"""Faults of one Redis server, of what it holds, and of the network before it."""

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from tests.faults import network
from tests.faults.course import Ground, trial
from tests.faults.load import Client, Load, Note, post
from tests.faults.network import between
from tests.faults.questions import Question, warm
from tests.faults.servers import Server
from tests.faults.table import Row
from tests.integration.redis_servers import HOST, PASSWORD, RedisServer, free_ports, running

STORE = "Redis"
ASKED_AGAIN = 150
OURS = "cache-proxy:*"


@contextmanager
def standalone(options: Mapping[str, str] | None = None) -> Iterator[RedisServer]:
    """A Redis on a port of the loopback interface."""
    with running(options or {}, port=free_ports(1)[0]) as redis:
        yield redis


def at(port: int) -> dict[str, Any]:
    """The configuration of a server whose store is there."""
    params = {"type": "redis", "host": HOST, "port": port, "password": PASSWORD}
    return {"litellm_settings": {"cache_params": params}}


def forgotten(servers: Iterable[Server], notes: Iterable[Note]) -> list[Question]:
    """Which of the last of these questions each of the servers would have to pay for again."""
    questions = list(dict.fromkeys(note.question for note in notes))[-ASKED_AGAIN:]
    found = []
    for server in servers:
        client = Client(server.url)
        found += [question for question in questions if not client.ask(question).hit]
        client.close()
    return found


def struck(
    ground: Ground,
    fault: str,
    strike: Callable[[RedisServer], object],
    mend: Callable[[RedisServer], object] = lambda _: None,
    options: Mapping[str, str] | None = None,
) -> Row:
    """A fault of the server itself."""
    with standalone(options) as redis, ground.servers(at(redis.port)) as servers:
        return trial(
            ground, servers, fault=fault, store=STORE, strike=partial(strike, redis), mend=partial(mend, redis)
        )


# Killed and hung -----------------------------------------------------------------------------------------------------


def killed(ground: Ground) -> Row:
    """It is killed and comes back with nothing."""
    return struck(ground, "`kill -9`, later started empty", RedisServer.kill, RedisServer.restart)


SLOW_TO_LOAD = {"appendonly": "yes", "key-load-delay": "2000", "loading-process-events-interval-bytes": "1024"}


def killed_persistent(ground: Ground) -> Row:
    """It is killed, and answers ``LOADING`` for a while when it comes back with what it held."""
    held: list[Note] = []
    with standalone(SLOW_TO_LOAD) as redis, ground.servers(at(redis.port)) as servers:
        load = Load([server.url for server in servers])

        def strike() -> None:
            held.extend(load.notes)
            redis.kill()

        row = trial(
            ground, servers, fault="`kill -9`, later started with its data (`appendonly`)", store=STORE,
            strike=strike, mend=redis.restart, load=load,
        )  # fmt: skip
        assert not forgotten(servers, held), "what Redis kept is paid for again"
    return row


def hung(ground: Ground) -> Row:
    """It hangs for less than a write waits: whatever was paid for meanwhile is stored."""
    with standalone() as redis, ground.servers(at(redis.port)) as servers:
        load = Load([server.url for server in servers])
        row = trial(
            ground, servers, fault="hung (`SIGSTOP`), later woken", store=STORE,
            strike=redis.pause, mend=redis.resume, load=load,
        )  # fmt: skip
        assert not forgotten(servers, load.notes), "what was paid for while it hung was not kept"
    return row


def hung_with_memory(ground: Ground) -> Row:
    """The same behind the memory tier."""
    own = {"cache_proxy_settings": {"memory_mib": 64}}
    with standalone() as redis, ground.servers({**at(redis.port), **own}) as servers:
        return trial(
            ground, servers, fault="hung, behind the memory tier", store=STORE, strike=redis.pause, mend=redis.resume
        )


# Full ----------------------------------------------------------------------------------------------------------------


def _bound(redis: RedisServer, policy: str, size: int | None = None) -> None:
    """Leave it so many bytes, or what it has now. It may not need them all, so only with less it is surely full."""
    redis.ask("CONFIG", "SET", "maxmemory-policy", policy)
    redis.ask("CONFIG", "SET", "maxmemory", redis.info("memory")["used_memory"] if size is None else size)


def full(ground: Ground) -> Row:
    """It has no room left and may evict nothing."""
    row = struck(
        ground,
        "full, `noeviction`",
        partial(_bound, policy="noeviction", size=1),
        partial(_bound, policy="noeviction", size=0),
    )
    assert row.during.hits > 0, "reads go on"
    assert row.told > 0, "an operator should hear why new answers are paid for again and again"
    return row


def full_evicting(ground: Ground) -> Row:
    """It has no room left, and evicts what was not used for longest."""
    with standalone() as redis, ground.servers(at(redis.port)) as servers:
        strike = partial(_bound, redis, "allkeys-lru")
        row = trial(ground, servers, fault="full, `allkeys-lru`", store=STORE, strike=strike)
        assert redis.info("stats")["evicted_keys"] > 0
    assert row.during.hits > 0
    return row


# Refusing ------------------------------------------------------------------------------------------------------------


def demoted(ground: Ground) -> Row:
    """It becomes a replica: it answers, and takes no writes."""
    row = struck(
        ground, "made a replica (`READONLY`)", lambda redis: redis.ask("REPLICAOF", HOST, 1),
        lambda redis: redis.ask("REPLICAOF", "NO", "ONE"),
    )  # fmt: skip
    assert row.during.hits > 0, "reads go on"
    assert row.told > 0, "an operator should hear why new answers are paid for again and again"
    return row


def _change_password(redis: RedisServer, password: str) -> None:
    redis.ask("CONFIG", "SET", "requirepass", password)
    redis.password = password
    redis.ask("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "yes")


def locked_out(ground: Ground) -> Row:
    """Its password is changed, and changed back."""
    return struck(
        ground, "its password changed", partial(_change_password, password="another"),
        partial(_change_password, password=PASSWORD),
    )  # fmt: skip


# What it holds -------------------------------------------------------------------------------------------------------


def _mix_up(redis: RedisServer) -> None:
    """Put under every key what belongs under another, a part of it, something of another type, or of somebody else."""
    with redis.admin() as client:
        names = list(client.scan_iter(OURS, count=1000))
        values = client.mget(names)
        for number, (name, value) in enumerate(zip(names, values[1:] + values[:1], strict=True)):
            match number % 4:
                case 0 | 1:
                    client.set(name, value)
                case 2:
                    client.set(name, (value or b"")[:-5])
                case _:
                    client.delete(name)
                    client.rpush(name, b"theirs")


def mixed_up(ground: Ground) -> Row:
    """Somebody who can write there puts other values under our keys."""
    return struck(ground, "values under each other's keys, cut, of another type", _mix_up)


def emptied(ground: Ground) -> Row:
    """``FLUSHALL`` behind our back, with a memory tier that knows of a purge before it."""
    own = {"cache_proxy_settings": {"memory_mib": 64}}
    with standalone() as redis, ground.servers({**at(redis.port), **own}, hosts=2) as servers:
        post(servers[0].url, "/cache/flushall")
        return trial(
            ground, servers, fault="`FLUSHALL` by somebody else, behind the memory tier", store=STORE,
            strike=lambda: redis.ask("FLUSHALL"),
        )  # fmt: skip


# The network ---------------------------------------------------------------------------------------------------------


def disturbed(ground: Ground, fault: str, what: network.Fault) -> Row:
    """A fault of the network between the server and Redis."""
    with standalone() as redis, between(redis.address) as net, ground.servers(at(net.port)) as servers:

        def set_to(what: network.Fault) -> None:
            net.fault = what

        return trial(
            ground, servers, fault=fault, store=STORE,
            strike=partial(set_to, what), mend=partial(set_to, network.whole),
        )  # fmt: skip


def cut(ground: Ground) -> Row:
    """Connections break in mid-reply."""
    return disturbed(ground, "connections cut in mid-reply", network.now_and_then(network.cut, 0.1))


def stalled(ground: Ground) -> Row:
    """Half a reply comes, and then nothing."""
    return disturbed(ground, "connections that go silent in mid-reply", network.now_and_then(network.stall, 0.05))


def trickling(ground: Ground) -> Row:
    """Replies come in crumbs, some of them too late."""
    return disturbed(ground, "replies in crumbs, some too late", partial(network.trickle, seconds=0.8))


def swapped(ground: Ground) -> Row:
    """Replies come to another connection than they belong to."""
    swap = network.Swap(0.15)
    row = disturbed(ground, "replies swapped between connections", swap)
    assert swap.count > 0
    return row


def left(ground: Ground) -> Row:
    """Clients leave in the middle of look-ups on a slow network."""
    with standalone() as redis, between(redis.address) as net, ground.servers(at(net.port)) as servers:
        net.fault = partial(network.trickle, seconds=0.02)

        def strike() -> None:
            for number, question in enumerate(warm() * 3):
                ask_and_leave(servers[number % len(servers)].url, question, 0.001 * (number % 25))

        return trial(
            ground, servers, fault="clients that leave in mid-look-up, network slow", store=STORE, strike=strike
        )


def ask_and_leave(url: str, question: Question, seconds: float) -> None:
    """Ask, and close the connection before the answer can be read."""
    place = urlsplit(url)
    head = f"POST {question.path} HTTP/1.1\r\nhost: {place.netloc}\r\ncontent-type: application/json\r\n"
    with socket.create_connection((place.hostname, place.port)) as connection:
        connection.sendall(f"{head}content-length: {len(question.body)}\r\n\r\n".encode() + question.body)
        connection.settimeout(max(seconds, 0.0001))
        with suppress(TimeoutError):
            connection.recv(1)


SCENARIOS: Mapping[str, Callable[[Ground], Row]] = {
    "redis_killed": killed,
    "redis_killed_persistent": killed_persistent,
    "redis_hung": hung,
    "redis_hung_with_memory": hung_with_memory,
    "redis_full": full,
    "redis_full_evicting": full_evicting,
    "redis_demoted": demoted,
    "redis_locked_out": locked_out,
    "redis_mixed_up": mixed_up,
    "redis_emptied": emptied,
    "redis_cut": cut,
    "redis_stalled": stalled,
    "redis_trickling": trickling,
    "redis_swapped": swapped,
    "redis_left": left,
}
