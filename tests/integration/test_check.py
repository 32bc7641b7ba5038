"""``cache-proxy check`` against a real Redis: there, gone, with another password, and hanging."""

import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from cache_proxy.check import Report, check
from cache_proxy.check.words import lines
from tests.integration.redis_servers import PASSWORD, RedisServer


def checked(folder: Path, server: RedisServer, password: str = PASSWORD) -> Report:
    params: dict[str, Any] = {"type": "redis", "unix_socket_path": server.socket, "password": password}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"litellm_settings": {"cache_params": params}}))
    return check(str(config), environ={"HOME": str(folder), "JINA_AI_API_KEY": "jina_x"})


def text(report: Report) -> str:
    told = "\n".join(line.text for line in lines(report))
    assert PASSWORD not in told
    return told


def test_a_redis_that_answers_is_good_and_one_that_is_gone_is_missing(tmp_path: Path, own_redis: RedisServer) -> None:
    report = checked(tmp_path, own_redis)
    assert (report.store.reachable, report.exit_code) == (True, 0)
    assert "it can be used" in text(report)
    assert any("maxmemory" in advice for advice in report.store.advice), "a server without a bound"
    own_redis.kill()
    report = checked(tmp_path, own_redis)
    assert (report.store.reachable, report.exit_code) == (False, 1)
    assert "it can not be used" in text(report)
    assert "the store (redis at" in report.missing[0]


def test_a_redis_with_another_password_can_not_be_used(tmp_path: Path, own_redis: RedisServer) -> None:
    report = checked(tmp_path, own_redis, "planted-password")
    assert (report.store.reachable, report.exit_code) == (False, 1)
    assert "planted" not in text(report)


@pytest.mark.slow
def test_a_redis_that_hangs_is_given_up(tmp_path: Path, own_redis: RedisServer) -> None:
    own_redis.signal(signal.SIGSTOP)
    began = time.monotonic()
    report = checked(tmp_path, own_redis)
    own_redis.signal(signal.SIGCONT)
    assert report.exit_code == 1
    assert time.monotonic() - began < 20
