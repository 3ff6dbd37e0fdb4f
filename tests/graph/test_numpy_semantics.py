"""What functions of arrays are called with, and what they give: as in NumPy, dtypes included."""

from __future__ import annotations

import copy
import math
import warnings

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.interpret import run

A = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
WHOLE = np.array([[3, 0, -2], [0, 0, 5]], np.int32)


def value(build, *arrays):
    """What `build` makes of inputs, by references."""
    with fm.Graph() as g:
        xs = [fm.input(f"x{k}", a.shape, a.dtype) for k, a in enumerate(arrays)]
        f = g.function("f", {"y": build(*xs)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run(f, {v.name: a for v, a in zip(xs, arrays) if v in f.inputs})[0]["y"]


def same(made, expected):
    expected = np.asarray(expected)
    assert (made.shape, made.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(made, expected, rtol=2e-6)


FORMS = {
    "reshape": [(s,) for s in ((6, 4), -1, [3, 8], np.int64(24), (2, -1, 2))],
    "transpose": [(), ((2, 0, 1),), ((-1, 0, 1),)],
    "expand_dims": [(0,), (-1,), ((0, -1),)],
    "squeeze": [()],
    "tile": [(2,), ((2, 1, 2),), ((2, 3, 1, 2),), (np.int64(3),)],
    "flip": [(), (0,), ((0, -1),)],
    "pad": [(1,), ((1, 2),), (((1, 0), (0, 1), (2, 2)),), (((1, 2),),)],
    "argmax": [(), (1,), (-1,)],
    "argmin": [(), (1,), (-1,)],
    "cumsum": [(), (1,), (-1,)],
    "sum": [(), (1,), ((0, -1),), ((),)],
    "std": [(), (1,), ((0, 2),)],
}


@pytest.mark.parametrize("name, arguments", [(n, a) for n, forms in FORMS.items() for a in forms])
@pytest.mark.parametrize("array", [A, A.astype(np.int8)], ids=["f32", "i8"])
def test_arguments(name, arguments, array):
    same(
        value(lambda x: getattr(fm, name)(x, *arguments), array),
        getattr(np, name)(array, *arguments),
    )


def test_joining():
    for axis in (0, -1, None):
        same(value(lambda x, y, a=axis: fm.concat([x, y], a), A, A), np.concatenate([A, A], axis))
    same(value(lambda x: fm.concat(v for v in x), A), np.concatenate(A))
    same(value(lambda x: fm.stack([x, 1.5, 2]), np.float32(3)), np.array([3, 1.5, 2], np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_numbers_and_lists_take_the_width_of_their_neighbour(dtype):
    x = np.ones(3, dtype)
    for other in (0.1, np.float64(0.1), [0.1, 0.2, 0.3]):
        made = value(lambda v, o=other: v + o, x)
        assert made.dtype.kind == "f"
        if dtype.startswith("float"):
            same(made, x + np.asarray(other, x.dtype))


def test_where_is_promoted():
    cond = np.array([True, False])
    whole = np.array([1, 2], np.int32)
    same(value(lambda c, x: fm.where(c, x, 2.5), cond, whole), np.array([1, 2.5], np.float32))
    same(value(lambda c: fm.where(c, 1, 2), cond), np.array([1, 2]))
    with pytest.raises(fm.DTypeError, match="== compares values as objects"), fm.Graph():
        x, y = fm.input("x", (2,)), fm.input("y", (2,))
        fm.where(x == y, x, y)


LOGIC = ("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor")


@pytest.mark.parametrize("name", LOGIC)
def test_logic_of_numbers_and_of_bits(name):
    same(value(getattr(fm, name), WHOLE, WHOLE.T.reshape(2, 3).copy()),
         getattr(np, name)(WHOLE, WHOLE.T.reshape(2, 3)))  # fmt: skip


@pytest.mark.parametrize("name", ["all", "any", "logical_not", "isnan", "isfinite", "isinf", "floor",
                                  "round", "trunc", "ceil"])  # fmt: skip
def test_truth_and_rounding_of_integers(name):
    """Sums of 3, 0 and -3 say nothing about whether one of them is true."""
    x = np.array([3, 0, -3], np.int32)
    same(value(getattr(fm, name), x), getattr(np, name)(x))
    f = np.array([np.nan, -1.5], np.float32)
    same(value(getattr(fm, name), f), getattr(np, name)(f))


@pytest.mark.parametrize("dtype", ["int8", "int32", "uint8", "int64"])
def test_powers_of_integers(dtype):
    x = np.array([0, 1, 2, 3, 7], dtype)
    for n in (0, 1, 2, 5, 9):
        same(value(lambda v, n=n: v**n, x), x**n)
    same(value(fm.power, x, x[::-1].copy()), x ** x[::-1])
    with pytest.raises(fm.DTypeError, match="no negative powers"):
        value(lambda v: v**-1, x)
    if dtype.startswith("int"):
        with pytest.raises(fm.RunError, match="negative exponent"):
            value(fm.power, x, -x)


@pytest.mark.parametrize("axis", [None, 0, (0, 2), (1, 2), (-1,), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_along_any_axes(axis, keepdims):
    expected = np.log(np.sum(np.exp(A.astype(np.float64)), axis=axis, keepdims=keepdims))
    same(value(lambda x: fm.logsumexp(x, axis, keepdims), A), np.float32(expected))


def test_spread():
    same(value(lambda x: fm.var(x, axis=1, ddof=1), A), A.var(1, ddof=1))
    same(value(lambda x: fm.std(x, ddof=2), A), A.std(ddof=2))


def test_gradient_of_a_product_with_zeros():
    x = np.array([[2.0, 0, 3], [0, 4, 0], [5, 6, 7]])
    made = value(lambda v: fm.gradients(fm.sum(fm.prod(v, axis=1)), [v])[0], x)
    np.testing.assert_array_equal(made, [[0, 6, 0], [0, 0, 0], [42, 35, 30]])


def test_values_among_python_s_own():
    with fm.Graph():
        x = fm.input("x", (2, 3))
        k = fm.input("k", (), "int32")
        assert +x is x and copy.deepcopy([x])[0] is x
        assert [v.dtype.name for v in (1 << k, 8 >> k)] == ["int32", "int32"]
        assert (np.ones((2, 3), "f") + x).shape == (2, 3) == (np.float32(2) * x).shape
        assert x in {x: 1} and x != k and x is not None and x not in ("x", None)
        for mistake in (lambda: x == 3, lambda: np.ones(3) == x, lambda: np.asarray(x),
                        lambda: fm.constant([x, x]), lambda: x + np.array([x])):  # fmt: skip
            with pytest.raises(fm.GraphError, match=r"test_numpy_semantics\.py:\d+"):
                mistake()
        with pytest.raises(AttributeError, match=r"use fm\.reshape\(value"):
            x.reshape(3, 2)
    with pytest.raises(AttributeError, match="did you mean concat"):
        fm.concatenate  # noqa: B018


MISTAKES = [
    (lambda x: fm.reshape(x, (-2, -12)), fm.ShapeError, "a size is negative"),
    (lambda x: fm.reshape(x, None), fm.ShapeError, "not None"),
    (lambda x: fm.zeros(-1), fm.ShapeError, "a size is negative"),
    (lambda x: fm.split(x, [5, -1], -1), fm.ShapeError, "not places to cut at"),
    (lambda x: fm.concat([]), fm.ShapeError, "no values are given"),
    (lambda x: fm.concat([x], 7), fm.ShapeError, "axis 7 does not exist"),
    (lambda x: fm.pad(fm.cast(x, "int8"), 1, value=math.nan), fm.DTypeError, "nan does not fit int8"),
    (lambda x: fm.pad(fm.cast(x, "int8"), 1, value=300), fm.DTypeError, "300 does not fit int8"),
    (lambda x: fm.constant(300, "uint8"), fm.DTypeError, "300 does not fit uint8"),
    (lambda x: fm.constant([[1], [2, 3]]), fm.DTypeError, "this is no array"),
    (lambda x: x + None, fm.DTypeError, "None is not made of numbers"),
    (lambda x: x + "a", fm.DTypeError, "'a' is not made of numbers"),
    (lambda x: fm.full((2,), "a"), fm.DTypeError, "'a' is not made of numbers"),
    (lambda x: x[np.array([0])], fm.DTypeError, r"use fm\.gather"),
    (lambda x: x[::0], fm.ShapeError, "a step is a number"),
    (lambda x: fm.arange(None), fm.ConfigError, "numbers or dimensions"),
    (lambda x: fm.output(x, "y"), fm.GraphError, "output: 'y' is no value"),
    (lambda x: (fm.output("y", x), fm.output("y", -x)), fm.GraphError, "used twice"),
    (lambda x: (fm.dim("n"), fm.dim("n", max=3)), fm.ShapeError, "already"),
    (lambda x: fm.dim("n", min=4, max=3), fm.ShapeError, "cannot be in 4..3"),
    (lambda x: fm.input("z", None), fm.ShapeError, "not None"),
    (lambda x: fm.input("z", (3,), None), fm.DTypeError, "None is not a data type"),
    (lambda x: fm.variable("w", 300, dtype="int8"), fm.DTypeError, "300 does not fit int8"),
    (lambda x: fm.variable("w", "zeros", (2,)), fm.GraphError, "no initial value"),
    (lambda x: fm.Graph(seed=-1), fm.ConfigError, "a seed is an integer"),
]  # fmt: skip


@pytest.mark.parametrize("mistake, error, text", MISTAKES)
def test_mistakes_name_the_line(mistake, error, text):
    with fm.Graph():
        x = fm.input("x", (2, 3, 4))
        with pytest.raises(error, match=text) as e:
            mistake(x)
    assert "test_numpy_semantics.py:" in str(e.value)


def test_constants_do_not_follow_the_arrays_they_were_made_of():
    base = np.zeros(3, np.float32)
    view = base.view()
    view.setflags(write=False)
    with fm.Graph() as g:
        f = g.function("f", {"y": fm.constant(view) + 0})
    base[:] = 7
    assert run(f, {})[0]["y"].tolist() == [0, 0, 0]
