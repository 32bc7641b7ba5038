"""Entries to bytes and back. What is damaged, foreign or of another version reads as ``None``: a miss, never an error.

    frame = "cp" ‖ version ‖ first bytes of the key ‖ checksum ‖ rest
    rest  = flags ‖ model length ‖ tokens ‖ query tokens ‖ created ‖ expires ‖ model ‖ value
    value = type ‖ form ‖ spelling ‖ dimensions ‖ rows ‖ width ‖ numbers ‖ more

The checksum runs over the whole key and the rest, so a flipped bit, a cut value or a reply that belongs to another
key is a miss. It guards against accidents, not against somebody who can write to the store. Numbers are
little-endian. ``tests/golden/frames.json`` pins the bytes.
"""

import struct
from zlib import crc32

import numpy as np

from cache_proxy.models import Entry, Form, Group, Key, Numbers, Ranking, Spelling, Text, Value

VERSION = 1

_SEAL = struct.Struct("<3s4sI")
_REST = struct.Struct("<BBIIdd")
_VALUE = struct.Struct("<BBBBII")
_LENGTH = struct.Struct("<I")
_MAGIC = b"cp" + bytes((VERSION,))
_ESTIMATED = 1
_NUMBERS, _TEXT, _RANKING, _GROUP = range(4)
_TOKENIZED = 0x80
_UINT32 = 2**32 - 1
_FORMS = tuple(Form)
_SPELLINGS = tuple(Spelling)


def seal(key: Key, entry: Entry) -> bytes:
    """The bytes to keep for this entry under this key."""
    model = entry.model.encode()[:255]
    head = _REST.pack(
        _ESTIMATED if entry.estimated else 0,
        len(model),
        min(entry.tokens, _UINT32),
        min(entry.query_tokens, _UINT32),
        entry.created_at,
        entry.expires_at or 0.0,
    )
    rest = b"".join((head, model, _pack(entry.value)))
    return _SEAL.pack(_MAGIC, key[:4], crc32(rest, crc32(key))) + rest


def open_frame(key: Key, frame: bytes) -> Entry | None:
    """The entry in these bytes, or ``None`` if they are not what :func:`seal` made for this key."""
    if len(frame) < _SEAL.size + _REST.size + _VALUE.size:
        return None
    rest = frame[_SEAL.size :]
    if frame[: _SEAL.size] != _SEAL.pack(_MAGIC, key[:4], crc32(rest, crc32(key))):
        return None
    try:
        return _entry(rest)
    except (ValueError, IndexError, TypeError, struct.error):
        # Whole, but not of our making: another build's idea of this version, or somebody's who can write to the store.
        return None


def _entry(rest: bytes) -> Entry:
    flags, model_length, tokens, query_tokens, created_at, expires_at = _REST.unpack_from(rest)
    start = _REST.size + model_length
    return Entry(
        _unpack(rest, start),
        tokens,
        created_at,
        rest[_REST.size : start].decode(errors="replace") if model_length else "",
        query_tokens,
        expires_at or None,
        bool(flags & _ESTIMATED),
    )


def _pack(value: Value) -> bytes:
    match value:
        case Numbers():
            return _pack_numbers(value)
        case Text():
            return _VALUE.pack(_TEXT, 0, 0, 0, 0, 0) + value.json
        case Ranking():
            embeddings = b"" if value.embeddings is None else _pack_numbers(value.embeddings)
            head = _VALUE.pack(_RANKING, 0, 0, 0, len(value.order), len(embeddings))
            return head + value.order.astype("<u4").tobytes() + embeddings + _pack_numbers(value.scores)
        case Group():
            parts = [_VALUE.pack(_GROUP, 0, 0, 0, len(value.members), 0)]
            for member in map(_pack, value.members):
                parts += (_LENGTH.pack(len(member)), member)
            return b"".join(parts)


def _pack_numbers(numbers: Numbers) -> bytes:
    array = numbers.array
    rows, width = (0, len(array)) if array.ndim == 1 else array.shape
    dimensions = array.ndim | (0 if numbers.tokenized is None else _TOKENIZED)
    head = _VALUE.pack(_NUMBERS, numbers.form, numbers.spelling, dimensions, rows, width)
    return b"".join((head, array.tobytes(), numbers.tokenized or b""))


def _unpack(packed: bytes, at: int) -> Value:
    kind, form, spelled, dimensions, rows, width = _VALUE.unpack_from(packed, at)
    at += _VALUE.size
    if kind == _NUMBERS:
        return _unpack_numbers(packed, at, _FORMS[form], _SPELLINGS[spelled], dimensions, (rows, width))
    if kind == _TEXT:
        return Text(packed[at:])
    if kind == _RANKING:
        return _unpack_ranking(packed, at, rows, width)
    return Group(tuple(_members(packed, at, rows)))


def _unpack_numbers(
    packed: bytes, at: int, form: Form, spelled: Spelling, dimensions: int, size: tuple[int, int]
) -> Numbers:
    rows, width = size
    matrix = dimensions & ~_TOKENIZED == 2
    dtype = "<f8" if form is Form.FLOAT64 else "<f4"
    array = np.frombuffer(packed, dtype, rows * width if matrix else width, at)
    tokenized = packed[at + array.nbytes :] if dimensions & _TOKENIZED else None
    return Numbers(array.reshape(size) if matrix else array, form, spelled, tokenized)


def _unpack_ranking(packed: bytes, at: int, count: int, extra: int) -> Ranking:
    order = np.frombuffer(packed, "<u4", count, at)
    at += order.nbytes
    embeddings = _numbers_at(packed, at) if extra else None
    return Ranking(order, _numbers_at(packed, at + extra), embeddings)


def _members(packed: bytes, at: int, count: int) -> list[Numbers | Text]:
    members: list[Numbers | Text] = []
    for _ in range(count):
        (length,) = _LENGTH.unpack_from(packed, at)
        at += _LENGTH.size
        member = _unpack(packed[at : at + length], 0)
        members.append(member if isinstance(member, Text) else _only_numbers(member))
        at += length
    return members


def _numbers_at(packed: bytes, at: int) -> Numbers:
    return _only_numbers(_unpack(packed, at))


def _only_numbers(value: Value) -> Numbers:
    if not isinstance(value, Numbers):
        raise TypeError("the checksum held, yet this is nothing that seal() wrote")
    return value
