"""Gather, scatter, one-hot, running sums; counting; rearranging; checks and prints."""

from __future__ import annotations

import re

import numpy as np
import pytest
from flowmill.dtypes import float32, float64, int64
from flowmill.errors import ConfigError, DTypeError, RunError, ShapeError
from flowmill.graph.definition import Graph, input
from flowmill.graph.ir import TensorType
from flowmill.graph.ops import arrange as ar
from flowmill.graph.ops import creation as cr
from flowmill.graph.ops import effects as ef
from flowmill.graph.ops import indexing as ix
from flowmill.graph.ops import pointwise as pw
from flowmill.graph.ops import reduce as rd
from flowmill.graph.ops.cumulative import cumprod, cumsum

from . import oracle
from .naive import FailedError


def run(build, *arrays):
    """The value `build` makes of inputs, by references."""
    with Graph():
        xs = [input(f"x{k}", a.shape, str(a.dtype)) for k, a in enumerate(arrays)]
        return oracle.interpret([build(*xs)], dict(zip(xs, arrays)))[0]


TABLE = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize("index", [4, -5, 1000])
def test_out_of_range_fails_and_stays_in_bounds(index):
    bad = np.array([0, index])
    with pytest.raises(FailedError, match="index"):
        oracle.operator(ix.Gather(0), TABLE, bad)
    with pytest.raises(FailedError, match="index"):
        oracle.operator(ix.TakeAlongAxis(0), TABLE[:, :1], bad[:, None])
    with pytest.raises(IndexError):
        ix.Gather(0).ref(TABLE, bad)


def test_unsigned_indices_do_not_wrap():
    huge = np.array([2**64 - 1], np.uint64)
    with pytest.raises(FailedError, match="index"):
        oracle.operator(ix.Gather(0), TABLE, huge)


def test_an_axis_that_may_be_empty():
    with Graph():
        x, i = input("x", ("rows", 3), float64), input("i", ("n",), int64)
        types = (x.type, i.type)
        sizes = {"rows": 4, "n": 2}
        made = oracle.operator(ix.Gather(0), TABLE, np.array([-1, 2]), types=types, **sizes)
    assert np.array_equal(made, TABLE[[-1, 2]])
    empty = TensorType(float64, (0, 3))
    with pytest.raises(FailedError):
        oracle.operator(ix.Gather(0), TABLE[:0], np.array([0]), types=(empty, i.type),
                        n=1)  # fmt: skip


def test_division_by_zero_fails():
    x, y = np.array([7, 7], np.int32), np.array([2, 0], np.int32)
    for op in (pw.Floordiv(), pw.Mod()):
        with pytest.raises(FailedError, match="zero_division"):
            oracle.operator(op, x, y)
        assert oracle.operator(op, x[:1], y[:1]) == op.ref(x[:1], y[:1])
        assert oracle.operator(op, x.astype(float), y.astype(float)).shape == (2,)


def test_scatter():
    i = np.array([2, 0, 2])
    u = np.array([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]])
    assert np.array_equal(run(ix.scatter, TABLE, i, u), [u[1], TABLE[1], u[2], TABLE[3]])
    added = TABLE.copy()
    added[0] += u[1]
    added[2] += u[0] + u[2]
    assert np.array_equal(run(ix.scatter_add, TABLE, i, u), added)


def test_the_gradient_of_an_embedding_adds_up():
    i = np.array([[1, 1], [3, -1]])
    with Graph():
        x, k = input("x", (4, 3), float64), input("i", (2, 2), int64)
        y = ix.gather(x, k)
        g = input("g", y.shape, float64)
        d, none = y.node.op.grad(g, y, x, k)
        (made,) = oracle.interpret([d], {k: i, g: np.ones((2, 2, 3))})
    assert none is None
    assert np.array_equal(made, np.repeat([[0.0], [2], [0], [2]], 3, 1))


def test_picking_one_element_a_row_has_a_pointwise_gradient():
    with Graph():
        x, k = input("x", ("n", 5), float32), input("i", ("n", 1), int64)
        y = ix.take_along_axis(x, k)
        d, _ = y.node.op.grad(input("g", y.shape, float32), y, x, k)
    assert d.node.op.name == "where" and d.type == x.type


def test_running_values_of_all_elements_are_in_row_major_order():
    x = np.array([[1, 2], [3, 4]], np.float32)
    np.testing.assert_array_equal(run(cumsum, x), np.cumsum(x))
    np.testing.assert_array_equal(run(cumprod, x), np.cumprod(x))


def test_cumsum_known_answers():
    x = np.array([1, 2, 3, 4], np.int32)
    for args, expected in (
        ((False, False), [1, 3, 6, 10]),
        ((True, False), [0, 1, 3, 6]),
        ((False, True), [10, 9, 7, 4]),
        ((True, True), [9, 7, 4, 0]),
    ):
        made = run(lambda v, a=args: cumsum(v, 0, *a), x)
        assert made.dtype == np.int64 and made.tolist() == expected


def test_one_hot():
    made = run(lambda v: ix.one_hot(v, 3), np.array([2, 0, 3, -1]))
    assert made.dtype == np.float32
    assert made.tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("build, expected", [
    (lambda: cr.arange(5), np.arange(5)), (lambda: cr.arange(2, 11, 3), np.arange(2, 11, 3)),
    (lambda: cr.arange(5, 0, -2), np.arange(5, 0, -2)),
    (lambda: cr.arange(0.0, 1.0, 0.25), np.arange(0, 1, 0.25, np.float32)),
    (lambda: cr.arange(3, 3), np.arange(0)),
    (lambda: cr.zeros((2, 3)), np.zeros((2, 3), np.float32)),
    (lambda: cr.ones(4, "int8"), np.ones(4, np.int8)),
    (lambda: cr.full((2,), 1.5), np.full(2, 1.5, np.float32)),
    (lambda: cr.iota((2, 3), 1), np.indices((2, 3))[1]),
])  # fmt: skip
def test_creation(build, expected):
    with Graph():
        (made,) = oracle.interpret([build()], {})
    assert made.dtype == expected.dtype and np.array_equal(made, expected)


def test_symbolic_arange():
    with Graph() as graph:
        n = graph.dim("n")
        assert cr.arange("n").shape == (n,) and cr.arange(1, n, 2).shape == (n // 2,)


@pytest.mark.parametrize("build, expected", [
    (lambda x: ar.split(x, 2)[1], TABLE[2:]), (lambda x: ar.split(x, (1, 2), 1)[1], TABLE[:, 1:]),
    (lambda x: ar.stack([x, x * 2], 1), np.stack([TABLE, TABLE * 2], 1)),
    (lambda x: ar.tile(x, (2, 3)), np.tile(TABLE, (2, 3))),
    (lambda x: ar.tile(x, (2, 1, 2)), np.tile(TABLE, (2, 1, 2))),
    (lambda x: ar.tile(x, 2), np.tile(TABLE, 2)), (lambda x: ar.tile(x, ()), TABLE),
    (lambda x: ar.flip(x), TABLE[::-1, ::-1]), (lambda x: ar.flip(x, 1), TABLE[:, ::-1]),
    (lambda x: rd.std(x, 0), TABLE.std(0)), (lambda x: rd.var(x), TABLE.var()),
])  # fmt: skip
def test_arranging(build, expected):
    np.testing.assert_allclose(run(build, TABLE), expected)


def test_symbolic_tile_and_split():
    with Graph() as graph:
        x = input("x", ("n", 6), float32)
        n = graph.dim("n")
        assert ar.tile(x, (3, 1)).shape == (n * 3, 6)
        assert [p.shape for p in ar.split(ar.tile(x, (4, 1)), 2)] == [(n * 2, 6)] * 2


def test_check():
    ok, bad = np.array([True, True]), np.array([True, False])
    x = np.array([1.0, 2.0])
    assert np.array_equal(run(ef.check, x, ok), x)
    with pytest.raises(RunError, match="must be positive"):
        run(lambda v, c: ef.check(v, c, "must be positive"), x, bad)
    with pytest.raises(RunError):
        run(ef.check, TABLE, np.zeros((9,), bool))
    with pytest.raises(FailedError, match="check"):
        oracle.operator(ef.Check("m"), x, bad)


def test_effects_are_part_of_a_function():
    with Graph() as graph:
        x = input("x", (3,))
        y = ef.print_(ef.check(x, x > 0, "positive"), "x:") * 2
        f = graph.function("f", {"y": y})
    assert [v.node.op.name for v in f.effects] == ["check", "print"]


@pytest.mark.parametrize("make, error, text", [
    (lambda: ix.gather(input("x", (4, 3)), input("i", (2,))), DTypeError,
     "gather: indices must be integers, they are float32"),
    (lambda: ix.gather(input("x", (4, 3)), [0], axis=2), ShapeError, "axis 2 does not exist"),
    (lambda: ix.take_along_axis(input("x", (4, 3)), input("i", (3, 1), "int64")), ShapeError,
     "indices i64[3,1] differ from f32[4,3] in more than axis 1"),
    (lambda: ix.scatter(input("x", (4, 3)), [0, 1], input("u", (2, 2))), ShapeError,
     "updates f32[2,2] do not fit into f32[4,3] along axis 0"),
    (lambda: ix.scatter_add(input("x", (4, 3)), [0, 1], input("u", (3, 3))), ShapeError,
     "updates f32[3,3] do not have the axes of the indices i64[2] from axis 0 on"),
    (lambda: ix.one_hot(input("x", (4,), "int32"), 0), ShapeError, "depth must be positive"),
    (lambda: cumsum(input("x", (4,), "bfloat16")), DTypeError, "not defined for bfloat16"),
    (lambda: ar.split(input("x", (4, 3)), 2, 1), ShapeError, "does not split into 2 equal parts"),
    (lambda: ar.split(input("x", (4, 3)), (1, 1), 1), ShapeError, "do not make up axis 1"),
    (lambda: ar.stack([input("x", (4,)), input("y", (3,))]), ShapeError, "shapes differ"),
    (lambda: cr.arange(1, 5, 0), ConfigError, "the step must be a number and not 0"),
    (lambda: ef.check(input("x", (4,)), input("c", (4,))), DTypeError,
     "the condition must be bool, it is float32"),
])  # fmt: skip
def test_errors(make, error, text):
    with Graph(), pytest.raises(error, match=re.escape(text)):
        make()
