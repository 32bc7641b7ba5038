"""Writing the reply: entries in asked order to the JSON that Jina would have sent."""

from collections.abc import Sequence

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


def _data(asked: Asked, entries: Sequence[Entry], renderings: Renderings) -> bytes:
    first = entries[0]
    if isinstance(first.value, Text) and asked.ask.shape is Shape.VERBATIM:
        return first.value.json
    if isinstance(first.value, Group):
        return renderings.write(asked.seats[0], first, asked.view.encoding, embeddings.whole)[0]
    encoding = asked.view.encoding
    ends = [
        renderings.write(key, entry, encoding, embeddings.fragment)
        for key, entry in zip(asked.seats, entries, strict=True)
    ]
    return b"[%b]" % b",".join([b"%b%d%b" % (head, place, tail) for place, (head, tail) in enumerate(ends)])


def _results(asked: Asked, entries: Sequence[Entry]) -> bytes:
    value, view = entries[0].value, asked.view
    if isinstance(value, Text):
        return value.json
    if isinstance(value, Ranking):
        return rerank.results(rerank.cut(value, view.top_n), view.documents)
    scores = [entry.value for entry in entries if isinstance(entry.value, Numbers)]
    return rerank.results(rerank.rank_pairs(scores, view.top_n), view.documents)
