"""Printing and parsing are inverses: on golden programs, odd cases, and random graphs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flowmill.algorithm as alg
import numpy as np
import pytest
from flowmill.dims import minimum, sym
from flowmill.dtypes import ALL, as_dtype
from flowmill.errors import Loc
from flowmill.graph.definition import Graph, dim, group, input, named, variable
from flowmill.graph.interpret import run
from flowmill.graph.ir import CALLS, Function, Interner, Layout, Piece, TensorType
from flowmill.graph.ops import base, pointwise, reduce, shape
from flowmill.graph.ops.registry import load_all
from flowmill.graph.text import large_data, parse, show
from flowmill.graph.verify import verify
from hypothesis import given, settings
from hypothesis import strategies as st

from .programs import execute

load_all()
SHOWN = sorted((Path(__file__).parent / "shown").glob("*.txt"))


def inverse(function: Function) -> Function:
    """What the text of `function` parses to, which must print the same."""
    text = show(function)
    again = parse(text, data=large_data(function))
    assert show(again) == text
    assert list(verify(again)) == []
    return again


@pytest.mark.parametrize("file", SHOWN, ids=lambda f: f.stem)
def test_shown(file, golden):
    def make(source: str) -> str:
        f = execute(source)["f"]
        inverse(f)
        return show(f)

    golden(file, make)


def bits(array: Any) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("dtype", ALL, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 2), (1,), (2, 8), (17,), (3, 40)], ids=str)
def test_constants_keep_every_bit(dtype, shape):
    rng = np.random.default_rng(3)
    count = int(np.prod(shape)) * dtype.itemsize
    raw = rng.integers(0, 2 if dtype.kind == "b" else 256, count, dtype=np.uint8)
    array = raw.view(dtype.numpy).reshape(shape)
    with Graph() as graph:
        f = graph.function("f", {"c": CALLS["constant"](array)})
    op = inverse(f).outputs[0][1].node.op
    assert bits(op.data.array) == bits(array) and op.data.array.shape == shape
    assert op == f.outputs[0][1].node.op


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_special_constants(dtype):
    numbers = [0.0, -0.0, np.inf, -np.inf, np.nan, 0.1, 1e-5, 65504.0, 2.0**-24]
    array = np.array(numbers).astype(as_dtype(dtype).numpy)
    payload = array[4:5].view(f"u{array.itemsize}") + np.array(1, f"u{array.itemsize}")
    array = np.concatenate([array, payload.view(array.dtype), -array[4:5]])
    with Graph() as graph:
        f = graph.function("f", {"c": CALLS["constant"](array)})
    assert bits(inverse(f).outputs[0][1].node.op.data.array) == bits(array)


def test_names_and_outputs_of_every_kind():
    with Graph("odd") as graph:
        x = input("x", ("batch",))
        weird = input("a,b)=%{", ("batch",))
        y = named(x + weird, "12")
        z = named(y * 2.0, "layer/conv.1")
        f = graph.function("an odd one", {"y": y, "two words": z, "12": x})
    again = inverse(f)
    assert [name for name, _ in again.outputs] == ["y", "two words", "12"]
    assert [v.name for v in again.inputs] == [v.name for v in f.inputs]
    assert again.outputs[0][1].name == "12"
    assert again.outputs[1][1].name == "layer/conv.1"


def test_dimensions_keep_their_facts():
    with Graph() as graph:
        n = dim("n", 2, 64)
        m = sym("m", 0, None, 8)
        x = input("x", (n, m * 2 + 1, n // 3, (m + n) % 5, minimum(n, m)))
        f = graph.function("f", {"y": x * 2.0})
    assert show(f).startswith("dims m in 0.. multiple 8, n in 2..64\n")
    again = inverse(f)
    assert again.inputs[0].shape == f.inputs[0].shape
    assert again.symbols() == f.symbols()


def test_places():
    with Graph() as graph:
        x = input("x", (2,))
        interner: Interner = graph
        node = interner.node(pointwise.Neg(), (x,), Loc("/home/me/a b.py", 3, "one/two"))
        interner.node(pointwise.Neg(), (x,), Loc("c.py", 44))
        f = graph.function("f", {"y": node.outputs[0]})
    assert '@"a b.py":3 "one/two" @c.py:44' in show(f)
    found = inverse(f).outputs[0][1].node.locs
    assert found == (Loc("a b.py", 3, "one/two"), Loc("c.py", 44))


def test_comments_are_skipped():
    f = parse("# a file\ngraph f(x: f32[2]) -> (y: f32[2]) { # here\n  return y=%x\n}\n")
    assert show(f) == "graph f(x: f32[2]) -> (y: f32[2]) {\n  return y=%x\n}\n"


def test_an_interner_may_be_given():
    text = "graph f(x: f32[2]) -> (y: f32[2]) {\n  %0 = neg(%x) : f32[2]\n  return y=%0\n}\n"
    interner = Interner()
    first, second = parse(text, interner), parse(text, interner)
    assert first.outputs[0][1] is second.outputs[0][1]


def test_updates_and_effects():
    with Graph() as graph:
        w = variable("w", np.zeros(2, np.float32), trainable=False)
        f = graph.function("f", {"y": group(graph, w * 2.0, [(w, w + 1.0)])})
    f = Function("f", f.inputs, f.outputs, f.updates, (w,))
    again = inverse(f)
    assert 'variable("w", trainable=false)' in show(f)
    assert again.updates[0][0] is again.effects[0]
    assert not again.effects[0].node.op.trainable


def test_every_kind_of_attribute(temporary_ops):
    @dataclass(frozen=True)
    class Everything(base.Op):
        """Two results, and an attribute of each kind."""

        number: float
        text: str
        type: TensorType
        layout: Layout
        body: Function
        branches: tuple[Function, ...] = ()
        nothing: None = None

        def infer(self, *types: TensorType) -> tuple[TensorType, ...]:
            return TensorType(types[0].dtype, types[0].shape, self.layout), self.type

    with Graph() as inner:
        a = input("a", ("n", 3))
        body = inner.function("body", {"b": a * 2.0})
    layout = (Piece(0), Piece(1, "outer", 16), Piece(1, "inner", 16))
    for number in (0.1, -2.0, 1e300, float("inf"), float("-inf")):
        with Graph() as graph:
            x = input("x", ("n", 3))
            kind = TensorType(as_dtype("int8"), (dim("n") * 2,))
            op = Everything(number, 'say "so"', kind, layout, body, (body, body))
            first, second = graph.node(op, (x,)).outputs
            f = graph.function("f", {"p": first, "q": second})
        again = inverse(f).outputs[0][1].node.op
        assert (again.number, again.text, again.type) == (number, op.text, kind)
        assert again.layout == layout and len(again.branches) == 2
    assert ": f32[n,3]{0,1/16,1%16}, i8[2*n]" in show(f)


_UNARY = [alg.tanh, alg.exp, alg.abs_, pointwise.stop_gradient, pointwise.neg]
_BINARY = [pointwise.add, pointwise.mul, pointwise.maximum, pointwise.sub]


@st.composite
def functions(draw: Any) -> tuple[Function, dict[str, Any], dict[str, Any]]:
    """A random function, feeds and variables for it."""
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    with Graph("random") as graph:
        batch = pick(["batch", 3])
        pool = [input("x", (batch, 4)), input("k", (batch, 4), "float64"),
                variable("w", np.full((4, 4), 0.25, np.float32)),
                CALLS["constant"](np.arange(pick([4, 40]), dtype=np.float32)[:4])]  # fmt: skip
        for step in range(draw(st.integers(1, 12))):
            with graph.scope(pick(["a", "b c", "a/b"])):
                v, w = pick(pool), pick(pool)
                kind = draw(st.integers(0, 7))
                if kind == 0:
                    made = pick(_UNARY)(v)
                elif kind == 1 and v.shape == w.shape:
                    made = pick(_BINARY)(v, w)
                elif kind == 2:
                    made = v * draw(st.floats(-2, 2, width=32))
                elif kind == 3 and v.ndim == 2:
                    made = v.T
                elif kind == 4 and v.ndim:
                    made = reduce.sum_(v, draw(st.integers(0, v.ndim - 1)), draw(st.booleans()))
                elif kind == 5 and v.ndim and v.shape == w.shape:
                    made = shape.concat([v, w], v.ndim - 1)
                elif kind == 6:
                    made = CALLS["where"](v > 0.5, v, float("nan"))
                else:
                    made = CALLS["reshape"](v, (-1,))
            if draw(st.booleans()) and made.name is None:
                named(made, pick(["n", "p.q", "r;s"]) + str(step))
            pool.append(made)
        outputs = {f"y{k}": pick(pool[4:]) for k in range(draw(st.integers(1, 3)))}
        w = graph.variables["w"].value
        if draw(st.booleans()):
            group(graph, outputs["y0"], [(w, w * 0.5)])
        f = graph.function("random", outputs)
    feeds = {v.name: np.linspace(-1, 2, 12).reshape(3, 4).astype(v.dtype.numpy) for v in f.inputs}
    return f, feeds, {"w": np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)}


@settings(max_examples=60, deadline=None)
@given(functions())
def test_random_functions(case):
    f, feeds, variables = case
    assert list(verify(f)) == []
    again = inverse(f)
    for made, expected in zip(run(again, feeds, variables), run(f, feeds, variables)):
        assert list(made) == list(expected)
        for name, array in expected.items():
            assert bits(made[name]) == bits(array)
