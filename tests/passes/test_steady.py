"""What does not change from run to run is computed once, in the shape its readers like best."""

from __future__ import annotations

import flowmill as fm
import numpy as np
from flowmill.codegen.kernel.text import show
from flowmill.compiler import compile_function
from flowmill.target import named

WEIGHTS = np.arange(64 * 200, dtype=np.int8).reshape(64, 200)


def test_sums_of_constants_are_not_fused_with_what_changes():
    with fm.Graph() as graph:
        a, zero = fm.input("a", (3, 64), "uint8"), fm.input("zero", (), "uint8")
        y = fm.matmul_integer(a, WEIGHTS, zero)
        function = graph.function("f", {"y": y})
    program = compile_function(function, named("x86-64-v3")).program
    assert any("sum" in launch.label for p in program.prepare for launch in p.launches)
    assert not any("sum" in launch.label for launch in program.launches)


def test_a_single_row_meets_whole_panels():
    with fm.Graph() as graph:
        y = fm.matmul(fm.input("a", (1, 64)), WEIGHTS.astype(np.float32))
        function = graph.function("f", {"y": y})
    made = compile_function(function, named("x86-64-v3")).program
    kernel = next(k for k in made.kernels if k.name.startswith("matmul"))
    assert len(kernel.params[1].shape) == 3, "the constant is packed"
    assert "//" not in show(kernel) and "%" not in show(kernel)
