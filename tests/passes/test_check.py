"""`check` blames the pass that changes a result, and no other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flowmill.algorithm as alg
import numpy as np
import pytest
from flowmill.graph.definition import Graph, group, input, variable
from flowmill.graph.gradients import gradients
from flowmill.graph.ir import CALLS, Function, Value
from flowmill.graph.notation import relu, transpose
from flowmill.graph.ops.registry import load_all
from flowmill.graph.patterns import Rules, rule, variables
from flowmill.graph.rewrite import rewritten
from flowmill.passes.base import Context, Pass, Pipeline
from flowmill.passes.check import check, difference, random_feeds
from flowmill.passes.expand import Expand
from flowmill.passes.fold import Fold
from flowmill.passes.pipeline import Fuse, Select, pipeline
from flowmill.passes.simplify import Simplify
from flowmill.passes.stabilise import Stabilise
from flowmill.target import named

load_all()
TARGET = named("x86-64-v3")
X, Y, P = variables("x y p")


@rule(relu(X))
def wrong_relu(x: Value) -> Any:
    return alg.maximum(x, 0.1)


@rule(transpose(X, P))
def wrong_transpose(out: Value, p: Any) -> Any:
    return out * 1.001


@rule(X - Y)
def wrong_type(x: Value) -> Any:
    return CALLS["cast"](x, "int32")


def broken(wrong) -> Pass:
    @dataclass(frozen=True)
    class Broken(Pass):
        name = "broken"

        def run(self, function: Function, context: Context) -> Function:
            return rewritten(function, lambda n: Rules([wrong]).apply(n, context.note))

    return Broken()


def training_step() -> Function:
    with Graph() as g:
        x, t = input("x", ("n", 5)), input("t", ("n", 3))
        w = variable("w", np.ones((5, 4), "float32"))
        v = variable("v", np.ones((4, 3), "float32"))
        y = alg.log(CALLS["softmax"](CALLS["relu"](x @ w) @ v))
        loss = CALLS["mean"](-CALLS["sum"](t * y, 1))
        steps = gradients(loss, [w, v])
        group(g, loss, [(a, a - 0.1 * d) for a, d in zip((w, v), steps)])
        return g.function("step", {"loss": loss})


def test_the_pipeline_is_right():
    report = check(training_step(), pipeline(2), TARGET)
    assert report.blamed is None
    assert [s.name for s in report.stages][:2] == ["stabilise", "expand"]
    assert report.stages[-1].name == "fuse"
    assert set(report.results) == {"loss", "variable w", "variable v"}


@pytest.mark.parametrize("place", range(4))
def test_a_wrong_rule_is_blamed_wherever_it_stands(place):
    passes = [Stabilise(), Expand(), Fold(), Simplify(), Select(), Fuse()]
    passes.insert(place + 1, broken(wrong_relu))
    report = check(training_step(), Pipeline(*passes), TARGET)
    assert report.blamed == "broken"
    assert "wrong_relu" in str(report)
    assert "test_check.py" in str(report)


def test_endless_rules_and_wrong_types_are_reported(monkeypatch):
    from flowmill.errors import InternalError

    with pytest.raises(InternalError, match="does not come to an end"):
        check(training_step(), Pipeline(broken(wrong_transpose)), TARGET)
    with pytest.raises(InternalError, match="rule wrong_type made"):
        check(training_step(), Pipeline(broken(wrong_type)), TARGET)


def test_a_refining_pass_may_leave_infinities_behind():
    with Graph() as g:
        x = input("x", (3, 4))
        f = g.function("f", {"y": alg.log(CALLS["softmax"](x)), "z": alg.exp(x) - 1})
    feeds = {"x": np.array([[1e4, -1e4, 0, 1], [1e-9, 1e-8, 0, 2], [90, 3, 88, 89]], "float32")}
    report = check(f, pipeline(2), TARGET, feeds)
    assert report.blamed is None
    assert np.isfinite(report.results["y"]).all()
    assert report.results["z"][1, 0] == np.float32(1e-9)


def test_differences():
    one = np.float32([1, 2, 4])
    near = np.nextafter(one, np.float32(9))
    found = difference("y", near, one)
    assert found.ok and found.ulps == 1 and found.relative == 2**-23
    assert not difference("y", np.float32([1, 2, 4.1]), one).ok
    assert not difference("y", np.float32([1, np.nan, 4]), one).ok
    assert difference("y", np.float32([1, np.nan]), np.float32([1, np.nan])).ok
    assert difference("y", np.float32([1, 5]), np.float32([1, np.nan]), refined=True).ok
    assert not difference("y", np.int32([1, 5]), np.int32([1, 4])).ok
    assert difference("y", np.zeros((0, 3), "float32"), np.zeros((0, 3), "float32")).ok


def test_random_feeds_respect_bounds():
    with Graph() as g:
        from flowmill.graph.definition import dim

        x = input("x", (dim("few", 1, 2), dim("many", 8), "n"), "int32")
        f = g.function("f", {"y": x + 1})
    assert random_feeds(f)["x"].shape == (2, 8, 3)
