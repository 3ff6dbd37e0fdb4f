"""`if_` and `while_loop`: values, gradients, text, what is refused; by references and natively."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.graph.interpret import run
from flowmill.graph.ir import Value
from flowmill.graph.ops.branch import If
from flowmill.graph.text import parse, show
from flowmill.graph.verify import verify

from .test_registry import directional

RNG = np.random.default_rng(0)


def everywhere(g: fm.Graph, fetches: list[Value], feeds: dict[str, Any]) -> list[Any]:
    """Results natively, checked at every level and thread count against the interpreter, after the
    text form was read back."""
    f = g.function("f", {f"y{k}": v for k, v in enumerate(fetches)})
    assert list(verify(f)) == []
    assert show(parse(show(f))) == show(f)
    session = fm.Session(g)
    needed = {v.name: feeds[str(v.name)] for v in f.inputs}
    expected = list(run(f, needed, session.variables)[0].values())
    found = [fm.Session(g, threads=n, level=k).run(fetches, needed)
             for n, k in ((1, 0), (1, 1), (1, 2), (2, 2))]  # fmt: skip
    for results in found:
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    return found[-1]


def chosen() -> tuple[fm.Graph, Value, list[Value]]:
    with fm.Graph() as g:
        x = fm.input("x", (4, 3), "float64")
        w = fm.input("w", (3, 5), "float64")

        def then() -> Any:
            h = fm.tanh(x @ (w * w))
            return h, fm.sum(h)

        y, total = fm.if_(fm.sum(x) > 0, then, lambda: (x @ w * 2, 0.5))
        loss = fm.sum(y * y) * (total + 2)
    return g, loss, [y, total]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_side_is_chosen(sign: int) -> None:
    g, loss, results = chosen()
    x, w = sign * RNG.uniform(0, 1, (4, 3)), RNG.standard_normal((3, 5))
    with g:
        slopes = fm.gradients(loss, list(g.inputs.values()))
    found = everywhere(g, [*results, loss, *slopes], {"x": x, "w": w})
    h = np.tanh(x @ (w * w))
    expected = (h, h.sum()) if sign > 0 else (x @ w * 2, 0.5)
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    directional(loss, tuple(g.inputs.values()), {"x": x, "w": w}, 2)


def test_what_fails_in_the_other_side_does_not_fail() -> None:
    with fm.Graph() as g:
        k, table = fm.input("k", (), "int32"), fm.constant(np.arange(3.0))
        y = fm.if_(k < 3, lambda: fm.gather(table, k), lambda: fm.constant(np.float64(-1)))
    assert [fm.Session(g, level=n).run(y, {k: np.int32(7)}) for n in (0, 2)] == [-1, -1]
    with pytest.raises(fm.RunError, match="index out of range"):
        fm.Session(g).run(y, {k: np.int32(-7)})


def test_a_side_may_give_what_it_is_given_and_constants() -> None:
    with fm.Graph() as g:
        c, x = fm.input("c", (), "bool"), fm.input("x", ("n",), "float64")
        zeros = fm.zeros((x.shape[0],), "float64")
        results = fm.if_(c, lambda: (x, x, x + 1), lambda: (zeros, x + 1, x + 1))
    for flag in (True, False):
        a, b, _ = everywhere(g, list(results), {"c": np.bool_(flag), "x": np.arange(3.0)})
        assert a.tolist() == ([0, 1, 2] if flag else [0, 0, 0])
        assert b.tolist() == ([0, 1, 2] if flag else [1, 2, 3])


def test_branches_in_loops_and_loops_in_branches() -> None:
    with fm.Graph() as g:
        x = fm.input("x", ("time", 3), "float64")

        def step(c: Value, x: Value) -> Any:
            new = fm.if_(
                fm.sum(x) > 0,
                lambda: fm.scan(lambda a, _: (fm.sin(a) + x, None), c, length=3)[0],
                lambda: fm.if_(fm.max(c) > 1, lambda: c * x, lambda: c),
            )
            return new, new

        last, ys = fm.scan(step, fm.ones((3,), "float64"), x)
        slopes = fm.gradients(fm.sum(last) + fm.sum(ys * ys), [x])
    for time in (1, 6):
        everywhere(g, [last, ys, *slopes], {"x": RNG.standard_normal((time, 3))})
    with fm.Graph():
        x = fm.input("x", (4, 3), "float64")
        last, ys = fm.scan(step, fm.ones((3,), "float64"), x)
        loss = fm.sum(last) + fm.sum(ys * ys)
    directional(loss, (x,), {"x": RNG.standard_normal((4, 3))}, 1)


def test_a_known_condition_leaves_no_branch() -> None:
    from flowmill.compiler import compile_function
    from flowmill.target import host

    with fm.Graph() as g:
        x = fm.input("x", (3,))
        y = fm.if_(fm.constant(2) > 1, lambda: x * 2, lambda: fm.exp(x))
    made = compile_function(g.function("f", {"y": y}), host())
    assert not any(isinstance(n.op, If) for n in made.fused.nodes())
    assert fm.Session(g).run(y, {x: np.ones(3, "f")}).tolist() == [2, 2, 2]


def test_layers_and_random_numbers_in_a_branch() -> None:
    with fm.Graph(seed=3) as g:
        c, x = fm.input("c", (), "bool"), fm.input("x", (2, 4))
        dense = fm.layers.Dense(4, name="dense")
        y = fm.if_(c, lambda: dense(x), lambda: x + fm.uniform((2, 4)))
        z = dense(x)
        named = fm.uniform((2, 4))
    assert "dense/kernel" in g.variables
    assert g.results() == [y.node.outputs[0], z, named]  # nothing of the sides
    session, data = fm.Session(g), np.ones((2, 4), "f")
    a, b = session.run([y, z], {c: np.bool_(True), x: data})
    np.testing.assert_array_equal(a, b)
    drawn = [session.run(y, {c: np.bool_(False), x: data}) for _ in range(2)]
    assert not np.array_equal(*drawn) and all(((d >= 1) & (d < 2)).all() for d in drawn)


def collatz(limit: Any = None) -> tuple[fm.Graph, list[Value]]:
    with fm.Graph() as g:
        n = fm.input("n", (), "int64")

        def body(c: Any) -> Any:
            n, steps = c
            return fm.where(fm.equal(n % 2, 0), n // 2, 3 * n + 1), steps + 1

        last = fm.while_loop(lambda c: c[0] > 1, body, (n, np.int64(0)), limit)
    return g, list(last)


@pytest.mark.parametrize(("limit", "n", "steps"), [(None, 27, 111), (None, 1, 0), (7, 27, 7),
                                                   (0, 27, 0), (200, 6, 8)])  # fmt: skip
def test_as_long_as_it_holds(limit: Any, n: int, steps: int) -> None:
    g, results = collatz(limit)
    assert everywhere(g, results, {"n": np.int64(n)})[1] == steps


def test_carries_of_every_kind() -> None:
    """In one place, by turns in two, the same always, one another's; a limit known at run time."""
    with fm.Graph() as g:
        x, w = fm.input("x", ("n", 3), "float64"), fm.input("w", (3, 3), "float64")

        def body(c: Any) -> Any:
            a, b, one, other, still = c
            return a @ w + 1, b * 2 + still, other, one + 1, still

        first = (x, x, fm.sum(x), fm.constant(np.float64(2)), x * 3)
        last = fm.while_loop(lambda c: fm.max(c[1]) < 50, body, first, x.shape[0])
    for n in (1, 4):
        data = {"x": RNG.uniform(0, 1, (n, 3)), "w": RNG.standard_normal((3, 3))}
        everywhere(g, list(last), data)


def test_nested_while_loops() -> None:
    """Greatest common divisors by subtraction, until their sum is large."""
    with fm.Graph() as g:
        x = fm.input("x", (2,), "int64")

        def inner(c: Any) -> Any:
            a, b = c
            return fm.where(a > b, a - b, a), fm.where(a > b, b, b - a)

        def outer(c: Any) -> Any:
            total, k = c
            a, _ = fm.while_loop(lambda c: c[1] > 0, inner, (x[0] + k, x[1] * k))
            return total + a, k + 1

        last = fm.while_loop(lambda c: c[0] < 30, outer, (np.int64(0), np.int64(1)))
    total, k = everywhere(g, list(last), {"x": np.array([12, 5])})
    expected = np.cumsum([np.gcd(12 + k, 5 * k) for k in range(1, 40)])
    assert total == expected[k - 2] and (expected[: k - 2] < 30).all()


def test_a_while_loop_has_no_gradient() -> None:
    with fm.Graph():
        x = fm.input("x", ())
        y = fm.while_loop(lambda c: c < 5, lambda c: c * 2, x)
        with pytest.raises(fm.GraphError, match="while_loop has no gradient"):
            fm.gradients(y, [x])
        assert fm.gradients(fm.stop_gradient(y) * x, [x])


def assigned() -> Value:
    return fm.assign(fm.variable("v", 0.0), 1.0)


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda x, ok: fm.if_(x, lambda: x, lambda: x), "a condition is bool"),
        (lambda x, ok: fm.if_(fm.stack([ok, ok]), lambda: x, lambda: x), "a single bool"),
        (lambda x, ok: fm.if_(ok, lambda: x, lambda: (x * 2, x)), "else_ a tuple of 2"),
        (lambda x, ok: fm.if_(ok, lambda: x + 1, lambda: x[:1]), r"else_ f32\[1\]"),
        (lambda x, ok: fm.if_(ok, lambda: x, lambda: None), "returns nothing"),
        (lambda x, ok: fm.if_(ok, lambda: x[0], assigned), "cannot assign"),
        (lambda x, ok: fm.while_loop(lambda c: c > 0, lambda c: c, x), "a single bool"),
        (lambda x, ok: fm.while_loop(lambda c: c[0] > 0, lambda c: c[0], x), "makes carry 0 f32"),
        (lambda x, ok: fm.while_loop(lambda c: c[0] > 0, lambda c: (c, c), x), "tuple of 2"),
        (lambda x, ok: fm.while_loop(lambda c: True, lambda c: c, None), "no carry"),
        (lambda x, ok: fm.while_loop(lambda c: True, lambda c: c, x, -2), "cannot be taken"),
    ],
)
def test_is_refused(define: Callable[[Value, Value], Any], message: str) -> None:
    with fm.Graph() as g:
        x = fm.input("x", (2,))
        ok = fm.all(x > 0)
        with pytest.raises(fm.UserError, match=message):
            define(x, ok)
        left = {v.node.op.name for v in g.results() if v is not ok}
    assert left <= {"stack", "concat"}
