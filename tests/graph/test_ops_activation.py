"""Activations: values, gradients, and behaviour far from zero."""

from __future__ import annotations

import math

import numpy as np
import pytest
from flowmill.dtypes import float32, float64
from flowmill.errors import DTypeError, ShapeError
from flowmill.graph.definition import Graph, input
from flowmill.graph.ops import activation as ac
from flowmill.graph.ops import softmax as sm

from . import oracle

BUILDERS = (ac.relu, ac.leaky_relu, ac.elu, ac.selu, ac.gelu, ac.silu, ac.hard_sigmoid,
            ac.hard_swish, ac.softsign, ac.mish, sm.softmax, sm.log_softmax,
            lambda x: sm.logsumexp(x, -1), lambda x: ac.gelu(x, approximate=True))  # fmt: skip


@pytest.mark.parametrize("build", BUILDERS)
@pytest.mark.parametrize("dtype", [float32, float64])
def test_finite_far_out(build, dtype):
    xs = np.array([[1e4, -1e4, 0.0, 1e4], [-1e4, -1e4, -1e4, -1e4], [50, -50, 90, -90]])
    with Graph() as graph:
        x = input("x", xs.shape, dtype)
        y = build(x)
        g = input("g", y.shape, dtype)
        (d,) = y.node.op.grad(g, y, x)
        plain = y.node.op.expand(x) if type(y.node.op).has("expand") else y
        feeds = {x: xs.astype(dtype.numpy), g: np.ones(y.shape, dtype.numpy)}
        made = oracle.interpret([y, plain, d], feeds)
    assert graph and all(np.isfinite(m).all() for m in made)
    np.testing.assert_allclose(made[0], made[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op, x, y", [
    (ac.Gelu(), 1.0, 0.8413447460685429), (ac.Gelu(True), 1.0, 0.8411919906082768),
    (ac.Silu(), 1.0, 1 / (1 + math.exp(-1))), (ac.Mish(), 1.0, 0.8650983882673103),
    (ac.Selu(), -1.0, -1.1113307378125625), (ac.Elu(2.0), -1.0, 2 * math.expm1(-1)),
    (ac.HardSwish(), 1.0, 4 / 6), (ac.HardSigmoid(), 1.5, 0.75), (ac.Softsign(), -3.0, -0.75),
    (ac.LeakyRelu(0.1), -3.0, -0.3),
])  # fmt: skip
def test_known_answers(op, x, y):
    np.testing.assert_allclose(op.ref(np.array(x)), y, rtol=1e-12)


def test_softmax_known_answer():
    x = np.log(np.array([[1.0, 2.0, 5.0]]))
    np.testing.assert_allclose(sm.Softmax(1).ref(x), [[0.125, 0.25, 0.625]])
    np.testing.assert_allclose(sm.LogSoftmax(1).ref(x), np.log([[0.125, 0.25, 0.625]]))
    np.testing.assert_allclose(sm.Logsumexp(1).ref(x), [math.log(8)])


def test_integers_become_floats_but_not_under_relu():
    with Graph():
        x = input("x", (3,), "int16")
        assert ac.gelu(x).dtype == float32 and ac.relu(x).dtype.name == "int16"


def test_errors():
    with Graph():
        with pytest.raises(ShapeError, match="axis 2 does not exist"):
            sm.softmax(input("x", (3, 4)), axis=2)
        with pytest.raises(DTypeError, match="not defined for float16"):
            ac.silu(input("h", (3, 4), "float16"))
        with pytest.raises(DTypeError, match="not defined for bool"):
            ac.relu(input("b", (3, 4), "bool"))
