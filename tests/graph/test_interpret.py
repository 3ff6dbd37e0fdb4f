"""The reference interpreter: dimensions, feeds, updates, composites, held functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from flowmill.dims import sym
from flowmill.errors import FeedError, GraphError, InternalError
from flowmill.graph.definition import Graph, dim, group, input, variable
from flowmill.graph.interpret import bind, run, specialise
from flowmill.graph.ir import CALLS, Function, TensorType, Value
from flowmill.graph.ops import base, padding, shape
from flowmill.graph.ops.registry import load_all

load_all()


def test_symbolic_attributes_are_made_numbers():
    with Graph() as graph:
        x = input("x", ("batch", 4, "h"))
        flat = CALLS["reshape"](x, (-1, 2))
        wide = CALLS["broadcast_to"](flat[:1], (dim("batch"), 3, 2))
        padded = padding.pad(x[:, 1:3, :], (0, 1, 0), (dim("h"), 0, 2), 5.0)
        mean = CALLS["mean"](x)
        f = graph.function("f", {"flat": flat, "wide": wide, "padded": padded, "mean": mean})
    at = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    out, updates = run(f, {"x": at})
    assert updates == {}
    assert np.array_equal(out["flat"], at.reshape(12, 2))
    assert np.array_equal(out["wide"], np.broadcast_to(at.reshape(12, 2)[:1], (2, 3, 2)))
    expected = np.pad(at[:, 1:3], ((0, 3), (1, 0), (0, 2)), constant_values=5)
    assert np.array_equal(out["padded"], expected)
    assert out["mean"] == np.float32(11.5)


def test_specialise_keeps_what_has_no_symbols():
    op = shape.Reshape((2, 3))
    assert specialise(op, {"n": 4}) is op
    assert specialise(shape.Reshape((sym("n") * 2, 3)), {"n": 4}) == shape.Reshape((8, 3))


def test_updates_and_variables():
    with Graph() as graph:
        w = variable("w", np.ones(3, np.float32))
        step = group(graph, CALLS["sum"](w), [(w, w * 2.0)])
        f = graph.function("f", {"sum": step})
    out, updates = run(f, {}, {"w": np.array([1, 2, 3], np.float32)})
    assert out["sum"] == 6
    assert list(updates) == ["w"] and np.array_equal(updates["w"], [2, 4, 6])


def function_of(*types):
    with Graph() as graph:
        values = [input(f"x{k}", s, t) for k, (s, t) in enumerate(types)]
        sums = {f"y{k}": CALLS["sum"](v) for k, v in enumerate(values)}
        return graph.function("f", sums)


def test_dimensions_are_solved_from_sums():
    n = sym("n", 1)
    f = function_of(((n * 2 + 1,), "float32"), ((n * sym("m", 1),), "float32"))
    feeds = {"x0": np.zeros(7, np.float32), "x1": np.zeros(12, np.float32)}
    assert bind(f, feeds) == {"n": 3, "m": 4}


def test_every_bad_feed_is_listed():
    f = function_of((("n", 4), "float32"), (("n",), "int64"), ((2,), "float32"))
    with pytest.raises(FeedError) as e:
        run(f, {"x0": np.zeros((3, 5), np.float32), "x1": np.zeros(2, np.int32), "q": 0})
    assert e.value.notes == (
        '"q" is not an input',
        '"x1" is fed int32, it is i64[n]',
        '"x2", f32[2], is not fed',
        '"x0": axis 1 has size 5, not 4',
        '"x1": axis 0 has size 2, not n = 3',
    )


def test_bounds_and_multiples():
    f = function_of(((sym("n", 2, 8, 2),), "float32"))
    for size, text in ((1, "must be in 2..8"), (9, "must be in 2..8"), (5, "no multiple of 2")):
        with pytest.raises(FeedError, match=text):
            run(f, {"x0": np.zeros(size, np.float32)})
    assert run(f, {"x0": np.zeros(8, np.float32)})[0]["y0"] == 0


def test_bad_variables_are_listed():
    with Graph() as graph:
        w = variable("w", np.ones(3, np.float32))
        f = graph.function("f", {"y": w + variable("v", 1.0)})
    with pytest.raises(FeedError) as e:
        run(f, {}, {"w": np.ones(2, np.float32)})
    assert e.value.notes == (
        'variable "w" holds float32[2], it is f32[3]',
        'variable "v", f32[], has no value',
    )


def test_a_size_no_input_tells():
    with Graph() as graph:
        f = graph.function("f", {"y": CALLS["size_of"](dim("n"), graph)})
    with pytest.raises(GraphError, match="no input tells the size of dimension n"):
        run(f, {})


def test_composites_run_through_their_expansion(temporary_ops):
    @dataclass(frozen=True)
    class Scaled(base.Op):
        """x times `by` elements of its first axis."""

        by: object

        def infer(self, *types: TensorType) -> TensorType:
            return types[0]

        def expand(self, *xs: Value) -> Value:
            return xs[0] * float(self.by)

    with Graph() as graph:
        x = input("x", ("n",))
        f = graph.function("f", {"y": graph.node(Scaled(dim("n")), (x,)).outputs[0]})
    assert np.array_equal(run(f, {"x": np.ones(3, np.float32)})[0]["y"], [3, 3, 3])


def test_held_functions_are_called(temporary_ops):
    @dataclass(frozen=True)
    class Twice(base.Op):
        """body(body(x))."""

        body: Function

        def infer(self, *types: TensorType) -> TensorType:
            return types[0]

        def interpret(self, call, *xs):
            return call(self.body, *call(self.body, *xs))

    with Graph() as inner:
        a = input("a", ("n",))
        body = inner.function("body", {"b": a * variable("w", 1.0)})
    with Graph() as graph:
        x = input("x", ("n",))
        f = graph.function("f", {"y": graph.node(Twice(body), (x,)).outputs[0]})
    with pytest.raises(FeedError, match='variable "w", f32\\[\\], has no value'):
        run(f, {"x": np.ones(3, np.float32)})
    out, _ = run(f, {"x": np.ones(3, np.float32)}, {"w": np.float32(3)})
    assert np.array_equal(out["y"], [9, 9, 9])


def test_a_reference_of_the_wrong_type_is_caught(temporary_ops):
    @dataclass(frozen=True)
    class Wrong(base.Op):
        """Says f32[n], gives float64."""

        def infer(self, *types: TensorType) -> TensorType:
            return types[0]

        def ref(self, *xs):
            return xs[0].astype(np.float64)

    with Graph() as graph:
        x = input("x", (2,))
        f = graph.function("f", {"y": graph.node(Wrong(), (x,)).outputs[0]})
    with pytest.raises(InternalError, match=r"gave float64\[2\], its type is f32\[2\]"):
        run(f, {"x": np.ones(2, np.float32)})
