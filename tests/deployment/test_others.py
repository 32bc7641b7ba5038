"""Kubernetes, systemd and nginx: their files fit the code."""

import re
from pathlib import Path
from typing import Any

import uvicorn

from cache_proxy import __version__
from cache_proxy.asgi.middleware import LIVENESS, READINESS
from cache_proxy.cli import DEFAULT_PORT
from cache_proxy.serving import check_address
from cache_proxy.settings import OwnSettings
from tests.deployment.facts import documents, longest_end, pages, read_settings, seconds, unit
from tests.deployment.recipe import DOCKER, ROOT, recipe

IMAGE = recipe()[1]
KUBERNETES: dict[str, dict[str, Any]] = {found["kind"]: found for found in documents("kubernetes/cache-proxy.yaml")}
POD = KUBERNETES["Deployment"]["spec"]["template"]
(CONTAINER,) = POD["spec"]["containers"]
SERVICE = unit()["Service"]
NGINX = (DOCKER / "nginx" / "cache-proxy.conf").read_text()


def directive(name: str) -> str:
    (found,) = re.findall(rf"^\s*{name} (.*);$", NGINX, re.MULTILINE)
    return str(found)


def test_the_pod_has_time_for_an_orderly_end_after_its_pause() -> None:
    word, pause = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert word == "sleep"
    assert POD["spec"]["terminationGracePeriodSeconds"] > float(pause) + longest_end()


def test_the_probes_ask_routes_that_are_there_at_the_port_that_listens() -> None:
    asked = {name: CONTAINER[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert asked["startup"]["path"] in READINESS
    assert asked["readiness"]["path"] in READINESS
    # Readiness ends with SIGTERM; a pod that is finishing its work must not be killed for that.
    assert asked["liveness"]["path"] in LIVENESS
    (port,) = CONTAINER["ports"]
    assert port == {"name": "http", "containerPort": int(IMAGE.environ["CACHE_PROXY_PORT"])}
    assert {probe["port"] for probe in asked.values()} == {port["name"]}
    assert KUBERNETES["Service"]["spec"]["ports"] == [{"name": "http", "port": DEFAULT_PORT, "targetPort": "http"}]


def test_the_pod_runs_as_the_images_user_and_can_do_nothing_else() -> None:
    user = POD["spec"]["securityContext"]
    assert f"{user['runAsUser']}:{user['runAsGroup']}" == IMAGE.one("USER").rest
    assert user["runAsNonRoot"]
    fence = CONTAINER["securityContext"]
    assert fence == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip


def test_the_names_of_services_do_not_become_our_variables() -> None:
    name = KUBERNETES["Service"]["metadata"]["name"]
    # Kubernetes would set this one to tcp://…
    assert f"{name.upper().replace('-', '_')}_PORT" in IMAGE.environ
    assert POD["spec"]["enableServiceLinks"] is False


def test_everything_in_the_cluster_finds_the_pods() -> None:
    labels = POD["metadata"]["labels"]
    selectors = [KUBERNETES[kind]["spec"]["selector"] for kind in ("Deployment", "Service", "PodDisruptionBudget")]
    assert [selector.get("matchLabels", selector) for selector in selectors] == [labels] * 3
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["minAvailable"] < KUBERNETES["Deployment"]["spec"]["replicas"]


def test_the_image_of_the_pod_is_this_version() -> None:
    assert CONTAINER["image"].endswith(f"/cache-proxy:{__version__}")


def test_the_pods_configuration_is_found_and_obeyed(tmp_path: Path) -> None:
    (variable,) = CONTAINER["env"]
    assert variable["name"] == "CACHE_PROXY_CONFIG"
    mounted = {mount["name"]: mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    (name,) = KUBERNETES["ConfigMap"]["data"]
    assert variable["value"] == f"{mounted['config']}/{name}"
    config = tmp_path / name
    config.write_text(KUBERNETES["ConfigMap"]["data"][name])
    database = "postgresql://u:secret@postgres.example.com/ledger"
    settings = read_settings(config, REDIS_URL="rediss://:secret@redis.example.com:6380/0", DATABASE_URL=database)
    assert (settings.warnings, settings.cache.kind) == ((), "redis")
    assert settings.ledger.url is not None, "the pods share a ledger, and write no file"
    check_address(settings, IMAGE.environ["CACHE_PROXY_HOST"])


def test_every_secret_of_the_pod_is_on_a_page() -> None:
    told = (DOCKER / "kubernetes" / "cache-proxy.yaml").read_text()
    names = re.findall(r"--from-literal=(\w+)", told)
    assert len(names) == 4
    assert [name for name in names if f"`{name}`" not in pages()] == []
    (source,) = CONTAINER["envFrom"]
    assert f"secret generic {source['secretRef']['name']} " in told


def test_systemd_gives_it_time_for_an_orderly_end() -> None:
    (patience,) = SERVICE["TimeoutStopSec"]
    assert float(patience) > longest_end()


def test_systemd_starts_what_the_page_installs_and_gives_it_its_folder() -> None:
    (command,) = SERVICE["ExecStart"]
    assert command == "/opt/cache-proxy/bin/cache-proxy serve"
    variables = dict(value.split("=", 1) for value in SERVICE["Environment"])
    assert variables["CACHE_PROXY_DIR"] == f"/var/lib/{SERVICE['StateDirectory'][0]}"
    page = (ROOT / "docs" / "deployment.md").read_text()
    places = [command.split("/bin/")[0], variables["CACHE_PROXY_CONFIG"], SERVICE["EnvironmentFile"][0]]
    assert [place for place in places if place not in page] == []
    assert [name for name in variables if f"`{name}`" not in pages()] == []


def test_the_configuration_beside_the_unit_stores_in_the_units_folder() -> None:
    folder = f"/var/lib/{SERVICE['StateDirectory'][0]}"
    settings = read_settings(DOCKER / "systemd" / "config.yaml", CACHE_PROXY_DIR=folder)
    assert (settings.warnings, settings.cache.kind, str(settings.cache.directory)) == ((), "disk", folder)
    assert settings.master_key is not None


def test_nginx_takes_bodies_as_large_as_the_proxy_does() -> None:
    assert directive("client_max_body_size") == f"{OwnSettings().max_body_mib:g}m"


def test_nginx_finds_the_proxy_and_uses_no_connection_that_is_being_closed() -> None:
    assert directive("server") == f"127.0.0.1:{DEFAULT_PORT}"
    assert seconds(directive("keepalive_timeout")) < uvicorn.Config("").timeout_keep_alive


def test_nginx_waits_longer_than_two_calls_that_time_out_take() -> None:
    settings = read_settings(DOCKER / "config.yaml")
    calls = 2 * max(deployment.timeout for deployment in settings.deployments)
    assert seconds(directive("proxy_read_timeout")) > calls + 2 * settings.own.max_wait


def test_the_page_has_the_sum_of_an_orderly_end() -> None:
    assert f"{longest_end():g} s" in (ROOT / "docs" / "deployment.md").read_text()
