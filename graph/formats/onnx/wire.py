"""Large weights of a model file left in the file: the message without them, and where they lie.

In: the bytes of a ModelProto, mapped. Out: the same message with each large `raw_data` of an initial
value replaced by what says where in the file it is, as if it were external data. So a model is read
without ever being in memory twice. What is not understood stays as it is, for the parser to judge.
"""

from __future__ import annotations

from collections.abc import Iterator

OWN_FILE = "\0"  # the location that stands for the model's own file; no other file can be called so
_LARGE = 1 << 16  # bytes of a weight that stays in the file
_GRAPH, _INITIALIZER, _RAW = 7, 5, 9  # of ModelProto, GraphProto, TensorProto
_EXTERNAL, _LOCATION = 13, 14  # of TensorProto
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # wire types


def without_weights(message: memoryview) -> bytes | None:
    """The shortened message, None where that is not shorter."""
    try:
        made = _rewritten(message, 0, len(message), (_GRAPH, _INITIALIZER))
    except (IndexError, ValueError):
        return None
    return made


def _rewritten(m: memoryview, start: int, stop: int, path: tuple[int, ...]) -> bytes | None:
    """The message m[start:stop], the sub-messages at `path` shortened; None if none is."""
    parts: list[bytes | memoryview] = []
    kept = start  # up to here everything is in `parts`
    for number, wire, begin, first, end in _fields(m, start, stop):
        if wire != _BYTES or number != path[0]:
            continue
        if len(path) > 1:
            made = _rewritten(m, first, end, path[1:])
        else:
            made = _tensor(m, first, end)
        if made is not None:
            parts += [m[kept:begin], _varint(number << 3 | _BYTES), _varint(len(made)), made]
            kept = end
    return b"".join([*parts, m[kept:stop]]) if parts else None


def _tensor(m: memoryview, start: int, stop: int) -> bytes | None:
    """A TensorProto whose raw data are large, as one with external data."""
    if stop - start < _LARGE:
        return None
    rest: list[memoryview] = []
    place: tuple[int, int] | None = None
    for number, wire, begin, first, end in _fields(m, start, stop):
        if number in (_EXTERNAL, _LOCATION):
            return None
        if number == _RAW and wire == _BYTES:
            place = first, end
        else:
            rest.append(m[begin:end])
    if place is None or place[1] - place[0] < _LARGE:
        return None
    entries = (("location", OWN_FILE), ("offset", str(place[0])),
               ("length", str(place[1] - place[0])))  # fmt: skip
    made = [_text(_EXTERNAL, _text(1, k.encode()) + _text(2, v.encode())) for k, v in entries]
    return b"".join([*rest, *made, _varint(_LOCATION << 3 | _VARINT), b"\1"])


def _fields(m: memoryview, start: int, stop: int) -> Iterator[tuple[int, int, int, int, int]]:
    """The fields of a message: number, wire type, where it begins, its content begins and ends.
    ValueError where it is damaged."""
    at = start
    while at < stop:
        begin = at
        tag, at = _number(m, at, stop)
        wire = tag & 7
        first = at
        if wire == _VARINT:
            _, end = _number(m, at, stop)
        elif wire == _BYTES:
            length, first = _number(m, at, stop)
            end = first + length
        elif wire in (_EIGHT, _FOUR):
            end = at + (8 if wire == _EIGHT else 4)
        else:
            raise ValueError(f"wire type {wire}")
        if end > stop:
            raise ValueError("a field ends beyond its message")
        yield tag >> 3, wire, begin, first, end
        at = end


def _number(m: memoryview, at: int, stop: int) -> tuple[int, int]:
    """A number of variable length, and where the next field begins."""
    out = shift = 0
    while at < stop and shift < 70:
        byte = m[at]
        out |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return out, at
    raise ValueError("a number does not end")


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes((*out, n))


def _text(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content
