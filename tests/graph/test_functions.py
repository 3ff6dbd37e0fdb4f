"""Functions that choose among ops: what is built, and that it means what NumPy means."""

from __future__ import annotations

import numpy as np
import pytest
from flowmill.graph.definition import Graph, input
from flowmill.graph.interpret import run
from flowmill.graph.ops.registry import load_all

load_all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("y, ops", [
    (1, []), (2, ["mul"]), (3, ["mul", "mul"]), (4, ["mul", "mul"]), (2.0, ["mul"]),
    (0.5, ["sqrt"]), (-1, ["constant", "div"]), (1.5, ["constant", "pow"]),
    (5, ["constant", "pow"]),
])  # fmt: skip
def test_power(dtype, y, ops):
    with Graph() as graph:
        x = input("x", (4,), dtype)
        f = graph.function("f", {"y": x**y})
    at = np.array([1, 2, 3, 7], dtype)
    made = run(f, {"x": at})[0]["y"]
    np.testing.assert_allclose(made, at.astype(np.float64) ** y, rtol=1e-6)
    built = [n.op.name for n in f.nodes() if n.op.name not in ("input", "cast")]
    assert built == ops
    assert made.dtype == at.dtype
