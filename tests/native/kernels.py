"""Kernels by themselves as native code: a `Kernel` and arrays in, the run's error word out."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

import numpy as np
from flowmill.codegen.elf import link_shared
from flowmill.codegen.emit import NO_ERROR, emit_kernel
from flowmill.codegen.expressions import ZERO_BYTES, ZEROS
from flowmill.codegen.kernel.ir import Kernel
from flowmill.codegen.objects import object_code
from flowmill.dims import as_sym
from flowmill.runtime import cache, native
from flowmill.target import host


def run_native(kernel: Kernel, buffers: Mapping[str, np.ndarray], dims: Mapping[str, int],
               parts: int = 1, check_bounds: bool = False) -> int:  # fmt: skip
    """Runs every part of `kernel` on `buffers`, changed in place; NO_ERROR where nothing failed."""
    made = emit_kernel(kernel, host().attributes, linkage="", check_bounds=check_bounds)
    zeros = f"{ZEROS} = internal constant [{ZERO_BYTES} x i8] zeroinitializer, align 64"
    head = f'target triple = "{host().triple}"'
    code = object_code("\n".join([head, zeros, *sorted(made.declarations), made.text]), host())
    library = link_shared(code, soname="libkernel.so", exports=[kernel.name])
    loaded = native.load(cache.Entry(None, library, ""))
    word = ctypes.c_uint64(NO_ERROR)
    pointers = [ctypes.c_void_p(buffers[b.name].ctypes.data) for b in kernel.params]
    sizes = [ctypes.c_int64(dims[as_sym(d).name]) for d in kernel.dims]
    for part in range(parts):
        numbers = [ctypes.c_int64(n) for n in (0, part, parts)]
        getattr(loaded, kernel.name)(ctypes.byref(word), *numbers, *pointers, *sizes)
    return word.value
