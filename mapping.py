"""Arrays over mapped files: their elements are read when they are first used, and what was read can
be given back to the system, which reads it again where it is needed.

In: the path of a file. Out: arrays that cannot be written to. A file must not be changed in place
for as long as arrays over it live; replacing it by another is harmless.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np

from .dtypes import Array, DType

_WORTH = 1 << 16  # bytes below which giving back is not worth a call


class MappedFile:
    """A whole file, mapped once whatever number of arrays lie over it."""

    def __init__(self, path: Path) -> None:
        """OSError where the file cannot be read."""
        with path.open("rb") as f:
            self.size = os.fstat(f.fileno()).st_size
            self.memory = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if self.size else None

    def array(self, dtype: DType, offset: int, count: int) -> Array:
        """`count` elements from byte `offset` on, the lowest byte of each first. They may lie at any
        address. They must lie within the file."""
        stored = dtype.numpy.newbyteorder("<")
        if self.memory is None or not count:
            return np.empty(0, dtype.numpy)
        found: Array = np.frombuffer(self.memory, stored, count, offset)
        return found.astype(dtype.numpy, copy=False)


def give_back(array: Array) -> None:
    """Gives the memory of an array over a mapped file back, whole pages of it. Nothing for others."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not isinstance(base, mmap.mmap) or array.nbytes < _WORTH or not array.flags.c_contiguous:
        return
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
    last = (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if last > first:
        base.madvise(mmap.MADV_DONTNEED, first, last - first)
