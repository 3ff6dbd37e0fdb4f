"""Tensors of ONNX files as arrays: types, stored numbers in any of their fields, external data.

In: a TensorProto and the `DataFiles` of its model. Out: an array that cannot be written to, over the
bytes of a mapped file where these are external. ModelError where type, dimensions and data do not
fit each other, or where external data would lie outside the model's folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ....dtypes import Array, DType, as_dtype
from ....errors import ModelError
from ....mapping import MappedFile
from .wire import OWN_FILE

if TYPE_CHECKING:
    from onnx import SparseTensorProto, TensorProto

# TensorProto.DataType -> flowmill's name
_NAMES = {1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
          9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64",
          16: "bfloat16"}  # fmt: skip
_CODES = {name: code for code, name in _NAMES.items()}
_WORDS = frozenset(("int32", "int16", "int8", "uint16", "uint8", "bool"))  # in int32_data
_LARGEST = 1 << 40  # bytes: more than any tensor has


def dtype_of(code: int) -> DType:
    """The DType of a TensorProto.DataType. ModelError if flowmill has none."""
    name = _NAMES.get(code)
    if name is None:
        raise ModelError(f"element type {type_name(code)} is not supported")
    return as_dtype(name)


def code_of(dtype: DType) -> int:
    """The TensorProto.DataType of a DType."""
    return _CODES[dtype.name]


def type_name(code: int) -> str:
    """ONNX's name of a TensorProto.DataType."""
    from onnx import TensorProto

    try:
        return str(TensorProto.DataType.Name(code))
    except ValueError:
        return f"number {code}"


def shape_of(dims: Sequence[int], itemsize: int) -> tuple[int, ...]:
    """DataFilesd dimensions. ModelError where they are negative or too large for any memory."""
    shape = tuple(int(d) for d in dims)
    if any(d < 0 for d in shape):
        raise ModelError(f"a tensor has the shape {list(shape)}")
    if math.prod(shape) * itemsize > _LARGEST or len(shape) > 64:
        raise ModelError(f"a tensor has the shape {list(shape)}, which no memory holds")
    return shape


class DataFiles:
    """Where external data of a model lie: in its folder (None: nowhere), or in its own file."""

    def __init__(self, folder: Path | None, own: MappedFile | None = None) -> None:
        self.folder = folder
        self._files: dict[Path | None, MappedFile] = {} if own is None else {None: own}

    def file(self, location: str, tensor: str) -> MappedFile:
        """The file at a location. ModelError where there is none that a model may read."""
        if location == OWN_FILE and None in self._files:
            return self._files[None]
        if self.folder is None:
            raise ModelError(f'tensor "{tensor}" lies in the file "{location}"',
                             "give the model's path instead of its bytes")  # fmt: skip
        path = inside(self.folder, location, tensor)
        if path not in self._files:
            self._files[path] = MappedFile(path)
        return self._files[path]


_NOWHERE = DataFiles(None)


def array_of(t: TensorProto, files: DataFiles = _NOWHERE) -> Array:
    """The array of a tensor, whose external data lie in `files`."""
    dtype = dtype_of(t.data_type)
    shape = shape_of(t.dims, dtype.itemsize)
    if t.data_location == t.EXTERNAL:
        flat = _external(t, dtype, math.prod(shape), files)
    elif t.HasField("raw_data"):
        raw = t.raw_data
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise _length(t, shape, dtype, f"{len(raw)} bytes")
        flat = np.frombuffer(raw, dtype.numpy.newbyteorder("<")).astype(dtype.numpy, copy=False)
    else:
        flat = _typed(t, dtype)
        if flat.size != math.prod(shape):
            raise _length(t, shape, dtype, f"{flat.size} elements")
    if dtype.name == "bool" and flat.size and flat.view(np.uint8).max() > 1:
        flat = flat.view(np.uint8) != 0
    array = flat.reshape(shape)
    array.setflags(write=False)
    return array


def _length(t: TensorProto, shape: tuple[int, ...], dtype: DType, found: str) -> ModelError:
    return ModelError(f'tensor "{t.name}" is {dtype}{list(shape)}, its data are {found}')


def _typed(t: TensorProto, dtype: DType) -> Array:
    """The numbers of the field that the tensor's type is stored in."""
    if dtype.name == "float32":
        return np.array(t.float_data, np.float32)
    if dtype.name == "float64":
        return np.array(t.double_data, np.float64)
    if dtype.name == "int64":
        return np.array(t.int64_data, np.int64)
    if dtype.name in ("uint32", "uint64"):
        return np.array(t.uint64_data, np.uint64).astype(dtype.numpy)
    words = np.array(t.int32_data, np.int32)
    if dtype.name in _WORDS:
        return words.astype(dtype.numpy)
    return words.astype(np.uint16).view(dtype.numpy)  # 16-bit floats, stored as their bits


def _external(t: TensorProto, dtype: DType, count: int, files: DataFiles) -> Array:
    """Numbers in a file of their own, mapped into memory."""
    entries = {e.key: e.value for e in t.external_data}
    location = entries.get("location", "")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", -1))
    except ValueError:
        raise ModelError(f'tensor "{t.name}" has an offset or length that is no number') from None
    needed = count * dtype.itemsize
    try:
        file = files.file(location, t.name)
    except OSError as e:
        raise ModelError(f'cannot read "{location}" of tensor "{t.name}": {e.strerror}') from None
    if offset < 0 or length not in (-1, needed) or offset + needed > file.size:
        place = "its model's file" if location == OWN_FILE else f'"{location}"'
        raise ModelError(f'tensor "{t.name}" of {needed} bytes does not lie in {place}: '
                         f"offset {offset}, length {length}, file {file.size}")  # fmt: skip
    return file.array(dtype, offset, count)


def inside(folder: Path, location: str, tensor: str) -> Path:
    """The file `location` of a folder. ModelError if it lies elsewhere, links followed."""
    if not location or "\0" in location or os.path.isabs(location):
        raise ModelError(f'tensor "{tensor}" has no place inside the folder: {location!r}')
    root = folder.resolve()
    path = (root / location).resolve()
    if not path.is_relative_to(root):
        raise ModelError(f'tensor "{tensor}" lies outside the model\'s folder: "{location}"')
    if not path.is_file():
        raise ModelError(f'the file "{location}" of tensor "{tensor}" is missing',
                         f"it should lie in {root}")  # fmt: skip
    return path


def dense(t: SparseTensorProto, files: DataFiles = _NOWHERE) -> Array:
    """A sparse tensor with its zeros. Indices are positions, or rows of coordinates."""
    values = array_of(t.values, files)
    indices = array_of(t.indices, files).astype(np.int64)
    shape = shape_of(t.dims, values.itemsize)
    if math.prod(shape) > max(1 << 24, 4096 * values.size):
        raise ModelError(f"a sparse tensor has the shape {list(shape)} and {values.size} values")
    if indices.ndim == 2 and indices.shape == (values.size, len(shape)):
        if np.any((indices < 0) | (indices >= np.array(shape))):
            raise ModelError("a sparse tensor has values outside of its shape")
        indices = np.ravel_multi_index(tuple(indices.T), shape) if len(shape) else indices[:, 0]
    elif indices.shape != (values.size,):
        raise ModelError(f"a sparse tensor of {values.size} values has indices "
                         f"{list(indices.shape)}")  # fmt: skip
    if indices.size and not (indices.min() >= 0 and indices.max() < math.prod(shape)):
        raise ModelError("a sparse tensor has values outside of its shape")
    out = np.zeros(math.prod(shape), values.dtype)
    out[indices] = values.reshape(-1)
    out.setflags(write=False)
    return out.reshape(shape)
