"""Loops over sequences: values, gradients, text, what is refused; by references and natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.interpret import run
from flowmill.graph.ops.recurrent import Scan
from flowmill.graph.rewrite import rewritten
from flowmill.graph.text import parse, show
from flowmill.graph.verify import verify

from .test_registry import directional

RNG = np.random.default_rng(0)


def draw(*shape: int) -> Any:
    return RNG.standard_normal(shape) / 2


def recurrent(reverse: bool, batch: Any = "n") -> tuple[fm.Graph, Any, Any, dict[str, Any]]:
    """h = tanh(h w + x u), y = 2 h + x; y2 = h + sum(x)."""
    with fm.Graph() as g:
        x = fm.input("x", (4, batch, 3), "float64")
        h = fm.input("h", (batch, 2), "float64")
        w, u = (fm.input(name, (k, 2), "float64") for name, k in (("w", 2), ("u", 3)))

        def step(h: Any, x: Any) -> Any:
            h = fm.tanh(h @ (w * w) + x @ u)
            return h, (h * 2, h + fm.sum(x))

        last, ys = fm.scan(step, h, x, reverse=reverse)
    feeds = {"x": draw(4, 5, 3), "h": draw(5, 2), "w": draw(2, 2), "u": draw(3, 2)}
    return g, last, ys, feeds


def by_hand(reverse: bool, x: Any, h: Any, w: Any, u: Any) -> tuple[Any, Any, Any]:
    a, b = np.zeros((2, 4, 5, 2))
    for t in range(4)[:: -1 if reverse else 1]:
        h = np.tanh(h @ (w * w) + x[t] @ u)
        a[t], b[t] = h * 2, h + x[t].sum()
    return h, a, b


@pytest.mark.parametrize("reverse", [False, True])
def test_agrees_with_a_loop(reverse: bool) -> None:
    g, last, ys, feeds = recurrent(reverse)
    f = g.function("f", {"last": last, "a": ys[0], "b": ys[1]})
    assert list(verify(f)) == []
    expanded = rewritten(f, lambda n: n.op.expand(*n.inputs) if isinstance(n.op, Scan) else None)
    assert not any(isinstance(n.op, Scan) for n in expanded.nodes())
    sessions = [fm.Session(g, level=level).run([last, *ys], feeds) for level in (0, 2)]
    for found in (*(list(run(f, feeds)[0].values()) for f in (f, expanded)), *sessions):
        for made, expected in zip(found, by_hand(reverse, **feeds), strict=True):
            np.testing.assert_allclose(made, expected, rtol=1e-12)


def test_repeated_nodes_stand_where_they_were_written() -> None:
    g, last, _, _ = recurrent(False)
    line = recurrent.__code__.co_firstlineno + 8
    f = rewritten(g.function("f", {"last": last}),
                  lambda n: n.op.expand(*n.inputs) if isinstance(n.op, Scan) else None)  # fmt: skip
    tanhs = [n for n in f.nodes() if n.op.name == "tanh"]
    assert len(tanhs) == 4 and {n.loc.line for n in tanhs} == {line}


@pytest.mark.parametrize("reverse", [False, True])
def test_gradients_agree_with_differences(reverse: bool) -> None:
    g, last, ys, feeds = recurrent(reverse, 5)
    with g:
        loss = fm.sum(last * last) + fm.sum(ys[0] * ys[1])
    directional(loss, tuple(g.inputs.values()), feeds, 2)


def test_the_gradient_is_a_scan_and_is_compiled() -> None:
    g, last, ys, feeds = recurrent(False)
    with g:
        loss = fm.sum(last) + fm.sum(ys[1] * ys[1])
        found = fm.gradients(loss, list(g.inputs.values()))
    f = g.function("f", {f"g{k}": v for k, v in enumerate(found)})
    assert list(verify(f)) == [] and len(f.nodes()) < 60
    assert show(parse(show(f))) == show(f)
    expected = list(run(f, feeds)[0].values())
    for level in (0, 2):
        for made, wanted in zip(fm.Session(g, level=level).run(found, feeds), expected):
            np.testing.assert_allclose(made, wanted, rtol=1e-10)


def test_structures() -> None:
    with fm.Graph() as g:
        x, k = fm.constant(np.arange(12.0).reshape(3, 4)), fm.constant(np.arange(3))

        def step(carry: Any, xs: Any) -> Any:
            (total, count), (row, n) = carry, xs
            return (total + row * fm.cast(n, "float64"), count + 1), None

        (total, count), none = fm.scan(step, (np.zeros(4), np.int64(5)), (x, k))
        assert none is None
        power, powers = fm.scan(lambda c, _: (c * 2.0, c), 1.0, length=5)
        nothing, rows = fm.scan(lambda c, x: (c, x + 1), None, x)
        assert nothing is None
    found = fm.Session(g).run([total, count, power, powers, rows])
    np.testing.assert_array_equal(found[0], [4 + 16, 5 + 18, 6 + 20, 7 + 22])
    assert found[1] == 8 and found[2] == 32 and found[3].tolist() == [1, 2, 4, 8, 16]
    np.testing.assert_array_equal(found[4], np.arange(12.0).reshape(3, 4) + 1)


def test_nested_with_a_gradient() -> None:
    with fm.Graph() as g:
        x = fm.input("x", (3, 2), "float64")

        def outer(c: Any, row: Any) -> Any:
            inner, _ = fm.scan(lambda a, e: (fm.sin(a + e * c), None), c, row)
            return inner, inner * row

        last, ys = fm.scan(outer, fm.constant(np.float64(0.3)), x)
        loss = last + fm.sum(ys)
    directional(loss, (x,), {"x": draw(3, 2)}, 2)
    feeds = {"x": draw(3, 2)}
    expected = run(g.function("f", {"y": loss}), feeds)[0]["y"]
    np.testing.assert_allclose(fm.Session(g).run(loss, feeds), expected, rtol=1e-12)


def test_no_steps() -> None:
    with fm.Graph() as g:
        last, ys = fm.scan(lambda c, x: (c + x, c), 2.0, np.zeros(0, np.float32))
        assert ys.shape == (0,)
    assert fm.Session(g).run(last) == 2


def test_leaves_nothing_of_the_body_behind() -> None:
    with fm.Graph() as g:
        layer = fm.layers.Dense(2, name="dense")
        _, ys = fm.scan(lambda c, x: (c, fm.named(layer(x), "inner")), 1.0, fm.zeros((3, 4, 5)))
        assert g.results() == [ys.node.outputs[0], ys]
        assert "inner" not in g.values and "dense/kernel" in g.values
        fm.named(ys, "inner")


def test_a_file_holds_it(tmp_path: Any) -> None:
    g, last, _, feeds = recurrent(True)
    g.output("last", last)
    fm.save(g, tmp_path / "net.fm")
    again = fm.load_graph(tmp_path / "net.fm")
    np.testing.assert_allclose(fm.Session(again).run("last", feeds), by_hand(True, **feeds)[0])


def assigns(c: Any, x: Any) -> Any:
    fm_total = fm.variable("total", 0.0)
    return fm.assign(fm_total, c + x), None


@pytest.mark.parametrize(
    ("step", "initial", "xs", "message"),
    [
        (lambda c, x: (c + x, None), 0.0, (), "no axis"),
        (lambda c, x: (c + x, None), 0.0, (3, 2), r"makes carry 0 f32\[2\]"),
        (lambda c, x: c + x, 0.0, (3,), "must return a pair"),
        (lambda c, x: ((c, c), x), 0.0, (3,), "a tuple of 2"),
        (assigns, 0.0, (3,), "cannot assign"),
    ],
)
def test_is_refused(step: Callable[..., Any], initial: Any, xs: Any, message: str) -> None:
    with fm.Graph() as g:
        x = fm.input("x", xs)
        with pytest.raises(fm.UserError, match=message):
            fm.scan(step, initial, x)
        with pytest.raises(fm.UserError, match="no carry"):
            fm.scan(step, None)
        with pytest.raises(fm.ShapeError, match="length="):
            fm.scan(step, 0.0)
        assert all(v.node.op.name in ("input", "variable") for v in g.results())
