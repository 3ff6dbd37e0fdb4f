"""What every op must have, and that what it says about itself agrees."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flowmill.algorithm import FUNCTIONS
from flowmill.graph.gradients import gradients
from flowmill.graph.interpret import run
from flowmill.graph.ir import CALLS, Function, Value
from flowmill.graph.text import parse, show
from flowmill.graph.verify import verify
from flowmill.passes.special import KERNELS

from . import naive
from .samples import OPS, Case, cases, gradient_cases

# op -> why no sample can be drawn for it; each is tested where the reason says
NO_SAMPLES = {
    "input": "has no operands: test_interpret",
    "variable": "has no operands: test_interpret",
    "constant": "has no operands: test_text",
    "size_of": "has no operands: test_interpret",
    "fused": "holds a function: test_fused",
    "scan": "holds a function: test_scan",
    "if_": "holds functions: test_control",
    "while_loop": "holds a function: test_control",
}
NO_REFERENCE = {"input": "is fed", "variable": "is held by the session"}
NO_ALGORITHM = {
    "input": "is fed",
    "variable": "is held by the session",
    "fused": "is its function",
    "if_": "is compiled as a branch",
    "while_loop": "is compiled as a loop",
}

CASES, GRADIENTS = list(cases()), list(gradient_cases())


@pytest.mark.parametrize("name", list(OPS))
def test_is_complete(name):
    op = OPS[name]
    assert op.name == name
    assert dataclasses.is_dataclass(op) and op.__dataclass_params__.frozen
    assert op.__doc__ and not op.__doc__.startswith(f"{op.__name__}("), "needs a docstring"
    assert bool(op.samples) != (name in NO_SAMPLES)
    defined = op.has("ref") or op.has("interpret")
    assert defined != (name in NO_REFERENCE) or (op.has("expand") and not defined)
    ways = (op.has("compute"), op.has("expand"), name in KERNELS)
    assert sum(ways) == (name not in NO_ALGORITHM)
    takes_floats = any(not s.dtypes or "float" in "".join(s.dtypes) for s in op.samples)
    if op.differentiable and takes_floats:
        assert op.has("grad") or op.has("expand"), "differentiable, and no gradient"
    if not op.differentiable:
        assert not op.has("grad"), "has a gradient, and says it is not differentiable"


def test_the_oracle_knows_every_function():
    assert set(naive.FUNCTIONS) == set(FUNCTIONS)


def near(made, expected, dtype):
    assert made.shape == expected.shape and made.dtype == expected.dtype
    if dtype.is_float:
        wide = {16: 1e-2, 32: 1e-4, 64: 1e-10}[dtype.bits]
        made, expected = made.astype(np.float64), expected.astype(np.float64)
        np.testing.assert_allclose(made, expected, rtol=wide, atol=wide)
    else:
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_meaning_agrees_with_reference(case: Case):
    xs, ys = case.build()
    arrays = case.draw()
    outputs, _ = run(case.function(), case.feeds())
    for y, expected, made in zip(ys, outputs.values(), naive.graph(ys, dict(zip(xs, arrays)))):
        near(made, expected, y.dtype)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_text_parses_back(case: Case):
    function = case.function()
    assert list(verify(function)) == []
    text = show(function)
    again = parse(text)
    assert show(again) == text
    assert again.outputs[0][1].node.op == function.outputs[0][1].node.op


def scalar_loss(ys: tuple[Value, ...], prefix: str = "w") -> tuple[Value, dict[str, np.ndarray]]:
    """The sum of float results, each element weighted by a fed random number."""
    rng = np.random.default_rng(7)
    total, feeds = None, {}
    for k, y in enumerate(ys):
        if y.dtype.is_float:
            with y.node.owner:
                weight = CALLS["input"](f"{prefix}{k}", y.shape, y.dtype)
            feeds[f"{prefix}{k}"] = rng.standard_normal(y.shape).astype(y.dtype.numpy)
            part = CALLS["sum"](y * weight)
            total = part if total is None else total + part
    assert total is not None
    return total, feeds


def directional(loss: Value, xs: tuple[Value, ...], feeds, order: int) -> None:
    """The derivative of `loss` along random directions, by differences and by `gradients`."""
    graph = loss.node.owner
    floats = [x for x in xs if x.dtype.is_float]
    grads = gradients(loss, floats)
    assert [g.type for g in grads] == [x.type for x in floats]
    names = {f"d{x.name}": g for x, g in zip(floats, grads)}
    function = graph.function("check", {"loss": loss, **names})
    function = Function("check", tuple(graph.inputs.values()), function.outputs)
    assert list(verify(function)) == []
    found, _ = run(function, feeds)
    step = 1e-5 if loss.dtype.bits == 64 else 1e-1
    wide = 1e-6 if loss.dtype.bits == 64 else 1e-3
    rng = np.random.default_rng(order)
    for x in floats:
        for _ in range(2):
            direction = rng.choice([-1.0, 1.0], x.shape)
            up, down = (
                run(function, {**feeds, x.name: feeds[x.name] + sign * step * direction})[0]["loss"]
                for sign in (1, -1)
            )
            expected = (up.astype(np.float64) - down) / (2 * step)
            made = np.sum(found[f"d{x.name}"] * direction)
            scale = 1 + np.sum(np.abs(found[f"d{x.name}"]))
            assert abs(made - expected) <= wide * scale, (x.name, made, expected)
    if order == 2 and loss.dtype.bits == 64:
        again, more = scalar_loss(tuple(grads), "v")
        directional(again, xs, {**feeds, **more}, 1)


@pytest.mark.parametrize("case", GRADIENTS, ids=str)
def test_gradient_agrees_with_differences(case: Case):
    xs, ys = case.build()
    loss, weights = scalar_loss(ys)
    directional(loss, xs, {**case.feeds(), **weights}, 2)
