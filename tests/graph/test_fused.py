"""Groups that fusion makes: interpreted as their parts, printed whole, verified."""

from __future__ import annotations

import flowmill.algorithm as alg
import numpy as np
from flowmill.graph.definition import Graph, input, variable
from flowmill.graph.interpret import run
from flowmill.graph.ir import Function, Interner
from flowmill.graph.ops.fused import Fused
from flowmill.graph.ops.registry import load_all
from flowmill.graph.ops.source import Input
from flowmill.graph.text import parse, show
from flowmill.graph.verify import verify

load_all()


def grouped() -> tuple[Function, Function]:
    """A function, and the same with two nodes in a group."""
    with Graph("plain") as graph:
        x, w = input("x", ("n", 3)), variable("w", np.ones((3, 2), np.float32))
        product = x @ w
        f = graph.function("plain", {"y": alg.tanh(product) + 1.0})
        inner = Interner()
        types = (x.type, w.type)
        a, b = (
            inner.node(Input(f"x{k}", t.dtype, t.shape), ()).outputs[0] for k, t in enumerate(types)
        )
        body = Function("matmul", (a, b), (("y0", alg.tanh(a @ b)), ("y1", a @ b)))
        group = graph.node(Fused(body), (x, w))
        made = graph.function("plain", {"y": group.outputs[0] + 1.0, "z": group.outputs[1]})
    return f, made


def test_means_its_function():
    plain, made = grouped()
    assert list(verify(made)) == []
    feeds = {"x": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)}
    variables = {"w": np.linspace(0, 1, 6, dtype=np.float32).reshape(3, 2)}
    expected = run(plain, feeds, variables)[0]["y"]
    out = run(made, feeds, variables)[0]
    assert np.array_equal(out["y"], expected)
    np.testing.assert_allclose(out["z"], feeds["x"] @ variables["w"], rtol=1e-6)


def test_prints_whole_and_parses_back():
    _, made = grouped()
    text = show(made)
    body = text[text.index("function=graph matmul(x0: f32[n,3], x1: f32[3,2])") :]
    assert "    %1 = tanh(%0) : f32[n,2]" in body
    assert "    return y0=%1, y1=%0\n  }) : f32[n,2], f32[n,2]" in body
    again = parse(text)
    assert show(again) == text and list(verify(again)) == []


def test_identity_is_that_of_the_function():
    with Graph() as graph:
        body = Function("f", (), ())
        assert graph.node(Fused(body), ()) is graph.node(Fused(body), ())
        assert graph.node(Fused(body), ()) is not graph.node(Fused(Function("f", (), ())), ())
