"""Ops defined outside the tree: complete ones work everywhere, others are told what they lack."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flowmill as fm
import numpy as np
import pytest
from flowmill import algorithm as alg
from flowmill.algorithm import Compute, axis
from flowmill.graph.ops.base import OPS
from flowmill.graph.ops.registry import load_all
from flowmill.graph.text import parse, show
from flowmill.runtime.build import key
from flowmill.target import named


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """The registry as it was: other tests look at every op."""
    before = {name: op for name, op in load_all().items() if name != "logit"}  # the guide's op
    OPS.clear()
    OPS.update(before)
    yield
    OPS.clear()
    OPS.update(before)


def logit(factor: int = 1, slope: float = 1.0) -> type[fm.Op]:
    @dataclass(frozen=True)
    class Logit(fm.Pointwise):
        """log(p / (1 - p)) over `scale`."""

        scale: float = 1.0
        arity = 1
        samples = (fm.sample((3, 17), low=0.1, high=0.9), fm.sample((4,), low=0.2, high=0.8))

        def scalar(self, *xs: Any) -> Any:
            return alg.log(xs[0] / (1 - xs[0])) * (factor / self.scale)

        def grad(self, g: Any, y: Any, *xs: Any) -> Any:
            return (g * slope / (xs[0] * (1 - xs[0]) * self.scale),)

        def ref(self, *xs: Any) -> Any:
            return ((np.log(xs[0]) - np.log1p(-xs[0])) / self.scale).astype(xs[0].dtype)

    return Logit


def test_pointwise() -> None:
    op = fm.register_op(logit())
    with fm.Graph() as g:
        p = fm.input("p", ("n",))
        y = op(p, 2.0)
        (slope,) = fm.gradients(fm.sum(op(p, scale=2.0) * 3), [p])
    at = np.array([0.25, 0.5], np.float32)
    found = fm.Session(g).run([y, slope], {"p": at})
    np.testing.assert_allclose(found[0], np.log(at / (1 - at)) / 2, rtol=1e-6)
    np.testing.assert_allclose(found[1], 1.5 / (at * (1 - at)), rtol=1e-5)
    text = show(g.function("f", {"y": y}))
    assert "logit(%p, scale=2.0)" in text and show(parse(text)) == text


def test_composite_reduction_and_algorithm() -> None:
    @dataclass(frozen=True)
    class Spread(fm.Op):
        """Largest minus smallest element along the last axis."""

        arity = 1
        samples = (fm.sample((3, 5)),)

        def infer(self, *types: Any) -> Any:
            return fm.TensorType(types[0].dtype, types[0].shape[:-1])

        def expand(self, *xs: Any) -> Any:
            return fm.max(xs[0], axis=-1) - fm.min(xs[0], axis=-1)

        def ref(self, *xs: Any) -> Any:
            return np.ptp(xs[0], axis=-1)

    @dataclass(frozen=True)
    class Total(fm.Reduction):
        """The sum of floats along axes."""

        axes: tuple[int, ...]
        keepdims: bool = False
        combine = "add"
        samples = (fm.sample((3, 5), axes=(1,)),)

        def grad(self, g: Any, y: Any, *xs: Any) -> Any:
            return (self.expanded(g, xs[0]),)

        def ref(self, *xs: Any) -> Any:
            return np.sum(xs[0], axis=self.axes, keepdims=self.keepdims)

    @dataclass(frozen=True)
    class Outer(fm.Op):
        """x[i] * y[j]."""

        arity = 2
        samples = (fm.sample((3,), (5,)),)

        def infer(self, *types: Any) -> Any:
            return fm.TensorType(types[0].dtype, (*types[0].shape, *types[1].shape))

        def compute(self, out: Any, *xs: Any) -> Any:
            i, j = (axis(d) for d in out.shape)
            return Compute((i, j), (), None, xs[0][i.index] * xs[1][j.index])

        def grad(self, g: Any, y: Any, *xs: Any) -> Any:
            return g @ xs[1], xs[0] @ g

        def ref(self, *xs: Any) -> Any:
            return np.multiply.outer(*xs)

    spread, total, outer = (fm.register_op(op) for op in (Spread, Total, Outer))
    with fm.Graph() as g:
        x, y = fm.input("x", (3, 4)), fm.input("y", (3,))
        values = [spread(x), total(x, (0,)), outer(y, y)]
    feeds = {"x": np.arange(12, dtype=np.float32).reshape(3, 4) ** 2,
             "y": np.arange(3, dtype=np.float32)}  # fmt: skip
    a, b, c = fm.Session(g).run(values, feeds)
    np.testing.assert_array_equal(a, np.ptp(feeds["x"], 1))
    np.testing.assert_array_equal(b, feeds["x"].sum(0))
    np.testing.assert_array_equal(c, np.outer(feeds["y"], feeds["y"]))


def test_what_lacks_is_listed() -> None:
    class Nothing(fm.Op):
        pass

    with pytest.raises(fm.GraphError) as caught:
        fm.register_op(Nothing)
    text = str(caught.value)
    for word in ("dataclass", "docstring", "infer", "compute", "ref", "samples", "grad"):
        assert word in text
    with pytest.raises(fm.GraphError, match="is no op"):
        fm.register_op(int)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "message"),
    [(lambda: logit(factor=2), "ref says"), (lambda: logit(slope=2.0), "differences say")],
)
def test_what_disagrees_is_told(op: Any, message: str) -> None:
    with pytest.raises(fm.GraphError, match=message):
        fm.register_op(op())
    OPS.pop("logit")
    fm.register_op(op(), check=False)


def test_operands_and_attributes_are_those_of_the_class() -> None:
    op = fm.register_op(logit(), check=False)
    with fm.Graph():
        x = fm.input("x", (3,))
        for mistake in (lambda: op(), lambda: op(x, 1.0, 2.0), lambda: op(x, base=2)):
            with pytest.raises(fm.GraphError, match="takes 1 operands"):
                mistake()


def test_ops_of_flowmill_are_not_replaced() -> None:
    with pytest.raises(fm.GraphError, match=r"'relu' exists already: flowmill\.graph"):
        type("Relu", (fm.Pointwise,), {})


def test_a_changed_op_is_compiled_anew() -> None:
    def name(meaning: Any) -> str:
        body = {
            "scalar": meaning,
            "arity": 1,
            "__module__": "theirs",
        }  # however the clone is called
        op = dataclass(frozen=True)(type("Half", (fm.Pointwise,), body))
        with fm.Graph() as g:
            y = g.node(op(), (fm.input("x", (3,)),)).outputs[0]
        return key(g.function("f", {"y": y}), named("x86-64-v3"), 2)

    first = name(lambda self, *xs: xs[0] * 0.5)
    again = name(lambda self, *xs: xs[0] * 0.5)
    other = name(lambda self, *xs: xs[0] * 0.25)
    assert first == again != other
