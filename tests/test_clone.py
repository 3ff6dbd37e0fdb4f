"""Cloning graphs with some values replaced."""

from __future__ import annotations

import numpy as np
import pytest
from flowmill.errors import FetchError, GraphError, ShapeError
from flowmill.graph.clone import clone
from flowmill.graph.definition import Graph, input, named, output, variable
from flowmill.graph.ops.linalg import matmul
from flowmill.graph.ops.reduce import mean, sum_
from flowmill.graph.optimizers import SGD
from flowmill.graph.state import assign

from .harness import Runner

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def network() -> Graph:
    with Graph("net") as g:
        x = input("x", ("batch", 3))
        w = variable("body/w", np.eye(3, dtype=np.float32) * 2)
        features = named(matmul(x, w), "features")
        v = variable("head/w", np.ones((3, 2), np.float32))
        output("head", matmul(features, v))
    return g


def test_plain_clone_computes_the_same() -> None:
    g = network()
    c = clone(g)
    assert c is not g and list(c.variables) == ["body/w", "head/w"]
    assert c.find("features").node.owner is c
    assert c.find("features").node.loc == g.find("features").node.loc
    np.testing.assert_array_equal(
        Runner(c).run(c.find("head"), {"x": X}), Runner(g).run(g.find("head"), {"x": X})
    )


def test_new_head() -> None:
    g = network()
    with g:
        w = variable("new/w", np.full((3, 5), 3, np.float32))
        new = matmul(g.find("features"), w)
    c = clone(g, {"head": new})
    assert list(c.variables) == ["body/w", "new/w"]
    got = Runner(c).run(c.find("head"), {"x": X})
    np.testing.assert_array_equal(got, X * 2 @ np.full((3, 5), 3))
    assert g.find("head").shape[1] == 2
    with c:
        train = SGD(0.1).minimize(mean(c.find("head")), [c.find("new/w")])
    runner = Runner(c)
    runner.run(train, {"x": X})
    assert (runner.variables["new/w"] != 3).all()


def test_replaced_by_an_array_and_by_a_value_of_itself() -> None:
    g = network()
    c = clone(g, {"body/w": np.eye(3, dtype=np.float32)})
    assert list(c.variables) == ["head/w"]
    np.testing.assert_array_equal(
        Runner(c).run(c.find("head"), {"x": X}), X.sum(1, keepdims=True).repeat(2, 1)
    )
    with g:
        doubled = g.find("x") * 2
    d = clone(g, {g.find("x"): doubled})
    np.testing.assert_array_equal(
        Runner(d).run(d.find("head"), {"x": X}), 2 * Runner(g).run(g.find("head"), {"x": X})
    )


def test_training_steps_of_a_changed_loss_are_left_out() -> None:
    with Graph() as g:
        w = variable("w", np.ones((2,), np.float32))
        x = input("x", (2,))
        train = output("train", SGD(0.5).minimize(sum_(w * x)))
        count = variable("count", np.int64(0))
        output("tick", assign(count, count + 1))
    same = clone(g)
    runner = Runner(same)
    runner.run([same.find("train"), same.find("tick")], {"x": np.ones(2, np.float32)})
    assert (runner.variables["w"] == 0.5).all() and runner.variables["count"] == 1
    with g:
        other = x * 3
    changed = clone(g, {x: other})
    runner = Runner(changed)
    got = runner.run([changed.find("train"), changed.find("tick")], {"x": np.ones(2, np.float32)})
    assert got[0] == 6.0 and (runner.variables["w"] == 1.0).all()
    assert runner.variables["count"] == 1
    assert train in g.updates


def test_errors() -> None:
    g, other = network(), network()
    with pytest.raises(FetchError, match='"haed"'):
        clone(g, {"haed": 1.0})
    with pytest.raises(GraphError, match="not part of graph"):
        clone(g, {other.find("head"): 1.0})
    with pytest.raises(GraphError, match="define it inside"):
        clone(g, {"head": other.find("head")})
    with pytest.raises(ShapeError, match="inner dimensions"):
        clone(g, {"features": np.zeros((2, 4), np.float32)})
    for arguments in ((3,), (g, [1]), (g, {3: 1.0}), (g, None, [other.find("head")])):
        with pytest.raises(GraphError, match=r"clone: .*\n.*test_clone.py"):
            clone(*arguments)
    assert list(clone(g, outputs="head").outputs) == list(clone(g, outputs=["head"]).outputs)


def test_a_graph_clones_itself() -> None:
    with Graph() as graph:
        x = input("x", (2,))
        output("y", sum_(x) + 1)
    copy = graph.clone(replace={"x": np.zeros(2, np.float32)}, outputs=["y"])
    assert list(copy.outputs) == ["y"]
    assert not copy.inputs
