"""``/embeddings``: the request in canonical form, the upstream's body, its reply, and ours.

Field names, aliases and shapes: Jina's OpenAPI 2026.04.02 and the field union its own server accepts.
"""

from collections.abc import Iterable, Sequence

import orjson

from cache_proxy.core import numbers
from cache_proxy.core.catalog import EMBEDDING_FIELDS, TYING_FIELDS, Model
from cache_proxy.core.wire import reply as replies
from cache_proxy.core.wire.fields import OURS, Body, check_type, pick, rename, resolve, ties_items
from cache_proxy.core.wire.items import has_several, image_in, read_item, read_list, takes_images
from cache_proxy.errors import RequestError, UpstreamNonsense
from cache_proxy.models import (
    Ask,
    Endpoint,
    Group,
    Item,
    Json,
    Kind,
    Numbers,
    Reply,
    Shape,
    Spelling,
    Text,
    Value,
    View,
)

INPUT = ("input", "content", "texts")
ENCODING = ("embedding_type", "encoding_type", "encoding_format", "embedding_types")
ALIASES = {
    "task": ("task", "task_type"),
    "dimensions": ("dimensions", "output_dimensionality", "output_dimension"),
    "truncate": ("truncate", "truncation"),
}
SPELLINGS = (INPUT, ENCODING, *ALIASES.values())

_FLOATS = View()
_NOT_PARAMS = OURS | frozenset(INPUT) | frozenset(ENCODING)


def read(body: Body, name: str, model: Model) -> tuple[Ask, View]:
    """The canonical request for the upstream model ``name``. Raises ``RequestError``."""
    if not model.serves(Endpoint.EMBEDDINGS):
        raise RequestError("This `model` makes no embeddings. Ask /rerank for it.", param="model")
    items, alone = _items(body, model)
    params = _params(body, model)
    encoding = _encoding(body)
    derived = encoding is None or (encoding in numbers.ENCODINGS and not model.sparse)
    if not derived:
        # A list of encodings, or a word nobody here knows: the upstream's to understand.
        params["embedding_type"] = body[pick(body, ENCODING)[0]]
    shape = _shape(params, items, model) if derived else Shape.VERBATIM
    view = View(encoding=encoding) if derived and encoding else _FLOATS
    return Ask(Endpoint.EMBEDDINGS, name, params, items, shape=shape, alone=alone), view


def _items(body: Body, model: Model) -> tuple[tuple[Item, ...], bool]:
    name, value = pick(body, INPUT)
    if value is None:
        raise RequestError("`input` is required.", param="input", code="missing_field")
    if takes_images(model):
        value = list(map(image_in, value)) if type(value) is list else image_in(value)
    if type(value) is list and (not value or type(value[0]) is not int):
        return read_list(value, name, model), False
    item = read_item(value, name, None, model)
    return (item,), has_several((item,))


def _params(body: Body, model: Model) -> dict[str, Json]:
    given = {name: value for name, value in body.items() if name not in _NOT_PARAMS}
    if not given:
        return given
    if model.known:
        given = rename(given, ALIASES)
    params = resolve(given, model.embedding, model)
    dimensions = given.get("dimensions")
    if dimensions is not None and model.known and "dimensions" in model.embedding:
        _check_size(dimensions)
        if params.get("return_multivector"):
            # Jina refuses the two together, even where the size says nothing new.
            params["dimensions"] = dimensions
    return params


def _check_size(dimensions: int) -> None:
    if dimensions < 1:
        raise RequestError("`dimensions` must be at least 1.", param="dimensions", code="out_of_range")


def _encoding(body: Body) -> str | None:
    name, value = pick(body, ENCODING)
    if value is None:
        return None
    if type(value) is list:
        return "list"
    check_type(name, value, str)
    return str(value)


def _shape(params: Body, items: Sequence[Item], model: Model) -> Shape:
    if not model.separate or (params and _params_tie(params, model)) or has_several(items):
        return Shape.WHOLE
    return Shape.EACH


def _params_tie(params: Body, model: Model) -> bool:
    tying = any(params.get(name) not in (None, False) for name in TYING_FIELDS)
    return tying or ties_items(params, EMBEDDING_FIELDS, model)


def upstream_body(ask: Ask, items: Sequence[Item]) -> dict[str, Json]:
    """What is sent: the model, these items, and exactly the parameters that are in the key. Floats are the default."""
    wires = items[0].wire if ask.alone else [item.wire for item in items]
    return {"model": ask.model, "input": wires, **ask.params}


def read_reply(raw: bytes, ask: Ask, items: Sequence[Item]) -> Reply:
    """The values in an upstream's 200. Raises ``UpstreamNonsense`` if anything about it is doubtful."""
    parsed = replies.parse(raw)
    rows = replies.rows(parsed, "data")
    tokens, counted = replies.tokens(parsed, items)
    spelled = numbers.spelling(raw)
    if ask.shape is Shape.VERBATIM:
        values: tuple[Value, ...] = (Text(numbers.dump_json(rows, spelled)),)
    else:
        several = has_several(items)
        ordered = replies.in_order(rows, None if several else len(items))
        if several:
            replies.at_least(sum(item.kind is not Kind.OTHER for item in items), ordered)
        members = tuple([_value(row, spelled) for row in ordered])
        _check_widths(members)
        values = (Group(members),) if ask.shape is Shape.WHOLE else members
    return Reply(values, replies.model_name(parsed, ask.model), tokens, counted)


def _value(row: dict[str, Json], spelled: Spelling) -> Numbers | Text:
    received = row["embedding"] if "embedding" in row else row.get("embeddings")
    if type(received) is dict and received and numbers.parse(list(received.values()), spelled) is not None:
        return Text(numbers.dump_json(received, spelled))
    value = numbers.parse(received, spelled)
    if value is None:
        raise UpstreamNonsense("an embedding in the upstream's answer is not a list of finite numbers")
    tokenized = row.get("tokenized_input")
    if tokenized is None:
        return value
    return Numbers(value.array, value.form, value.spelling, orjson.dumps(tokenized))


def _check_widths(members: Iterable[Numbers | Text]) -> None:
    widths = {member.array.shape[-1] for member in members if isinstance(member, Numbers)}
    if len(widths) > 1:
        raise UpstreamNonsense("the embeddings in the upstream's answer differ in width")


def check(reply: Reply, ask: Ask, model: Model) -> None:
    """Raise ``UpstreamNonsense`` for vectors that this model can not have made for this request.

    One reply can not tell that its only vector is too short; the catalog can.
    """
    if not model.known or model.sparse or ask.shape is Shape.VERBATIM:
        return
    if "return_multivector" in ask.params and "return_multivector" not in model.embedding:
        # The model does not have the field: Jina ignores it, another server may not.
        return
    in_rows = model.rows or bool(ask.params.get("return_multivector"))
    widths = None if in_rows and not model.rows else _widths(ask.params.get("dimensions"), model)
    for value in reply.values:
        for member in value.members if isinstance(value, Group) else (value,):
            if not isinstance(member, Numbers) or (member.array.ndim == 2) is not in_rows:
                raise UpstreamNonsense("an embedding in the upstream's answer is of another shape than this model's")
            if widths and member.array.shape[-1] not in widths:
                raise UpstreamNonsense("an embedding in the upstream's answer is not as wide as was asked")


def _widths(dimensions: Json, model: Model) -> frozenset[int]:
    """How wide a vector may be. Asked for more than it has, a model may give what it has."""
    native = model.dimensions or 0
    if type(dimensions) is not int:
        return frozenset({native})
    return frozenset({dimensions, min(dimensions, native) if "dimensions" in model.embedding else native})


def fragment(value: Numbers | Text, encoding: str) -> tuple[bytes, bytes]:
    """The two ends of an item's JSON, between which its index goes."""
    if isinstance(value, Text):
        return b'{"object":"embedding","index":', b',"embedding":%b}' % value.json
    written = numbers.write(value, encoding)
    if value.array.ndim == 1:
        return b'{"object":"embedding","index":', b',"embedding":%b}' % written
    tokenized = b"" if value.tokenized is None else b',"tokenized_input":%b' % value.tokenized
    return b'{"object":"embeddings","index":', b',"embeddings":%b%b}' % (written, tokenized)


def whole(group: Group, encoding: str) -> tuple[bytes, bytes]:
    """The ``data`` of values that belong together, as the first of two ends; they are numbered already."""
    return b"".join(numbered(fragment(member, encoding) for member in group.members)), b""


def numbered(ends: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """A JSON list in parts: each item's index between its two ends."""
    parts = [b"["]
    for place, (head, tail) in enumerate(ends):
        parts += (head, b"%d" % place, tail, b",")
    parts[-1] = b"]"
    return parts


def write(model: str, tokens: int, data: Sequence[bytes]) -> bytes:
    """The reply, keys in the order that Jina sends them; ``data`` comes in parts."""
    usage = b'"usage":{"total_tokens":%d,"prompt_tokens":%d}' % (tokens, tokens)
    return b"".join((b'{"model":', orjson.dumps(model), b',"object":"list",', usage, b',"data":', *data, b"}"))
