"""Pooling and its gradients."""

from __future__ import annotations

import re

import numpy as np
import pytest
from flowmill.dtypes import float64
from flowmill.errors import ConfigError, DTypeError, ShapeError
from flowmill.graph.definition import Graph, input
from flowmill.graph.gradients import gradients
from flowmill.graph.ir import CALLS
from flowmill.graph.ops import adaptive as ad
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


def windows(n, k, s, d, before, after, ceil):
    """The positions every window reads, with which of them lie within the padded values."""
    whole = n + before + after
    count = (whole - (k - 1) * d - 1 + (s - 1 if ceil else 0)) // s + 1
    if ceil and (count - 1) * s >= n + before:
        count -= 1
    reads = [[i * s + t * d for t in range(k)] for i in range(count)]
    return [[r - before for r in one if r < whole] for one in reads]


def by_definition(x, kind, k, s, pads, d, ceil):
    lines = [windows(n, k, s, d, *p, ceil) for n, p in zip(x.shape[2:], pads)]
    out = np.zeros((*x.shape[:2], *map(len, lines)))
    for at in np.ndindex(*out.shape[2:]):
        reads = [line[i] for line, i in zip(lines, at)]
        inside = [[r for r in one if 0 <= r < n] for one, n in zip(reads, x.shape[2:])]
        part = x[(slice(None), slice(None), *np.ix_(*inside))].reshape(*x.shape[:2], -1)
        if kind == "max":
            out[(..., *at)] = part.max(-1)
        elif kind == "padded":
            out[(..., *at)] = part.sum(-1) / np.prod([len(one) for one in reads])
        else:
            out[(..., *at)] = part.mean(-1)
    return out


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("k, s, pads, d", [
    (2, 2, ((0, 0), (0, 0)), 1), (3, 2, ((1, 1), (1, 0)), 1), (2, 3, ((1, 1), (0, 1)), 1),
    (2, 3, ((0, 0), (0, 0)), 2), (3, 1, ((2, 2), (0, 1)), 2), (2, 4, ((1, 0), (1, 1)), 1),
])  # fmt: skip
def test_every_geometry(ceil, k, s, pads, d):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 2, 7, 8))
    options = {"padding": pads, "dilations": d, "ceil_mode": ceil}
    with Graph():
        fixed, free = input("f", x.shape, float64), input("v", ("n", 2, "h", "w"), float64)
        for v in (fixed, free):
            made = oracle.interpret(
                [pl.max_pool(v, k, s, **options), pl.average_pool(v, k, s, **options),
                 pl.average_pool(v, k, s, count_include_pad=True, **options)], {v: x})  # fmt: skip
            for found, kind in zip(made, ("max", "mean", "padded")):
                expected = by_definition(x, kind, k, s, pads, d, ceil)
                np.testing.assert_allclose(found, expected, atol=1e-12, err_msg=kind)


def test_where_the_largest_stand():
    x = np.array([[[[1, 9, 2, 9], [3, 4, 8, 0], [5, 5, 7, 7]]]], np.float32)
    values, rows, columns = run_all(
        lambda v: [*pl.max_pool_with_indices(v, 2, 1, padding=((0, 0), (1, 0))),
                   pl.max_pool_with_indices(v, 2, 1, padding=((0, 0), (1, 0)),
                                            column_major=True)[1]], x)  # fmt: skip
    assert np.array_equal(values, [[[[3, 9, 9, 9], [5, 5, 8, 8]]]])
    assert np.array_equal(rows, [[[[4, 1, 1, 3], [8, 8, 6, 6]]]])
    assert np.array_equal(columns, [[[[1, 3, 3, 9], [2, 2, 7, 7]]]])
    empty = np.full((1, 1, 2, 2), -np.inf, np.float32)
    _, at = run_all(lambda v: pl.max_pool_with_indices(v, 2, 1, padding=1), empty)
    assert at.min() >= 0 and at.max() <= 3


def test_unpooling_puts_them_back():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 4, 6)).astype(np.float32)

    def build(v):
        largest, at = pl.max_pool_with_indices(v, 2)
        return pl.max_unpool(largest, at, (4, 6))

    blocks = x.reshape(2, 3, 2, 2, 3, 2)
    kept = blocks == blocks.max((3, 5), keepdims=True)
    assert np.array_equal(run(build, x), np.where(kept, blocks, 0).reshape(x.shape))


def run_all(build, *arrays):
    with Graph():
        xs = [input(f"x{k}", a.shape, str(a.dtype)) for k, a in enumerate(arrays)]
        return oracle.interpret(list(build(*xs)), dict(zip(xs, arrays)))


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


@pytest.mark.parametrize("size", [(7, 5), (6, 4), (2, 3)])
def test_adaptive_pooling_of_symbolic_sizes(size):
    """The same whether sizes are known or not; where windows are all alike it is plain pooling."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, *size))
    with Graph():
        fixed, free = input("f", x.shape, float64), input("v", ("n", 3, "h", "w"), float64)
        for pool, reduce in ((ad.adaptive_average_pool, np.mean), (ad.adaptive_max_pool, np.max)):
            expected = np.empty((2, 3, 3, 2))
            for i, j in np.ndindex(3, 2):
                rows = slice(i * size[0] // 3, -(-(i + 1) * size[0] // 3))
                columns = slice(j * size[1] // 2, -(-(j + 1) * size[1] // 2))
                expected[:, :, i, j] = reduce(x[:, :, rows, columns], (2, 3))
            for v in (fixed, free):
                made = oracle.interpret([pool(v, (3, 2))], {v: x})[0]
                np.testing.assert_allclose(made, expected, atol=1e-12)
        (slope,) = gradients(CALLS["sum"](ad.adaptive_max_pool(free, (3, 2))), [free])
        (known,) = gradients(CALLS["sum"](ad.adaptive_max_pool(fixed, (3, 2))), [fixed])
        made, expected = (
            oracle.interpret([g], {v: x})[0] for g, v in ((slope, free), (known, fixed))
        )
        np.testing.assert_array_equal(made, expected)
    assert made.sum() == 36
