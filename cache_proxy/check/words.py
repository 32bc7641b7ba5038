"""The report, for people: lines with the style they are shown in."""

from collections.abc import Iterator
from typing import NamedTuple

from cache_proxy.check.report import Cache, Ledger, Model, Report, Store

HEAD, BAD, ODD, FINE, PLAIN = "bold", "red", "yellow", "green", ""

_STYLES = {"given": PLAIN, "none": PLAIN, "missing": BAD}


class Line(NamedTuple):
    """One line and the style it is shown in where there are styles."""

    text: str
    style: str = PLAIN


_STATES = {
    True: Line("state      it can be used", FINE),
    False: Line("state      it can not be used", BAD),
    None: Line("state      it was not asked"),
}


def lines(report: Report) -> Iterator[Line]:
    """All of it."""
    yield Line(report.config or "No file: the environment alone", HEAD)
    if report.error is not None:
        yield Line("")
        yield Line("Refused:", BAD)
        yield from _indented(report.error.splitlines())
        return
    yield from _models(report)
    if report.cache is not None:
        yield from _under("Cache", _cache(report.cache, report.store))
    if report.ledger is not None:
        yield from _under("Ledger", _ledger(report.ledger))
    yield from _under("Who gets in", [Line(report.callers)])
    yield from _under("Missing", (Line(line, BAD) for line in report.missing))
    yield from _under("Warnings", (Line(line, ODD) for line in report.warnings))
    yield Line("")
    yield _verdict(report)


def _verdict(report: Report) -> Line:
    if report.missing:
        number = len(report.missing)
        return Line(f"It starts, but {number} thing{'s' if number > 1 else ''} it needs can not be had.", BAD)
    return Line("Good, with warnings." if report.warnings or report.store.advice else "Good.", FINE)


def _models(report: Report) -> Iterator[Line]:
    yield from _under("Models", (line for model in report.models for line in _model(model)))
    width = max((len(alias.name) for alias in report.aliases), default=0)
    aliases = (
        Line(f"{alias.name:{width}}  is {alias.model}{', not listed' if alias.hidden else ''}")
        for alias in report.aliases
    )
    yield from _under("Other names", aliases)


def _model(model: Model) -> Iterator[Line]:
    what = model.upstream if "*" not in model.upstream else "whatever the * stands for"
    yield Line(f"{model.name}  is {what}" + (f" ({model.mode} only)" if model.mode else ""))
    ids = max(len(place.id) for place in model.deployments)
    urls = max(len(place.url) for place in model.deployments)
    for place in model.deployments:
        yield Line(f"  {place.id:{ids}}  {place.url:{urls}}  key: {place.key}", _STYLES[place.key])


def _cache(cache: Cache, store: Store) -> Iterator[Line]:
    if not cache.endpoints:
        yield Line("nothing is cached", ODD)
        return
    kept = "for good" if cache.ttl is None else f"for {cache.ttl:g} s"
    asked = ", where the request asks for it" if cache.default_off else ""
    tier = f", behind {cache.memory_mib} MiB of memory in each worker" if cache.memory_mib else ""
    yield Line(f"what       {' and '.join(cache.endpoints)}, {kept}{asked}")
    yield Line(f"where      {cache.where}{tier}")
    if cache.namespace:
        yield Line(f"namespace  {cache.namespace}")
    yield _STATES[store.reachable]
    yield from (Line(f"advice     {advice}", ODD) for advice in store.advice)


def _ledger(ledger: Ledger) -> Iterator[Line]:
    if not ledger.where:
        yield Line("nothing is written down", ODD)
        return
    yield Line(f"where      {ledger.where}")
    yield _STATES[ledger.writable]
    spent = "nothing is spent" if ledger.refusing else "spending goes on"
    yield Line(f"failing    {spent} while it can not be written")


def _under(title: str, content: "Iterator[Line] | list[Line]") -> Iterator[Line]:
    """These lines under a title; without lines, no title."""
    shown = list(content)
    if shown:
        yield Line("")
        yield Line(title, HEAD)
        yield from (Line(f"  {line.text}", line.style) for line in shown)


def _indented(texts: list[str]) -> Iterator[Line]:
    yield from (Line(f"  {text}") for text in texts)
