"""Pooling and its gradients."""

from __future__ import annotations

import re

import numpy as np
import pytest
from flowmill.dtypes import float64
from flowmill.errors import ConfigError, DTypeError, ShapeError
from flowmill.graph.definition import Graph, input
from flowmill.graph.ops import pooling as pl

from . import oracle


def run(build, *arrays, **sizes):
    """The value `build` makes of inputs, evaluated by references."""
    with Graph():
        xs = [input(f"x{k}", a.shape, str(a.dtype)) for k, a in enumerate(arrays)]
        return oracle.interpret([build(*xs)], dict(zip(xs, arrays)))[0]


def test_known_answers():
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    assert np.array_equal(run(lambda v: pl.max_pool(v, 2), x)[0, 0], [[5, 7], [13, 15]])
    assert np.array_equal(run(lambda v: pl.average_pool(v, 2), x)[0, 0], [[2.5, 4.5], [10.5, 12.5]])
    assert np.array_equal(run(pl.global_average_pool, x), [[7.5]])
    assert np.array_equal(run(lambda v: pl.global_max_pool(v, True), x), [[[[15]]]])


def test_average_counts_what_it_is_told_to():
    x = np.ones((1, 1, 4), np.float32)
    without = run(lambda v: pl.average_pool(v, 3, 1, 1), x)
    with_pad = run(lambda v: pl.average_pool(v, 3, 1, 1, count_include_pad=True), x)
    np.testing.assert_allclose(without[0, 0], [1, 1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(with_pad[0, 0], [2 / 3, 1, 1, 2 / 3], rtol=1e-6)


def test_the_first_maximum_gets_the_gradient():
    x = np.array([[[[1.0, 3.0], [3.0, 3.0]]]])
    op = pl.MaxPool((2, 2), (0, 0), (0, 0), (1, 1), (2, 2))
    with Graph() as graph:
        v, g = input("x", x.shape, float64), input("g", (1, 1, 1, 1), float64)
        (d,) = op.grad(g, graph.node(op, (v,)).outputs[0], v)
        (made,) = oracle.interpret([d], {v: x, g: np.full((1, 1, 1, 1), 7.0)})
    assert np.array_equal(made[0, 0], [[0, 7], [0, 0]])


def test_overlapping_windows_add_up():
    x = np.array([[[1.0, 9.0, 2.0, 0.0, 5.0]]])
    with Graph() as graph:
        v = input("x", x.shape, float64)
        y = pl.max_pool(v, 3, 1)
        g = input("g", y.shape, float64)
        (d,) = y.node.op.grad(g, y, v)
        (made,) = oracle.interpret([d], {v: x, g: np.array([[[1.0, 10.0, 100.0]]])})
    assert graph and np.array_equal(made, [[[0, 11, 0, 0, 100]]])


def test_windows_that_do_not_overlap_need_no_reduction():
    from flowmill.graph.ir import TensorType
    from flowmill.graph.ops.base import Operand

    op = pl.SumPoolGrad((2, 2), (0, 0), (0, 0), (1, 1), (2, 2), spatial=(8, 6))
    g = TensorType(float64, (2, 3, 4, 3))
    c = op.compute(op.infer(g), Operand(0, g))
    assert c.combine is None and not c.reduce_axes and c.value.mask is None


@pytest.mark.parametrize("padding", ["valid", "same", 1])
@pytest.mark.parametrize("window, strides", [(2, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("size", [(8, 9), (7, 6)])
def test_symbolic_sizes(padding, window, strides, size):
    if padding == 1 and window == 1:
        return
    rng = np.random.default_rng(0)
    with Graph():
        x = input("x", ("n", 2, "h", "w"), float64)
        fixed = input("f", (2, 2, *size), float64)
        pools = [(pl.max_pool(v, window, strides, padding),
                  pl.average_pool(v, window, strides, padding)) for v in (x, fixed)]  # fmt: skip
    sizes = {"n": 2, "h": size[0], "w": size[1]}
    for a, b in zip(*pools):
        for node, known in zip(symbolic_nodes(a), symbolic_nodes(b)):
            xs = [rng.uniform(-1, 1, v.shape) for v in known.inputs]
            types = tuple(v.type for v in node.inputs)
            made = oracle.operator(node.op, *xs, types=types, **sizes)
            np.testing.assert_allclose(made, known.op.ref(*xs), atol=1e-12)


def symbolic_nodes(value):
    from flowmill.graph.ir import topological

    return [n for n in topological([value.node]) if isinstance(n.op, pl.Pooling)]


@pytest.mark.parametrize("make, error, text", [
    (lambda: pl.max_pool(input("x", (1, 2, 3, 8)), 4), ShapeError,
     "a window over 4 positions does not fit spatial axis 0 of 3 positions"),
    (lambda: pl.max_pool(input("x", (1, 2, 8)), 2, 2, 2), ShapeError,
     "padding 2 is as wide as the window"),
    (lambda: pl.max_pool(input("x", (1, 2, 8)), (2, 2)), ConfigError, "window (2, 2) must be"),
    (lambda: pl.max_pool(input("x", (1, 2, 8)), 0), ConfigError, "window 0 must be positive"),
    (lambda: pl.max_pool(input("x", (2, 8)), 2), ShapeError, "[batch, channels, *spatial]"),
    (lambda: pl.average_pool(input("x", (1, 2, 8), "int32"), 2), DTypeError,
     "average_pool: not defined for int32"),
    (lambda: pl.max_pool(input("x", (1, 2, 8), "bool"), 2), DTypeError, "not defined for bool"),
])  # fmt: skip
def test_errors(make, error, text):
    with Graph(), pytest.raises(error, match=re.escape(text)):
        make()
