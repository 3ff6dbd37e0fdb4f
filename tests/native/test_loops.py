"""Loops in native code: what the interpreter computes, at any length, with any number of threads to
the bit; where they fail, and what does not grow with their length."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.compiler import compile_function
from flowmill.graph.interpret import run
from flowmill.graph.ir import Value

from .conftest import EAGER

RNG = np.random.default_rng(5)
UNITS, FEATURES = 6, 5
WEIGHTS = {"w": (UNITS, 4 * UNITS), "u": (FEATURES, 4 * UNITS), "b": (4 * UNITS,)}
Pair = tuple[Any, Any]


def simple(x: Value, h: Value, w: Value, u: Value, b: Value) -> list[Value]:
    def step(h: Value, x: Value) -> Pair:
        h = fm.tanh(h @ w[:, :UNITS] + x @ u[:, :UNITS] + b[:UNITS])
        return h, h

    last, ys = fm.scan(step, h, x)
    return [last, ys]


def lstm(x: Value, h: Value, w: Value, u: Value, b: Value) -> list[Value]:
    def step(state: Any, x: Value) -> Pair:
        h, c = state
        i, f, g, o = fm.split(x @ u + h @ w + b, 4, axis=1)
        c = fm.sigmoid(f) * c + fm.sigmoid(i) * fm.tanh(g)
        h = fm.sigmoid(o) * fm.tanh(c)
        return (h, c), h

    (last, c), ys = fm.scan(step, (h, h * 0.5), x, reverse=True)
    return [last, c, ys]


def exchanged(x: Value, h: Value, w: Value, u: Value, b: Value) -> list[Value]:
    """Carries that become one another; results that are carries, given values, and one twice."""

    def step(state: Any, x: Value) -> Pair:
        one, two, three = state
        new = one + fm.sum(x, axis=1, keepdims=True)
        return (two, new, three), (one, new, new, three, b * 2, x)

    last, ys = fm.scan(step, (h, h + 1, h * 2), x)
    return [*last, *ys]


def mapped(x: Value, h: Value, w: Value, u: Value, b: Value) -> list[Value]:
    _, (y, z) = fm.scan(lambda _, x: (None, (fm.relu(x @ u + b), fm.sum(x))), None, x)
    return [y, z]


def nested(x: Value, h: Value, w: Value, u: Value, b: Value) -> list[Value]:
    """For every step a loop over the rows of the batch, and one over four numbers."""

    def outer(h: Value, x: Value) -> Pair:
        def inner(total: Value, row: Value) -> Pair:
            total = fm.sin(total + fm.sum(row)) * fm.sum(h)
            return total, total * row

        total, rows = fm.scan(inner, fm.mean(h), x)
        power, _ = fm.scan(lambda p, _: (p * 0.5 + total, None), fm.sum(rows), length=4)
        return fm.tanh(h + power), rows

    last, ys = fm.scan(outer, h, x)
    return [last, ys]


def counted(x: Value, h: Value, w: Value, u: Value, b: Value) -> list[Value]:
    """Integers, bools and a scalar."""

    def step(state: Any, x: Value) -> Pair:
        count, seen = state
        big = fm.max(x) > 0.9
        return (count + 1, seen | big), (count, big)

    (count, seen), ys = fm.scan(step, (np.int64(0), fm.constant(False)), x)
    return [count, seen, *ys]


MODELS: list[Callable[..., list[Value]]] = [simple, lstm, exchanged, mapped, nested, counted]


def graph(model: Callable[..., list[Value]], time: Any, batch: Any = "batch"
          ) -> tuple[fm.Graph, list[Value]]:  # fmt: skip
    """The results of a model and the gradients of their squares."""
    with fm.Graph() as g:
        x = fm.input("x", (time, batch, FEATURES), "float64")
        h = fm.input("h", (batch, UNITS), "float64")
        rest = [fm.input(name, shape, "float64") for name, shape in WEIGHTS.items()]
        results = model(x, h, *rest)
        floats = [y for y in results if y.dtype.is_float]
        if floats:
            loss = sum((fm.sum(y * y) for y in floats[1:]), fm.sum(fm.sin(floats[0])))
            results += fm.gradients(loss, [x, h, *rest])
    return g, results


def feeds(time: int, batch: int) -> dict[str, Any]:
    shapes = {"x": (time, batch, FEATURES), "h": (batch, UNITS), **WEIGHTS}
    return {name: RNG.standard_normal(shape) / 2 for name, shape in shapes.items()}


@pytest.mark.parametrize("model", MODELS)
def test_any_length_any_threads(model: Callable[..., list[Value]]) -> None:
    g, results = graph(model, fm.dim("time", min=0))
    function = g.function("f", {f"y{k}": y for k, y in enumerate(results)})
    sessions = [fm.Session(g, threads=n, level=k) for n, k in ((1, 2), (2, 2), (1, 0), (1, 1))]
    for time, batch in ((0, 2), (1, 3), (2, 1), (5, 4), (3, 2)):
        given = feeds(time, batch)
        needed = {v.name: given[str(v.name)] for v in function.inputs}
        expected = list(run(function, needed)[0].values())
        one, *others = [s.run(results, needed) for s in sessions]
        for a, b in zip(one, others[0], strict=True):
            assert a.tobytes() == b.tobytes()
        for made in (one, *others[1:]):
            for a, b in zip(made, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", [lstm, nested])
def test_a_loop_of_known_length_is_what_its_steps_are(model: Callable[..., list[Value]]) -> None:
    """Level 0 repeats the steps in the graph: it has no loop there."""
    g, results = graph(model, 3, 2)
    function = g.function("f", {f"y{k}": y for k, y in enumerate(results)})
    assert not compile_function(function, EAGER, 0).program.computed
    assert compile_function(function, EAGER, 2).program.computed
    given = feeds(3, 2)
    plain, fast = (fm.Session(g, threads=2, level=k).run(results, given) for k in (0, 2))
    for a, b in zip(fast, plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_kernels_and_launches_do_not_grow_with_the_length() -> None:
    sizes = set()
    for time in (28, 200):
        g, results = graph(lstm, time, 4)
        program = compile_function(g.function("f", {f"y{k}": y for k, y in enumerate(results)}),
                                   EAGER).program  # fmt: skip
        sizes.add((len(program.kernels), len(program.launches)))
    assert len(sizes) == 1


def test_failures_in_a_loop_name_the_line() -> None:
    with fm.Graph() as g:
        at = fm.input("at", ("time",), "int32")
        table = fm.constant(np.arange(5.0, dtype="f"))
        total = fm.variable("total", 0.0)

        def step(sum: Value, k: Value) -> Pair:
            sum = sum + fm.gather(table, k)  # lookup
            sum = fm.check(sum, sum < 20, "the sum is small")  # bound
            return sum, None

        last, _ = fm.scan(step, total, at)
        keep = fm.assign(total, last)
    for level in (0, 2):
        session = fm.Session(g, level=level)
        assert session.run(keep, {at: np.array([4, 3, 2], "i")}) == 9
        for bad, text, mark in (([1, 2, 5, 1], "index out of range", "# lookup"),
                                ([4, 4, 4], "the sum is small", "# bound")):  # fmt: skip
            with pytest.raises(fm.RunError, match=text) as caught:
                session.run(keep, {at: np.array(bad, "i")})
            lines = Path(__file__).read_text(encoding="utf-8").splitlines()
            line = next(k for k, x in enumerate(lines, 1) if x.endswith(mark))
            assert f"test_loops.py:{line}" in str(caught.value)
            assert session.get("total") == 9


def test_prints_at_every_turn(capfd: pytest.CaptureFixture[str]) -> None:
    with fm.Graph() as g:
        x = fm.input("x", ("time",))
        last, _ = fm.scan(lambda c, x: (fm.print(c + x, "now"), None), 0.0, x)
    for level in (0, 2):
        fm.Session(g, level=level).run(last, {x: np.array([1, 2, 4], "f")})
        assert capfd.readouterr().out == "now: 1.0\nnow: 3.0\nnow: 7.0\n"


def test_a_state_kept_between_runs() -> None:
    with fm.Graph() as g:
        x = fm.input("x", ("time", 3))
        state = fm.variable("state", np.zeros(3, "f"))
        last, ys = fm.scan(lambda c, x: (c + x, c), state, x)
        step = fm.assign(state, last)
    session = fm.Session(g)
    data = np.arange(12, dtype="f").reshape(4, 3)
    for k in range(3):
        found = session.run([step, ys], {x: data})
        np.testing.assert_array_equal(found[0], (k + 1) * data.sum(0))
        np.testing.assert_array_equal(found[1][0], k * data.sum(0))
