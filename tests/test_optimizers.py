"""Optimizers and schedules against loops written by hand in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill.dtypes import Array
from flowmill.errors import ConfigError, DTypeError, GraphError, ShapeError
from flowmill.graph import optimizers, schedules
from flowmill.graph.definition import Graph, input, variable
from flowmill.graph.ir import Value
from flowmill.graph.ops.reduce import mean, sum_
from flowmill.graph.ops.shape import reshape

from .harness import Runner

STEPS = 6
START = np.array([1.0, -2.0, 0.5], np.float64)
TARGETS = np.random.default_rng(3).normal(size=(STEPS, 3))


def gradient(w: Array, t: int) -> Array:
    """Of `sum((w - target)**2 * [1, 3, 9])`."""
    return np.asarray(2 * (w - TARGETS[t]) * np.array([1.0, 3.0, 9.0]))


def trained(optimizer: optimizers.Optimizer, dtype: str = "float64") -> tuple[list[Array], Runner]:
    """The variable after each step."""
    with Graph() as g:
        w = variable("w", START.astype(dtype))
        target = input("target", (3,), dtype)
        loss = sum_((w - target) * (w - target) * np.array([1.0, 3.0, 9.0], dtype))
        train = optimizer.minimize(loss)
    runner = Runner(g)
    out = []
    for t in range(STEPS):
        before = runner.variables["w"].astype(np.float64)
        got = runner.run(train, {"target": TARGETS[t].astype(dtype)})
        expected = ((before - TARGETS[t]) ** 2 * [1, 3, 9]).sum()
        np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype == "float32" else 1e-12)
        out.append(runner.variables["w"])
    return out, runner


def sgd(w: Array, momentum: float = 0.0, nesterov: bool = False, decay: float = 0.0) -> Any:
    u = np.zeros(3)
    for t in range(STEPS):
        g = gradient(w, t) + decay * w
        u = momentum * u + g
        w = w - 0.05 * (g + momentum * u if nesterov else u)
        yield w


def rmsprop(w: Array, momentum: float = 0.0, centered: bool = False) -> Any:
    s, m, u = np.zeros(3), np.zeros(3), np.zeros(3)
    for t in range(STEPS):
        g = gradient(w, t)
        s, m = 0.8 * s + 0.2 * g**2, 0.8 * m + 0.2 * g
        d = g / (np.sqrt(s - m**2 if centered else s) + 1e-6)
        u = momentum * u + d
        w = w - 0.05 * u
        yield w


def adagrad(w: Array) -> Iterator[Array]:
    s = np.full(3, 0.1)
    for t in range(STEPS):
        g = gradient(w, t)
        s = s + g**2
        w = w - 0.05 * g / (np.sqrt(s) + 1e-10)
        yield w


def adam(w: Array, apart: float = 0.0, coupled: float = 0.0) -> Iterator[Array]:
    m, v = np.zeros(3), np.zeros(3)
    for t in range(STEPS):
        g = gradient(w, t) + coupled * w
        w = w - 0.05 * apart * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        m_hat, v_hat = m / (1 - 0.9 ** (t + 1)), v / (1 - 0.999 ** (t + 1))
        w = w - 0.05 * m_hat / (np.sqrt(v_hat) + 1e-8)
        yield w


def clipped(w: Array, value: float | None, norm: float | None) -> Iterator[Array]:
    for t in range(STEPS):
        g = gradient(w, t)
        if value is not None:
            g = np.clip(g, -value, value)
        if norm is not None:
            g = g * min(1.0, norm / np.linalg.norm(g))
        w = w - 0.05 * g
        yield w


O = optimizers  # noqa: E741
CASES: dict[str, tuple[Callable[[], O.Optimizer], Iterator[Array]]] = {
    "sgd": (lambda: O.SGD(0.05), sgd(START)),
    "momentum": (lambda: O.SGD(0.05, momentum=0.7), sgd(START, 0.7)),
    "nesterov": (lambda: O.SGD(0.05, momentum=0.7, nesterov=True), sgd(START, 0.7, True)),
    "decay": (lambda: O.SGD(0.05, weight_decay=0.3), sgd(START, decay=0.3)),
    "rmsprop": (lambda: O.RMSProp(0.05, rho=0.8, epsilon=1e-6), rmsprop(START)),
    "rmsprop_all": (lambda: O.RMSProp(0.05, rho=0.8, epsilon=1e-6, momentum=0.5, centered=True),
                    rmsprop(START, 0.5, True)),
    "adagrad": (lambda: O.Adagrad(0.05, initial_accumulator_value=0.1), adagrad(START)),
    "adam": (lambda: O.Adam(0.05), adam(START)),
    "adam_l2": (lambda: O.Adam(0.05, weight_decay=0.3), adam(START, coupled=0.3)),
    "adamw": (lambda: O.AdamW(0.05, weight_decay=0.3), adam(START, apart=0.3)),
    "clip_value": (lambda: O.SGD(0.05, clip_value=1.5), clipped(START, 1.5, None)),
    "clip_norm": (lambda: O.SGD(0.05, clip_norm=2.0), clipped(START, None, 2.0)),
    "clip_both": (lambda: O.SGD(0.05, clip_value=3, clip_norm=2), clipped(START, 3.0, 2.0)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_steps_match_a_loop_by_hand(case: str) -> None:
    make, loop = CASES[case]
    expected = list(loop)
    got, runner = trained(make())
    np.testing.assert_allclose(np.array(got), np.array(expected), rtol=1e-12)
    name = type(make()).__name__.lower()
    assert runner.variables[f"{name}/step"] == STEPS
    assert all(not i.trainable for n, i in runner.graph.variables.items() if n != "w")


def test_float32_stays_float32() -> None:
    got, runner = trained(optimizers.Adam(0.05), "float32")
    assert got[-1].dtype == np.float32 and runner.variables["adam/w/m"].dtype == np.float32
    np.testing.assert_allclose(got[-1], list(adam(START))[-1], rtol=1e-5)


def test_fetching_the_loss_updates_nothing() -> None:
    with Graph() as g:
        w = variable("w", START)
        loss = mean(w * w)
        train = optimizers.SGD(0.1).minimize(loss)
    runner = Runner(g)
    runner.run(loss)
    np.testing.assert_array_equal(runner.variables["w"], START)
    before = runner.run([loss, train])[0]
    assert runner.run(loss) == pytest.approx(before * (1 - 0.2 / 3) ** 2)


def test_only_the_variables_asked_for_move() -> None:
    with Graph() as g:
        a, b = variable("a", START), variable("b", START)
        frozen = variable("frozen", START, trainable=False)
        loss = sum_(a * b * frozen)
        first = optimizers.SGD(0.1, name="first").minimize(loss, [a])
        second = optimizers.SGD(0.1, name="second").minimize(loss)
    runner = Runner(g)
    runner.run(first)
    assert (runner.variables["b"] == START).all() and (runner.variables["a"] != START).all()
    runner.run(second)
    assert (runner.variables["b"] != START).all()
    assert (runner.variables["frozen"] == START).all()


def test_learning_rate_is_a_value() -> None:
    with Graph() as g:
        w = variable("w", np.float64(1.0) * np.ones(()))
        rate = variable("rate", 0.5, trainable=False)
        train = optimizers.SGD(rate).minimize(w * 1.0)
    runner = Runner(g)
    runner.run(train)
    assert runner.variables["w"] == 0.5
    runner.variables["rate"] = np.array(0.25, np.float32)
    runner.run(train)
    assert runner.variables["w"] == 0.25


def rates(schedule: schedules.Schedule, steps: list[int]) -> Array:
    with Graph() as g:
        step = input("step", (), "float64")
        rate = schedule(step)
    assert rate.type == step.type
    return np.array([Runner(g).run(rate, {"step": np.float64(s)}) for s in steps])


S = schedules
SCHEDULES: dict[str, tuple[S.Schedule, Callable[[int], float]]] = {
    "constant": (S.constant(0.3), lambda s: 0.3),
    "piecewise": (S.piecewise([3, 6], [1.0, 0.5, 0.1]),
                  lambda s: 1.0 if s <= 3 else 0.5 if s <= 6 else 0.1),
    "exponential": (S.exponential(0.2, 4, 0.5), lambda s: 0.2 * 0.5 ** (s / 4)),
    "staircase": (S.exponential(0.2, 4, 0.5, staircase=True), lambda s: 0.2 * 0.5 ** (s // 4)),
    "cosine": (S.cosine(0.2, 8, alpha=0.1),
               lambda s: 0.2 * (0.9 * 0.5 * (1 + math.cos(math.pi * min(s, 8) / 8)) + 0.1)),
    "warmup": (S.cosine(0.2, 6, warmup_steps=3),
               lambda s: 0.2 * s / 3 if s < 3
               else 0.1 * (1 + math.cos(math.pi * min(s - 3, 6) / 6))),
    "warmup_target": (S.cosine(0.1, 6, warmup_steps=3, warmup_target=0.4),
                      lambda s: 0.1 + 0.3 * s / 3 if s < 3
                      else 0.2 * (1 + math.cos(math.pi * min(s - 3, 6) / 6))),
    "polynomial": (S.polynomial(0.2, 8, end=0.02, power=2.0),
                   lambda s: 0.18 * (1 - min(s, 8) / 8) ** 2 + 0.02),
    "linear": (S.linear(0.2, 8), lambda s: 0.2 * (1 - min(s, 8) / 8)),
}  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule(name: str) -> None:
    schedule, formula = SCHEDULES[name]
    steps = list(range(12))
    np.testing.assert_allclose(rates(schedule, steps), [formula(s) for s in steps], rtol=1e-12,
                               atol=1e-15)  # fmt: skip


def test_schedule_counts_the_optimizers_steps() -> None:
    with Graph() as g:
        w = variable("w", np.zeros(()))
        train = optimizers.SGD(schedules.piecewise([1], [1.0, 10.0])).minimize(-1.0 * w)
    runner = Runner(g)
    seen = []
    for _ in range(4):
        runner.run(train)
        seen.append(float(runner.variables["w"]))
    assert seen == [1.0, 2.0, 12.0, 22.0]


def loss_of(shape: tuple[int, ...] = ()) -> Value:
    return reshape(variable("w", np.ones((1,))), shape)


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: optimizers.SGD(-1.0), ConfigError, "learning_rate=-1.0"),
        (lambda: optimizers.SGD(0.1, clip_norm=0), ConfigError, "clip_norm=0"),
        (lambda: optimizers.SGD(0.1, nesterov=True), ConfigError, "momentum"),
        (lambda: optimizers.Adam(0.1, beta_1=1.0), ConfigError, "beta_1"),
        (lambda: optimizers.SGD().minimize(loss_of((1,))), ShapeError, "scalar"),
        (lambda: optimizers.SGD().minimize(input("x", ())), GraphError, "no trainable variable"),
        (lambda: optimizers.SGD().minimize(loss_of(), [variable("v", 1.0)]), GraphError, '"v"'),
        (lambda: optimizers.SGD(input("r", (2,))).minimize(loss_of()), DTypeError, "scalar"),
        (lambda: schedules.piecewise([1, 2], [0.1]), ConfigError, "3 values"),
        (lambda: schedules.cosine(0.1, 0), ConfigError, "decay_steps"),
    ],
)
def test_bad_arguments(build: Callable[[], object], error: type[Exception], says: str) -> None:
    with Graph(), pytest.raises(error, match=says.replace("(", r"\(")):
        build()


def test_one_optimizer_one_loss() -> None:
    with Graph():
        optimizer = optimizers.SGD()
        loss = loss_of()
        optimizer.minimize(loss)
        with pytest.raises(GraphError, match="minimizes a loss already"):
            optimizer.minimize(loss)


def test_variables_by_value_or_name_alone_or_in_a_list():
    for chosen in (lambda w: w, lambda w: "w", lambda w: [w], lambda w: ["w"]):
        with fm.Graph() as g:
            w, v = fm.variable("w", [1.0, 2.0]), fm.variable("v", [1.0, 1.0])
            step = fm.optimizers.SGD(0.5).minimize(fm.sum(w * v), chosen(w))
        session = fm.Session(g)
        session.run(step)
        assert session.get("w").tolist() == [0.5, 1.5]
        assert session.get("v").tolist() == [1, 1]
    with fm.Graph():
        w = fm.variable("w", [1.0, 2.0])
        slope = fm.gradients(fm.sum(w * w), w)
        assert isinstance(slope, fm.Value) and slope.type == w.type


@pytest.mark.parametrize("mistake, text", [
    (lambda w: fm.optimizers.Adam(clipnorm=1.0), "Adam has no option clipnorm"),
    (lambda w: fm.optimizers.SGD("0.1"), "is no number, value or schedule"),
    (lambda w: fm.optimizers.SGD(None), "is no number, value or schedule"),
    (lambda w: fm.optimizers.SGD(np.float32(-1)), "out of range"),
    (lambda w: fm.optimizers.SGD(0.1).minimize(fm.sum(w), [w * 2]), "is not a variable"),
    (lambda w: fm.gradients(None, w), "None is not a value"),
])  # fmt: skip
def test_what_an_optimizer_is_given(mistake, text):
    with fm.Graph():
        w = fm.variable("w", [1.0, 2.0])
        with pytest.raises(fm.UserError, match=text) as e:
            mistake(w)
    assert "test_optimizers.py:" in str(e.value)


def test_a_learning_rate_may_be_any_function_of_the_step():
    with fm.Graph() as g:
        w = fm.variable("w", 1.0)
        step = fm.optimizers.SGD(lambda step: 0.25).minimize(w * 2.0)
    session = fm.Session(g)
    session.run(step)
    assert session.get("w") == 0.5
