"""How numbers are written: each family of models in the form in which its answers were recorded.

* ``float32``: shortest text that gives the float32 back (v2, v3, colbert, clip; hosted, 2024-10 and
  2025-06).
* ``bfloat16``: bfloat16 values written as exact doubles, with Python's exponents,
  ``2.7418136596679688e-05`` (v4, v5).
* ``decimals``: rounded to 8 decimals (code-embeddings).
"""

import base64

import numpy as np
import orjson
from numpy.typing import NDArray

from .models import NumberForm
from .vectors import Numbers

_PYTHON_EXPONENT_BELOW = 1e-4


def shaped(numbers: Numbers, form: NumberForm) -> NDArray[np.floating]:
    """The values as this family of models gives them: float32, or doubles that are written as doubles."""
    if form == "bfloat16":
        return to_bfloat16(numbers).astype(np.float64)
    if form == "decimals":
        return np.round(numbers.astype(np.float64), 8)
    return numbers


def to_bfloat16(numbers: Numbers) -> Numbers:
    """Rounded to the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(numbers).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.astype(np.uint32).view(np.float32)


def encode(values: NDArray[np.floating], encoding: str) -> bytes:
    """One vector as JSON in the ``embedding_type`` asked for.

    The bits, their order, the offset of 128 (not two's complement) and the form ``50.0`` are as
    measured on the hosted API in 2026-07; ``base64`` holds little-endian float32 that equals the float
    answer.
    """
    if encoding == "base64":
        return b'"' + base64.b64encode(values.astype("<f4").tobytes()) + b'"'
    if encoding == "float":
        return as_json(values)
    packed = np.packbits(values > 0).astype(np.float64)
    return as_json(packed - 128 if encoding == "binary" else packed)


def as_json(values: NDArray[np.floating]) -> bytes:
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    return text if values.dtype == np.float32 else _with_python_exponents(text, values)


def _with_python_exponents(text: bytes, values: NDArray[np.floating]) -> bytes:
    """orjson writes 0.000027 and 3e-6 where Python writes 2.7e-05 and 3e-06."""
    small = np.flatnonzero((np.abs(values) < _PYTHON_EXPONENT_BELOW) & (values != 0))
    if not small.size:
        return text
    written = text[1:-1].split(b",")
    for at in small:
        written[at] = repr(float(values[at])).encode()
    return b"[" + b",".join(written) + b"]"
