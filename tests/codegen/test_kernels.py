"""The same kernel text in the interpreter and as native code."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from flowmill.codegen.elf import link_shared
from flowmill.codegen.emit import emit_kernel
from flowmill.codegen.expressions import ZERO_BYTES, ZEROS
from flowmill.codegen.kernel.frame import NO_ERROR
from flowmill.codegen.kernel.interpret import run
from flowmill.codegen.kernel.text import parse
from flowmill.codegen.kernel.verify import check
from flowmill.codegen.objects import object_code
from flowmill.runtime import cache, native
from flowmill.target import host

KERNELS = {
    # a name stands for another value in each repetition, and in the next loop
    "names": """kernel names(A: f32[64], out C: f32[64], out D: f32[64]) {
      vector v in 0..16 { unroll u in 0..4 {
        let p = A[16*u + v] * 2.0f
        C[16*u + v] = exp(p - 1.0f) } }
      vector v in 0..16 { unroll u in 0..4 {
        let p = A[16*u + v] + 3.0f
        D[16*u + v] = exp(p - 1.0f) } }
    }""",
    # 32 bits of an index, of steps of all signs, and where the index has more
    "indices": """kernel indices(A: f32[64], out C: i32[64], out D: i32[64]) {
      for j in 0..64 step 16 { vector v in 0..16 {
        C[j + v] = i32([3*j - 5*v]) + i32([j])
        D[j + v] = i32([4294967296*j + v]) } }
    }""",
}


@pytest.mark.parametrize("name", KERNELS)
def test_native_code_does_what_the_interpreter_does(name: str) -> None:
    kernel = parse(KERNELS[name])
    check(kernel)
    made = emit_kernel(kernel, host().attributes, linkage="")
    zeros = f"{ZEROS} = internal constant [{ZERO_BYTES} x i8] zeroinitializer, align 64"
    head = f'target triple = "{host().triple}"'
    code = object_code("\n".join([head, zeros, *made.declarations, made.text]), host())
    loaded = native.load(cache.Entry(None, link_shared(code, soname="k.so", exports=[name]), ""))
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal([int(d) for d in b.shape]).astype(b.dtype.numpy)
              for b in kernel.params]  # fmt: skip
    expected = {b.name: a.copy() for b, a in zip(kernel.params, arrays)}
    run(kernel, expected)
    word = ctypes.c_uint64(NO_ERROR)
    getattr(loaded, name)(ctypes.byref(word), *map(ctypes.c_int64, (0, 0, 1)),
                          *(ctypes.c_void_p(a.ctypes.data) for a in arrays))  # fmt: skip
    for b, a in zip(kernel.params, arrays):
        np.testing.assert_allclose(a, expected[b.name], rtol=1e-6)
