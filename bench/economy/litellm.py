"""``python -m bench.economy.litellm PYTHON``: LiteLLM's number, on what it serves of the same load.

``PYTHON`` is the interpreter of an environment that has ``litellm[proxy]``. Two servers share one Redis. Spellings that
LiteLLM does not answer rightly when asked alone are left out of the load, and named; cache_proxy is then asked the very
same, by two servers with one Redis as well.
"""

import argparse
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from bench import servers
from bench.economy import table
from bench.economy.answers import is_right
from bench.economy.asks import Ask, Embedding, Profile, Rerank
from bench.economy.clients import ask_all
from bench.economy.load import LISTWISE, PAIRWISE, PROFILES
from bench.economy.measure import OK, measure
from bench.economy.options import load_of, with_load
from bench.economy.spellings import Request, names_for, spell
from bench.economy.topologies import Topology

TWO = ("127.0.0.1", "127.0.0.2")
OURS = Topology("cache_proxy: 2 servers, one Redis", TWO, 1, redis=True)

_ALIVE = "/health/liveliness"
_STARTS_WITHIN = 120.0
_ENVIRONMENT = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
_CALL_TYPES = ["embedding", "aembedding", "rerank", "arerank"]


def main() -> None:
    """Print both rows, and what was left out."""
    parser = argparse.ArgumentParser(prog="python -m bench.economy.litellm", description=__doc__)
    parser.add_argument("python", help="the interpreter of an environment that has litellm[proxy]")
    options = with_load(parser).parse_args()
    python, load = Path(options.python).absolute(), load_of(options)
    unserved = _unserved(python)
    asked = [request for request in load.requests if kind_of(request) not in unserved]
    print("\n".join(table.HEAD), flush=True)
    for told, serving in (
        (f"LiteLLM {_version(python)}: 2 servers, one Redis", partial(_serving, python, TWO)),
        (OURS.told, partial(OURS.serving, own={})),
    ):
        print(table.line(table.Row(told, measure(load, serving, asked))), flush=True)
    print(f"\n{len(load.requests) - len(asked)} of the load's {len(load.requests)} requests were left out:")
    print("\n".join(f"- {kind}, {spelling}: {why}" for (kind, spelling), why in unserved.items()))


Kind = tuple[str, str]


def _embedding(profile: Profile, topic: str) -> Embedding:
    return Embedding(profile, (topic,))


def _ranking(model: str, topic: str) -> Rerank:
    return Rerank(model, topic, tuple(f"{topic} {place}" for place in range(8)))


_KINDS: Sequence[Callable[[str], Ask]] = (
    *(partial(_embedding, profile) for profile in PROFILES),
    *(partial(_ranking, model) for model in (PAIRWISE, LISTWISE)),
)


def kind_of(request: Request) -> Kind:
    """The kind of thing asked for, and how it is spelled."""
    ask = request.ask
    name = ask.model if isinstance(ask, Rerank) else f"{ask.profile.model} ({ask.profile.mode or 'no task'})"
    return name, request.spelling


def probes() -> Iterator[Request]:
    """Each kind of thing in each spelling, each about texts that nothing else is about."""
    topic = count()
    for make in _KINDS:
        for name in names_for(make("")):
            yield spell(make(f"probe {next(topic)}"), name)


def _unserved(python: Path) -> dict[Kind, str]:
    """What LiteLLM does not answer as the upstream does, asked by one caller with an empty cache, and why."""
    found = {}
    with servers.standin() as upstream, _serving(python, TWO[:1], upstream) as urls:
        for probe in probes():
            (note,) = ask_all(urls, [probe], callers=1)
            if note.status != OK:
                found[kind_of(probe)] = f"answered with status {note.status}"
            elif not is_right(probe, note.content):
                found[kind_of(probe)] = "answered with other numbers, or in another form"
    return found


@contextmanager
def _serving(python: Path, hosts: Sequence[str], upstream: str) -> Iterator[list[str]]:
    """LiteLLM's servers with an empty Redis between them. Yields their URLs."""
    with ExitStack() as stack:
        home = stack.enter_context(servers.folder())
        url = stack.enter_context(servers.redis_server(home))
        config = home / "litellm.yaml"
        config.write_bytes(orjson.dumps(_document(upstream, url)))  # JSON is YAML
        yield [stack.enter_context(_server(python, host, config)) for host in hosts]


@contextmanager
def _server(python: Path, host: str, config: Path) -> Iterator[str]:
    port = servers.free_port()
    command = [str(python.parent / "litellm"), "--config", str(config), "--host", host, "--port", str(port)]
    with servers.running(command, _ENVIRONMENT):
        servers.wait_until_alive(port, host, _ALIVE, _STARTS_WITHIN)
        yield f"http://{host}:{port}"


def _document(upstream: str, redis: str) -> dict[str, Any]:
    """The four models by their names, and all others of Jina with its prefix."""
    params = {"api_base": f"{upstream}/v1", "api_key": "jina_bench"}
    names = [*dict.fromkeys(profile.model for profile in PROFILES), PAIRWISE, LISTWISE]
    models = [{"model_name": name, "litellm_params": {"model": f"jina_ai/{name}", **params}} for name in names]
    models.append({"model_name": "jina_ai/*", "litellm_params": {"model": "jina_ai/*", **params}})
    place = urlsplit(redis)
    cache = {"type": "redis", "host": place.hostname, "port": place.port, "supported_call_types": _CALL_TYPES}
    return {
        "model_list": models,
        "litellm_settings": {"cache": True, "cache_params": cache},
        "general_settings": {"dangerously_permit_weak_or_unset_master_key": True},  # on loopback only
    }


def _version(python: Path) -> str:
    code = "from importlib.metadata import version; print(version('litellm'))"
    return subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
