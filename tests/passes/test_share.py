"""Shared parts of large expressions get names."""

from __future__ import annotations

import numpy as np
from flowmill.algorithm import Load
from flowmill.codegen.kernel.interpret import run
from flowmill.codegen.kernel.ir import Buffer, Fail, Kernel, Store
from flowmill.codegen.kernel.text import parse, show
from flowmill.dtypes import float32
from flowmill.graph.definition import Graph
from flowmill.graph.ops import random as rn
from flowmill.passes.lower import lower
from flowmill.passes.schedule import naive
from flowmill.passes.share import share


def test_random_kernels_stay_small():
    with Graph() as graph:
        y = rn.uniform((7,), dtype="float64")
    f = graph.function("f", {"y": y})
    f = type(f)("f", (graph.variables[rn.STATE].value,), f.outputs)
    kernel = share(naive(lower(f), "k")[0])
    assert len(show(kernel)) < 20_000 and show(parse(show(kernel))) == show(kernel)
    state, out = np.array([3, 4], np.uint32), np.zeros(7)
    run(kernel, {"x0": state, "y0": out})
    words = [rn.RandomBits(1, (7,), w).ref(state).astype(np.uint64) for w in (0, 1)]
    assert np.array_equal(out, ((words[0] >> 5) * 2**26 + (words[1] >> 6)) * 2.0**-53)


def doubled(times):
    x, y = Buffer("x0", float32, (1,)), Buffer("y0", float32, (1,), written=True)
    value = Load("x0", (0,), float32)
    for _ in range(times):
        value = value + value
    return Kernel("k", (), (x, y), (Fail(0, value < 0, 0), Store("y0", (0,), value)))


def test_every_kind_of_statement():
    kernel = doubled(40)
    made = share(kernel)
    out = np.zeros(1, np.float32)
    assert run(made, {"x0": np.array([-1], np.float32), "y0": out}) == [(0, 0)]
    assert out[0] == -(2.0**40)


def test_small_kernels_are_left_alone():
    kernel = doubled(3)
    assert share(kernel) is kernel
