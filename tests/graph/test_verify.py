"""Each invariant, broken by hand, is reported."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from flowmill.dims import sym
from flowmill.dtypes import float32, float64
from flowmill.graph.definition import Graph, input, named, variable
from flowmill.graph.ir import CALLS, Function, Layout, Piece, TensorType, Value
from flowmill.graph.ops import base, pointwise
from flowmill.graph.ops.registry import load_all
from flowmill.graph.verify import verify

load_all()


@pytest.fixture
def f() -> Function:
    with Graph() as graph:
        x = input("x", ("n", 3))
        w = variable("w", np.zeros(3, np.float32))
        f = graph.function("f", {"y": x * w + 1.0})
    f = replace(f, updates=((w, CALLS["neg"](w)),))
    assert list(verify(f)) == []
    return f


def one(f: Function) -> str:
    (problem,) = verify(f)
    assert problem.startswith("graph f: ")
    return problem.removeprefix("graph f: ")


def test_wrong_type(f):
    node = f.outputs[0][1].node
    node.types = (TensorType(float64, node.types[0].shape),)
    assert "has type f64[n,3], its op infers f32[n,3]" in one(f)


def test_ill_typed_operands(f):
    node = f.outputs[0][1].node
    other = node.owner.node(CALLS["constant"](0).node.op, ()).outputs[0]
    node.inputs = (node.inputs[0], other)
    problems = " ".join(verify(f))
    assert "is older than its operand" in problems


def test_not_well_typed(f):
    node = f.outputs[0][1].node
    wide = CALLS["constant"](np.zeros(5, np.float32), owner=node.owner)
    made = node.owner.node(pointwise.Add(), (wide, wide))
    made.inputs = (wide, f.inputs[0])
    assert "is not well typed: shapes [5] and [n,3] do not broadcast" in one(
        replace(f, outputs=(("y", made.outputs[0]),), updates=())
    )


def test_number_of_operands(f):
    node = f.outputs[0][1].node
    node.inputs = node.inputs[:1]
    assert one(f).endswith("has 1 operands, add takes 2")


def test_cycle(f):
    node = f.outputs[0][1].node
    node.inputs[0].node.inputs = (node.outputs[0], node.inputs[1])
    assert one(f).endswith("depends on itself")


def test_a_result_that_does_not_exist(f):
    node = f.outputs[0][1].node
    node.inputs = (Value(node.inputs[0].node, 1), node.inputs[1])
    assert "uses result 1 of mul#" in one(f)


def test_two_interners(f):
    with Graph():
        y = CALLS["neg"](input("z", (2,)))
    f = replace(f, outputs=(*f.outputs, ("z", y)), inputs=(*f.inputs, y.node.inputs[0]))
    assert all("belongs to another interner than" in p for p in verify(f))
    assert len(list(verify(f))) == 2


def test_inputs(f):
    assert one(replace(f, inputs=())) == "input 'x' is used and not listed"
    assert one(replace(f, inputs=f.inputs * 2)) == "an input is listed twice"
    w = f.updates[0][0]
    assert "is listed among the inputs and is no input" in one(replace(f, inputs=(*f.inputs, w)))


def test_output_names(f):
    assert one(replace(f, outputs=f.outputs * 2)) == "the output name 'y' is used twice"
    renamed = (("", f.outputs[0][1]),)
    assert one(replace(f, outputs=renamed)) == "the output name '' is empty"


def test_updates(f):
    w, x = f.updates[0][0], f.inputs[0]
    assert "writes <x: f32[n,3]>, which is no variable" in one(replace(f, updates=((x, x),)))
    assert one(replace(f, updates=f.updates * 2)) == "variable 'w' is updated twice"
    text = "variable 'w' of type f32[3] is updated with f32[n,3]"
    assert one(replace(f, updates=((w, x),))) == text


def test_names(f):
    y = named(f.outputs[0][1], "out")
    y.node.owner.names_of[f.updates[0][1]] = "out"
    assert one(f) == "two values have the value name 'out'"


def test_two_variables_of_one_name(f):
    owner = f.inputs[0].node.owner
    from flowmill.graph.ops.source import Variable

    other = owner.node(Variable("w", float32, (4,)), ()).outputs[0]
    assert one(replace(f, effects=(other,))) == "two values have the variable name 'w'"


def test_one_symbol_with_two_bounds(f):
    from flowmill.graph.ops.source import Input

    other = f.inputs[0].node.owner.node(Input("z", float32, (sym("n", 5),)), ()).outputs[0]
    f = replace(f, inputs=(*f.inputs, other))
    assert one(f) == "dimension 'n' has two sets of bounds"


def test_held_functions(f, temporary_ops):
    @dataclass(frozen=True)
    class Held(base.Op):
        """Holds a function."""

        body: Function

        def infer(self, *types: TensorType) -> TensorType:
            return types[0]

    with Graph() as graph:
        x = input("x", (2,))
        y = graph.node(Held(replace(f, inputs=())), (x,)).outputs[0]
        outer = graph.function("f", {"y": y})
    assert one(outer).endswith("in held#2: graph f: input 'x' is used and not listed")


@pytest.mark.parametrize("layout, good", [
    ((Piece(1), Piece(0)), True),
    ((Piece(0, "outer", 8), Piece(1), Piece(0, "inner", 8)), True),
    ((Piece(0),), False),
    ((Piece(0), Piece(1), Piece(1)), False),
    ((Piece(0, "outer", 8), Piece(1), Piece(0, "inner", 4)), False),
    ((Piece(0, "outer", 8), Piece(1)), False),
    ((Piece(0), Piece(1), Piece(2)), False),
])  # fmt: skip
def test_layouts(layout, good, temporary_ops):
    @dataclass(frozen=True)
    class Laid(base.Op):
        """x in another layout."""

        layout: Layout

        def infer(self, *types: TensorType) -> TensorType:
            return replace(types[0], layout=self.layout)

    with Graph() as graph:
        x = input("x", (2, 3))
        f = graph.function("f", {"y": graph.node(Laid(layout), (x,)).outputs[0]})
    problems = list(verify(f))
    assert len(problems) == (not good)
    assert good or problems[0].endswith("whose layout does not place each axis once")
