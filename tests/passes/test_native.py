"""Native code agrees with the interpreter: far from zero, with constants that passes made, and
when it comes from the cache."""

from __future__ import annotations

import flowmill.algorithm as alg
import numpy as np
import pytest
from flowmill.graph.definition import Graph, group, input, output, variable
from flowmill.graph.gradients import gradients
from flowmill.graph.ir import CALLS
from flowmill.graph.ops.registry import load_all
from flowmill.passes.stabilise import Stabilise
from flowmill.runtime.session import Session
from flowmill.tools.check import check_graph

from ..graph.test_stability import CASES, FAR

load_all()


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FLOWMILL_CACHE", str(tmp_path))


def training_step() -> Graph:
    with Graph() as g:
        x, t = input("x", ("n", 5)), input("t", ("n", 3))
        w = variable("w", np.ones((5, 3), "float32"))
        y = alg.log(CALLS["softmax"](x @ w + np.arange(3, dtype="float32") * 2.0))
        loss = CALLS["mean"](-CALLS["sum"](t * y, 1))
        (dw,) = gradients(loss, [w])
        group(g, loss, [(w, w - 0.1 * dw)])
        output("loss", loss)
    return g


def test_the_whole_stack_agrees():
    checked = check_graph(training_step())
    assert checked.blamed is None, checked
    assert [k for k in checked.native] == [0, 2]
    assert "all results agree" in str(checked)


def test_wrong_native_code_is_blamed(monkeypatch):
    run = Session.run

    def wrong(self, fetches, feeds, out=None):
        results = run(self, fetches, feeds, out)
        return [r * 1.01 for r in results] if self.level == 2 else results

    monkeypatch.setattr(Session, "run", wrong)
    checked = check_graph(training_step())
    assert checked.passes.blamed is None
    assert checked.blamed == "native code at level 2"
    assert "WRONG" in str(checked)


def test_constants_that_passes_made_come_from_the_cache_too(monkeypatch):
    def results():
        with Graph() as g:
            x = input("x", (3, 5))
            y = x * alg.exp(CALLS["constant"](np.arange(5, dtype="float32")))
        return Session(g).run(y, {"x": np.ones((3, 5), "float32")})

    first = results()
    monkeypatch.setattr(Stabilise, "run", None)  # nothing is compiled again
    np.testing.assert_array_equal(results(), first)
    np.testing.assert_allclose(first[0], np.exp(np.arange(5)), rtol=1e-6)


def test_finite_far_from_zero():
    with Graph() as g:
        x = input("x", (4, 4))
        fetched = {}
        for name, (build, _) in CASES.items():
            fetched[name] = build(x)
            (fetched[f"gradient of {name}"],) = gradients(CALLS["sum"](fetched[name]), [x])
    far = FAR.astype("float32")
    for level in (0, 2):
        with Session(g, level=level) as session:
            found = session.run(fetched, {"x": far})
        for name, (_, exact) in CASES.items():
            expected = exact(far.astype(np.longdouble)).astype(np.float64)
            np.testing.assert_allclose(found[name], expected, rtol=5e-6, atol=1e-37, err_msg=name)
            assert np.isfinite(found[f"gradient of {name}"]).all(), name
