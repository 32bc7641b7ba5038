"""A scrape, as Prometheus' own parser reads it."""

from collections.abc import Iterator, Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

from cache_proxy.reporting.measures import MEASURES, PREFIX

Sample = tuple[str, tuple[tuple[str, str], ...]]


class Scrape(Mapping[Sample, float]):
    """The values of one scrape by name, without the prefix, and labels."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))
        self._values = {
            (sample.name.removeprefix(PREFIX), tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            for sample in family.samples
        }
        written = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert len(written) == len(self._values), "a series is there twice"

    def __getitem__(self, key: Sample) -> float:
        return self._values[key]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def total(self, name: str, **labels: str) -> float:
        """The sum of all series of this name that have these labels."""
        wanted = labels.items()
        return sum(value for (found, had), value in self.items() if found == name and wanted <= dict(had).items())

    def labels(self, label: str) -> set[str]:
        """Every value that this label has anywhere."""
        return {dict(had)[label] for _, had in self if label in dict(had)}


async def scrape(client: httpx.AsyncClient, path: str = "/metrics", **headers: str) -> Scrape:
    """What Prometheus would be told."""
    answer = await client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return Scrape(answer.text)


def check_form(found: Scrape) -> None:
    """Every family is one of the table, of its kind, with its labels and a help text; histograms add up."""
    known = {PREFIX + one.name: one for one in MEASURES}
    for family in found.families:
        one = known[family.name + "_total" if family.type == "counter" else family.name]
        assert family.documentation == one.help
        assert family.type == ("gauge" if one.kind == "told" else one.kind)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(one.labels), sample
    for name, labels in found:
        if name.endswith("_count"):
            whole = tuple(sorted([*labels, ("le", "+Inf")]))
            assert found[name.removesuffix("_count") + "_bucket", whole] == found[name, labels]
