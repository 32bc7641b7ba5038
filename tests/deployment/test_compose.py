"""compose.yaml: what it starts fits the code, and nothing has more rights than it needs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cache_proxy.cli import DEFAULT_PORT
from cache_proxy.serving import check_address
from cache_proxy.settings import parse
from tests.deployment.facts import documents, is_pinned, longest_end, pages, read_settings, seconds
from tests.deployment.recipe import DOCKER, recipe
from tests.integration import conftest

redis_program = conftest.redis_program

(COMPOSE,) = documents("compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROXY = SERVICES["cache-proxy"]


def test_it_is_written_as_compose_reads_it() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    subprocess.run([*command, DOCKER / "compose.yaml"], check=True)


def test_a_plain_up_starts_the_proxy_its_store_and_its_ledger() -> None:
    assert set(SERVICES) == {"cache-proxy", "redis", "postgres"}
    assert not any("profiles" in service for service in SERVICES.values())


def test_the_ledger_is_in_the_postgres_beside_it() -> None:
    url = re.sub(r"\$\{(\w+)[^}]*\}", "secret", PROXY["environment"]["DATABASE_URL"])
    ledger = parse({}, {"HOME": "/nowhere", "DATABASE_URL": url}).ledger
    assert ledger.url is not None
    place = urlsplit(ledger.url.get_secret_value())
    database = SERVICES["postgres"]["environment"]
    assert (place.hostname in SERVICES, place.username) == (True, database["POSTGRES_USER"])
    assert place.path == f"/{database['POSTGRES_USER']}", "the image names the database after the user"


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_fenced_in(name: str) -> None:
    service = SERVICES[name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "build" in service or service["user"].partition(":")[0].isdigit()
    assert "build" in service or is_pinned(service["image"])
    assert "build" in service or service["healthcheck"]
    assert "ports" not in service or name == "cache-proxy"


def test_it_has_time_for_an_orderly_end() -> None:
    assert seconds(PROXY["stop_grace_period"]) > longest_end()


def test_its_port_is_the_images_and_for_this_machine_alone() -> None:
    assert PROXY["ports"] == [f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}"]


def test_its_configuration_is_found_and_names_the_redis_beside_it() -> None:
    (mount,) = PROXY["volumes"]
    assert mount["target"] == PROXY["environment"]["CACHE_PROXY_CONFIG"]
    settings = read_settings(DOCKER / mount["source"])
    assert settings.warnings == ()
    assert settings.cache.kind == "redis"
    assert settings.cache.redis is not None
    assert (settings.cache.redis.host in SERVICES, settings.cache.redis.port) == (True, 6379)
    assert PROXY["depends_on"].keys() == {settings.cache.redis.host, "postgres"}
    check_address(settings, recipe()[1].environ["CACHE_PROXY_HOST"])


def test_every_variable_is_in_the_example_and_on_a_page() -> None:
    asked = set(re.findall(r"\$\{(\w+)", (DOCKER / "compose.yaml").read_text()))
    given = re.findall(r"^(\w+)=$", (DOCKER / "env.example").read_text(), re.MULTILINE)
    assert sorted(asked) == sorted(given)
    assert [name for name in PROXY["environment"] if f"`{name}`" not in pages()] == []


def test_redis_starts_as_it_is_told_and_forgets_what_is_used_least(
    redis_program: str,
    tmp_path: Path,
) -> None:
    shell, option, script = SERVICES["redis"]["command"]
    place = f"--dir {tmp_path} --port 0 --unixsocket {tmp_path}/s"
    script = script.replace("$$", "$").replace("--dir /data", place)
    environ = {"PATH": str(Path(redis_program).parent), "REDIS_PASSWORD": "a b$c"}
    process = subprocess.Popen([shell, option, script], env=environ, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "eady to accept" in line:
                break
        asked = ["redis-cli", "-s", f"{tmp_path}/s", "config", "get", "maxmemory-policy"]
        known = subprocess.check_output(asked, env={**environ, "REDISCLI_AUTH": "a b$c"}, text=True)
        strange = subprocess.check_output(asked, env=environ, text=True)
    finally:
        process.terminate()
        process.communicate(timeout=10)
    assert known.split() == ["maxmemory-policy", "allkeys-lru"]
    assert "NOAUTH" in strange
    assert process.returncode == 0
