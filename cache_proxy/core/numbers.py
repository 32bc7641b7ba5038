"""How numbers are kept and written: one stored form that answers float, base64, binary and ubinary.

Kept are little-endian float32 wherever they hold the received value, together with how the upstream wrote them
(:class:`~cache_proxy.models.Form`), so that a hit parses to exactly the doubles that came, and, for the forms that Jina
is known to use, is the same text. The bit encodings follow what was measured on the hosted API in 2026-07: a bit is
``value > 0``, the first dimension is the most significant bit, ``binary`` is the ``ubinary`` byte minus 128, and both
are written as JSON floats.
"""

import base64
import json
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cache_proxy.models import Form, Json, Numbers, Spelling

Array = NDArray[np.floating[Any]]

ENCODINGS = frozenset({"float", "base64", "binary", "ubinary"})
"""The written forms that all follow from the stored one."""

_DECIMALS = 8
_SMALLEST, _LARGEST = 1.01e-4, 1e15
"""Between these sizes all serializers write a number the same way."""

_APART_FROM, _APART_TO = 0.99e-6, 1.01e-5
"""Between these orjson writes a double with an exponent and a float32 without."""


def spelling(raw: bytes) -> Spelling:
    """How the serializer behind this JSON text spells exponents: only Python pads them (``2e-05``)."""
    return Spelling.PYTHON if b"e-0" in raw else Spelling.RUST


def parse(received: Json, spelled: Spelling) -> Numbers | None:
    """The stored form of a JSON list of numbers, or of a list of such lists; ``None`` if it is neither, is empty, or
    holds a value that is not finite."""
    doubles = _doubles(received)
    if doubles is None or not doubles.size or not np.isfinite(doubles).all():
        return None
    with np.errstate(over="ignore"):
        narrow = doubles.astype("<f4")
    if not np.isfinite(narrow).all():
        return Numbers(doubles, Form.FLOAT64, spelled)
    form = _form(narrow, doubles)
    return Numbers(doubles, Form.FLOAT64, spelled) if form is None else Numbers(narrow, form, spelled)


def _form(narrow: Array, doubles: Array) -> Form | None:
    """How these doubles follow from the float32 array. The dearest to try comes last: where two forms give them, both
    give the same text, but for sizes that are written with an exponent as doubles and without one as float32."""
    forms = [Form.WIDENED, Form.DECIMALS8, Form.FLOAT32]
    if _written_apart(doubles).any():
        forms = [Form.WIDENED, Form.FLOAT32, Form.DECIMALS8]
    for form in forms:
        if np.array_equal(_widen(narrow, form), doubles):
            return form
    return None


def _written_apart(doubles: Array) -> NDArray[np.bool_]:
    """Where orjson writes a double and the same number as float32 differently: ``1e-6`` and ``0.000001``."""
    size = np.abs(doubles)
    return (size > _APART_FROM) & (size < _APART_TO)


def _doubles(received: Json) -> Array | None:
    if type(received) is not list or not received:
        return None
    if type(received[0]) is list:
        width = len(received[0])
        if any(type(row) is not list or len(row) != width for row in received):
            return None
        flat = [number for row in received for number in row]
        return _flat(flat, (len(received), width))
    return _flat(received, (len(received),))


def _flat(numbers: list[Json], dimensions: tuple[int, ...]) -> Array | None:
    # ``set(map(type, …))`` runs in C, and keeps true, null and strings out of what numpy would coerce.
    if not set(map(type, numbers)) <= {float, int}:
        return None
    return np.array(numbers, dtype="<f8").reshape(dimensions)


def _widen(narrow: Array, form: Form) -> Array:
    """The doubles that this float32 array stands for when it is written in that form."""
    if form is Form.FLOAT32:
        return np.array(orjson.loads(_dump(np.ascontiguousarray(narrow))), dtype="<f8")
    wide = narrow.astype("<f8")
    return np.round(wide, _DECIMALS) if form is Form.DECIMALS8 else wide


def doubles(numbers: Numbers) -> Array:
    """The very doubles that the upstream sent."""
    return numbers.array if numbers.form is Form.FLOAT64 else _widen(numbers.array, numbers.form)


def write(numbers: Numbers, encoding: str) -> bytes:
    """The JSON text of these numbers in one of ``ENCODINGS``; one string per row where they are a matrix in base64."""
    if encoding == "base64":
        return _write_base64(numbers.array)
    if encoding in ("binary", "ubinary"):
        return _dump(_bits(numbers.array, signed=encoding == "binary"))
    return _write_floats(numbers)


def _write_floats(numbers: Numbers) -> bytes:
    if numbers.spelling is Spelling.PYTHON:
        return _write_python(doubles(numbers))
    if numbers.form is Form.FLOAT32:
        return _dump(numbers.array)
    return _dump(doubles(numbers))


def _spelled_apart(array: Array) -> NDArray[np.bool_]:
    """Where Python's serializer and orjson's write the same number differently."""
    size = np.abs(array)
    return ((size < _SMALLEST) & (size > 0)) | (size >= _LARGEST)


def _write_python(wide: Array) -> bytes:
    """The text that Python's own serializer gives. It is slow, so it writes only where it writes differently."""
    if wide.ndim > 1:
        return b"[%b]" % b",".join(map(_write_python, wide))
    (places,) = np.nonzero(_spelled_apart(wide))
    text = _dump(wide)
    if not len(places):
        return text
    texts = text[1:-1].split(b",")
    for place, value in zip(places.tolist(), wide[places].tolist(), strict=True):
        texts[place] = repr(value).encode()
    return b"[%b]" % b",".join(texts)


def _write_base64(array: Array) -> bytes:
    with np.errstate(over="ignore"):  # a double beyond float32 is infinity there, at Jina as here
        narrow = array.astype("<f4", copy=False)
    if narrow.ndim == 1:
        return b'"%b"' % base64.b64encode(narrow.tobytes())
    return b"[%b]" % b",".join(b'"%b"' % base64.b64encode(row.tobytes()) for row in narrow)


def _bits(array: Array, *, signed: bool) -> Array:
    packed = np.packbits(array > 0, axis=-1).astype("<f8")
    return packed - 128 if signed else packed


def _dump(array: Array) -> bytes:
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def write_one(value: float, spelled: Spelling) -> bytes:
    """A single double, as its upstream spelled it."""
    return repr(value).encode() if spelled is Spelling.PYTHON else orjson.dumps(value)


def dump_json(value: Json, spelled: Spelling) -> bytes:
    """Any JSON value as compact text, its numbers as its upstream spelled them."""
    if spelled is Spelling.PYTHON:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    return orjson.dumps(value)
