"""Weights as one image, in the safetensors format: in a library, in a file, in a caller's memory.

In: named, typed arrays. Out: bytes `u64 header length, JSON header, data`. The header is padded
with spaces so that data begins at a multiple of 64 bytes; tensors stand in the order of decreasing
element size, so that each is aligned to its elements. `key` is what a reader looks for in a header:
safetensors' own writer spells it in the same way.
Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..dims import product
from ..dtypes import Array as Values
from ..dtypes import DType
from ..errors import InternalError
from .kernel.program import Array

ALIGN = 64
_NAMES = {"b8": "BOOL", "bf16": "BF16"}


def type_name(dtype: DType) -> str:
    """safetensors' name of a dtype."""
    return _NAMES.get(dtype.short, dtype.short.upper())


def nbytes(a: Array) -> int:
    """Bytes of an array of constant shape."""
    size = product(a.shape)
    if not isinstance(size, int):
        raise InternalError(f"{a.name} has no constant size")
    return size * a.dtype.itemsize


def key(a: Array) -> str:
    """How a header announces `a`, up to its first offset."""
    shape = ",".join(str(d) for d in a.shape)
    return (f'{json.dumps(a.name, ensure_ascii=False)}:{{"dtype":"{type_name(a.dtype)}",'
            f'"shape":[{shape}],"data_offsets":[')  # fmt: skip


def in_order(arrays: Iterable[Array]) -> list[Array]:
    """The arrays as an image holds them."""
    return sorted(arrays, key=lambda a: -a.dtype.itemsize)


def header(arrays: Sequence[Array]) -> bytes:
    """Everything before the data, for arrays in their order in the image."""
    at = 0
    parts = []
    for a in arrays:
        parts.append(f"{key(a)}{at},{at + nbytes(a)}]}}")
        at += nbytes(a)
    text = ("{" + ",".join(parts) + "}").encode()
    text += b" " * (-(len(text) + 8) % ALIGN)
    return struct.pack("<Q", len(text)) + text


def image(arrays: Sequence[Array], values: Mapping[str, Values]) -> bytes:
    """The whole image; `values` by name."""
    order = in_order(arrays)
    data = [np.ascontiguousarray(values[a.name]).tobytes() for a in order]
    return b"".join([header(order), *data])
