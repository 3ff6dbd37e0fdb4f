"""Stable at 1e4 and -1e4, values and gradients, by the interpreter; see also the golden cases."""

from __future__ import annotations

import flowmill.algorithm as alg
import numpy as np
import pytest
from flowmill.graph.definition import Graph, input
from flowmill.graph.gradients import gradients
from flowmill.graph.interpret import run
from flowmill.graph.ir import CALLS, Function
from flowmill.graph.ops.registry import load_all
from flowmill.passes.base import Context
from flowmill.passes.pipeline import pipeline
from flowmill.target import named

load_all()
FAR = np.array([[1e4, -1e4, 0.0, 3.0], [-1e4, -1e4, -9e3, -1e4], [1e4, 1e4, 1e4, 1e4],
                [88.0, -104.0, 1e-9, -30.0]])  # fmt: skip


def shifted(x):
    return x - x.max(-1, keepdims=True)


def np_log_softmax(x):
    return shifted(x) - np.log(np.exp(shifted(x)).sum(-1, keepdims=True))


def np_softmax(x):
    return np.exp(np_log_softmax(x))


def np_softplus(x):
    return np.logaddexp(x, 0)


def np_sigmoid(x):
    return np.exp(-np.logaddexp(0, -x))


def np_lse(x):
    return np.logaddexp.reduce(x, -1)


def chosen(p):
    index = CALLS["constant"](np.array([[0], [2], [1], [3]]))
    return CALLS["take_along_axis"](p, index, 1)


def np_chosen(p):
    return p[np.arange(4), [0, 2, 1, 3]][:, None]


def softmax_by_hand(x):
    e = alg.exp(x)
    return e / CALLS["sum"](e, 1, True)


def centred(x):
    m = CALLS["reduce_max"](x, 1, True)
    return alg.log(CALLS["sum"](alg.exp(x - m), 1, True)) + m


# name -> (what a user writes, its exact value)
CASES = {
    "log softmax": (lambda x: alg.log(CALLS["softmax"](x)), np_log_softmax),
    "log of softmax by hand": (lambda x: alg.log(softmax_by_hand(x)), np_log_softmax),
    "softmax by hand": (softmax_by_hand, np_softmax),
    "log of chosen": (lambda x: alg.log(chosen(CALLS["softmax"](x))),
                      lambda x: np_chosen(np_log_softmax(x))),
    "log sum exp": (lambda x: alg.log(CALLS["sum"](alg.exp(x), 1)), np_lse),
    "log mean exp": (lambda x: alg.log(CALLS["mean"](alg.exp(x), 1)),
                     lambda x: np_lse(x) - np.log(4)),
    "log sum exp, all": (lambda x: alg.log(CALLS["sum"](alg.exp(x))), lambda x: np_lse(x.ravel())),
    "log sum exp, centred": (centred, lambda x: np_lse(x)[:, None]),
    "x - logsumexp": (lambda x: x - alg.log(CALLS["sum"](alg.exp(x), 1, True)), np_log_softmax),
    "log sigmoid": (lambda x: alg.log(alg.sigmoid(x)), lambda x: -np_softplus(-x)),
    "log sigmoid by hand": (lambda x: alg.log(1 / (1 + alg.exp(-x))), lambda x: -np_softplus(-x)),
    "log 1 - sigmoid": (lambda x: alg.log(1 - alg.sigmoid(x)), lambda x: -np_softplus(x)),
    "softplus by hand": (lambda x: alg.log(1 + alg.exp(x)), np_softplus),
    "logistic loss": (lambda x: alg.log(1 + alg.exp(-x)), lambda x: np_softplus(-x)),
    "sigmoid by hand": (lambda x: 1 / (1 + alg.exp(-x)), np_sigmoid),
    "sigmoid as ratio": (lambda x: alg.exp(x) / (alg.exp(x) + 1), np_sigmoid),
    "tanh by hand": (lambda x: (alg.exp(x) - alg.exp(-x)) / (alg.exp(x) + alg.exp(-x)), np.tanh),
    "log exp": (lambda x: alg.log(alg.exp(x)), lambda x: x),
    "log 1 + x^2": (lambda x: alg.log(1 + x * x), lambda x: np.log1p(x * x)),
    "exp - 1": (lambda x: alg.exp(x * x * -1e-3) - 1, lambda x: np.expm1(x * x * -1e-3)),
    "1 - exp": (lambda x: 1 - alg.exp(x * x * -1e-3), lambda x: -np.expm1(x * x * -1e-3)),
    "cross entropy": (lambda x: -(0.25 * alg.log(alg.sigmoid(x)) +
                                  0.75 * alg.log(1 - alg.sigmoid(x))),
                      lambda x: 0.25 * np_softplus(-x) + 0.75 * np_softplus(x)),
}  # fmt: skip


def definition(name: str, dtype: str) -> Function:
    with Graph() as g:
        x = input("x", (4, 4), dtype)
        weights = CALLS["constant"](np.linspace(0.5, 2, 16).astype(dtype).reshape(4, 4))
        y = CASES[name][0](x)
        while weights.ndim > y.ndim:
            weights = weights[0]
        (dx,) = gradients(CALLS["sum"](y * weights), [x])
        return g.function("f", {"y": y, "dx": dx})


def expected_gradient(name: str) -> np.ndarray:
    """By differences of the exact value, in extended precision."""
    exact = CASES[name][1]
    weights = np.linspace(0.5, 2, 16).reshape(4, 4)
    x = FAR.astype(np.longdouble)
    y = exact(x)
    while weights.ndim > np.ndim(y):
        weights = weights[0]
    out = np.zeros((4, 4))
    for k in np.ndindex(4, 4):
        step = np.zeros((4, 4), np.longdouble)
        step[k] = 1e-6
        out[k] = np.sum((exact(x + step) - exact(x - step)) * weights) / 2e-6
    return out


@pytest.mark.parametrize("level", [0, 2])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CASES)
def test_finite_and_exact(name, dtype, level):
    f = pipeline(level).run(definition(name, dtype), Context(named("x86-64-v3")))
    x = FAR.astype(dtype)
    found, _ = run(f, {"x": x})
    wide = 3e-6 if dtype == "float32" else 1e-12
    expected = CASES[name][1](x.astype(np.longdouble)).astype(np.float64)
    np.testing.assert_allclose(found["y"], expected, rtol=wide, atol=np.finfo(dtype).tiny)
    np.testing.assert_allclose(found["dx"], expected_gradient(name), rtol=2e-4, atol=1e-6)


def test_gradients_of_values_on_the_way():
    """What is asked for is not rewritten away."""
    with Graph() as g:
        x = input("x", (2, 3))
        e = alg.exp(x)
        s = e / CALLS["sum"](e, 1, True)
        y = alg.log(s)
        (ds,) = gradients(CALLS["sum"](y), [s])
        (de,) = gradients(CALLS["sum"](alg.log(1 + e)), [e])
        dy, dx = gradients(CALLS["sum"](y), [y, x])
        f = g.function("f", {"ds": ds, "de": de, "dy": dy, "dx": dx, "s": s, "e": e})
    found, _ = run(f, {"x": np.array([[0, 1, 2], [3, 2, 1]], "float32")})
    np.testing.assert_allclose(found["ds"], 1 / found["s"], rtol=1e-6)
    np.testing.assert_allclose(found["de"], 1 / (1 + found["e"]), rtol=1e-6)
    np.testing.assert_array_equal(found["dy"], 1)
    np.testing.assert_allclose(found["dx"], 1 - 3 * found["s"], atol=1e-6)


def test_second_derivatives_are_stable():
    with Graph() as g:
        x = input("x", (3,), "float64")
        (d1,) = gradients(CALLS["sum"](alg.log(1 + alg.exp(x))), [x])
        (d2,) = gradients(CALLS["sum"](d1), [x])
        f = g.function("f", {"d1": d1, "d2": d2})
    found, _ = run(f, {"x": np.array([1e4, 0, -1e4])})
    np.testing.assert_allclose(found["d1"], [1, 0.5, 0])
    np.testing.assert_allclose(found["d2"], [0, 0.25, 0])


def test_names_stay_with_what_was_named():
    with Graph() as g:
        x = input("x", (2, 3))
        y = g.set_name(alg.log(CALLS["softmax"](x)), "logits")
        (dx,) = gradients(CALLS["sum"](y), [x])
        assert y.name == "logits"
        assert all(v.name != "logits" or v is y for n in g.function("f", {"d": dx}).nodes()
                   for v in n.outputs)  # fmt: skip
