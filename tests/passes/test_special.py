"""Kernels of sequential ops, run by the interpreter of the kernel language."""

from __future__ import annotations

import numpy as np
import pytest
from flowmill.codegen.kernel.interpret import run
from flowmill.codegen.kernel.text import parse, show
from flowmill.dims import evaluate, sym
from flowmill.dtypes import as_dtype
from flowmill.graph.ir import TensorType
from flowmill.graph.ops.cumulative import Cumsum
from flowmill.graph.ops.indexing import AddAlongAxis, Scatter, ScatterAdd
from flowmill.graph.ops.scattering import ScatterElements, ScatterNd
from flowmill.passes.special import KERNELS

from ..graph.samples import OPS, Case, cases

CASES = [c for c in cases() if c.op.name in KERNELS]


def execute(op, arrays, types=None, parts=1, **sizes):
    """The results of an op's kernel, and the failures it recorded."""
    types = types or [TensorType(as_dtype(x.dtype), x.shape) for x in arrays]
    made = op.infer(*types)
    outs = made if isinstance(made, tuple) else (made,)
    kernel = KERNELS[op.name](op, types, outs)
    results = [np.full(numbers(t.shape, sizes), 77).astype(t.dtype.numpy) for t in outs]
    own = [np.full(numbers(b.shape, sizes), 99).astype(b.dtype.numpy)
           for b in kernel.params[len(arrays) + len(outs) :]]  # fmt: skip
    flat = {
        b.name: array.reshape(numbers(b.shape, sizes))
        for b, array in zip(kernel.params, [*arrays, *results, *own], strict=True)
    }
    failures = [f for part in range(parts) for f in run(kernel, flat, sizes, part, parts)]
    shaped = [flat[f"y{k}"].reshape(y.shape) for k, y in enumerate(results)]
    return shaped if isinstance(made, tuple) else shaped[0], failures


def numbers(shape, sizes):
    return tuple(evaluate(d, sizes) for d in shape)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_reference(case: Case, parts):
    op, arrays = case.op(**case.sample.kwargs), case.draw()
    made, failures = execute(op, arrays, parts=parts)
    assert failures == []
    expected = op.ref(*arrays)
    several = isinstance(expected, tuple)
    for a, b in zip(made, expected) if several else [(made, expected)]:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_every_op_without_an_algorithm_has_a_kernel():
    # sources, and ops that hold functions
    plain = {"input", "variable", "fused", "scan", "if_", "while_loop"}
    without = {n for n, op in OPS.items() if not op.has("compute") and not op.has("expand")}
    assert set(KERNELS) == without - plain - {
        n for n in without if OPS[n].__module__.startswith("test")
    }


@pytest.mark.parametrize("index", [5, -6, 2**62])
@pytest.mark.parametrize("op, shapes", [
    (ScatterAdd(0, 5), ((3,), (3, 4))), (Scatter(0), ((5, 4), (3,), (3, 4))),
    (AddAlongAxis(0, 5), ((3, 4), (3, 4))), (ScatterElements(0), ((5, 4), (3, 4), (3, 4))),
    (ScatterElements(1, "add"), ((4, 5, 3), (2, 3, 2), (2, 3, 2))),
    (ScatterNd(), ((5, 4), (3, 1), (3, 4))), (ScatterNd("max"), ((6, 5, 4), (3, 2), (3, 4))),
])  # fmt: skip
def test_out_of_range_fails_and_stays_in_bounds(op, shapes, index):
    at = op.indices
    arrays = [np.zeros(s, np.int64 if k == at else np.float32) for k, s in enumerate(shapes)]
    arrays[at].reshape(-1)[1] = index
    _, failures = execute(op, arrays)
    assert failures and set(failures) == {(0, 1)}
    arrays[at].reshape(-1)[1] = 4
    assert execute(op, arrays)[1] == []


def test_no_place_at_all():
    empty = [np.array([0]), np.ones((1, 3), np.float32)]
    made, failures = execute(ScatterAdd(0, 0), empty)
    assert made.shape == (0, 3) and failures


@pytest.mark.parametrize("inner", [1, 3, 16, 17])
def test_symbolic_sizes(inner):
    n, rows, many = (sym(s, 0) for s in ("n", "rows", "many"))
    rng = np.random.default_rng(0)
    float32, int64 = as_dtype("float32"), as_dtype("int64")
    x, i = rng.standard_normal((4, 7, inner)).astype(np.float32), rng.integers(-5, 5, 7)
    types = [TensorType(int64, (many,)), TensorType(float32, (n, many, inner))]
    made, _ = execute(ScatterAdd(1, rows), [i, x], types, n=4, rows=5, many=7)
    np.testing.assert_allclose(made, ScatterAdd(1, 5).ref(i, x), rtol=1e-5, atol=1e-5)
    made, _ = execute(Cumsum(1, True, True), [x], [types[1]], n=4, many=7)
    np.testing.assert_allclose(made, Cumsum(1, True, True).ref(x), rtol=1e-5, atol=1e-5)


def test_text_parses_back():
    for case in CASES:
        op = case.op(**case.sample.kwargs)
        types = [TensorType(as_dtype(d), s) for d, s in zip(case.dtypes, case.sample.shapes)]
        made = op.infer(*types)
        kernel = KERNELS[op.name](op, types, made if isinstance(made, tuple) else [made])
        assert show(parse(show(kernel))) == show(kernel)
