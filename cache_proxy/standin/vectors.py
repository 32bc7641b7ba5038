"""Vectors out of nothing: the same everywhere for the same seed, and unlike for any other.

The numbers are the stream of SHAKE-128 over the seed, so they depend on no library's random generator. They
are squared with their sign, so that a few are small enough to be written with an exponent.
"""

from functools import lru_cache
from hashlib import blake2b, shake_128
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Numbers = NDArray[np.float32]


def seed(*parts: Any) -> bytes:
    """32 bytes that stand for these values and no others."""
    return blake2b(orjson.dumps(parts), digest_size=32).digest()


def stream(of: bytes, count: int) -> Numbers:
    """``count`` numbers in [-1, 1]; a longer stream begins with the shorter one."""
    bits = np.frombuffer(shake_128(of).digest(4 * count), dtype="<u4")
    spread = bits / 2.0**31 - 1.0
    return (spread * np.abs(spread)).astype(np.float32)


@lru_cache(maxsize=1024)
def full_vector(of: bytes, width: int) -> Numbers:
    """A vector in its native size, not normalised."""
    numbers = stream(of, width)
    numbers.setflags(write=False)
    return numbers


def vector(of: bytes, native: int, width: int, *, normalized: bool) -> Numbers:
    """The first ``width`` numbers of the full vector, then made length 1 again.

    So does Jina: the 10-dimensional vectors recorded in 2025-06 are prefixes of the full ones, times a
    constant.
    """
    numbers = full_vector(of, native)[:width]
    return numbers / np.linalg.norm(numbers) if normalized else numbers


def matrix(of: bytes, rows: int, native: int, width: int) -> Numbers:
    """A row for each token, each of length 1."""
    numbers = stream(of, rows * native).reshape(rows, native)[:, :width]
    lengths: Numbers = np.linalg.norm(numbers, axis=1, keepdims=True)
    return numbers / lengths


def share(of: bytes) -> float:
    """One number in [0, 1)."""
    return int.from_bytes(of[:8]) / 2.0**64
