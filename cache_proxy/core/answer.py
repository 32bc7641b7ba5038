"""Writing the reply: entries in asked order to the JSON that Jina would have sent."""

from collections.abc import Sequence
from itertools import repeat

from cache_proxy.core.asked import Asked
from cache_proxy.core.renderings import Renderings
from cache_proxy.core.wire import embeddings, rerank
from cache_proxy.models import Endpoint, Entry, Group, Numbers, Ranking, Shape, Text


def write(asked: Asked, entries: Sequence[Entry], usage: int, request_id: str, renderings: Renderings) -> bytes:
    """The reply's JSON. ``usage`` is what the request would have cost without a cache, in tokens."""
    model = next((entry.model for entry in entries if entry.model), asked.ask.model)
    if asked.ask.endpoint is Endpoint.EMBEDDINGS:
        return embeddings.write(model, usage, _data(asked, entries, renderings))
    return rerank.write(model, usage, _results(asked, entries), request_id)


def _data(asked: Asked, entries: Sequence[Entry], renderings: Renderings) -> list[bytes]:
    """The parts of ``data``, which may be megabytes: they are put together once, with the rest of the reply."""
    first, encoding = entries[0], asked.view.encoding
    if isinstance(first.value, Text) and asked.ask.shape is Shape.VERBATIM:
        return [first.value.json]
    if isinstance(first.value, Group):
        return [renderings.write(asked.seats[0], first, encoding, embeddings.whole)[0]]
    ends = map(renderings.write, asked.seats, entries, repeat(encoding), repeat(embeddings.fragment))
    return embeddings.numbered(ends)


def _results(asked: Asked, entries: Sequence[Entry]) -> bytes:
    value, view = entries[0].value, asked.view
    if isinstance(value, Text):
        return value.json
    if isinstance(value, Ranking):
        return rerank.results(rerank.cut(value, view.top_n), view.documents)
    scores = [entry.value for entry in entries if isinstance(entry.value, Numbers)]
    return rerank.results(rerank.rank_pairs(scores, view.top_n), view.documents)
