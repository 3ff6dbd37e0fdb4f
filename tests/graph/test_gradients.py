"""Reverse mode: what flows, what stops, what is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass

import flowmill.algorithm as alg
import numpy as np
import pytest
from flowmill.errors import DTypeError, GraphError, ShapeError
from flowmill.graph.definition import Graph, input, variable
from flowmill.graph.gradients import gradients
from flowmill.graph.interpret import run
from flowmill.graph.ir import CALLS, Function, TensorType, Value
from flowmill.graph.ops import base, pointwise
from flowmill.graph.ops.registry import load_all
from flowmill.graph.ops.source import Constant
from flowmill.graph.verify import verify

load_all()
total, cast = CALLS["sum"], CALLS["cast"]


def value_of(v: Value, feeds=None):
    graph = v.node.owner
    return run(graph.function("check", {"v": v}), feeds or {}, {})[0]["v"]


def test_of_itself_is_one():
    with Graph():
        x = input("x", ())
        (g,) = gradients(x, [x])
    assert value_of(g) == 1


def test_zeros_where_independent():
    with Graph():
        x, y = input("x", ("n", 3)), input("y", ("n",))
        (g,) = gradients(total(x), [y])
    assert g.type == y.type
    assert verify_empty(g)
    feeds = {"y": np.ones(2, np.float32)}
    function = Function("f", (y,), (("g", g),))
    assert np.array_equal(run(function, feeds)[0]["g"], [0, 0])


def verify_empty(v: Value) -> bool:
    return list(verify(v.node.owner.function("check", {"v": v}))) == []


def test_contributions_add_up():
    with Graph():
        x = input("x", (2,), "float64")
        y = x * x
        (gx, gy) = gradients(total(y * x + y), [x, y])
    at = {"x": np.array([2.0, -3.0])}
    assert np.array_equal(value_of(gx, at), 3 * at["x"] ** 2 + 2 * at["x"])
    assert np.array_equal(value_of(gy, at), at["x"] + 1)


def test_an_operand_used_twice():
    with Graph():
        x = input("x", (), "float64")
        (g,) = gradients(x * x, [x])
    assert value_of(g, {"x": np.array(5.0)}) == 10


def test_stop_gradient():
    with Graph():
        x = input("x", (), "float64")
        (g,) = gradients(x * pointwise.stop_gradient(x), [x])
    assert value_of(g, {"x": np.array(5.0)}) == 5


def test_integers_and_comparisons_stop_silently():
    with Graph():
        x = input("x", (4,), "float64")
        steps = cast(cast(x, "int32"), "float64") + cast(x > 0, "float64")
        (g,) = gradients(total(steps * x), [x])
        (none,) = gradients(total(steps), [x])
    at = {"x": np.array([1.5, -2.5, 0.0, 3.0])}
    assert np.array_equal(value_of(g, at), [2, -2, 0, 4])
    assert isinstance(none.node.inputs[0].node.op, Constant)


def test_sixteen_bit_floats_add_up():
    with Graph():
        x = input("x", (3,), "float16")
        wide = cast(x, "float32")
        (g,) = gradients(total(wide) + total(cast(x, "float64")), [x])
    assert g.dtype.name == "float16"
    assert np.array_equal(value_of(g), [2, 2, 2])


def test_loss_must_be_a_scalar():
    with Graph():
        x = input("x", (4,))
        with pytest.raises(ShapeError, match=r"must be a scalar, it is f32\[4\]"):
            gradients(x * 2, [x])


def test_only_floats_have_gradients():
    with Graph():
        x, k = input("x", (4,)), input("k", (4,), "int32")
        with pytest.raises(DTypeError, match="not a float"):
            gradients(total(x), [k])
        with pytest.raises(DTypeError, match="not a float"):
            gradients(total(k), [x])


def test_values_of_another_graph_are_refused():
    with Graph():
        x = input("x", ())
    with Graph():
        y = input("y", ())
        with pytest.raises(GraphError, match="not a value of the graph of the loss"):
            gradients(y, [x])


def test_an_op_without_gradient_names_the_line(temporary_ops):
    @dataclass(frozen=True)
    class Opaque(pointwise.Unary):
        """x, and no gradient."""

        differentiable = False

    with Graph() as graph:
        x = input("x", (3,))
        y = base.make(Opaque(), x)
        line = y.node.loc.line
        with pytest.raises(GraphError, match=re.escape(f"{__file__.rsplit('/')[-1]}:{line}")) as e:
            gradients(total(y), [x])
        assert "opaque has no gradient" in str(e.value)
        assert "stop_gradient" in str(e.value)
        loss = total(pointwise.stop_gradient(y) * x)
        assert gradients(loss, [x])[0].type == x.type
    assert graph.fixed_loc is None


def test_composites_are_differentiated_through_their_expansion(temporary_ops):
    @dataclass(frozen=True)
    class Blend(base.Op):
        """a * b + tanh(a), of results a * b and a + b."""

        def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
            return types[0], types[0]

        def expand(self, *xs: Value):
            a, b = xs
            return a * b + alg.tanh(a), a + b

    a, b = np.array([0.5, -1.0]), np.array([2.0, 3.0])
    for pick in ((0,), (1,), (0, 1)):
        with Graph() as graph:
            x, y = input("x", (2,), "float64"), input("y", (2,), "float64")
            results = graph.node(Blend(), (x, y)).outputs
            plain = Blend().expand(x, y)
            made = gradients(total(sum(results[k] for k in pick)), [x, y])
            expected = gradients(total(sum(plain[k] for k in pick)), [x, y])
            twice = graph.node(Blend(), (x, x)).outputs[0]
            (square,) = gradients(total(twice), [x])
        feeds = {"x": a, "y": b}
        function = Function("f", (x, y), tuple((str(k), v) for k, v in enumerate(made + expected)))
        out = list(run(function, feeds)[0].values())
        assert np.array_equal(out[:2], out[2:])
        np.testing.assert_allclose(value_of(square, {"x": a}), 2 * a + 1 - np.tanh(a) ** 2)


def test_several_results_get_none_where_unused(temporary_ops):
    seen = []

    @dataclass(frozen=True)
    class Halves(base.Op):
        """x / 2 and x / 2 again."""

        def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
            return types[0], types[0]

        def grad(self, g, y, *xs):
            seen.append(g)
            return (sum(part * 0.5 for part in g if part is not None),)

    with Graph() as graph:
        x = input("x", (2,))
        first, second = graph.node(Halves(), (x,)).outputs
        gradients(total(second), [x])
        gradients(total(first * second), [x])
    assert [[part is None for part in g] for g in seen] == [[True, False], [False, False]]


def test_what_is_built_stands_where_the_original_does():
    with Graph() as graph:
        x = input("x", (2, 3))
        with graph.scope("dense"):
            y = x @ variable("w", np.ones((3, 4), np.float32))
        loss = total(y * y)
        (g,) = gradients(loss, [graph.variables["dense/w"].value])
    assert g.node.loc == y.node.loc
    assert g.node.loc.layer == "dense"


def test_same_definition_same_gradient():
    from flowmill.graph.text import show

    def text() -> str:
        with Graph() as graph:
            x = input("x", (4, 4))
            for _ in range(5):
                x = alg.tanh(x @ x.T + x) * alg.exp(x)
            grads = gradients(total(x), [graph.inputs["x"], x])
            return show(graph.function("f", {f"g{k}": g for k, g in enumerate(grads)}))

    assert text() == text()


def test_deep_chains_need_no_recursion():
    with Graph():
        x = y = input("x", (), "float64")
        for _ in range(10_000):
            y = y + 1.0
        (g,) = gradients(y * y, [x])
    assert value_of(g, {"x": np.array(1.0)}) == 2 * 10_001
