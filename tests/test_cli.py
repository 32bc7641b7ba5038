"""The command: what starts it, what it refuses to start with, and in which words."""

import csv
import json
import logging
import os
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import CliRunner, Result

from cache_proxy import __version__
from cache_proxy.cli import _ended_by_sigterm, main
from cache_proxy.errors import ConfigError
from cache_proxy.ledger.database import Database
from cache_proxy.receipts import Counts
from cache_proxy.serving import check_address, serve, store_of, warnings_of
from cache_proxy.settings import parse
from tests.ledger.writing import ANNA, JOB, LOCAL, Event, call, post, receipt

SECRET = "sk-hunter2"
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith(("CACHE_PROXY_", "JINA_", "REDIS_", "LITELLM_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("CACHE_PROXY_DIR", str(tmp_path / "store"))


def invoke(*args: str) -> Result:
    return CliRunner().invoke(main, list(args))


def written(folder: Path, text: str) -> str:
    path = folder / "config.yaml"
    path.write_text(text)
    return str(path)


def assert_refused(ended: Result, *words: str) -> None:
    assert ended.exit_code == 2, ended.output
    assert "Traceback" not in ended.output
    assert SECRET not in ended.output
    told = ended.output.strip().splitlines()
    assert len(told) == 1, told
    assert told[0].startswith("Error: ")
    for word in words:
        assert word in told[0]


def test_the_version() -> None:
    ended = invoke("--version")
    assert (ended.exit_code, ended.output) == (0, f"cache-proxy, version {__version__}\n")


def test_help_names_every_command() -> None:
    ended = invoke("--help")
    assert ended.exit_code == 0
    assert all(name in ended.output for name in ("serve", "demo", "standin", "usage"))


def test_help_of_serve_names_the_options_and_their_defaults() -> None:
    ended = invoke("serve", "--help")
    assert all(word in ended.output for word in ("--config", "--host", "127.0.0.1", "--port", "4000", "--workers"))


@pytest.mark.parametrize("command", [["serve"], []], ids=["serve --config", "--config alone"])
@pytest.mark.parametrize("option", ["--config", "-c"])
def test_a_configuration_alone_means_serve(tmp_path: Path, command: list[str], option: str) -> None:
    path = written(tmp_path, "litellm_settings: {cache_params: {type: nonsense}}")
    assert_refused(invoke(*command, option, path), "litellm_settings.cache_params.type", "disk", "local", "redis")


def test_a_port_alone_means_serve_too(tmp_path: Path) -> None:
    assert_refused(invoke("--port", "0", "--host", "0.0.0.0"), "master_key")


@pytest.mark.parametrize("command", ["serve", "standin"])
@pytest.mark.parametrize("port", ["-1", "65536", "99999", "http"])
def test_a_port_that_is_none_is_refused(command: str, port: str) -> None:
    ended = invoke(command, "--port", port)
    assert ended.exit_code == 2
    assert "Invalid value for '--port'" in ended.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_an_open_door_to_the_network_is_refused_and_the_remedy_named(host: str) -> None:
    assert_refused(
        invoke("serve", "--host", host),
        "general_settings.master_key",
        "CACHE_PROXY_MASTER_KEY",
        "--host 127.0.0.1",
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.5"])
def test_this_machine_needs_no_key(host: str) -> None:
    check_address(parse({}, {"HOME": "/nowhere"}), host)


def test_an_open_door_with_a_key_is_fine(caplog: pytest.LogCaptureFixture) -> None:
    check_address(parse({"general_settings": {"master_key": SECRET}}, {"HOME": "/nowhere"}), "0.0.0.0")
    assert caplog.records == []


def test_the_key_of_the_samples_warns_where_others_can_reach_it(caplog: pytest.LogCaptureFixture) -> None:
    settings = parse({"general_settings": {"master_key": "sk-1234"}}, {"HOME": "/nowhere"})
    check_address(settings, "127.0.0.1")
    assert caplog.records == []
    check_address(settings, "0.0.0.0")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "general_settings.master_key" in record.getMessage()
    assert "sk-1234" not in record.getMessage()


NO_KEY = (
    "no Jina key is set (JINA_AI_API_KEY): what is not in the cache will be refused by Jina; "
    "`cache-proxy demo` needs none"
)
APART = "the store is memory: each worker has a cache of its own; a purge reaches one of them"


def warned(document: dict[str, Any], workers: int = 1, **environ: str) -> list[str]:
    return list(warnings_of(parse(document, {"HOME": "/nowhere", **environ}), workers))


def entry(name: str, **params: str) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": f"jina_ai/{name}", **params}}


def test_no_key_for_jina_is_told_with_the_remedy() -> None:
    assert warned({}) == [NO_KEY]
    assert warned({"model_list": [entry("jina-embeddings-v3"), entry("jina-reranker-m0")]}) == [NO_KEY]


def test_a_key_for_any_deployment_is_a_key() -> None:
    assert warned({}, JINA_AI_API_KEY="jina_x") == []
    assert warned({"model_list": [entry("jina-embeddings-v3", api_key="jina_x"), entry("jina-reranker-m0")]}) == []


def test_another_server_than_jinas_needs_no_jina_key() -> None:
    assert warned({}, JINA_AI_API_BASE="http://localhost:9000/v1") == []


@pytest.mark.parametrize(("kind", "workers", "expected"), [("local", 2, [APART]), ("local", 1, []), ("disk", 2, [])])
def test_workers_with_a_cache_each_are_told_of(kind: str, workers: int, expected: list[str]) -> None:
    document = {"litellm_settings": {"cache_params": {"type": kind}}}
    assert warned(document, workers, JINA_AI_API_KEY="jina_x") == expected


def test_workers_without_a_cache_have_nothing_to_purge() -> None:
    document = {"litellm_settings": {"cache": False, "cache_params": {"type": "local"}}}
    assert warned(document, 2, JINA_AI_API_KEY="jina_x") == []


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({}, "disk in /nowhere/.cache/cache-proxy"),
        ({"cache": False}, "off"),
        ({"cache_params": {"type": "local"}}, "memory of each worker"),
        ({"cache_params": {"host": "r", "port": 7, "password": SECRET}}, "redis at r:7"),
        ({"cache_params": {"url": f"redis://me:{SECRET}@r/3"}}, "redis at r:6379"),
        ({"cache_params": {"url": f"rediss://me:{SECRET}@r:7"}}, "redis at r:7"),
        ({"cache_params": {"url": f"unix://me:{SECRET}@/run/redis.sock"}}, "redis at /run/redis.sock"),
        ({"cache_params": {"unix_socket_path": "/run/redis.sock", "password": SECRET}}, "redis at /run/redis.sock"),
        (
            {"cache_params": {"redis_startup_nodes": [{"host": "a"}, {"host": "b", "port": 7}], "password": SECRET}},
            "redis at the cluster of a:6379, b:7",
        ),
        (
            {"cache_params": {"sentinel_nodes": [["s", 5]], "service_name": "main", "sentinel_password": SECRET}},
            "redis at main, as the Sentinels s:5 know it",
        ),
    ],
)
def test_the_store_is_told_with_its_place_and_without_its_secrets(section: dict[str, Any], told: str) -> None:
    assert store_of(parse({"litellm_settings": section}, {"HOME": "/nowhere"})) == told


def test_what_is_told_at_the_start_comes_once_and_claims_nothing_that_is_not_so_yet(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda _app, **options: started.append(options))
    monkeypatch.setattr("cache_proxy.serving.set_up_logging", lambda _level: None)
    with caplog.at_level(logging.INFO, "cache_proxy"):
        serve(None, "127.0.0.1", 4000, 3)
    assert [(options["host"], options["port"], options["workers"]) for options in started] == [("127.0.0.1", 4000, 3)]
    told = [record.getMessage() for record in caplog.records]
    store, ledger = f"disk in {tmp_path / 'store'}", tmp_path / "store" / "ledger.db"
    assert told == [f"cache-proxy {__version__}, store: {store}, ledger: {ledger}", NO_KEY]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model_list: [", ["config.yaml"]),
        ("- a list", []),
        ("model_list: 7", ["model_list"]),
        (f"general_settings: {{master_key: {SECRET}}}\nmodel_list: 7", ["model_list"]),
        (f"general_settings: {{master_key: {SECRET}é}}", ["general_settings.master_key"]),
        ("general_settings: {master_key: ''}", ["general_settings.master_key"]),
        ("general_settings: {master_key: os.environ/NOT_SET_ANYWHERE}", ["NOT_SET_ANYWHERE"]),
        ("cache_proxy_settings: {memory_mib: many}", ["cache_proxy_settings.memory_mib"]),
        ("cache_proxy_settings: {log_format: prose}", ["cache_proxy_settings.log_format", "json"]),
        (f"litellm_settings: {{cache_params: {{url: 'http://u:{SECRET}@host'}}}}", ["cache_params.url"]),
        ("litellm_settings: {cache_params: {type: redis-semantic}}", ["semantic"]),
        (f"litellm_settings: {{cache_params: {{type: {{{SECRET}: 1}}}}}}", ["litellm_settings.cache_params.type"]),
        ("include: [missing.yaml]", ["missing.yaml"]),
    ],
)  # fmt: skip
def test_a_configuration_that_can_not_be_obeyed_is_one_line(tmp_path: Path, text: str, words: list[str]) -> None:
    assert_refused(invoke("--config", written(tmp_path, text)), *words)


def test_a_configuration_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    assert_refused(invoke("--config", str(tmp_path / "missing.yaml")), "missing.yaml")
    assert_refused(invoke("--config", str(tmp_path)), str(tmp_path))


def test_a_configuration_that_is_no_text_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(bytes(range(256)))
    assert_refused(invoke("--config", str(path)), "config.yaml")


def test_a_wrong_number_of_workers_is_refused() -> None:
    ended = invoke("serve", "--workers", "0")
    assert ended.exit_code == 2
    assert "--workers" in ended.output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_certificates_that_can_not_be_read_are_refused_before_there_are_workers(tmp_path: Path, workers: str) -> None:
    url = "rediss://cache.test:6379?ssl_ca_certs=/nowhere/ca.pem"
    config = written(tmp_path, f"litellm_settings: {{cache: true, cache_params: {{type: redis, url: '{url}'}}}}")
    ended = invoke("serve", "--config", config, "--workers", workers)
    assert ended.exit_code == 2, ended.output
    assert "ssl_ca_certs" in ended.output


def test_check_refuses_a_folder_of_the_disk_store_as_serve_does(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("")
    config = written(
        tmp_path, f"litellm_settings: {{cache: true, cache_params: {{type: disk, disk_cache_dir: {place}}}}}"
    )
    told = [invoke(command, "--config", config) for command in ("serve", "check")]
    assert [one.exit_code for one in told] == [2, 2]
    assert all("disk_cache_dir" in one.output for one in told)


def test_refusals_raise_our_own_error_below_the_command() -> None:
    with pytest.raises(ConfigError, match="master_key"):
        check_address(parse({}, {"HOME": "/nowhere"}), "0.0.0.0")


def test_the_real_command_refuses_in_one_line_too(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cache_proxy", "--config", written(tmp_path, "litellm_settings: 7")]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.splitlines()[-1].startswith("Error: ")
    assert "litellm_settings" in ended.stderr
    assert "Traceback" not in ended.stderr


def ledger_of(folder: Path, *events: Event) -> None:
    database = Database.in_folder(folder)
    post(database, *events)
    database.close()


USAGE = ["usage", "--format", "json"]


def test_usage_without_a_ledger_says_so_and_makes_none(tmp_path: Path) -> None:
    for form in ("table", "json", "csv"):
        ended = invoke("usage", "--format", form)
        assert ended.exit_code == 0
        told = f"Nothing has been written yet: there is no ledger in {tmp_path / 'store' / 'ledger.db'}.\n"
        assert ended.stderr == told
    assert invoke(*USAGE).stdout == '{"rows":[]}\n'
    assert not (tmp_path / "store").exists()


def test_usage_reads_the_ledger_that_the_configuration_names(tmp_path: Path) -> None:
    ledger_of(tmp_path / "books", call(10.0, 7))
    config = written(tmp_path, f"cache_proxy_settings: {{ledger_dir: {tmp_path / 'books'}}}")
    (row,) = json.loads(invoke(*USAGE, "--config", config).stdout)["rows"]
    assert (row["tokens_billed"], row["cost_usd"]) == (7, 3.5e-7)


def test_usage_of_a_configuration_without_a_ledger_is_one_line(tmp_path: Path) -> None:
    assert_refused(invoke("usage", "--config", written(tmp_path, "cache_proxy_settings: {ledger: false}")), "ledger")


def test_a_ledger_that_can_not_be_read_is_one_line_that_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "ledger.db").write_bytes(b"no database at all" * 100)
    assert_refused(invoke("usage"), str(tmp_path / "store" / "ledger.db"))


def test_a_database_that_can_not_be_reached_is_one_line_without_its_password(tmp_path: Path) -> None:
    config = written(tmp_path, f"general_settings: {{database_url: 'postgresql://me:{SECRET}@127.0.0.1:9/books'}}")
    assert_refused(invoke("usage", "--config", config), "127.0.0.1:9/books")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--since", "yesterday"], "--since"),
        (["--until", "2026-02-30"], "--until"),
        (["--since", "2w", "--until", "3w"], "--since"),
        (["--since", "9999-12-31"], "--since"),
    ],
)
def test_a_period_that_is_none_is_one_line(options: list[str], word: str) -> None:
    assert_refused(invoke("usage", *options), word)


@pytest.mark.parametrize(
    ("since", "until", "tokens"),
    [
        ("1970-01-02", None, 6),
        (None, "1970-01-02", 1),
        ("1970-01-02", "1970-01-03", 2),
        ("1970-01-02T00:00:01Z", "1970-01-03T00:00:01", 4),
        ("1970-01-02T02:00:00+02:00", "1970-01-03", 2),
    ],
)
def test_a_period_is_from_the_first_moment_until_before_the_second(
    tmp_path: Path, since: str | None, until: str | None, tokens: int
) -> None:
    ledger_of(tmp_path / "store", call(10.0, 1), call(86400.0, 2), call(2 * 86400.0, 4))
    options = [word for pair in (("--since", since), ("--until", until)) if pair[1] for word in pair if word]
    (row,) = json.loads(invoke(*USAGE, *options).stdout)["rows"]
    assert row["tokens_billed"] == tokens


def test_the_last_days_are_those_before_now(tmp_path: Path) -> None:
    now = time.time()
    ledger_of(tmp_path / "store", call(now - 50 * 3600, 1), call(now - 46 * 3600, 2), call(now - 60, 4))
    billed = {}
    for since in ("1w", "2d", "47h", "5m"):
        (row,) = json.loads(invoke(*USAGE, "--since", since).stdout)["rows"]
        billed[since] = row["tokens_billed"]
    assert billed == {"1w": 7, "2d": 6, "47h": 6, "5m": 4}


def test_the_table_is_for_people(tmp_path: Path) -> None:
    ledger_of(
        tmp_path / "store",
        call(10.0, 1234567, accounts=[ANNA]),
        call(10.0, 5, accounts=[JOB], price=None),
        receipt(10.0, Counts(4, 3, 1), saved=9),
    )
    lines = invoke("usage", "--by", "key").stdout.splitlines()
    told = [" ".join(line.split()) for line in lines if line.strip(" ─")]
    assert told == [
        "key requests items hits billed saved unsettled cost USD saved USD",
        "anna's 1 4 75.0% 1,234,567 9 0 0.06172835 0.00000045",
        "job 0 0 5 0 0 unknown 0",
        "total 1 4 75.0% 1,234,572 9 0 0.06172835 + unknown 0.00000045",
    ]
    assert "(none)" in invoke("usage", "--by", "tag").stdout


def test_a_name_speaks_neither_to_the_terminal_nor_to_a_spreadsheet(tmp_path: Path) -> None:
    ledger_of(tmp_path / "store", *(receipt(10.0, end_user=user, account=LOCAL) for user in ("=1+1", "\x1b[2J", "[b]")))
    shown = invoke("usage", "--by", "user").stdout
    assert "\x1b" not in shown
    assert "[b]" in shown
    cells = [line.partition(",")[0] for line in invoke("usage", "--by", "user", "--format", "csv").stdout.splitlines()]
    assert cells[0] == "user"
    assert sorted(cells[1:]) == ["'=1+1", "[b]", "\N{REPLACEMENT CHARACTER}[2J"]


def test_the_csv_has_the_fields_of_the_json_and_nothing_where_a_price_is_unknown(tmp_path: Path) -> None:
    ledger_of(tmp_path / "store", call(10.0, 5, price=None), call(10.0, 3), receipt(10.0, saved=1))
    (row,) = csv.DictReader(invoke("usage", "--by", "key", "--format", "csv").stdout.splitlines())
    (told,) = json.loads(invoke(*USAGE, "--by", "key").stdout)["rows"]
    assert list(row) == list(told)
    assert (row["cost_usd"], row["cost_usd_known"], row["tokens_unpriced"]) == ("", "0.00000015", "5")
    assert (told["cost_usd"], told["saved_usd"], told["key_hash"]) == (None, 5e-8, "a" * 64)


def test_a_sigterm_that_python_drops_ends_the_start_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is raised in a callback of a weak reference goes nowhere."""

    class Thing:
        pass

    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with _ended_by_sigterm() as end_if_told:
        end_if_told()
        thing = Thing()
        kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
        del thing
        assert kept() is None
        with pytest.raises(SystemExit):
            end_if_told()


def test_a_sigterm_that_python_drops_later_on_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Thing:
        pass

    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    with _ended_by_sigterm():
        thing = Thing()
        kept = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGTERM))
        del thing
        assert kept() is None
        with pytest.raises(SystemExit):
            time.sleep(30)


def test_it_is_sent_again_only_until_somebody_else_listens() -> None:
    heard: list[int] = []
    with _ended_by_sigterm():
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
        time.sleep(1.0)
    assert heard == [signal.SIGTERM]
