"""The IDX format of MNIST and its relatives: a file path comes in, an array goes out.

Layout (http://yann.lecun.com/exdb/mnist, "the IDX file format"): two zero bytes, one byte for the
element type, one for the number of dimensions, each dimension as a big-endian 32-bit number, then
the elements, big-endian, the last dimension moving fastest.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ..dtypes import Array
from ..errors import ModelError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | Path) -> Array:
    """The array in an IDX file, plain or gzipped, in the machine's byte order.

    Raises ModelError where the file cannot be read, is damaged, is no IDX file, or is shorter or
    longer than its header says.
    """
    file = Path(path)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror}") from None
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except (OSError, EOFError, zlib.error) as error:
            raise ModelError(f"{file}: damaged gzip data: {error}", _AGAIN) from None
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] not in _TYPES:
        raise ModelError(
            f"{file}: no IDX file: it begins with the bytes {raw[:4].hex(' ') or '(none)'}",
            "an IDX file begins with 00 00, an element type (08, 09, 0b..0e), a dimension count",
        )
    dtype, rank = np.dtype(_TYPES[raw[2]]), raw[3]
    start = 4 + 4 * rank
    if len(raw) < start:
        raise ModelError(f"{file}: truncated in its header of {rank} dimensions", _AGAIN)
    shape = struct.unpack_from(f">{rank}I", raw, 4)
    expected = start + math.prod(shape) * dtype.itemsize
    if len(raw) != expected:
        what = "truncated" if len(raw) < expected else "too long"
        raise ModelError(
            f"{file}: {what}: {dtype.newbyteorder('=')}{list(shape)} takes {expected} bytes, "
            f"the file has {len(raw)}",
            _AGAIN if len(raw) < expected else "",
        )
    values = np.frombuffer(raw, dtype, offset=start).reshape(shape)
    return values.astype(dtype.newbyteorder("="))


_AGAIN = "fetch or copy the file again"
