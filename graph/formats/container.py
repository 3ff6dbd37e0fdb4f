"""A file of named arrays and text: the safetensors layout, with a digest over all of it.

    8 bytes   length n of the header, little endian
    n bytes   header: JSON, name -> {dtype, shape, data_offsets}, "__metadata__" -> text by name,
              padded with spaces so that the data begins at a multiple of 64
    the rest  the arrays' bytes, little endian, row-major, one after the other

Any safetensors reader can open such a file. `digest` in the metadata is BLAKE2b over header (with
an empty digest) and data: `read` reports a file of which any bit was changed. Nothing in a file is
executed. Files are written under a temporary name and then renamed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...dtypes import ALL, Array, DType, as_dtype
from ...errors import ModelError

_MAX_HEADER = 1 << 30
_ALIGN = 64
_CODES = {"bool": "BOOL", "bfloat16": "BF16"}
_BY_CODE: dict[str, DType] = {}
for _d in ALL:
    _code = _CODES.get(_d.name) or {"i": "I", "u": "U", "f": "F"}[_d.kind] + str(_d.bits)
    _BY_CODE[_code] = _d
_CODE_OF = {d: code for code, d in _BY_CODE.items()}


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array],
          metadata: Mapping[str, str]) -> None:  # fmt: skip
    """Writes the file, whole or not at all. ModelError where the folder cannot be written."""
    table: dict[str, Any] = {}
    blobs: list[bytes] = []
    offset = 0
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        blob = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        table[name] = {"dtype": _CODE_OF[as_dtype(array.dtype)], "shape": list(array.shape),
                       "data_offsets": [offset, offset + len(blob)]}  # fmt: skip
        offset += len(blob)
        blobs.append(blob)
    header = _header(table, {**metadata, "digest": _digest(table, metadata, b"".join(blobs))})
    target = Path(path)
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as e:
        raise ModelError(f"cannot write {target}: {e.strerror}") from None
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(len(header).to_bytes(8, "little"))
            f.write(header)
            for blob in blobs:
                f.write(blob)
            f.flush()
            os.fsync(f.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp made it private
        os.replace(temporary, target)
    except OSError as e:
        Path(temporary).unlink(missing_ok=True)
        raise ModelError(f"cannot write {target}: {e.strerror}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """The arrays, which cannot be written to, and the metadata without the digest.

    ModelError where the file is missing, truncated, changed, or no such file at all.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as e:
        raise ModelError(f"cannot read {path}: {e.strerror}") from None
    try:
        return _read(raw)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as e:
        raise ModelError(f"{path} is damaged, or no file of flowmill: {e}") from None


def _read(raw: bytes) -> tuple[dict[str, Array], dict[str, str]]:
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or length > min(len(raw) - 8, _MAX_HEADER):
        raise ValueError(f"{len(raw)} bytes are too few")
    header = json.loads(raw[8 : 8 + length].decode())
    metadata = header.pop("__metadata__")
    data = memoryview(raw)[8 + length :]
    given = metadata.pop("digest")
    if given != _digest(header, metadata, data):
        raise ValueError("the digest does not match the content")
    if _header(header, {**metadata, "digest": given}) != raw[8 : 8 + length]:
        raise ValueError("the header is not as it was written")
    return _arrays(header, data), metadata


def read_plain(path: str | os.PathLike[str]) -> dict[str, Array]:
    """The arrays of any safetensors file, which cannot be written to and lie in the file, mapped.

    ModelError where the file is missing or damaged, or has a type that flowmill does not know.
    """
    try:
        raw: Any = np.memmap(path, np.uint8, "r")
    except OSError as e:
        raise ModelError(f"cannot read {path}: {e.strerror}") from None
    except ValueError:
        raise ModelError(f"{path} is no safetensors file: it is empty") from None
    try:
        length = int.from_bytes(bytes(raw[:8]), "little")
        if len(raw) < 8 or length > min(len(raw) - 8, _MAX_HEADER):
            raise ValueError(f"{len(raw)} bytes are too few")
        header = json.loads(bytes(raw[8 : 8 + length]).decode())
        header.pop("__metadata__", None)
        unknown = {e["dtype"] for e in header.values()} - _BY_CODE.keys()
        if unknown:
            raise ValueError(f"element types {', '.join(map(str, unknown))} are not supported")
        ordered = dict(sorted(header.items(), key=lambda item: item[1]["data_offsets"]))
        return _arrays(ordered, np.asarray(raw)[8 + length :].data)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as e:
        raise ModelError(f"{path} is damaged, or no safetensors file: {e}") from None


def _arrays(header: Mapping[str, Any], data: memoryview) -> dict[str, Array]:
    """The arrays that a header says lie in `data`, one after the other."""
    arrays: dict[str, Array] = {}
    end = 0
    for name, entry in header.items():
        dtype, shape = _BY_CODE[entry["dtype"]], tuple(entry["shape"])
        start, stop = entry["data_offsets"]
        if any(type(d) is not int or d < 0 for d in (*shape, start, stop)):
            raise ValueError(f"array {name!r} has the shape {shape}")
        if start != end or stop - start != math.prod(shape) * dtype.itemsize or stop > len(data):
            raise ValueError(f"array {name!r} lies outside its place")
        end = stop
        stored = dtype.numpy.newbyteorder("<")
        array = np.frombuffer(data[start:stop], stored).reshape(shape)
        array = array.astype(dtype.numpy, copy=False)
        array.setflags(write=False)
        arrays[name] = array
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes belong to no array")
    return arrays


def _header(table: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    ordered = {"__metadata__": dict(sorted(metadata.items())),
               **{name: table[name] for name in sorted(table)}}  # fmt: skip
    text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=True).encode()
    return text + b" " * (-(len(text) + 8) % _ALIGN)


def _digest(table: Mapping[str, Any], metadata: Mapping[str, str], data: Any) -> str:
    digest = hashlib.blake2b(_header(table, {**metadata, "digest": ""}), digest_size=32)
    digest.update(data)
    return digest.hexdigest()
