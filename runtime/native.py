"""Native code in this process: shared objects loaded from bytes or files, and the thread pool.

There is one pool per process, compiled once per machine and cached; every program gets the address
of its `parallel_for` in its frame.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..errors import ExportError
from . import cache

_lock = threading.Lock()
_support: ctypes.CDLL | None = None


def load_file(path: Path) -> ctypes.CDLL:
    """Loads a shared object. ExportError where the system refuses it."""
    try:
        return ctypes.CDLL(str(path), mode=os.RTLD_LOCAL | os.RTLD_NOW)
    except OSError as e:
        raise ExportError(f"cannot load {path}: {e}") from None


def load(entry: cache.Entry) -> ctypes.CDLL:
    """Loads a compiled program from the cache's file, or through memory where there is none any
    more, or the folder is one that nothing may be run from."""
    if entry.path is not None:
        with suppress(ExportError):
            return load_file(entry.path)
    fd = os.memfd_create("flowmill")  # stays open: the loader knows libraries by this name
    with os.fdopen(fd, "wb", closefd=False) as f:
        f.write(entry.code)
    return load_file(Path(f"/proc/self/fd/{fd}"))


def address(library: ctypes.CDLL, symbol: str) -> int:
    """The address of an exported function."""
    found = ctypes.cast(getattr(library, symbol), ctypes.c_void_p).value
    if not found:
        raise ExportError(f"{symbol} is missing from {library._name}")
    return found


def support() -> ctypes.CDLL:
    """The library of the thread pool and the fast call."""
    global _support
    with _lock:
        if _support is None:
            key = cache.key("support", _support_sources())
            _support = load(cache.fetch(key) or cache.store(key, _build_support(), ""))
        return _support


def _support_sources() -> str:
    folder = Path(__file__).resolve().parent.parent / "codegen"
    names = ("clock.py", "pool.py", "pool_life.py", "pool_place.py", "pycall.py")
    return "\n".join((folder / n).read_text() for n in names)


def _build_support() -> bytes:
    from ..codegen.clock import clock_ir
    from ..codegen.elf import link_shared
    from ..codegen.objects import object_code
    from ..codegen.pool import pool_ir
    from ..codegen.pycall import pycall_ir
    from ..target import host

    target = host()
    head = f'target triple = "{target.triple}"\n'
    objects = [object_code(head + pool_ir(target.triple), target),
               object_code(head + pycall_ir(), target),
               object_code(head + clock_ir(target.triple), target)]  # fmt: skip
    exports = ["fm_pool_parallel_for", "fm_pool_open", "fm_pool_close", "fm_pool_threads",
               "fm_clock", "fm_pycall", "fm_pycall_claim", "fm_pycall_release"]  # fmt: skip
    return link_shared(objects, soname="libflowmill_support.so", exports=exports)


def open_pool(threads: int) -> int:
    """Makes sure the pool has `threads` threads, the caller included; returns how many it has."""
    if threads < 2:
        return 1
    return int(support().fm_pool_open(ctypes.c_int32(threads)))


def parallel_for() -> int:
    """The address of the pool's parallel_for."""
    return address(support(), "fm_pool_parallel_for")


def exports_of(names: Sequence[str]) -> list[str]:
    """The symbols a library of programs exports."""
    return [s for n in names for s in (n, f"{n}_prepare")]
