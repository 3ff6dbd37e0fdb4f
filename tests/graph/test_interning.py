"""Equal computations are one node, different ones never."""

from __future__ import annotations

import numpy as np
from flowmill.errors import UNKNOWN, Loc
from flowmill.graph.definition import Graph, input, variable
from flowmill.graph.ir import CALLS, Function, structure
from flowmill.graph.ops import padding
from flowmill.graph.ops.registry import load_all

load_all()


def test_equal_computations_are_one_node():
    with Graph():
        x, y = input("x", (3,)), input("y", (3,))
        assert (x + y) is (x + y)
        assert (x + y) is not (y + x)
        assert x * 2.0 is x * 2
        assert x * 2.0 is not x * np.float64(2.5)


def test_zeros_of_either_sign_differ():
    with Graph():
        x = input("x", (3,))
        assert padding.pad(x, (1,), (1,), 0.0) is not padding.pad(x, (1,), (1,), -0.0)
        assert x * 0.0 is not x * -0.0
        assert padding.pad(x, (1,), (1,), -0.0) is padding.pad(x, (1,), (1,), -0.0)


def test_constants_of_different_types_differ():
    with Graph():
        constant = CALLS["constant"]
        made = [constant(1), constant(True), constant(1.0), constant([1]), constant(np.int8(1))]
        assert len({v.node for v in made}) == len(made)
        assert constant(float("nan")) is constant(float("nan"))


def test_inputs_and_variables_never_merge():
    with Graph():
        values = [input("x", (3,)), input("y", (3,)), variable("v", 0.0), variable("w", 0.0)]
        assert len({v.node for v in values}) == 4


def test_merged_nodes_keep_their_places():
    with Graph() as graph:
        x = input("x", (3,))
        y = -x
        z = -x
        assert y is z
        assert [loc.line for loc in y.node.locs] == [y.node.loc.line, y.node.loc.line + 1]
        for line in range(20):
            graph.node(y.node.op, (x,), Loc("more.py", line))
        graph.node(y.node.op, (x,), UNKNOWN)
        assert len(y.node.locs) == 8


def test_structure_is_what_is_computed_not_where():
    def made(name, swap=False, zero=0.0):
        with Graph():
            x, y = input("x", (3,)), input("y", (3,))
            a, b = (y, x) if swap else (x, y)
            z = CALLS["neg"](padding.pad(a - b, (1,), (1,), zero))
            return structure(Function(name, (x, y), (("z", z),)))

    assert made("f") == made("g") and hash(made("f")) == hash(made("g"))
    assert made("f") != made("f", swap=True)
    assert made("f") != made("f", zero=-0.0)
    with Graph():
        x = input("x", (3,))
        y, z = -x, x * x
        first, second = (Function("f", (x,), tuple(zip("ab", p))) for p in ((y, z), (z, y)))
    assert structure(first) != structure(second)
