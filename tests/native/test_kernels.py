"""Random kernels, as native code, do what the interpreter says, bit by bit."""

from __future__ import annotations

import numpy as np
from flowmill.codegen.emit import INDEX_BITS, NO_ERROR
from flowmill.codegen.kernel.interpret import run
from flowmill.codegen.kernel.ir import Kernel
from flowmill.codegen.kernel.text import show
from flowmill.errors import InternalError
from hypothesis import assume, given
from hypothesis import strategies as st

from ..kernel.test_random import LAW, SIZE, N, kernels
from .kernels import run_native


@LAW
@given(kernels(exact=True), st.integers(1, SIZE))
def test_native_code_agrees_with_the_interpreter(kernel: Kernel, n: int) -> None:
    rng = np.random.default_rng(n)
    first = {
        b.name: rng.integers(0, 9, (n if b.shape[0] == N else n + 1, 4)).astype(b.dtype.numpy)
        for b in kernel.params
    }
    second = {name: a.copy() for name, a in first.items()}
    try:
        failures = run(kernel, first, {"n": n})
    except InternalError:
        assume(False)
    word = run_native(kernel, second, {"n": n})
    for name, a in first.items():
        np.testing.assert_array_equal(second[name], a, f"{name} of {show(kernel)}")
    if failures:
        site, index = min((s, i % (1 << INDEX_BITS)) for s, i in failures)
        assert word == site << INDEX_BITS | index, show(kernel)
    else:
        assert word == NO_ERROR, show(kernel)
