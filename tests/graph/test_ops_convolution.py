"""Convolution and its gradients."""

from __future__ import annotations

import re

import numpy as np
import pytest
from flowmill.dtypes import float64
from flowmill.errors import ConfigError, DTypeError, ShapeError
from flowmill.graph.definition import Graph, input
from flowmill.graph.ir import TensorType
from flowmill.graph.ops import convolution as cv
from flowmill.graph.ops.transposed import conv_transpose

from . import oracle


def test_known_answer():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    w = np.array([[[[1.0, 0.0], [0.0, -2.0]]]])
    op = cv.Conv((1, 1), (0, 0), (0, 0), (1, 1), 1)
    expected = x[0, 0, :3, :3] - 2 * x[0, 0, 1:, 1:]
    assert np.array_equal(op.ref(x, w)[0, 0], expected)
    assert np.array_equal(oracle.operator(op, x, w)[0, 0], expected)


def loops(x, w, strides, before, after, dilations, groups):
    """Two-dimensional convolution by its definition."""
    n, _, height, width = x.shape
    o, per, kh, kw = w.shape
    high = (height + before[0] + after[0] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
    wide = (width + before[1] + after[1] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
    out = np.zeros((n, o, high, wide))
    for b, f, i, j in np.ndindex(out.shape):
        for c, p, q in np.ndindex(per, kh, kw):
            r = i * strides[0] + p * dilations[0] - before[0]
            s = j * strides[1] + q * dilations[1] - before[1]
            if 0 <= r < height and 0 <= s < width:
                out[b, f, i, j] += x[b, f // (o // groups) * per + c, r, s] * w[f, c, p, q]
    return out


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_reference_is_the_definition(groups):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 4, 8, 7)), rng.standard_normal((4, 4 // groups, 3, 2))
    args = ((2, 1), (2, 0), (1, 1), (1, 2), groups)
    np.testing.assert_allclose(cv.Conv(*args).ref(x, w), loops(x, w, *args), atol=1e-12)


def test_the_three_are_adjoint():
    rng = np.random.default_rng(0)
    args = ((2, 3), (1, 2), (2, 0), (2, 1), 2)
    x, w = rng.standard_normal((2, 4, 9, 8)), rng.standard_normal((6, 2, 3, 3))
    y = cv.Conv(*args).ref(x, w)
    g = rng.standard_normal(y.shape)
    dx = cv.ConvInputGrad(*args, spatial=(9, 8)).ref(g, w)
    dw = cv.ConvWeightGrad(*args, kernel=(3, 3)).ref(x, g)
    whole = np.sum(y * g)
    np.testing.assert_allclose([np.sum(dx * x), np.sum(dw * w)], [whole, whole])


@pytest.mark.parametrize("strides, dilations", [(1, 1), (2, 1), (2, 3), (3, 1)])
@pytest.mark.parametrize("padding", ["valid", "same", 1, ((0, 2), (1, 0))])
@pytest.mark.parametrize("size", [(9, 8), (10, 7)])
def test_symbolic_sizes(strides, dilations, padding, size):
    rng = np.random.default_rng(0)
    with Graph():
        x = input("x", ("n", 2, "h", "w"), float64)
        w = input("k", (3, 2, 3, 2), float64)
        y = cv.conv(x, w, strides, padding, dilations)
        fixed = cv.conv(input("f", (2, 2, *size), float64), w, strides, padding, dilations)
        g = input("g", y.shape, float64)
        dx, dw = y.node.op.grad(g, y, x, w)
    sizes = {"n": 2, "h": size[0], "w": size[1]}
    a, b = rng.standard_normal((2, 2, *size)), rng.standard_normal((3, 2, 3, 2))
    made = oracle.operator(y.node.op, a, b, types=(x.type, w.type), **sizes)
    np.testing.assert_allclose(made, fixed.node.op.ref(a, b), atol=1e-12)
    c = rng.standard_normal(made.shape)
    known = fixed.node.op.grad(input_like(fixed), fixed, *fixed.node.inputs)
    for value, one, operands in ((dx, known[0], (c, b)), (dw, known[1], (a, c))):
        types = tuple(v.type for v in value.node.inputs)
        made = oracle.operator(value.node.op, *operands, types=types, **sizes)
        np.testing.assert_allclose(made, one.node.op.ref(*operands), atol=1e-12)


def input_like(value):
    with value.node.owner:
        return input("like", value.shape, value.dtype)


@pytest.mark.parametrize("kernel, stride", [(3, 1), (3, 2), (1, 2), (5, 2), (2, 3), (4, 4)])
@pytest.mark.parametrize("size", [7, 8, 9, 12])
def test_same_gives_ceil(kernel, stride, size):
    with Graph():
        y = cv.conv(input("x", (1, 1, size)), input("w", (1, 1, kernel)), stride, "same")
    assert y.shape[2] == -(-size // stride)


def test_symbolic_same_is_ceil():
    with Graph() as graph:
        x, h = input("x", ("n", 4, "h")), graph.dim("h")
        wide = cv.conv(x, input("w", (4, 4, 3)), 2, "same")
        thin = cv.conv(x, input("v", (4, 4, 1)), 2, "same")
        plain = cv.conv(x, input("u", (4, 4, 3)), 1, "same")
    assert wide.shape == thin.shape == (graph.dim("n"), 4, (h + 1) // 2)
    assert plain.shape == x.shape


def test_no_mask_without_padding():
    from flowmill.algorithm import Load, walk
    from flowmill.graph.ops.base import Operand

    with Graph():
        y = cv.conv(input("x", ("n", 2, "h", 9)), input("w", (3, 2, 3, 3)), 2)
    types = [v.type for v in y.node.inputs]
    c = y.node.op.compute(y.type, *(Operand(k, t) for k, t in enumerate(types)))
    loads = [e for e in walk(c.value) if isinstance(e, Load)]
    assert len(loads) == 2 and all(e.mask is None for e in loads)
    assert [a.extent for a in c.reduce_axes] == [2, 3, 3]


@pytest.mark.parametrize("strides, padding, extra", [(1, "valid", 0), (2, "same", 0), (3, 1, 2),
                                                     (2, ((0, 1), (1, 1)), 1)])  # fmt: skip
def test_transpose_undoes_the_shape(strides, padding, extra):
    with Graph():
        x = input("x", ("n", 4, "h", 6), float64)
        w = input("w", (4, 3, 3, 2), float64)
        y = conv_transpose(x, w, strides, padding, extra)
        back = cv.conv(y, w, strides, padding) if padding != "same" else None
    assert y.shape[1] == 3
    if padding == "same":
        assert y.shape[2:] == (2 * x.shape[2], 12)
    else:
        assert back is not None and back.shape == x.shape


def test_transposed_known_answer():
    x = np.array([[[1.0, 2.0, 3.0]]])
    w = np.array([[[1.0, 10.0]]])
    with Graph():
        y = conv_transpose(input("x", x.shape, float64), input("w", w.shape, float64), 2)
    assert np.array_equal(y.node.op.ref(x, w), [[[1, 10, 2, 20, 3, 30]]])


def placed(x, w, strides, dilations, groups, before, sizes):
    """Transposed convolution by its definition: windows added at their places, zeros elsewhere."""
    n, c, *positions = x.shape
    per = w.shape[1]
    out = np.zeros((n, per * groups, *(b + s + 99 for b, s in zip(before, sizes))))
    for at in np.ndindex(*positions):
        for tap in np.ndindex(*w.shape[2:]):
            place = tuple(i * s + t * d for i, s, t, d in zip(at, strides, tap, dilations))
            for k in range(c):
                o = k // (c // groups) * per
                part = x[(slice(None), k, *at)][:, None] * w[(k, slice(None), *tap)]
                out[(slice(None), slice(o, o + per), *place)] += part
    return out[(..., *(slice(b, b + s) for b, s in zip(before, sizes)))]


@pytest.mark.parametrize("x, w, options, before, sizes", [
    ((2, 4, 3, 5), (4, 3, 3, 2), {"strides": (2, 3), "padding": 1}, (1, 1), (5, 12)),
    ((1, 4, 5), (4, 1, 3), {"strides": 2, "groups": 4, "output_padding": 1}, (0,), (12,)),
    ((1, 2, 4), (2, 3, 2), {"dilations": 3, "output_padding": 2}, (0,), (9,)),
    ((1, 2, 4), (2, 3, 2), {"dilations": 3, "padding": 1, "output_padding": 2}, (1,), (7,)),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": (3, 2), "output_shape": (10, 8)}, (0, 0), (10, 8)),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": 2, "output_shape": (6, 5),
                                  "padding": "same_lower"}, (1, 1), (6, 5)),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": 2, "padding": "same"}, (0, 0), (6, 6)),
    ((1, 2, 3, 3), (2, 2, 3, 3), {"strides": 2, "padding": "same_lower"}, (1, 1), (6, 6)),
    ((1, 2, 2, 3, 2), (2, 2, 2, 2, 3), {"strides": (1, 2, 3), "dilations": (2, 1, 1)},
     (0, 0, 0), (4, 6, 6)),
])  # fmt: skip
def test_transposed_is_its_definition(x, w, options, before, sizes):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(x), rng.standard_normal(w)
    with Graph():
        vx, vw = input("x", x, float64), input("w", w, float64)
        y = conv_transpose(vx, vw, **options)
    rank = len(x) - 2

    def each(name):
        given = options.get(name, 1)
        return (given,) * rank if isinstance(given, int) else given

    expected = placed(a, b, each("strides"), each("dilations"), options.get("groups", 1), before,
                      sizes)  # fmt: skip
    assert y.shape[2:] == sizes
    np.testing.assert_allclose(oracle.interpret([y], {vx: a, vw: b})[0], expected, atol=1e-12)


def test_flops_count_multiplications_and_additions():
    with Graph():
        y = cv.conv(input("x", (1, 8, 6, 6)), input("w", (4, 2, 3, 3)), groups=4, padding=1)
    types = tuple(v.type for v in y.node.inputs)
    assert y.node.op.flops(y.type, *types) == 2 * 4 * 36 * 2 * 9


@pytest.mark.parametrize("make, error, text", [
    (lambda: cv.conv(input("x", (1, 3, 8, 8)), input("w", (4, 2, 3, 3))), ShapeError,
     "weights [4,2,3,3] with 1 groups are from 2 to 4 channels, the values have 3 and 4"),
    (lambda: cv.conv(input("x", (1, 3, 2, 8)), input("w", (4, 3, 3, 3))), ShapeError,
     "a window over 3 positions does not fit spatial axis 0 of 2 positions"),
    (lambda: cv.conv(input("x", (1, 4, 8)), input("w", (3, 2, 3)), groups=2), ShapeError,
     "3 output channels do not divide into 2 groups"),
    (lambda: cv.conv(input("x", (4, 8)), input("w", (3, 2, 3))), ShapeError, "[batch, channels"),
    (lambda: cv.conv(input("x", (1, 4, 8)), input("w", (3, 4, "k"))), ShapeError,
     "a window needs sizes that are numbers"),
    (lambda: cv.conv(input("x", (1, 4, 8)), input("w", (3, 4, 3)), 0), ConfigError, "strides 0"),
    (lambda: cv.conv(input("x", (1, 4, 8)), input("w", (3, 4, 3)), padding="full"), ConfigError,
     "padding 'full' is not known"),
    (lambda: cv.conv(input("x", (1, 4, 8)), input("w", (3, 4, 3)), padding=-1), ShapeError,
     "padding is negative"),
    (lambda: cv.conv(input("x", (1, 4, 8), "float16"), input("w", (3, 4, 3), "float16")),
     DTypeError, "not defined for float16"),
    (lambda: conv_transpose(input("x", (1, 4, 8)), input("w", (4, 3, 3)), 2,
                            output_padding=-1), ConfigError, "not below 0"),
    (lambda: conv_transpose(input("x", (1, 4, 8)), input("w", (4, 3, 3)), output_shape=(3, 3)),
     ShapeError, "must have 1 entries"),
])  # fmt: skip
def test_errors(make, error, text):
    with Graph(), pytest.raises(error, match=re.escape(text)):
        make()


def test_gradient_of_the_wrong_shape():
    op = cv.ConvInputGrad((1, 1), (0, 0), (0, 0), (1, 1), 1, (8, 8))
    g, w = TensorType(float64, (1, 4, 5, 6)), TensorType(float64, (4, 3, 3, 3))
    with pytest.raises(ShapeError, match="positions of the windows"):
        op.infer(g, w)
