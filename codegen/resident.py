"""Memory that a library fills only because its pages were read: the path of a loaded library comes
in, and its code and tables leave the process's resident memory.

Loading LLVM reads 35 MiB of it (relocations, and start-up code all over the file), making one
object another 30. The system takes clean pages of a file back when it runs short; until then they
count as the process's own. `Pages.release` gives them back at once. What is needed again comes from
the file's cache, 16 pages at a time: 2 ms for a whole compilation.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import Any

_LOAD, _WRITE = 1, 2  # the kind of a segment that is mapped, the flag of one that may be written


class _Segment(ctypes.Structure):
    """ELF64's program header."""

    _fields_ = (
        ("kind", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("offset", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("physical", ctypes.c_uint64),
        ("bytes_in_file", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("align", ctypes.c_uint64),
    )


class _Loaded(ctypes.Structure):
    """The start of `struct dl_phdr_info`."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("segments", ctypes.POINTER(_Segment)),
        ("count", ctypes.c_uint16),
    )


_VISIT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Loaded), ctypes.c_size_t, ctypes.c_void_p)


class Pages:
    """The pages of a loaded library that are as they are in its file: code and constant tables.

    What the loader has written to (relocated pointers, also where they are read-only by now) is
    not among them: giving that back would lose it. Without such pages, or on a system that does
    not tell, `release` does nothing.
    """

    def __init__(self, path: str) -> None:
        self._areas: list[tuple[int, int]] = []
        self._libc = ctypes.CDLL(None)
        wanted, page = os.fsencode(path), mmap.PAGESIZE

        def visit(loaded: Any, _size: int, _data: Any) -> int:
            o = loaded.contents
            if o.name == wanted:
                for s in o.segments[: o.count]:
                    if s.kind == _LOAD and not s.flags & _WRITE:
                        start = o.base + s.address
                        end = start + s.bytes
                        self._areas.append((start // page * page, -(-end // page) * page))
            return 0

        if hasattr(self._libc, "dl_iterate_phdr"):
            self._libc.dl_iterate_phdr(_VISIT(visit), None)

    def release(self) -> None:
        """Takes the pages out of resident memory. Safe at any time, also while other threads run
        the library's code."""
        for start, end in self._areas:
            self._libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start),
                               ctypes.c_int(mmap.MADV_DONTNEED))  # fmt: skip
