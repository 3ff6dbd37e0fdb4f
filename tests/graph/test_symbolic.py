"""`compute` of ops whose dimensions are symbols, at several sizes, against the references."""

from __future__ import annotations

import flowmill.algorithm as alg
import numpy as np
import pytest
from flowmill.graph.definition import Graph, dim, input
from flowmill.graph.gradients import gradients
from flowmill.graph.interpret import run
from flowmill.graph.ir import CALLS
from flowmill.graph.ops import padding, reduce, shape
from flowmill.graph.ops.registry import load_all

from . import naive

load_all()
reshape = CALLS["reshape"]

# each takes x of shape [n, 4, h] and y of shape [h, m]
PROGRAMS = {
    "flatten": lambda x, y: reshape(x, (-1,)),
    "merge first": lambda x, y: reshape(x, (-1, "h")),
    "merge last": lambda x, y: reshape(x, ("n", -1)),
    "split": lambda x, y: reshape(x, ("n", 2, 2, "h")),
    "regroup": lambda x, y: reshape(x, (-1, 2)),
    "move halves": lambda x, y: reshape(x, (dim("n") * 2, 2, "h")),
    "across symbols": lambda x, y: reshape(shape.transpose(x, (1, 0, 2)), ("n", 4, "h")),
    "ones": lambda x, y: reshape(x, (1, "n", 4, 1, "h", 1)),
    "concat": lambda x, y: shape.concat([x, x[:, :1], x * 2.0], 1),
    "concat symbols": lambda x, y: shape.concat([x, x[:, :, 1:]], 2),
    "pad": lambda x, y: padding.pad(x, (1, 0, "h"), (0, 2, "n"), 3.0),
    "slice": lambda x, y: x[1:, 3, : dim("h") - 1],
    "last": lambda x, y: x[-1, ::-2],
    "matmul": lambda x, y: x @ y,
    "broadcast": lambda x, y: x[:, :, :1] + x[0] * y[:, 0],
    "softmax": lambda x, y: CALLS["softmax"](x, 2),
    "mean": lambda x, y: reduce.mean(x, (0, 2)),
    "variance": lambda x, y: reduce.var(x, 0),
    "argmax": lambda x, y: reduce.argmax(x, 0),
}


@pytest.mark.parametrize("sizes", [{"n": 2, "h": 3, "m": 5}, {"n": 5, "h": 2, "m": 1}], ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_at_several_sizes(name, sizes):
    with Graph() as graph:
        x = input("x", ("n", 4, "h"), "float64")
        y = input("y", ("h", "m"), "float64")
        outputs = {"out": PROGRAMS[name](x, y)}
        if outputs["out"].dtype.is_float:
            loss = CALLS["sum"](alg.sin(outputs["out"]))
            outputs["dx"], outputs["dy"] = gradients(loss, [x, y])
        f = graph.function("f", outputs)
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((sizes["n"], 4, sizes["h"])),
        "y": rng.standard_normal((sizes["h"], sizes["m"])),
    }
    f = type(f)("f", (x, y), f.outputs)
    expected, _ = run(f, feeds)
    made = naive.graph(list(outputs.values()), {x: feeds["x"], y: feeds["y"]}, sizes)
    for a, b in zip(made, expected.values()):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    assert expected["out"].size
